//! What is known of the other members: where they are, which connections they have, when to dial.

use std::net::SocketAddr;

use raft_core::types::{Incarnation, Member};

use crate::dice::Dice;

/// A connection that lasted this long ends a series of failures.
const STEADY_TICKS: u64 = 5_000;

/// A connection after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Established {
    pub(super) socket: usize,
    pub(super) member: Member,
    pub(super) since: u64,
}

/// A change that the host hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Up(Member),
    Lost,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The incarnation that it last had; 0 before it is known.
    pub(super) incarnation: Incarnation,
    /// The connection that we dial, from the first attempt on.
    pub(super) out: Option<usize>,
    pub(super) out_ready: Option<Established>,
    pub(super) inbound: Option<Established>,
    /// When to dial. Set while `out` is none.
    pub(super) dial_at: Option<u64>,
    failures: u32,
    /// Why the connection that we dial does not stand, if it was tried.
    pub(super) failure: Option<String>,
    reported: Option<Member>,
    /// Whether this turn has already said that messages to it are dropped.
    pub(super) unreachable_reported: bool,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, now: u64) -> Self {
        Peer {
            address,
            incarnation: 0,
            out: None,
            out_ready: None,
            inbound: None,
            dial_at: Some(now),
            failures: 0,
            failure: None,
            reported: None,
            unreachable_reported: false,
        }
    }

    /// A handshake is done. Returns the sockets whose place this connection takes: an earlier one in
    /// the same direction, and one with an earlier store in the other.
    pub(super) fn established(&mut self, new: Established, dialled: bool) -> Vec<usize> {
        let (same, other) = match dialled {
            true => (&mut self.out_ready, &mut self.inbound),
            false => (&mut self.inbound, &mut self.out_ready),
        };
        let replaced = same.replace(new);
        if dialled {
            self.failure = None;
        }
        let outdated = other.filter(|other| other.member != new.member);
        self.incarnation = new.member.incarnation;
        replaced.into_iter().chain(outdated).map(|established| established.socket).collect()
    }

    /// A connection of this peer is closed; if it was the one we dial, dials again later.
    pub(super) fn closed(&mut self, socket: usize, now: u64, wait: &mut Backoff) {
        self.inbound = self.inbound.filter(|inbound| inbound.socket != socket);
        if self.out != Some(socket) {
            return;
        }
        let steady =
            self.out_ready.is_some_and(|established| now - established.since >= STEADY_TICKS);
        self.failures = if steady { 0 } else { self.failures.saturating_add(1) };
        self.out = None;
        self.out_ready = None;
        self.dial_at = Some(now + wait.after(self.failures));
    }

    /// It has just been seen alive: no reason to wait long before dialling it.
    pub(super) fn dial_soon(&mut self, now: u64, wait: &mut Backoff) {
        let soon = now + wait.after(0);
        self.dial_at = self.dial_at.map(|at| at.min(soon));
    }

    /// What the host has not heard yet.
    pub(super) fn change(&mut self) -> Option<Change> {
        let current = self.inbound.or(self.out_ready).map(|established| established.member);
        let before = std::mem::replace(&mut self.reported, current);
        match (before, current) {
            (Some(before), Some(current)) if before == current => None,
            (_, Some(current)) => Some(Change::Up(current)),
            (Some(_), None) => Some(Change::Lost),
            (None, None) => None,
        }
    }
}

/// Waits that double with each failure, with jitter so that members don't dial in step.
#[derive(Debug)]
pub(super) struct Backoff {
    pub(super) ticks_min: u64,
    pub(super) ticks_max: u64,
    pub(super) dice: Dice,
}

impl Backoff {
    fn after(&mut self, failures: u32) -> u64 {
        let doubled = self.ticks_min.saturating_mul(1 << failures.min(20));
        let full = doubled.min(self.ticks_max);
        full / 2 + self.dice.up_to(full / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Member = Member { node: 2, incarnation: 1 };
    const NEW: Member = Member { node: 2, incarnation: 9 };

    fn peer() -> (Peer, Backoff) {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let wait = Backoff { ticks_min: 20, ticks_max: 1000, dice: Dice::new(1) };
        (Peer::new(address, 0), wait)
    }

    fn established(socket: usize, member: Member) -> Established {
        Established { socket, member, since: 0 }
    }

    #[test]
    fn a_peer_is_up_with_its_first_connection_and_lost_with_its_last() {
        let (mut peer, mut wait) = peer();
        assert_eq!(peer.change(), None);
        peer.out = Some(1);
        assert_eq!(peer.established(established(1, OLD), true), []);
        assert_eq!(peer.change(), Some(Change::Up(OLD)));
        assert_eq!(peer.established(established(2, OLD), false), []);
        assert_eq!(peer.change(), None);
        peer.closed(1, 10, &mut wait);
        assert_eq!(peer.change(), None);
        peer.closed(2, 10, &mut wait);
        assert_eq!(peer.change(), Some(Change::Lost));
        assert!(peer.dial_at > Some(10));
    }

    #[test]
    fn a_newer_connection_and_a_newer_store_take_the_place_of_older_ones() {
        let (mut peer, mut wait) = peer();
        peer.out = Some(1);
        peer.established(established(1, OLD), true);
        peer.established(established(2, OLD), false);
        peer.change();
        assert_eq!(peer.established(established(3, OLD), false), [2]);
        peer.closed(2, 10, &mut wait);
        assert_eq!((peer.inbound.unwrap().socket, peer.change()), (3, None));
        assert_eq!(peer.established(established(4, NEW), false), [3, 1]);
        assert_eq!(peer.change(), Some(Change::Up(NEW)));
        peer.closed(1, 10, &mut wait);
        peer.closed(3, 10, &mut wait);
        assert_eq!((peer.incarnation, peer.change()), (9, None));
    }

    #[test]
    fn waits_double_to_a_limit_and_a_steady_connection_ends_the_series() {
        let (mut peer, mut wait) = peer();
        let mut longest = 0;
        for attempt in 1..20 {
            peer.out = Some(attempt);
            peer.closed(attempt, 0, &mut wait);
            let waited = peer.dial_at.unwrap();
            assert!(waited >= (20 << attempt.min(6)) / 2 && waited <= 1000 || waited >= 500);
            longest = longest.max(waited);
        }
        assert!(longest > 500 && longest <= 1000);
        peer.out = Some(99);
        peer.established(established(99, OLD), true);
        peer.closed(99, STEADY_TICKS, &mut wait);
        assert!(peer.dial_at.unwrap() - STEADY_TICKS <= 20);
        peer.dial_at = Some(5000);
        peer.dial_soon(100, &mut wait);
        assert!(peer.dial_at.unwrap() <= 120);
    }
}
