//! The replicated state: all configurations.

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};

use super::command::{
    CONFIG_BYTES_MAX, Command, HISTORY_BYTES_MAX, Query, QueryReply, Refusal, Reply,
};
use super::history::{Change, History};
use super::snapshot::{self, Written};
use crate::codec;
use crate::config::{Config, Gid, Num, SHARDS_MAX, check_groups};
use crate::partition::Partition;

/// The controller as a state machine. Wrap it in `raft_host::session::Sessions`, so that retries do no harm.
///
/// Memory: [`HISTORY_BYTES_MAX`] of changes as they stand in a snapshot, and at worst eight times of that in
/// memory, with the whole configurations by which old ones are found. A change has usually some 170 bytes.
#[derive(Clone, Debug)]
pub struct Machine {
    partition: Partition,
    history: History,
    history_bytes_max: u64,
}

impl Machine {
    /// A controller that has made no configuration yet. All members need the same partition, for ever.
    ///
    /// # Panics
    /// If there are no shards, or more than [`SHARDS_MAX`].
    pub fn new(partition: Partition) -> Self {
        let shards = partition.shards;
        assert!((1..=SHARDS_MAX).contains(&shards), "{shards} shards; 1 to {SHARDS_MAX} can be");
        let history = History::new(&partition);
        Machine { partition, history, history_bytes_max: HISTORY_BYTES_MAX }
    }

    #[cfg(test)]
    pub(super) fn with_history_bytes_max(mut self, bytes: u64) -> Self {
        self.history_bytes_max = bytes;
        self
    }

    /// How keys are spread over shards.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The configuration with the highest number.
    pub fn latest(&self) -> &Config {
        self.history.latest()
    }

    /// The configuration of this number, a copy of its own, if it has been made.
    pub fn config(&self, num: Num) -> Option<Config> {
        self.history.config(num)
    }

    /// Bytes of all changes, as they stand in a snapshot; at most [`HISTORY_BYTES_MAX`].
    pub fn history_bytes(&self) -> u64 {
        self.history.bytes()
    }

    /// Carries out one encoded [`Command`]: whole, or not at all.
    pub fn execute(&mut self, command: &[u8]) -> Reply {
        let Ok(command) = Command::decode(command) else {
            return Reply::Refused(Refusal::Malformed);
        };
        match command.next(self.latest()).and_then(|next| self.keep(&next)) {
            Ok(num) => Reply::Changed { num },
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    /// Answers one encoded [`Query`].
    pub fn answer(&self, query: &[u8]) -> QueryReply {
        match Query::decode(query) {
            Ok(Query { num }) => {
                let asked = num.and_then(|num| self.config(num));
                QueryReply::Config(asked.unwrap_or_else(|| self.latest().clone()))
            }
            Err(_) => QueryReply::Refused(Refusal::Malformed),
        }
    }

    /// Makes it the latest one, if there is room.
    fn keep(&mut self, next: &Config) -> Result<Num, Refusal> {
        let change = Change::between(self.latest(), next);
        let change_bytes = snapshot::bytes_of(&change);
        let (bytes, bytes_max) = (self.history.bytes() + change_bytes, self.history_bytes_max);
        if bytes > bytes_max {
            return Err(Refusal::HistoryFull { bytes, bytes_max });
        }
        self.history.push(change, change_bytes).expect("it was made of the latest one");
        assert_eq!(self.latest(), next, "a change must make what it was made of");
        Ok(next.num)
    }
}

impl Command {
    /// The configuration that it makes of the latest one. The same for all controllers, pulled from or pushing.
    ///
    /// # Errors
    /// Why it makes none.
    pub fn next(&self, latest: &Config) -> Result<Config, Refusal> {
        self.check()?;
        match self {
            Command::Join { groups } => {
                if let Some(gid) = groups.keys().find(|gid| latest.groups.contains_key(gid)) {
                    return Err(Refusal::AlreadyThere { gid: *gid });
                }
                let next = latest.join(groups.clone());
                check_groups(&next.groups)?;
                check_length(&next)?;
                Ok(next.rebalanced())
            }
            Command::Leave { gids } => {
                gids.iter().try_for_each(|gid| check_group(latest, *gid))?;
                Ok(latest.leave(gids.iter().copied()).rebalanced())
            }
            Command::Move { shard, gid } => {
                let (shard, shards) = (*shard, latest.shards.len() as u32);
                if shard >= shards {
                    return Err(Refusal::UnknownShard { shard, shards });
                }
                check_group(latest, *gid)?;
                Ok(latest.moved(shard, *gid))
            }
        }
    }
}

fn check_group(latest: &Config, gid: Gid) -> Result<(), Refusal> {
    let is_there = latest.groups.contains_key(&gid);
    if is_there { Ok(()) } else { Err(Refusal::UnknownGroup { gid }) }
}

/// Whether a configuration can be sent in one answer.
fn check_length(config: &Config) -> Result<(), Refusal> {
    let (bytes, bytes_max) = (codec::encode(config).len() as u64, CONFIG_BYTES_MAX as u64);
    if bytes > bytes_max { Err(Refusal::TooLong { bytes, bytes_max }) } else { Ok(()) }
}

impl StateMachine for Machine {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            replies.push(entry.id.index, self.execute(entry.data).encode());
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        // References: what is behind them never changes.
        Box::new(Written { partition: self.partition, changes: self.history.changes().to_vec() })
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        self.history = snapshot::read(source, &self.partition, self.history_bytes_max)?;
        Ok(())
    }
}
