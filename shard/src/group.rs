//! A group: the state machine that serves some of the shards.

mod command;
mod frames;
mod leases;
mod machine;
mod moving;
mod shard;
mod slot;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

pub use command::{Command, Cursor, Query, QueryReply, Refusal, Reply, SlotState, Source, Stand};
pub use leases::Leases;
pub use machine::{Group, Kind};
pub use view::{Publisher, View};
