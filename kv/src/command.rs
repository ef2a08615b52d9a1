//! What changes the store, and what it replies.
//!
//! Every key has a version: the number of times that it was written since it was not there. An absent
//! key has version 0. Each write adds 1, whether or not the value changes; a delete takes key and
//! version away, so that the next write makes version 1 again.

use crate::codec::{self, SchemaRead, SchemaWrite, Unreadable};
use crate::limits::{BATCH_BYTES_MAX, BATCH_PARTS_MAX, Refusal, check_key, check_value_length};
use crate::lock::{LockCommand, LockReply};

/// Something that changes the store. Goes through the log.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Command<'a> {
    /// Gives a key a value, whatever it had. Replies [`Reply::Written`].
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
    /// Gives a key a value if it has this version. Replies [`Reply::Written`], [`Reply::NoKey`] or
    /// [`Reply::WrongVersion`].
    CompareAndSet {
        /// The key.
        key: &'a [u8],
        /// The version that it must have; 0 if it must not be there.
        expect: u64,
        /// The value.
        value: &'a [u8],
    },
    /// Does all the writes if all the conditions hold, and else nothing. Replies [`Reply::BatchDone`]
    /// or [`Reply::ConditionFailed`].
    Batch {
        /// They are judged before the first write.
        conditions: Vec<Condition<'a>>,
        /// Done in this order; a key may be written more than once.
        writes: Vec<Write<'a>>,
    },
    /// Changes a lock; keys and locks have nothing to do with each other. Replies [`Reply::Lock`],
    /// perhaps much later.
    Lock(LockCommand<'a>),
}

/// What must hold for a batch to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Condition<'a> {
    /// The key has this version.
    Version {
        /// The key.
        key: &'a [u8],
        /// Its version; 0 if it must not be there.
        version: u64,
    },
    /// The key has this value.
    Value {
        /// The key.
        key: &'a [u8],
        /// Its value; `None` if it must not be there.
        value: Option<&'a [u8]>,
    },
}

/// One write of a batch. Each does what the [`Command`] of its name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Write<'a> {
    /// Gives a key a value.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Lengthens a key's value.
    Append {
        /// The key.
        key: &'a [u8],
        /// What is appended.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
}

/// What the store replies to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Reply {
    /// The key has the value.
    Written {
        /// Its version now.
        version: u64,
    },
    /// The value was lengthened.
    Appended {
        /// Its length now, in bytes.
        length: u64,
        /// Its version now.
        version: u64,
    },
    /// The key is not there any more.
    Deleted {
        /// The version that it had; 0 if it was not there.
        version: u64,
    },
    /// Nothing has changed: the key is not there, and another version than 0 was expected.
    NoKey,
    /// Nothing has changed: the key has another version than the expected one.
    WrongVersion {
        /// The version that it has.
        version: u64,
    },
    /// The batch was done.
    BatchDone {
        /// For each write the version that its own reply would name: the one made, or the one removed.
        versions: Vec<u64>,
    },
    /// Nothing has changed: a condition of the batch does not hold.
    ConditionFailed {
        /// The first one that does not, counted from 0.
        condition: u64,
        /// The version that its key has; 0 if it is not there. The value is not said, because it may
        /// be long.
        version: u64,
    },
    /// Nothing has changed, and nothing ever would.
    Refused(Refusal),
    /// What is replied to a [`Command::Lock`].
    Lock(LockReply),
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

    /// The keys that it is about, or the name of its lock.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let (one, conditions, writes) = match self {
            Command::Put { key, .. }
            | Command::Append { key, .. }
            | Command::Delete { key }
            | Command::CompareAndSet { key, .. } => (Some(*key), &[][..], &[][..]),
            Command::Batch { conditions, writes } => (None, &conditions[..], &writes[..]),
            Command::Lock(command) => (Some(command.name()), &[][..], &[][..]),
        };
        let conditions = conditions.iter().map(Condition::key);
        one.into_iter().chain(conditions).chain(writes.iter().map(Write::key))
    }

    /// Whether keys and values are within the limits.
    ///
    /// # Errors
    /// Which is not, with its length and the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Command::Put { key, value }
            | Command::Append { key, value }
            | Command::CompareAndSet { key, value, .. } => check_part((key, value)),
            Command::Delete { key } => check_key(key),
            Command::Batch { conditions, writes } => check_batch(conditions, writes),
            Command::Lock(command) => command.check(),
        }
    }
}

fn check_part((key, value): (&[u8], &[u8])) -> Result<(), Refusal> {
    check_key(key)?;
    check_value_length(value.len())
}

fn check_batch(conditions: &[Condition<'_>], writes: &[Write<'_>]) -> Result<(), Refusal> {
    let parts = conditions.len() + writes.len();
    if parts > BATCH_PARTS_MAX {
        let (parts, parts_max) = (parts as u64, BATCH_PARTS_MAX as u64);
        return Err(Refusal::BatchOfTooMany { parts, parts_max });
    }
    let mut bytes = 0;
    let conditions = conditions.iter().map(Condition::part);
    for (key, value) in conditions.chain(writes.iter().map(Write::part)) {
        check_part((key, value))?;
        bytes += key.len() + value.len();
    }
    if bytes > BATCH_BYTES_MAX {
        let (bytes, bytes_max) = (bytes as u64, BATCH_BYTES_MAX as u64);
        return Err(Refusal::BatchTooLong { bytes, bytes_max });
    }
    Ok(())
}

impl<'a> Condition<'a> {
    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        self.part().0
    }

    fn part(&self) -> (&'a [u8], &'a [u8]) {
        match *self {
            Condition::Version { key, .. } => (key, &[]),
            Condition::Value { key, value } => (key, value.unwrap_or_default()),
        }
    }
}

impl<'a> Write<'a> {
    /// The key that it writes.
    pub fn key(&self) -> &'a [u8] {
        self.part().0
    }

    fn part(&self) -> (&'a [u8], &'a [u8]) {
        match *self {
            Write::Put { key, value } | Write::Append { key, value } => (key, value),
            Write::Delete { key } => (key, &[]),
        }
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
