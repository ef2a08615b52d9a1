//! Which sessions there are, and what each one's last command came to.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::snapshot::{SnapshotError, SnapshotSource};
use raft_core::types::LogIndex;

use super::envelope::{Answer, SessionId};

/// First byte of the table in a snapshot.
const VERSION: u8 = 1;

/// How large the table of sessions may become. The same on every member, as it is part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most sessions, at least 1.
    pub sessions_max: u64,
    /// Replies longer than this are not kept for a duplicate.
    pub reply_bytes_max: u64,
}

/// At most 64 MiB of replies.
impl Default for Limits {
    fn default() -> Self {
        Limits { sessions_max: 16 * 1024, reply_bytes_max: 4096 }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    sessions: BTreeMap<u128, Record>,
    /// The sessions by the index of the last entry that used them: the first one makes room.
    by_use: BTreeMap<LogIndex, u128>,
    /// Commands that the inner machine parked, by their index. They outlive their session.
    waiting: BTreeMap<LogIndex, Waiter>,
}

#[derive(Debug)]
struct Record {
    opened: LogIndex,
    last_used: LogIndex,
    /// Of the last command; 0 before the first one.
    sequence: u64,
    last: Last,
}

/// What became of a session's last command.
#[derive(Debug)]
enum Last {
    /// The entry at this index is with the inner machine, perhaps parked.
    Running(LogIndex),
    Replied(Bytes),
    ReplyDropped,
}

/// Somebody whose command is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) client: u128,
    /// The copy of the command that the client waits at.
    pub(super) answer_at: LogIndex,
}

