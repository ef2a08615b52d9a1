//! What can be asked of the store, and what it replies.

use crate::codec::{self, SchemaRead, SchemaWrite, Unreadable};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// The longest value, in bytes, appended ones included.
pub const VALUE_BYTES_MAX: usize = 512 << 10;

/// Something that changes the store. Goes through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command<'a> {
    /// Gives a key a value, whatever it had. Replies [`Reply::Done`].
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Lengthens a key's value; an absent key counts as an empty one. Replies [`Reply::Appended`].
    Append {
        /// The key.
        key: &'a [u8],
        /// What is appended.
        value: &'a [u8],
    },
    /// Removes a key. Replies [`Reply::Deleted`].
    Delete {
        /// The key.
        key: &'a [u8],
    },
}

/// What the store replies to a [`Command`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply {
    /// The key has the value.
    Done,
    /// The value was lengthened.
    Appended {
        /// Its length now, in bytes.
        length: u64,
    },
    /// The key is not there any more.
    Deleted {
        /// Whether it was.
        existed: bool,
    },
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why the store refused something. Decided before it is sent where that can be, and again when it is
/// applied, because others may write clients as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// The key is too long.
    #[error("the key has {bytes} bytes; at most {bytes_max} are allowed")]
    KeyTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The value is too long, or an append would make it so.
    #[error("the value would have {bytes} bytes; at most {bytes_max} are allowed")]
    ValueTooLong {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The command can't be read.
    #[error("the command can't be read: client and server are of different versions")]
    Malformed,
}

/// Something that only reads. Does not go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Query<'a> {
    /// The value of a key. Answers [`QueryReply::Value`].
    Get {
        /// The key.
        key: &'a [u8],
    },
}

/// What the store answers to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum QueryReply {
    /// The value; `None` if the key is not there.
    Value(Option<Vec<u8>>),
    /// The query can't be read.
    Malformed,
}

impl<'a> Command<'a> {
    /// As it stands in the log.
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

    /// Whether key and value are within the limits.
    ///
    /// # Errors
    /// Which is not, with its length and the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        let (key, value): (_, &[u8]) = match *self {
            Command::Put { key, value } | Command::Append { key, value } => (key, value),
            Command::Delete { key } => (key, &[]),
        };
        check_key(key)?;
        check_value_length(value.len())
    }
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.len() > KEY_BYTES_MAX {
        let (bytes, bytes_max) = (key.len() as u64, KEY_BYTES_MAX as u64);
        return Err(Refusal::KeyTooLong { bytes, bytes_max });
    }
    Ok(())
}

pub(crate) fn check_value_length(length: usize) -> Result<(), Refusal> {
    if length > VALUE_BYTES_MAX {
        let (bytes, bytes_max) = (length as u64, VALUE_BYTES_MAX as u64);
        return Err(Refusal::ValueTooLong { bytes, bytes_max });
    }
    Ok(())
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
}

impl Reply {
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
