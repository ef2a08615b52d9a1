//! A state of the whole cluster, in few bytes: numbers of interned members and messages, what has been
//! spent of the budget, and what must be remembered of the past to judge the future.

use raft_core::explore::{Digest, Names};
use raft_core::types::{LogIndex, NodeId, Term};

use super::setup::Setup;

/// Numbers an interned state of a member.
pub(super) type MemberId = u32;
/// Numbers an interned message.
pub(super) type MessageId = u32;

/// Sixteen numbers below sixteen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nibbles(u64);

impl Nibbles {
    /// The largest place, and the largest number.
    pub(super) const MAX: u64 = 15;

    pub(super) fn at(self, place: u64) -> u64 {
        assert!(place <= Self::MAX, "no place {place}: the budget is too large");
        self.0 >> (4 * place) & Self::MAX
    }

    pub(super) fn set(&mut self, place: u64, number: u64) {
        assert!(place <= Self::MAX && number <= Self::MAX, "no room for {number} at {place}");
        self.0 = self.0 & !(Self::MAX << (4 * place)) | number << (4 * place);
    }
}

/// A read that has not ended: who asked, under which ticket, and what was committed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpenRead {
    pub(super) node: NodeId,
    pub(super) ticket: u64,
    pub(super) seen: LogIndex,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) members: [MemberId; Setup::MEMBERS_MAX],
    /// How much of each part of the budget is spent.
    pub(super) spent: [u8; 8],
    /// Who led each term, as far as it matters.
    pub(super) leaders: Nibbles,
    /// The terms of the committed entries, from index 1 on; 0 behind the last one.
    pub(super) committed: Nibbles,
    /// The terms whose leaders committed them; 0 where every leader to come must know.
    pub(super) committed_in: Nibbles,
    /// Sorted.
    pub(super) reads: Vec<OpenRead>,
    /// On their way: sorted; one that is there twice is here twice.
    pub(super) messages: Vec<MessageId>,
}

impl State {
    /// The last committed index.
    pub(super) fn last_committed(&self) -> LogIndex {
        (1..=Nibbles::MAX).take_while(|index| self.committed.at(*index) > 0).count() as LogIndex
    }

    pub(super) fn committed_term(&self, index: LogIndex) -> Option<Term> {
        Some(self.committed.at(index)).filter(|term| *term > 0)
    }

    pub(super) fn add_message(&mut self, message: MessageId) {
        let place = self.messages.partition_point(|other| *other < message);
        self.messages.insert(place, message);
    }

    pub(super) fn remove_message(&mut self, message: MessageId) {
        let place = self.messages.binary_search(&message).expect("it is on its way");
        self.messages.remove(place);
    }

    pub(super) fn add_read(&mut self, read: OpenRead) {
        self.reads.push(read);
        self.reads.sort_unstable();
    }

    /// The fingerprint under other names. The sums are those of members and messages, which are known
    /// already.
    pub(super) fn fingerprint(&self, names: &Names, members: u128, messages: u128) -> u128 {
        let mut digest = Digest::new(names);
        for sum in [members, messages] {
            digest.number(sum as u64);
            digest.number((sum >> 64) as u64);
        }
        digest.number(u64::from_le_bytes(self.spent));
        let (mut leaders, mut rest, mut shift) = (0, self.leaders.0, 0);
        while rest != 0 {
            leaders |= names.of(rest & Nibbles::MAX) << shift;
            (rest, shift) = (rest >> 4, shift + 4);
        }
        digest.number(leaders);
        digest.number(self.committed.0);
        digest.number(self.committed_in.0);
        // Order by other names would be another order; a sum has none.
        let reads = self.reads.iter().map(|read| {
            let mut digest = Digest::new(names);
            digest.node(read.node);
            digest.number(read.ticket << 32 | read.seen);
            digest.finish()
        });
        let sum = reads.fold(0, u128::wrapping_add);
        digest.number(sum as u64);
        digest.number((sum >> 64) as u64);
        digest.finish()
    }

    /// Appends this state as bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for member in self.members {
            out.extend_from_slice(&member.to_le_bytes());
        }
        out.extend_from_slice(&self.spent);
        out.extend_from_slice(&self.leaders.0.to_le_bytes());
        out.extend_from_slice(&self.committed.0.to_le_bytes());
        out.extend_from_slice(&self.committed_in.0.to_le_bytes());
        out.push(self.reads.len() as u8);
        out.push(self.messages.len() as u8);
        for OpenRead { node, ticket, seen } in &self.reads {
            out.extend_from_slice(&[*node as u8, *ticket as u8, *seen as u8]);
        }
        for message in &self.messages {
            out.extend_from_slice(&message.to_le_bytes());
        }
    }

    /// Reads a state back; `bytes` begins behind it afterwards.
    pub(super) fn decode(&mut self, bytes: &mut &[u8]) {
        for member in &mut self.members {
            *member = u32::from_le_bytes(take(bytes));
        }
        self.spent = take(bytes);
        self.leaders = Nibbles(u64::from_le_bytes(take(bytes)));
        self.committed = Nibbles(u64::from_le_bytes(take(bytes)));
        self.committed_in = Nibbles(u64::from_le_bytes(take(bytes)));
        let [reads, messages] = take(bytes);
        self.reads.clear();
        for _ in 0..reads {
            let [node, ticket, seen] = take(bytes).map(u64::from);
            self.reads.push(OpenRead { node, ticket, seen });
        }
        self.messages.clear();
        for _ in 0..messages {
            self.messages.push(u32::from_le_bytes(take(bytes)));
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_first_chunk().expect("what was encoded is whole");
    *bytes = rest;
    *taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_from_bytes() {
        let mut state = State { members: [7, 8, 1 << 30], spent: [1; 8], ..State::default() };
        state.leaders.set(2, 3);
        state.committed.set(1, 2);
        state.add_read(OpenRead { node: 2, ticket: 9, seen: 1 });
        state.add_message(5);
        state.add_message(4);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        State::default().encode(&mut bytes);
        let (mut rest, mut decoded) = (&bytes[..], State::default());
        decoded.decode(&mut rest);
        assert_eq!(decoded, state);
        decoded.decode(&mut rest);
        assert_eq!((decoded, rest.len()), (State::default(), 0));
    }

    #[test]
    fn nibbles_keep_apart() {
        let mut nibbles = Nibbles::default();
        for place in 0..=Nibbles::MAX {
            nibbles.set(place, place);
        }
        nibbles.set(3, 14);
        let read: Vec<u64> = (0..=Nibbles::MAX).map(|place| nibbles.at(place)).collect();
        assert_eq!(read, [0, 1, 2, 14, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    }
}
