//! One request's way from server to server, and what was seen on it.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::patience::deadline;

/// What a refusal said about where to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    /// Where the leader is.
    Leader,
    Nothing,
}

/// A server that was not reached, or went away before it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    pub(super) address: String,
    pub(super) why: String,
}

impl Unreached {
    /// The connection at hand broke.
    pub(super) fn broken(why: String) -> Self {
        Unreached { address: "the server at hand".to_owned(), why }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.why)
    }
}

/// See the module. `E` is how the request may end without an answer.
pub(super) struct Search<E> {
    pub(super) deadline: Instant,
    backoff: Duration,
    backoff_max: Duration,
    redirects: u32,
    servers: usize,
    /// What a server that answered said last.
    refusal: Option<E>,
    /// Why each of the others was not reached last.
    unreached: BTreeMap<String, String>,
    /// How many attempts have reached nobody since.
    in_vain: usize,
}

impl<E> Search<E> {
    pub(super) fn new(
        patience: Duration,
        (backoff, backoff_max): (Duration, Duration),
        servers: usize,
    ) -> Self {
        Search {
            deadline: deadline(patience),
            backoff,
            backoff_max,
            redirects: 0,
            servers,
            refusal: None,
            unreached: BTreeMap::new(),
            in_vain: 0,
        }
    }

    /// Waits before the next attempt, unless the leader's address was just learnt. Two members who
    /// name each other get no more than two attempts in a row.
    pub(super) fn rest_after(&mut self, learned: Learned) {
        if learned == Learned::Leader && self.redirects < 2 {
            self.redirects += 1;
            return;
        }
        self.redirects = 0;
        let left = self.deadline.saturating_duration_since(Instant::now());
        thread::sleep(self.backoff.min(left));
        self.backoff = self.backoff.saturating_mul(2).min(self.backoff_max);
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// A server said why it did not help, or stood still.
    pub(super) fn answered(&mut self, refusal: E) {
        self.refusal = Some(refusal);
        self.in_vain = 0;
    }

    pub(super) fn unreached(&mut self, Unreached { address, why }: Unreached) {
        self.unreached.insert(address, why);
        self.in_vain += 1;
    }

    /// How the request ends: by what a server said, unless a whole round of them has been unreachable since; then by
    /// why each one was.
    pub(super) fn end(self, unreachable: impl FnOnce(String) -> E) -> E {
        match self.refusal {
            Some(refusal) if self.in_vain < self.servers => refusal,
            _ => {
                let all = self.unreached.into_iter();
                let all = all.map(|(address, why)| Unreached { address, why }.to_string());
                unreachable(all.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search() -> Search<String> {
        Search::new(Duration::ZERO, (Duration::ZERO, Duration::ZERO), 3)
    }

    fn gone(address: &str) -> Unreached {
        Unreached { address: address.to_owned(), why: "refused".to_owned() }
    }

    #[test]
    fn what_a_server_said_counts_for_more_than_one_that_was_not_reached() {
        let mut search = search();
        search.answered("no leader".to_owned());
        search.unreached(gone("c:1"));
        assert_eq!(search.end(|all| all), "no leader");
    }

    #[test]
    fn where_nobody_is_reached_any_more_every_server_is_named() {
        let mut search = search();
        search.answered("no leader".to_owned());
        for address in ["b:1", "c:1", "a:1", "b:1"] {
            search.unreached(gone(address));
        }
        assert_eq!(search.end(|all| all), "a:1: refused; b:1: refused; c:1: refused");
    }
}
