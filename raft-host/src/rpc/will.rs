//! Last wills: a client leaves a command with the server to which it is connected, and when that connection closes the
//! server proposes it, for nobody.
//!
//! Why the connection closes does not matter: the client closed it, its process was killed, it sent nonsense, it was
//! idle where another client needed its place. A coordinator that has given work to a client hears of the end of it at
//! once that way, and not after a timeout. [`RpcClient::set_will`](crate::RpcClient::set_will) leaves one.
//!
//! A will is a hint and no promise, so **a timeout of the application is needed beside it**:
//!
//! - It is held by one server, in memory. If that server is shut down or dies, nobody proposes it.
//! - It is dropped where the server does not lead its group when the connection closes.
//! - A machine or a network that is gone without a word closes no connection.
//!
//! And a will that is executed does not say that its client is dead: a connection can break, or have to make room for
//! another one, while the client goes on, with the same will on its next connection. Whoever leaves in peace takes it
//! back first ([`RpcClient::clear_will`](crate::RpcClient::clear_will)).
//!
//! The requests of a connection that its groups have seen come before its will. Those that waited for room are
//! dropped with the connection. A will itself waits until its group has room. To a machine with sessions it comes
//! [`without_session`](crate::session::without_session).

use std::collections::{BTreeMap, VecDeque};

use raft_core::types::GroupId;
use raft_transport::tcp::reactor::ClientId;

use crate::outcome::NotAppended;
use crate::status::Gauge;

/// The longest command of a will, in bytes.
pub const WILL_BYTES_MAX: usize = 1 << 10;

/// The most groups for which one connection may leave wills, one for each.
pub const WILLS_MAX: usize = 4;

/// What all wills of a server may weigh, those included that wait for room in their groups. So none that was taken
/// is ever dropped for want of memory, however many connections close at once.
const ALL_BYTES_MAX: usize = 16 << 20;

/// What a will costs besides its command.
const OVERHEAD_BYTES: usize = 128;

/// Whether this command may be left where there are wills for so many other groups: the client asks this before it
/// sends one, and the server of whatever is sent.
pub(super) fn check(command: &[u8], others: usize) -> Result<(), NotAppended> {
    let (bytes, bytes_max) = (command.len(), WILL_BYTES_MAX);
    if bytes > bytes_max {
        return Err(NotAppended::TooLarge { bytes, bytes_max });
    }
    if others >= WILLS_MAX {
        return Err(NotAppended::TooManyWills { wills_max: WILLS_MAX });
    }
    Ok(())
}

/// The wills that a server holds.
#[derive(Debug, Default)]
pub(super) struct Wills {
    /// Of connections that are open.
    left: BTreeMap<(ClientId, GroupId), Box<[u8]>>,
    /// Of connections that are closed, oldest first. They wait for room in their group.
    due: BTreeMap<GroupId, VecDeque<Box<[u8]>>>,
    /// What both weigh.
    bytes: usize,
}

impl Wills {
    /// Takes a client's will for a group in place of the one before; an empty one takes that back. One that is refused
    /// leaves it as it was.
    pub(super) fn leave(
        &mut self,
        client: ClientId,
        group: GroupId,
        command: &[u8],
    ) -> Result<(), NotAppended> {
        let key = (client, group);
        if command.is_empty() {
            self.bytes -= self.left.remove(&key).map_or(0, |former| weight(&former));
            return Ok(());
        }
        check(command, self.groups(client).filter(|other| *other != group).count())?;
        let former = self.left.get(&key).map_or(0, |former| weight(former));
        let bytes = self.bytes - former + weight(command);
        if bytes > ALL_BYTES_MAX {
            return Err(NotAppended::Busy);
        }
        self.bytes = bytes;
        // A copy: the command came as a part of its frame, which must not stay in memory for it.
        self.left.insert(key, command.into());
        Ok(())
    }

    /// Whether a client has left a will.
    pub(super) fn has_any(&self, client: ClientId) -> bool {
        self.groups(client).next().is_some()
    }

    /// The connection is closed: its wills are due.
    pub(super) fn closed(&mut self, client: ClientId) {
        let groups: Vec<GroupId> = self.groups(client).collect();
        for group in groups {
            self.due.entry(group).or_default().extend(self.left.remove(&(client, group)));
        }
    }

    /// Proposes what is due, each group's wills until `propose` answers that the group has no room. Answers whether
    /// there were any that are proposed now.
    pub(super) fn execute(&mut self, mut propose: impl FnMut(GroupId, &[u8]) -> bool) -> bool {
        let before = self.bytes;
        self.due.retain(|group, commands| {
            while let Some(command) = commands.front()
                && propose(*group, command)
            {
                self.bytes -= weight(command);
                commands.pop_front();
            }
            !commands.is_empty()
        });
        self.bytes < before
    }

    /// What they weigh, beside what is allowed.
    pub(super) fn gauge(&self) -> Gauge {
        let bytes_max = Some(ALL_BYTES_MAX as u64);
        Gauge { name: "wills", bytes: self.bytes as u64, bytes_max }
    }

