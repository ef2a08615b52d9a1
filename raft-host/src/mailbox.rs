//! What other threads hand to the one that runs the groups.

use bytes::Bytes;
use parking_lot::Mutex;
use raft_core::snapshot::{SnapshotError, SnapshotMeta};
use raft_core::storage::{Completion, Wake};
use raft_core::types::GroupId;

use crate::outcome::{ProposeResult, QueryResult};
use crate::pending::Completer;
use crate::status::{Gauge, HostStatus};

/// What a request costs besides its own bytes, while it waits here.
const REQUEST_OVERHEAD_BYTES: usize = 128;

/// Something that a client of this process wants.
#[derive(Debug)]
pub(crate) enum Request {
    Propose { group: GroupId, command: Bytes, completer: Completer<ProposeResult> },
    Query { group: GroupId, query: Bytes, completer: Completer<QueryResult> },
    Status { completer: Completer<Option<HostStatus>> },
    Campaign { group: GroupId },
}

impl Request {
    fn bytes(&self) -> usize {
        REQUEST_OVERHEAD_BYTES
            + match self {
                Request::Propose { command, .. } => command.len(),
                Request::Query { query, .. } => query.len(),
                Request::Status { .. } | Request::Campaign { .. } => 0,
            }
    }
}

/// All that has come in since the last look.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) requests: Vec<Request>,
    pub(crate) completions: Vec<(GroupId, Completion)>,
    pub(crate) snapshots: Vec<(GroupId, Result<SnapshotMeta, SnapshotError>)>,
}

#[derive(Debug, Default)]
struct State {
    mail: Mail,
    request_bytes: usize,
    /// Whether the reader has been woken since it looked.
    woken: bool,
    closed: bool,
    stop: bool,
    /// Why a thread can't go on, if one can't.
    failure: Option<String>,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// See the module.
pub(crate) struct Mailbox {
    state: Mutex<State>,
    request_bytes_max: usize,
    wake: Wake,
}

impl Mailbox {
    pub(crate) fn new(request_bytes_max: usize, wake: Wake) -> Self {
        Mailbox { state: Mutex::default(), request_bytes_max, wake }
    }

    /// Hands in a request, or gives it back.
    pub(crate) fn request(&self, request: Request) -> Result<(), (Refused, Request)> {
        let bytes = request.bytes();
        let mut state = self.state.lock();
        if state.closed {
            return Err((Refused::Closed, request));
        }
        // A request that is larger than the whole limit would otherwise be refused for ever.
        if state.request_bytes > 0 && state.request_bytes + bytes > self.request_bytes_max {
            return Err((Refused::Full, request));
        }
        state.request_bytes += bytes;
        state.mail.requests.push(request);
        self.wake_after(state);
        Ok(())
    }

    pub(crate) fn completed(&self, completions: &mut Vec<(GroupId, Completion)>) {
        let mut state = self.state.lock();
        state.mail.completions.append(completions);
        self.wake_after(state);
    }

    pub(crate) fn snapshot_ended(
        &self,
        group: GroupId,
        result: Result<SnapshotMeta, SnapshotError>,
    ) {
        let mut state = self.state.lock();
        state.mail.snapshots.push((group, result));
        self.wake_after(state);
    }

    /// A thread can't go on, so the host can't.
    pub(crate) fn fail(&self, what: String) {
        let mut state = self.state.lock();
        state.failure.get_or_insert(what);
        state.stop = true;
        self.wake_after(state);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// The reader is to stop, soon.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stop = true;
        self.wake_after(state);
    }

    /// Requests are refused from now on. What was taken and not read comes back, to be answered: a
    /// request that nobody reads would never end.
    pub(crate) fn close(&self) -> Mail {
        let mut state = self.state.lock();
        state.closed = true;
        state.request_bytes = 0;
        std::mem::take(&mut state.mail)
    }

    /// Takes what has come in, into an empty `mail`; answers whether to stop.
    pub(crate) fn take(&self, mail: &mut Mail) -> bool {
        let mut state = self.state.lock();
        state.woken = false;
        state.request_bytes = 0;
        std::mem::swap(&mut state.mail, mail);
        state.stop
    }

    pub(crate) fn gauge(&self) -> Gauge {
        let bytes = self.state.lock().request_bytes as u64;
        Gauge { name: "inbox", bytes, bytes_max: Some(self.request_bytes_max as u64) }
    }

    /// One wake-up for all that comes in until the reader looks, and outside the lock.
    fn wake_after(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let first = !std::mem::replace(&mut state.woken, true);
        drop(state);
        if first {
            (self.wake)();
        }
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({:?})", self.gauge())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::QueryError;
    use crate::pending::pending;

    #[test]
    fn a_closed_mailbox_takes_nothing_and_keeps_nothing() {
        let mailbox = Mailbox::new(1000, Arc::new(|| {}));
        let ask = |bytes: usize| {
            let (completer, later) = pending(|| Err(QueryError::Shutdown));
            let query = vec![0; bytes].into();
            let taken = mailbox.request(Request::Query { group: 1, query, completer });
            (taken.map_err(|(why, _)| why), later)
        };
        let (taken, later) = ask(5000);
        assert_eq!(taken, Ok(()), "one alone may be larger than the limit");
        assert_eq!(ask(1).0, Err(Refused::Full));
        drop(mailbox.close());
        assert_eq!(later.wait(), Err(QueryError::Shutdown));
        assert_eq!(ask(1).0, Err(Refused::Closed));
    }
}