/// What is to be done with a command.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The inner machine must see it. It counts as running from now on.
    New,
    /// The copy at this index has been given to the inner machine, which has not replied.
    Running(LogIndex),
    /// The inner machine must not see it.
    Known(Answer),
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        assert!(limits.sessions_max > 0, "a table without room would expire every session at once");
        let (sessions, by_use, waiting) = Default::default();
        Table { limits, sessions, by_use, waiting }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The newest entry that it knows of.
    pub(super) fn newest_index(&self) -> LogIndex {
        let sessions = self.sessions.values().map(|it| it.opened.max(it.last_used));
        let waiting = self.waiting.iter().map(|(index, waiter)| *index.max(&waiter.answer_at));
        sessions.chain(waiting).max().unwrap_or(0)
    }

    /// Opens a session, or finds the client's open one.
    pub(super) fn open(&mut self, client: u128, index: LogIndex) -> SessionId {
        self.touch(client, index);
        let opened = match self.sessions.get(&client) {
            Some(record) => record.opened,
            None => {
                let last = Last::Replied(Bytes::new());
                let record = Record { opened: index, last_used: index, sequence: 0, last };
                self.sessions.insert(client, record);
                self.by_use.insert(index, client);
                index
            }
        };
        while self.sessions.len() as u64 > self.limits.sessions_max {
            let (_, evicted) = self.by_use.pop_first().expect("each session stands in both maps");
            self.sessions.remove(&evicted);
        }
        SessionId { client, opened }
    }

    fn touch(&mut self, client: u128, index: LogIndex) {
        let Some(record) = self.sessions.get_mut(&client) else { return };
        self.by_use.remove(&record.last_used);
        self.by_use.insert(index, client);
        record.last_used = index;
    }

    pub(super) fn judge(&mut self, id: SessionId, sequence: u64, index: LogIndex) -> Verdict {
        match self.sessions.get(&id.client) {
            Some(record) if record.opened == id.opened => self.touch(id.client, index),
            _ => return Verdict::Known(Answer::Expired),
        }
        let record = self.sessions.get_mut(&id.client).expect("it was found above");
        if sequence > record.sequence {
            record.sequence = sequence;
            record.last = Last::Running(index);
            return Verdict::New;
        }
        if sequence < record.sequence {
            return Verdict::Known(Answer::Stale);
        }
        match &record.last {
            Last::Running(index) => Verdict::Running(*index),
            Last::Replied(reply) => Verdict::Known(Answer::Applied(reply.clone())),
            Last::ReplyDropped => Verdict::Known(Answer::AppliedReplyDropped),
        }
    }

    /// Keeps the reply to the command at `index`, if the client has not gone on meanwhile.
    pub(super) fn finish(&mut self, client: u128, index: LogIndex, reply: &Bytes) {
        let Some(record) = self.sessions.get_mut(&client) else { return };
        if matches!(record.last, Last::Running(running) if running == index) {
            record.last = if reply.len() as u64 <= self.limits.reply_bytes_max {
                Last::Replied(reply.clone())
            } else {
                Last::ReplyDropped
            };
        }
    }

    /// The inner machine parked the command at `index`.
    pub(super) fn wait(&mut self, client: u128, index: LogIndex) {
        self.waiting.insert(index, Waiter { client, answer_at: index });
    }

    /// From now on the client waits at another copy of the parked command. Answers where it did.
    pub(super) fn answer_at(&mut self, original: LogIndex, copy: LogIndex) -> LogIndex {
        let waiter = self.waiting.get_mut(&original).expect("what runs between batches is parked");
        std::mem::replace(&mut waiter.answer_at, copy)
    }

    /// The inner machine replied to the parked command at `index`.
    pub(super) fn stop_waiting(&mut self, index: LogIndex) -> Option<Waiter> {
        self.waiting.remove(&index)
    }

    /// As part of a snapshot. Integers are little-endian, lengths u64:
    ///
    /// ```text
    ///   1 | sessions_max | reply_bytes_max
    ///   count | count x (client: u128 | opened | last_used | sequence |
    ///                    0 | index  or  1 | length | reply  or  2)
    ///   count | count x (index | client: u128 | answer_at)
    /// ```
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + 64 * self.sessions.len());
        bytes.push(VERSION);
        bytes.extend(self.limits.sessions_max.to_le_bytes());
        bytes.extend(self.limits.reply_bytes_max.to_le_bytes());
        bytes.extend((self.sessions.len() as u64).to_le_bytes());
        for (client, record) in &self.sessions {
            bytes.extend(client.to_le_bytes());
            bytes.extend(record.opened.to_le_bytes());
            bytes.extend(record.last_used.to_le_bytes());
            bytes.extend(record.sequence.to_le_bytes());
            match &record.last {
                Last::Running(index) => {
                    bytes.push(0);
                    bytes.extend(index.to_le_bytes());
                }
                Last::Replied(reply) => {
                    bytes.push(1);
                    bytes.extend((reply.len() as u64).to_le_bytes());
                    bytes.extend(reply);
                }
                Last::ReplyDropped => bytes.push(2),
            }
        }
        bytes.extend((self.waiting.len() as u64).to_le_bytes());
        for (index, waiter) in &self.waiting {
            bytes.extend(index.to_le_bytes());
            bytes.extend(waiter.client.to_le_bytes());
            bytes.extend(waiter.answer_at.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing beyond it. The limits are the snapshot's,
    /// because members that evict differently would differ in everything that follows.
    pub(super) fn decode(source: &mut dyn SnapshotSource) -> Result<Self, SnapshotError> {
        let mut reader = Reader(source);
        let version = reader.u8()?;
        if version != VERSION {
            let what = format!("sessions of version {version}; this program knows {VERSION}");
            return Err(SnapshotError(what));
        }
        let limits = Limits { sessions_max: reader.u64()?, reply_bytes_max: reader.u64()? };
        let count = reader.u64()?;
        if limits.sessions_max == 0 || count > limits.sessions_max {
            let max = limits.sessions_max;
            return Err(SnapshotError(format!("{count} sessions, and the limit is {max}")));
        }
        let mut table = Table::new(limits);
        for _ in 0..count {
            table.decode_session(&mut reader)?;
        }
        for _ in 0..reader.u64()? {
            let index = reader.u64()?;
            let waiter = Waiter { client: reader.u128()?, answer_at: reader.u64()? };
            table.waiting.insert(index, waiter);
        }
        table.check()?;
        Ok(table)
    }

    fn decode_session(&mut self, reader: &mut Reader<'_>) -> Result<(), SnapshotError> {
        let client = reader.u128()?;
        let (opened, last_used, sequence) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let last = match reader.u8()? {
            0 => Last::Running(reader.u64()?),
            1 => Last::Replied(reader.bytes(self.limits.reply_bytes_max)?),
            2 => Last::ReplyDropped,
            tag => return Err(SnapshotError(format!("a session in the unknown state {tag}"))),
        };
        let known = self.sessions.insert(client, Record { opened, last_used, sequence, last });
        if known.is_some() || self.by_use.insert(last_used, client).is_some() {
            return Err(SnapshotError(format!("session {client:032x} stands there twice")));
        }
        Ok(())
    }

    /// Between batches, what runs is parked.
    fn check(&self) -> Result<(), SnapshotError> {
        let waits = |client: u128, index| {
            self.waiting.get(&index).is_some_and(|waiter| waiter.client == client)
        };
        let lost = |(client, record): &(&u128, &Record)| matches!(record.last, Last::Running(index) if !waits(**client, index));
        match self.sessions.iter().find(lost) {
            Some((_, record)) => {
                let opened = record.opened;
                Err(SnapshotError(format!("the session opened at {opened} waits for nothing")))
            }
            None => Ok(()),
        }
    }
}

/// Reads numbers and replies.
struct Reader<'a>(&'a mut dyn SnapshotSource);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut array = [0; N];
        self.0.read_exact(&mut array)?;
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, SnapshotError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, SnapshotError> {
        self.array().map(u128::from_le_bytes)
    }

    fn bytes(&mut self, bytes_max: u64) -> Result<Bytes, SnapshotError> {
        let length = self.u64()?;
        let length_max = bytes_max.min(1 << 30);
        if length > length_max {
            let what = format!("a reply of {length} bytes, and the limit is {length_max}");
            return Err(SnapshotError(what));
        }
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
