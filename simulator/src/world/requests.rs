//! What became of requests, told by one who sees each copy of them: a member answers each copy once at
//! most, and what it calls surely not applied is in no log.

use std::collections::BTreeMap;
use std::rc::Rc;

use raft_core::types::LogIndex;
use raft_host::core::Reply;

use super::client::Call;
use crate::ledger::hash_of;

/// A request that a member was handed.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) bytes: Rc<[u8]>,
    /// Everything up to here some client had seen by then.
    pub(super) floor: LogIndex,
    /// The network may deliver a request twice.
    copies: u64,
}

/// What one life of a member was asked and has not answered.
#[derive(Debug, Default)]
pub(super) struct Open(BTreeMap<Call, Request>);

impl Open {
    /// A copy of a request arrives.
    pub(super) fn arrives(&mut self, call: Call, bytes: &Rc<[u8]>, floor: LogIndex) {
        let request = || Request { bytes: bytes.clone(), floor, copies: 0 };
        self.0.entry(call).or_insert_with(request).copies += 1;
    }

    /// A copy is answered.
    ///
    /// # Errors
    /// If all that came were answered before.
    pub(super) fn answers(&mut self, call: Call) -> Result<Request, String> {
        let Some(request) = self.0.get_mut(&call) else {
            return Err(format!("{call} is answered, and does not wait for an answer"));
        };
        request.copies -= 1;
        let answered = request.clone();
        if answered.copies == 0 {
            self.0.remove(&call);
        }
        Ok(answered)
    }

    /// What waits for an answer.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Call, &Request)> {
        self.0.iter()
    }
}

/// What became of the copies of one command.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    arrived: u64,
    /// Those that were called surely not applied.
    refused: u64,
    /// Entries with it that were applied.
    applied: u64,
}

/// Every command, by the hash of its bytes, and its copies.
#[derive(Debug, Default)]
pub(super) struct Commands(BTreeMap<u64, Copies>);

impl Commands {
    /// A copy reaches a member.
    pub(super) fn arrives(&mut self, bytes: &[u8]) {
        self.0.entry(hash_of(bytes)).or_default().arrived += 1;
    }

    /// An entry with a command was applied for the first time.
    ///
    /// # Errors
    /// If it can be none of the copies.
    pub(super) fn applied(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.count(bytes, |copies| copies.applied += 1)
    }

    /// A member ends a copy with this reply.
    ///
    /// # Errors
    /// If it says that the copy is surely not applied, and it was.
    pub(super) fn answered(&mut self, bytes: &[u8], reply: &Reply) -> Result<(), String> {
        match reply {
            Reply::Proposed(Err(error)) if error.is_surely_not_applied() => {
                self.count(bytes, |copies| copies.refused += 1)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, bytes: &[u8], count: impl FnOnce(&mut Copies)) -> Result<(), String> {
        let copies = self.0.entry(hash_of(bytes)).or_default();
        count(copies);
        let Copies { arrived, refused, applied } = *copies;
        if applied + refused <= arrived {
            return Ok(());
        }
        let command = super::text(bytes);
        Err(format!(
            "{applied} entries are applied of a command that came {arrived} times, {refused} of which were \
             called surely not applied: {command}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use raft_host::outcome::{NotAppended, ProposeError, Unknown};

    use super::*;

    const CALL: Call = Call { client: 0, operation: 1, attempt: 1 };

    fn refused(error: ProposeError) -> Reply {
        Reply::Proposed(Err(error))
    }

    #[test]
    fn a_copy_is_answered_once() {
        let mut open = Open::default();
        let bytes: Rc<[u8]> = b"put".as_slice().into();
        open.arrives(CALL, &bytes, 3);
        open.arrives(CALL, &bytes, 4);
        assert_eq!(open.answers(CALL).expect("the first copy").floor, 3);
        open.answers(CALL).expect("the second copy");
        assert!(open.answers(CALL).is_err());
        assert_eq!(open.waiting().count(), 0);
    }

    #[test]
    fn what_was_refused_is_not_applied() {
        for error in [ProposeError::Superseded, ProposeError::NotAppended(NotAppended::Busy)] {
            let mut commands = Commands::default();
            commands.arrives(b"put");
            commands.arrives(b"put");
            commands.answered(b"put", &refused(error.clone())).expect("one may be");
            commands.applied(b"put").expect("the other one");
            assert!(commands.applied(b"put").is_err(), "{error}");
        }
    }

    #[test]
    fn what_was_applied_is_not_refused() {
        let mut commands = Commands::default();
        commands.arrives(b"put");
        commands.applied(b"put").expect("it came");
        let unknown = refused(ProposeError::Unknown(Unknown::Patience));
        commands.answered(b"put", &unknown).expect("nothing is said");
        assert!(commands.answered(b"put", &refused(ProposeError::Superseded)).is_err());
        assert!(commands.applied(b"never sent").is_err());
    }
}
