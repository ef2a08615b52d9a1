//! The commands that read and write keys.

use kv::VALUE_BYTES_MAX;
use program::Failure;
use program::output::{self, Shown, changed, lengthened, not_found, value};
use shard::clerk::Error;
use shard::net::block_on;

use crate::args::{Change, Delete, Get, Key};
use crate::say;

impl Key {
    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        output::key(&self.key, self.escaped)
    }
}

pub(crate) fn put(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value, VALUE_BYTES_MAX)?);
    let mut clerk = change.target.find()?.clerk()?;
    let version = block_on(clerk.put(&key, &value)).map_err(failure)?;
    changed(&key, version, change.json, say)
}

pub(crate) fn append(change: &Change) -> Result<(), Failure> {
    let (key, value) = (change.key.bytes()?, value(&change.value, VALUE_BYTES_MAX)?);
    let mut clerk = change.target.find()?.clerk()?;
    let appended = block_on(clerk.append(&key, &value)).map_err(failure)?;
    lengthened(&key, (appended.length, appended.version), change.json, say)
}

pub(crate) fn delete(delete: &Delete) -> Result<(), Failure> {
    let key = delete.key.bytes()?;
    let mut clerk = delete.target.find()?.clerk()?;
    let removed = block_on(clerk.delete(&key)).map_err(failure)?;
    changed(&key, removed.ok_or_else(|| not_found(&key))?, delete.json, say)
}

pub(crate) fn get(get: &Get) -> Result<(), Failure> {
    let key = get.key.bytes()?;
    let mut clerk = get.target.find()?.clerk()?;
    let found = block_on(clerk.get(&key)).map_err(|error| match error {
        // Nothing is changed by a read, whatever its answer was.
        Error::Store(kv::Error::OtherVersion) => Failure::not_done(error),
        error => failure(error),
    })?;
    let found = found.ok_or_else(|| not_found(&key))?;
    Shown::of(get.raw, get.json).print(&key, found.version, found.value)
}

/// What became of an operation, and what to do about it.
pub(crate) fn failure(error: Error) -> Failure {
    match &error {
        Error::Store(kv::Error::NotDone(_) | kv::Error::NotRead(_)) => Failure::not_done(format!(
            "{error}; nothing has changed. `shard map` shows which groups answer, and where the shard is"
        )),
        Error::Store(kv::Error::Unknown(_) | kv::Error::OtherVersion) => {
            Failure::unknown(format!("{error}; look with `shard get` before doing it again"))
        }
        _ => Failure::not_done(error),
    }
}

#[cfg(test)]
mod tests {
    use program::{NOT_DONE, UNKNOWN};

    use super::*;

    #[test]
    fn a_change_whose_answer_can_not_be_read_is_perhaps_done() {
        assert_eq!(failure(kv::Error::OtherVersion.into()).status, UNKNOWN);
        let refusal = shard::group::Refusal::NoShard { shard: 12, shards: 12 };
        assert_eq!(failure(Error::Group(refusal)).status, NOT_DONE);
    }
}
