//! Rare places that show in what clients are answered.

use raft_host::core::Reply;
use raft_host::outcome::{NotAppended, ProposeError, QueryError, Unknown};

use crate::marks::{Mark, hit};

/// A member answers a client.
pub(super) fn mark(reply: &Reply, leads: bool) {
    let mark = match reply {
        Reply::Proposed(Ok(_)) => return,
        Reply::Proposed(Err(error)) => of_proposal(error),
        Reply::Queried(Ok(_)) if leads => Some(Mark::ReadAtLeader),
        Reply::Queried(Ok(_)) => Some(Mark::ReadAtFollower),
        Reply::Queried(Err(error)) => of_query(error),
    };
    mark.into_iter().for_each(hit);
}

fn of_proposal(error: &ProposeError) -> Option<Mark> {
    Some(match error {
        ProposeError::NotAppended(NotAppended::Busy) => Mark::ProposalBusy,
        ProposeError::NotAppended(NotAppended::NotLeader { .. }) => Mark::ProposalElsewhere,
        ProposeError::Superseded => Mark::Superseded,
        ProposeError::Unknown(Unknown::Snapshot) => Mark::UnknownSnapshot,
        ProposeError::Unknown(Unknown::Fenced) => Mark::UnknownFenced,
        ProposeError::Unknown(Unknown::Patience) => Mark::UnknownPatience,
        _ => return None,
    })
}

fn of_query(error: &QueryError) -> Option<Mark> {
    Some(match error {
        QueryError::NoLeader => Mark::ReadNoLeader,
        QueryError::LeaderChanged => Mark::ReadLeaderChanged,
        QueryError::Patience => Mark::ReadPatience,
        QueryError::Busy => Mark::ReadBusy,
        _ => return None,
    })
}
