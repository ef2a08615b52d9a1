//! The network of real servers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use raft_host::outcome::{
    NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown,
};
use raft_host::rpc::RpcClient;
use raft_host::session::without_session;
use tokio::runtime::{Builder, Runtime};

use super::{Net, Target};

/// How long one attempt at a group may take, the search for its leader included. A leader that keeps silent for so
/// long is taken for dead, and the next server is asked.
pub(crate) const ATTEMPT_PATIENCE: Duration = Duration::from_secs(1);

/// With more connections than this all are closed, and opened again as they are needed: some lead to servers that
/// no configuration names any more.
const CLIENTS_MAX: usize = 1024;

/// Real sockets. Cheap to clone; clones share their connections, one to each group.
///
/// Its calls run within a runtime of `tokio`, on the threads that runtime keeps for what blocks: several are under way
/// at once. [`block_on`] brings such a runtime where there is none.
#[derive(Clone, Debug)]
pub struct Sockets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clients: Mutex<BTreeMap<Target, RpcClient>>,
    start: Instant,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets { shared: Arc::new(Shared { clients: Mutex::default(), start: Instant::now() }) }
    }
}

impl Sockets {
    /// A client of the group, unless it has no servers.
    fn client(&self, to: &Target) -> Result<RpcClient, String> {
        if to.servers.is_empty() {
            return Err("the group has no servers".to_owned());
        }
        let mut clients = self.shared.clients.lock();
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(to) {
            clients.clear();
        }
        Ok(clients.entry(to.clone()).or_insert_with(|| RpcClient::new(&to.servers)).clone())
    }
}

/// What blocks, on a thread that may be blocked; `None` if the runtime ends meanwhile.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(end) => Some(end),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

impl Net for Sockets {
    async fn propose(&self, to: &Target, command: Vec<u8>) -> ProposeResult {
        let (client, group) = (self.client(to), to.group);
        let client = client.map_err(NotAppended::Unreachable).map_err(ProposeError::NotAppended)?;
        let command = without_session(&command);
        let end = blocking(move || client.propose_within(group, &command, ATTEMPT_PATIENCE)).await;
        end.unwrap_or(Err(ProposeError::Unknown(Unknown::Shutdown)))
    }

    async fn query(&self, to: &Target, query: Vec<u8>) -> QueryResult {
        let (client, group) = (self.client(to).map_err(QueryError::Unreachable)?, to.group);
        let end = blocking(move || client.query_within(group, &query, ATTEMPT_PATIENCE)).await;
        end.unwrap_or(Err(QueryError::Shutdown))
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn clock(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A thread's own runtime.
struct Own(Option<Runtime>);

thread_local! {
    static RUNTIME: Own = Own(Some(runtime()));
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody waits for what is under way still.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// One that runs on the thread that drives it, and has clocks.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without sockets of its own needs nothing that could be missing")
}

/// Drives what runs over [`Sockets`] until it has ended, on this thread.
///
/// ```
/// use std::time::Duration;
/// use shard::net::{Net, Sockets, block_on};
///
/// let sockets = Sockets::default();
/// let began = sockets.now();
/// block_on(sockets.sleep(Duration::from_millis(5)));
/// assert!(sockets.now() - began >= Duration::from_millis(5));
/// ```
///
/// # Panics
/// Within a runtime of `tokio`: there, it is awaited.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|own| own.0.as_ref().expect("it is there until the thread ends").block_on(future))
}
