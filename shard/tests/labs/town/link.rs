//! A way to all groups of a town.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use raft_host::outcome::{ProposeResult, QueryResult};
use shard::net::{Net, Target};
use simulator::world::Asked;

use super::{End, Town, WaitId};

/// A way to all groups. It can be cut.
#[derive(Clone)]
pub(crate) struct Link {
    town: Town,
    id: u64,
}

/// An end that is on its way.
struct Waiting {
    town: Town,
    id: WaitId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.town.forget(self.id);
    }
}

impl Future for Waiting {
    type Output = End;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<End> {
        self.town.take_end(self.id).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Link {
    pub(super) fn new(town: Town, id: u64) -> Self {
        Link { town, id }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    async fn ask(&self, to: &Target, asked: Asked) -> End {
        let id = self.town.begin(self.id, to, asked);
        Waiting { town: self.town.clone(), id }.await
    }
}

impl Net for Link {
    async fn propose(&self, to: &Target, command: Vec<u8>) -> ProposeResult {
        match self.ask(to, Asked::Command(command)).await {
            End::Proposed(end) => end,
            other => panic!("a proposal has ended {other:?}"),
        }
    }

    async fn query(&self, to: &Target, query: Vec<u8>) -> QueryResult {
        match self.ask(to, Asked::Query(query)).await {
            End::Queried(end) => end,
            other => panic!("a query has ended {other:?}"),
        }
    }

    async fn sleep(&self, time: Duration) {
        // For ever is long enough.
        let id = self.town.wait_until(time.as_micros().min(1 << 60) as u64, None);
        _ = Waiting { town: self.town.clone(), id }.await;
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.town.now())
    }

    fn clock(&self) -> Duration {
        self.now()
    }
}
