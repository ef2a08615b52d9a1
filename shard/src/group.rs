//! A group: the state machine that serves some of the shards.

mod command;
mod frames;
mod machine;
mod moving;
mod shard;
mod slot;
mod snapshot;
#[cfg(test)]
mod tests;

pub use command::{Command, Cursor, Query, QueryReply, Refusal, Reply, SlotState, Source};
pub use machine::{Group, Kind};
