//! What a Raft node remembers: storages for [`raft_core`].
//!
//! ```
//! use raft_core::ready::{Operations, Write};
//! use raft_core::storage::{Completion, Storage};
//! use raft_core::types::{HardState, Identity, Member};
//! use raft_storage::MemoryStorage;
//!
//! let member = Member { node: 1, incarnation: 0 };
//! let mut store = MemoryStorage::new(Identity { cluster: 1, group: 1, member });
//!
//! // A node hands out writes; here is one that belongs to no node.
//! let hard_state = HardState { term: 5, voted_for: Some(2) };
//! let vote = Operations { hard_state: Some(hard_state), ..Operations::default() };
//! store.submit(Write::detached(1, vote));
//! let mut completions = Vec::new();
//! store.poll(&mut completions);
//! assert!(matches!(completions[..], [Completion::Written(_)]));
//!
//! let (_store, recovered) = store.restart();
//! assert_eq!(recovered.hard_state, hard_state);
//! ```

mod directory;
pub mod disk;
mod error;
pub mod memory;
mod single;
mod snapshot;
mod trash;
pub mod wal;

pub use disk::{Disk, DiskFile, FileDisk, OpenMode};
pub use error::WalError;
pub use memory::MemoryStorage;
pub use single::WalStorage;
pub use snapshot::{SnapshotFile, SnapshotReader, SnapshotWriter};
pub use trash::Trash;
pub use wal::{Owner, Spare, Wal, WalOptions};
