//! Why a store can't be opened or used.

use std::io;

use raft_core::storage::OpenError;
use raft_core::types::{GroupId, Identity};

use crate::wal::Owner;

/// Why a log can't be opened or used. Every variant names the fact, for an operator to act on;
/// nothing has been changed on the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The operating system refused something.
    #[error("can't {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// Its answer.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("another process holds the lock file {file}: each member needs a directory of its own")]
    Locked {
        /// The lock's name.
        file: &'static str,
    },
    /// What was durable once has changed. Nothing is cut off: an entry that others count on may be
    /// behind the damage.
    #[error("{file} is damaged at byte {offset}: expected {expected}, found {found}")]
    Damaged {
        /// Which file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What ought to be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file is gone that is still needed.
    #[error("{file} is missing: {why}")]
    Missing {
        /// Which file.
        file: String,
        /// Who needs it.
        why: String,
    },
    /// The file is of a version that this program does not read.
    #[error("{file} has format version {found}, this program reads version {supported}")]
    Version {
        /// Which file.
        file: String,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The log belongs to somebody else.
    #[error(
        "the store belongs to node {} of cluster {:x}, not to node {} of cluster {:x}",
        found.member.node, found.cluster, expected.node, expected.cluster
    )]
    WrongOwner {
        /// Who wants to open it.
        expected: Owner,
        /// Whose it is.
        found: Identity,
    },
    /// The store of a group belongs to somebody else.
    #[error(
        "the store of group {} belongs to node {} of cluster {:x}, not to node {} of cluster {:x}",
        found.group, found.member, found.cluster, expected.member, expected.cluster
    )]
    WrongIdentity {
        /// Who wants to open it.
        expected: Identity,
        /// Whose it is.
        found: Identity,
    },
    /// What is stored of a group makes no whole.
    #[error("the store of group {group} makes no whole: {what}")]
    Incomplete {
        /// Which group.
        group: GroupId,
        /// What is wrong.
        what: String,
    },
    /// A write or sync failed earlier. Open the store again.
    #[error("the log has failed: {0}")]
    Failed(String),
}

/// `EMFILE` and `ENFILE`, which have the same numbers on every Unix: the process, or the system, has no file
/// descriptor left.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

impl WalError {
    /// Whether a file could not be opened only because there was no descriptor for it: nothing was touched then, and
    /// once somebody has closed something it can be.
    pub(crate) fn is_without_descriptor(&self) -> bool {
        let WalError::Io { source, .. } = self else { return false };
        source.raw_os_error().is_some_and(|code| NO_DESCRIPTOR.contains(&code))
    }

    pub(crate) fn io(
        action: &'static str,
        file: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| WalError::Io { action, file, source }
    }
}

impl From<WalError> for OpenError {
    fn from(error: WalError) -> Self {
        OpenError(error.to_string())
    }
}
