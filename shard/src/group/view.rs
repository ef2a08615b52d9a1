//! What a member that leads sees of its group, handed to those who work beside it: agents, and who settles
//! transactions. They need not ask; where nothing changes, it costs a comparison a tick.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft_core::types::Term;
use raft_host::LeaderHooks;
use raft_host::session::{Sessions, without_session};

use super::command::Stand;
use super::leases::Leases;
use super::machine::Group;

/// How often it is looked whether something has changed, in ticks.
const PERIOD_TICKS: u64 = 1;

/// How a member's group stands, while the member leads: as it has applied the log, which may be a little behind,
/// or, where somebody else leads by now, out of date. Whoever acts on it does so through the log.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<Option<Arc<Stand>>>>);

impl View {
    /// How the group stands; `None` where this member does not lead.
    pub fn look(&self) -> Option<Arc<Stand>> {
        self.0.lock().clone()
    }

    /// What keeps it up to date: the hooks of the member's group, on a host whose ticks are so long. They end the
    /// leases of locks as well.
    pub fn publisher(&self, tick: Duration) -> Publisher {
        Publisher { view: self.clone(), published: None, leases: Leases::new(tick) }
    }
}

/// Keeps a [`View`] up to date, and ends leases that have run out.
#[derive(Debug)]
pub struct Publisher {
    view: View,
    /// What the group had gone through when it was looked at last.
    published: Option<u64>,
    leases: Leases,
}

impl Publisher {
    fn publish(&mut self, group: &Group) {
        if self.published != Some(group.changes()) {
            self.published = Some(group.changes());
            *self.view.0.lock() = Some(Arc::new(group.stand()));
        }
    }
}

impl LeaderHooks<Sessions<Group>> for Publisher {
    fn on_leadership(&mut self, group: &Sessions<Group>, term: Option<Term>) {
        self.leases.forget();
        match term {
            Some(_) => self.publish(group.inner()),
            None => {
                self.published = None;
                *self.view.0.lock() = None;
            }
        }
    }

    fn on_leader_tick(&mut self, group: &Sessions<Group>, now_ticks: u64) -> Vec<Bytes> {
        self.publish(group.inner());
        let expiries = self.leases.expiries(group.inner(), now_ticks);
        expiries.iter().map(|command| without_session(command).into()).collect()
    }

    fn period_ticks(&self) -> u64 {
        PERIOD_TICKS
    }
}

#[cfg(test)]
mod tests {
    use raft_core::block::{Entry, EntryKind};
    use raft_core::state_machine::{Batch, Replies, StateMachine};
    use raft_core::types::EntryId;
    use raft_host::session::Limits;

    use super::*;
    use crate::group::Command;
    use crate::{Config, Kind, Partition};

    fn group() -> Sessions<Group> {
        Sessions::new(Group::new(7, Partition::default(), Kind::Pulled), Limits::default())
    }

    #[test]
    fn a_view_shows_what_a_leader_sees_and_nothing_of_a_follower() {
        let mut group = group();
        let view = View::default();
        let mut publisher = view.publisher(Duration::from_millis(10));
        assert_eq!(view.look(), None);
        publisher.on_leadership(&group, Some(2));
        let first = view.look().unwrap();
        assert_eq!(*first, group.inner().stand());
        // Nothing has changed: nothing is copied.
        publisher.on_leader_tick(&group, 9);
        assert!(Arc::ptr_eq(&first, &view.look().unwrap()));
        let mut config = Config::new(&Partition::default());
        (config.num, config.groups) = (1, [(7, vec!["a:1".to_owned()])].into());
        config.shards.fill(7);
        let configure = without_session(&Command::Configure { config, sources: vec![] }.encode());
        let entry = Entry { id: EntryId::new(1, 1), kind: EntryKind::Command, data: &configure };
        group.apply(Batch::of_entries(&[entry]), &mut Replies::default());
        assert_ne!(first.config, group.inner().stand().config, "it is another one now");
        publisher.on_leader_tick(&group, 10);
        assert_eq!(*view.look().unwrap(), group.inner().stand());
        publisher.on_leadership(&group, None);
        assert_eq!(view.look(), None);
        // Nothing has happened meanwhile, and it leads again.
        publisher.on_leadership(&group, Some(4));
        assert_eq!(*view.look().unwrap(), group.inner().stand());
        // What is restored may look like what was there, and was not.
        let second = view.look().unwrap();
        let mut snapshot = Vec::new();
        group.capture().write_to(&mut snapshot).unwrap();
        group.restore(&mut &snapshot[..]).unwrap();
        publisher.on_leader_tick(&group, 11);
        assert!(!Arc::ptr_eq(&second, &view.look().unwrap()));
    }
}
