//! The network as a server sees it: its own members are no further than a queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_host::Client;
use raft_host::outcome::{ProposeError, ProposeResult, QueryResult, Unknown};
use raft_host::session::without_session;
use tokio::time::timeout;

use crate::config::Gid;
use crate::net::{ATTEMPT_PATIENCE, Net, Sockets, Target};

/// What is proposed to members of this process goes there directly, all else over sockets. They need not be asked:
/// their `View` shows how they stand.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    own: Arc<BTreeMap<Gid, Client>>,
    sockets: Sockets,
}

/// The member of this process of a group.
pub(super) fn own(group: Gid) -> Target {
    Target { group, servers: Vec::new() }
}

impl Inside {
    pub(super) fn new(own: BTreeMap<Gid, Client>) -> Self {
        Inside { own: Arc::new(own), sockets: Sockets::default() }
    }

    fn member(&self, to: &Target) -> Option<&Client> {
        self.own.get(&to.group).filter(|_| to.servers.is_empty())
    }
}

impl Net for Inside {
    async fn propose(&self, to: &Target, command: Vec<u8>) -> ProposeResult {
        let Some(member) = self.member(to) else { return self.sockets.propose(to, command).await };
        let end = timeout(ATTEMPT_PATIENCE, member.propose(without_session(&command))).await;
        end.unwrap_or(Err(ProposeError::Unknown(Unknown::Timeout)))
    }

    async fn query(&self, to: &Target, query: Vec<u8>) -> QueryResult {
        self.sockets.query(to, query).await
    }

    async fn sleep(&self, time: Duration) {
        self.sockets.sleep(time).await;
    }

    fn now(&self) -> Duration {
        self.sockets.now()
    }

    fn clock(&self) -> Duration {
        self.sockets.clock()
    }
}
