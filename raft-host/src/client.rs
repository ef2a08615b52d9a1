//! Handles for callers in the same process.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::types::{GroupId, NodeId};

use crate::mailbox::{Mailbox, Refused, Request};
use crate::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown};
use crate::patience::deadline;
use crate::pending::{Pending, pending};
use crate::status::{GroupStatus, HostStatus};

/// How often somebody who waits for a leader looks.
const LEADER_POLL: Duration = Duration::from_millis(5);

/// A handle on one group of a host in the same process. Cheap to clone, usable from any thread.
///
/// It asks this member alone: one that does not lead refuses proposals and names the leader.
#[derive(Clone)]
pub struct Client {
    mailbox: Arc<Mailbox>,
    group: GroupId,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client(group {})", self.group)
    }
}

impl Client {
    pub(crate) fn new(mailbox: Arc<Mailbox>, group: GroupId) -> Self {
        Client { mailbox, group }
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Has a command applied by all members' state machines. Never blocks. The result comes exactly
    /// once: the reply of the state machine, or why there is none.
    pub fn propose(&self, command: impl Into<Bytes>) -> Pending<ProposeResult> {
        let (group, command) = (self.group, command.into());
        let (completer, later) = pending(|| Err(ProposeError::Unknown(Unknown::Shutdown)));
        match self.mailbox.request(Request::Propose { group, command, completer }) {
            Ok(()) => later,
            Err((why, _)) => Pending::ready(Err(ProposeError::NotAppended(match why {
                Refused::Full => NotAppended::Busy,
                Refused::Closed => NotAppended::Shutdown,
            }))),
        }
    }

    /// Asks the state machine, linearizably, on any member. Never blocks. The result comes exactly once.
    pub fn query(&self, query: impl Into<Bytes>) -> Pending<QueryResult> {
        let (group, query) = (self.group, query.into());
        let (completer, later) = pending(|| Err(QueryError::Shutdown));
        match self.mailbox.request(Request::Query { group, query, completer }) {
            Ok(()) => later,
            Err((Refused::Full, _)) => Pending::ready(Err(QueryError::Busy)),
            Err((Refused::Closed, _)) => Pending::ready(Err(QueryError::Shutdown)),
        }
    }

    /// Where the group stands on this host; `None` once the host is shut down.
    pub fn status(&self) -> Option<GroupStatus> {
        let host = ask_status(&self.mailbox)?;
        host.groups.into_iter().find(|status| status.group == self.group)
    }

    /// Waits until this member knows a leader, and names it; `None` if it knows none in time, or the
    /// host is shut down.
    pub fn wait_for_leader(&self, patience: Duration) -> Option<NodeId> {
        let deadline = deadline(patience);
        loop {
            match self.status()?.leader {
                Some(leader) => return Some(leader),
                None if Instant::now() >= deadline => return None,
                None => thread::sleep(LEADER_POLL),
            }
        }
    }

    /// Has this member stand for election now, if it can.
    pub fn campaign(&self) {
        // A host that is busy or gone has no time for elections either.
        let _ = self.mailbox.request(Request::Campaign { group: self.group });
    }
}

/// Asks the host's own thread, and waits for it.
pub(crate) fn ask_status(mailbox: &Mailbox) -> Option<HostStatus> {
    let (completer, later) = pending(|| None);
    match mailbox.request(Request::Status { completer }) {
        Ok(()) => later.wait(),
        Err(_) => None,
    }
}
