//! What only reads the store, and what it answers.

use crate::codec::{self, SchemaRead, SchemaWrite, Unreadable};
use crate::limits::{Refusal, check_key, check_key_length};
use crate::lock::{LockAnswer, LockQuery};

/// Something that only reads. Does not go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Query<'a> {
    /// Value and version of a key. Answers [`QueryReply::Value`].
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// The keys that begin with a prefix, in the order of their bytes. Answers [`QueryReply::Page`].
    Scan {
        /// What the keys begin with; all do with an empty one.
        prefix: &'a [u8],
        /// Only keys after this one. To go on where a page ended, name its last key.
        after: Option<&'a [u8]>,
        /// The most keys, at least 1. A page has never more than
        /// [`PAGE_KEYS_MAX`](crate::PAGE_KEYS_MAX), and ends at
        /// [`PAGE_BYTES_MAX`](crate::PAGE_BYTES_MAX).
        limit: u64,
    },
    /// Looks at locks. Answers [`QueryReply::Lock`].
    Lock(LockQuery<'a>),
}

/// What the store answers to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum QueryReply {
    /// What the key has; `None` if it is not there.
    Value(Option<Versioned>),
    /// Some of the keys.
    Page(Page),
    /// Nothing was read.
    Refused(Refusal),
    /// What is answered to a [`Query::Lock`].
    Lock(LockAnswer),
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// How often the key was written since it was not there, at least 1.
    pub version: u64,
}

/// Some keys, as they all were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Page {
    /// In the order of their keys' bytes.
    pub items: Vec<Item>,
    /// Whether there are keys after the last one of these.
    pub has_more: bool,
}

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its version.
    pub version: u64,
}

impl<'a> Query<'a> {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote, in place.
    ///
    /// # Errors
    /// [`Unreadable`], for anything else.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        codec::decode(bytes)
    }

    /// The key that it is about, or the name of its lock; `None` if there may be many.
    pub fn name(&self) -> Option<&'a [u8]> {
        match *self {
            Query::Get { key } => Some(key),
            Query::Lock(LockQuery::Look { name }) => Some(name),
            Query::Scan { .. } | Query::Lock(LockQuery::List { .. }) => None,
        }
    }

    /// Whether keys and limit are within the limits.
    ///
    /// # Errors
    /// Which is not, with its length and the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        match *self {
            Query::Get { key } => check_key(key),
            Query::Scan { limit: 0, .. } => Err(Refusal::LimitZero),
            Query::Scan { prefix, after, .. } => {
                check_key_length(prefix)?;
                check_key_length(after.unwrap_or_default())
            }
            Query::Lock(query) => query.check(),
        }
    }
}

impl QueryReply {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`Unreadable`], for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        codec::decode(bytes)
    }
}
