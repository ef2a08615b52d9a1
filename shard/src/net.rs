//! Where clerks, controllers, agents and transactions send what they ask.
//!
//! They are `async` functions over [`Net`], which says how one attempt is sent, and how one waits. So the same
//! code runs over sockets, and by the hundred in a test's virtual time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use raft_core::types::GroupId;
use raft_host::outcome::{ProposeError, ProposeResult, QueryResult, Unknown};
use raft_host::session::Answer;

pub(crate) use sockets::{ATTEMPT_PATIENCE, runtime};
pub use sockets::{Sockets, block_on};

mod sockets;

/// A Raft group, and where clients find its servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The group.
    pub group: GroupId,
    /// `HOST:PORT` of each server.
    pub servers: Vec<String>,
}

/// A way to groups. Each call is one attempt, which ends within a few seconds, whatever happens: what comes of
/// it, and whether to ask again, is the caller's affair. A call that is dropped before its end may go on by itself, and
/// arrive.
pub trait Net {
    /// Has a command without a session applied by whoever leads. The reply is a
    /// `raft_host::session::Answer`.
    fn propose(&self, to: &Target, command: Vec<u8>) -> impl Future<Output = ProposeResult>;

    /// Asks a group, linearizably.
    fn query(&self, to: &Target, query: Vec<u8>) -> impl Future<Output = QueryResult>;

    /// Lets time pass.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;

    /// The time since some moment, which never goes back.
    fn now(&self) -> Duration;

    /// The time since 1970, as this machine's clock has it: how old a transaction is, beside those of others. One
    /// whose clock is far behind seems old, and is served before others, or taken for one that was given up.
    fn clock(&self) -> Duration;
}

/// A command without a session, and what the machine inside the sessions replied.
///
/// # Errors
/// Why there is no reply.
pub(crate) async fn tell(
    net: &impl Net,
    to: &Target,
    command: Vec<u8>,
) -> Result<Bytes, ProposeError> {
    let reply = net.propose(to, command).await?;
    match Answer::read(&reply) {
        Ok(Answer::Applied(reply)) => Ok(reply),
        // Nobody answers so to a command without a session, unless it is of another version.
        _ => Err(ProposeError::Unknown(Unknown::Bug)),
    }
}

/// The longest that groups are left to others between two pieces of a shard: what took longer has waited itself.
const ROOM_MAX: Duration = Duration::from_millis(40);

/// Leaves groups to others for twice as long as they were busy with a piece since `began`, if that was not long. Half
/// of it makes a move faster by a third, and others' slowest puts two to three times as slow as without one.
pub(crate) async fn leave_room(net: &impl Net, began: Duration) {
    net.sleep((2 * net.now().saturating_sub(began)).min(ROOM_MAX)).await;
}

/// Drives something for so long at most; `None` if it has not ended then.
pub(crate) async fn within<T>(
    net: &impl Net,
    time: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut work, mut over) = (pin!(work), pin!(net.sleep(time)));
    std::future::poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => over.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Drives several at once, until all have ended.
pub(crate) async fn all<T>(futures: impl IntoIterator<Item: Future<Output = T>>) -> Vec<T> {
    let mut under_way: Vec<_> = futures.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in under_way.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(value) = Pin::new(future).poll(context) {
                *output = Some(value);
            }
        }
        if under_way.iter().any(|(_, output)| output.is_none()) {
            return Poll::Pending;
        }
        Poll::Ready(under_way.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}
