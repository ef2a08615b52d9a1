//! What works beside the members of a process: agents and settlers, all on one thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use raft_host::HostError;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

use super::inside::{Inside, own};
use crate::agent::Agent;
use crate::config::Gid;
use crate::configs::{Configs, Feed};
use crate::group::View;
use crate::net::runtime;
use crate::partition::Partition;
use crate::settler::Settler;

/// The thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Beside {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    pub(super) fn start(
        net: Inside,
        partition: Partition,
        configs: Configs,
        views: BTreeMap<Gid, View>,
    ) -> Result<Self, HostError> {
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            let (runtime, tasks) = (runtime(), LocalSet::new());
            tasks.block_on(&runtime, async {
                let mut all = JoinSet::new();
                // Whether it is told so, or whoever could tell is gone.
                all.spawn_local(async { _ = stopped.await });
                spawn(&mut all, &net, partition, &configs, views);
                // They work for ever: the first one that ends was told to, or has found a bug.
                if let Some(Err(error)) = all.join_next().await {
                    std::panic::resume_unwind(error.into_panic());
                }
            });
            drop(tasks);
            Runtime::shutdown_background(runtime);
        };
        let thread = thread::Builder::new().name("shard-agents".to_owned()).spawn(work);
        let no_thread = |source| HostError::System { what: "can't start a thread", source };
        Ok(Beside { stop: Some(stop), thread: Some(thread.map_err(no_thread)?) })
    }

    pub(super) fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

/// What works beside all members.
fn spawn(
    all: &mut JoinSet<()>,
    net: &Inside,
    partition: Partition,
    configs: &Configs,
    views: BTreeMap<Gid, View>,
) {
    let feed = match configs {
        Configs::Controller(controller) => Some(Arc::new(Feed::new(controller.clone()))),
        Configs::Store(_) => None,
    };
    for (gid, view) in views {
        let seen = view.clone();
        let settler = Settler::new(net.clone(), partition, configs.clone(), move || seen.look());
        all.spawn_local(async move { settler.run().await });
        if let Some(feed) = &feed {
            let agent = Agent::new(net.clone(), gid, own(gid), feed.clone(), move || view.look());
            all.spawn_local(async move { agent.run().await });
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Both fail only where the thread has panicked, which has said why.
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}
