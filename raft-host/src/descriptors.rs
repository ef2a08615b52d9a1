//! How many file descriptors the process may have, and who gets them.
//!
//! Every connection takes one, and so does every file of the log. A host keeps a reserve for its disk and its
//! members, and gives clients the rest: however many of them come, the log and the other members are reached.

use std::io;

use raft_transport::tcp::reactor::AcceptLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an operating system that has no such limit is taken to have.
const UNLIMITED: u64 = 1 << 20;

/// More clients than this are not let in, however many descriptors there are.
const CLIENTS_MAX: u64 = 16_384;

/// What is kept for disk, members and the program around the host: a tenth, this at least, but never more than half.
const RESERVE_MIN: u64 = 64;

/// Raises the number of files that this process may have open, its soft limit, as far as it is allowed to: to the
/// hard limit. Answers the limit then. For programs, at their start; a host itself changes nothing of its process.
///
/// # Errors
/// The operating system's.
pub fn raise_limit() -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Not beyond, although a privileged process could: the hard limit is an operator's word.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(limit())
}

/// How many files this process may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.map_or(UNLIMITED, |limit| limit.min(UNLIMITED))
}

/// Who may have how many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of members, and of whoever says to be one.
    pub(crate) peers: AcceptLimits,
    /// Of clients.
    pub(crate) clients: AcceptLimits,
    /// Of clients that may stay. The others come in as well, a few at a time, so that idle ones can make room for
    /// them.
    pub(crate) places: AcceptLimits,
}

impl Shares {
    /// With so many descriptors in all, for so many other members.
    pub(crate) fn of(limit: u64, members: usize) -> Self {
        let reserve = (limit / 10).max(RESERVE_MIN).min(limit / 2);
        // Each member may come twice: its old connection is closed when the new one is there.
        let needed = 2 * members + 2;
        let peers = (reserve as usize / 4).min(256).max(needed);
        let clients = (limit - reserve).clamp(1, CLIENTS_MAX) as usize;
        let entrance = (clients / 16).clamp(1, 64);
        let places = (clients - entrance).max(1);
        // No address alone takes the places of all others.
        let one_address = (places * 3).div_ceil(4);
        Shares {
            peers: AcceptLimits { total_max: peers, per_address_max: (peers / 4).max(needed) },
            clients: AcceptLimits { total_max: clients, per_address_max: one_address + entrance },
            places: AcceptLimits { total_max: places, per_address_max: one_address },
        }
    }

    /// With what this process may have.
    pub(crate) fn now(members: usize) -> Self {
        Shares::of(limit(), members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_a_reserve_however_few_descriptors_there_are() {
        for limit in [16, 64, 100, 256, 1024, 20_000, 1 << 20] {
            let Shares { peers, clients, places } = Shares::of(limit, 2);
            let left = limit - clients.total_max as u64;
            assert!(left >= (limit / 10).max(limit.min(128) / 2), "{left} of {limit} are left");
            assert!(places.total_max <= clients.total_max && places.per_address_max > 0);
            assert!(places.per_address_max <= places.total_max);
            // Two dialled, two that dial, each of them twice at worst.
            assert!(peers.total_max >= 6 && (peers.total_max as u64) < left, "{peers:?}");
        }
        assert_eq!(Shares::of(1024, 2).clients.total_max, 922);
        assert_eq!(Shares::of(20_000, 2).clients.total_max, 16_384);
    }

    #[test]
    fn the_limit_is_known() {
        assert!(limit() >= 16);
    }
}