    /// The groups for which a client has left wills.
    fn groups(&self, client: ClientId) -> impl Iterator<Item = GroupId> {
        let all = (client, GroupId::MIN)..=(client, GroupId::MAX);
        self.left.range(all).map(|((_, group), _)| *group)
    }
}

fn weight(command: &[u8]) -> usize {
    command.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has everything proposed that `has_room`, as words.
    fn execute(wills: &mut Wills, mut has_room: impl FnMut(GroupId) -> bool) -> Vec<String> {
        let mut proposed = Vec::new();
        let any = wills.execute(|group, command| {
            let room = has_room(group);
            if room {
                proposed.push(format!("{group} {}", str::from_utf8(command).unwrap()));
            }
            room
        });
        assert_eq!(any, !proposed.is_empty());
        proposed
    }

    #[test]
    fn a_connection_that_closes_has_its_newest_wills_executed_once() {
        let (mut wills, [a, b]) = (Wills::default(), [1, 2].map(ClientId::of));
        for (client, group, command) in [
            (a, 2, "a2"),
            (b, 1, "b1"),
            (a, 1, "replaced"),
            (a, 1, "a1"),
            (a, 3, "taken back"),
            (a, 3, ""),
            (a, 4, ""),
        ] {
            wills.leave(client, group, command.as_bytes()).unwrap();
        }
        assert!(execute(&mut wills, |_| true).is_empty(), "both are connected");
        wills.closed(a);
        assert!(!wills.has_any(a) && wills.has_any(b));
        assert_eq!(execute(&mut wills, |_| true), ["1 a1", "2 a2"]);
        wills.closed(a);
        assert!(execute(&mut wills, |_| true).is_empty());
        wills.closed(b);
        assert_eq!(execute(&mut wills, |_| true), ["1 b1"]);
        assert_eq!(wills.gauge().bytes, 0);
    }

    #[test]
    fn what_is_due_waits_for_room_in_its_own_group() {
        let mut wills = Wills::default();
        for number in 1..=3 {
            let client = ClientId::of(number);
            wills.leave(client, 1, format!("first of {number}").as_bytes()).unwrap();
            wills.leave(client, 2, format!("second of {number}").as_bytes()).unwrap();
            wills.closed(client);
        }
        let mut room = 1;
        let proposed = execute(&mut wills, |group| {
            room -= i32::from(group == 1);
            group == 2 || room == 0
        });
        let second = ["2 second of 1", "2 second of 2", "2 second of 3"];
        assert_eq!(proposed, [&["1 first of 1"][..], &second].concat());
        assert!(wills.gauge().bytes > 0, "they weigh something as long as they wait");
        assert_eq!(execute(&mut wills, |_| true), ["1 first of 2", "1 first of 3"]);
        assert_eq!(wills.gauge().bytes, 0);
    }

    #[test]
    fn what_is_too_large_or_too_much_is_refused_and_leaves_what_was_there() {
        let (mut wills, client) = (Wills::default(), ClientId::of(1));
        let (bytes, bytes_max) = (WILL_BYTES_MAX + 1, WILL_BYTES_MAX);
        for group in 1..=WILLS_MAX as u64 {
            wills.leave(client, group, b"small").unwrap();
        }
        let end = wills.leave(client, 1, &vec![b'x'; bytes]);
        assert_eq!(end, Err(NotAppended::TooLarge { bytes, bytes_max }));
        let end = wills.leave(client, 0, b"one more");
        assert_eq!(end, Err(NotAppended::TooManyWills { wills_max: WILLS_MAX }));
        wills.leave(ClientId::of(2), 0, b"another's").unwrap();
        wills.leave(client, 4, b"").unwrap();
        wills.leave(client, 0, &[b'y'; WILL_BYTES_MAX]).unwrap();
        wills.closed(client);
        let mut proposed = execute(&mut wills, |_| true);
        assert_eq!(proposed.remove(0).len(), "0 ".len() + WILL_BYTES_MAX);
        assert_eq!(proposed, ["1 small", "2 small", "3 small"]);
    }

    #[test]
    fn all_of_them_are_bounded_and_those_that_wait_count() {
        let mut wills = Wills::default();
        let clients: Vec<_> = (0..).map(ClientId::of).take(ALL_BYTES_MAX / weight(b"12")).collect();
        for client in &clients {
            wills.leave(*client, 1, b"12").unwrap();
        }
        let [other, late] = [u64::MAX - 1, u64::MAX].map(ClientId::of);
        wills.closed(clients[0]);
        assert_eq!(wills.leave(other, 1, &[b'x'; 200]), Err(NotAppended::Busy));
        // One that takes the place of its former one adds no more than the difference.
        wills.leave(clients[1], 1, b"34").unwrap();
        assert_eq!(execute(&mut wills, |_| true), ["1 12"]);
        wills.leave(other, 1, b"56").unwrap();
        assert_eq!(wills.leave(late, 1, &[b'x'; 200]), Err(NotAppended::Busy));
    }
}
