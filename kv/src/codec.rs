//! Commands, queries and replies <-> bytes: a version, then bincode's format, which the crate
//! `wincode` writes and reads. Fixed-width little-endian integers, lengths as u64, variants as u32.
//! No other file names that crate.

use wincode::config::{self, Configuration, DefaultConfig, PREALLOCATION_SIZE_LIMIT_DISABLED};
pub(crate) use wincode::{SchemaRead, SchemaWrite};

/// The first byte of everything that this crate writes.
pub(crate) const VERSION: u8 = 1;

/// Bytes that this version does not understand: cut, too long, or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are nothing that version {VERSION} of the key/value store has written")]
pub struct Unreadable;

/// For writing: the same bytes, without the limit on lengths that guards a reader's memory.
type Unlimited = Configuration<true, PREALLOCATION_SIZE_LIMIT_DISABLED>;

pub(crate) fn encode<T: SchemaWrite<Unlimited, Src = T>>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put(value, &mut bytes);
    bytes
}

/// Appends a value without a version, as part of something larger.
pub(crate) fn put<T: SchemaWrite<Unlimited, Src = T>>(value: &T, bytes: &mut Vec<u8>) {
    config::serialize_into(bytes, value, Unlimited::new())
        .expect("a vector takes everything, and no length is refused");
}

pub(crate) fn decode<'de, T>(bytes: &'de [u8]) -> Result<T, Unreadable>
where
    T: SchemaRead<'de, DefaultConfig, Dst = T>,
{
    let Some((&VERSION, rest)) = bytes.split_first() else { return Err(Unreadable) };
    // A length that its bytes don't bear out is refused before anything is allocated for it.
    wincode::deserialize_exact(rest).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Left, LockAnswer, LockCommand, LockQuery, LockReply};
    use crate::{
        Command, Condition, Item, Page, Query, QueryReply, Refusal, Reply, Versioned, Write,
    };

    /// What is in logs and snapshots must stay readable: these are the bytes, once and for all.
    #[test]
    fn the_layout_is_bincodes() {
        let put = Command::Put { key: b"k", value: b"vw" }.encode();
        let expected: Vec<u8> = [
            &[1][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            b"k",
            &[2, 0, 0, 0, 0, 0, 0, 0],
            b"vw",
        ]
        .concat();
        assert_eq!(put, expected);
        let delete = Command::Delete { key: b"" }.encode();
        assert_eq!(delete, [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Query::Get { key: b"" }.encode(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            Reply::Appended { length: 258, version: 3 }.encode(),
            [1, 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(QueryReply::Value(None).encode(), [1, 0, 0, 0, 0, 0]);
        let found = Versioned { value: b"v".to_vec(), version: 7 };
        assert_eq!(
            QueryReply::Value(Some(found)).encode(),
            [1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, b'v', 7, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn the_layout_of_what_has_versions_is_bincodes() {
        let number = |number: u64| number.to_le_bytes();
        let set = Command::CompareAndSet { key: b"k", expect: 9, value: b"" }.encode();
        let expected = [&[1, 3, 0, 0, 0][..], &number(1), b"k", &number(9), &number(0)].concat();
        assert_eq!(set, expected);
        let conditions = vec![
            Condition::Version { key: b"a", version: 2 },
            Condition::Value { key: b"b", value: None },
            Condition::Value { key: b"c", value: Some(b"x") },
        ];
        let writes = vec![Write::Put { key: b"d", value: b"y" }, Write::Delete { key: b"e" }];
        let batch = Command::Batch { conditions, writes }.encode();
        let one = number(1);
        let expected = [
            &[1, 4, 0, 0, 0][..],
            &number(3),
            &[&[0, 0, 0, 0][..], &one, b"a", &number(2)].concat(),
            &[&[1, 0, 0, 0][..], &one, b"b", &[0]].concat(),
            &[&[1, 0, 0, 0][..], &one, b"c", &[1], &one, b"x"].concat(),
            &number(2),
            &[&[0, 0, 0, 0][..], &one, b"d", &one, b"y"].concat(),
            &[&[2, 0, 0, 0][..], &one, b"e"].concat(),
        ]
        .concat();
        assert_eq!(batch, expected);
        let failed = Reply::ConditionFailed { condition: 1, version: 3 }.encode();
        assert_eq!(failed, [&[1, 6, 0, 0, 0][..], &number(1), &number(3)].concat());
        let scan = Query::Scan { prefix: b"p", after: Some(b"q"), limit: 5 }.encode();
        let expected = [&[1, 1, 0, 0, 0][..], &one, b"p", &[1], &one, b"q", &number(5)].concat();
        assert_eq!(scan, expected);
        let items = vec![Item { key: b"k".to_vec(), value: b"v".to_vec(), version: 6 }];
        let page = QueryReply::Page(Page { items, has_more: true }).encode();
        let expected =
            [&[1, 1, 0, 0, 0][..], &one, &one, b"k", &one, b"v", &number(6), &[1]].concat();
        assert_eq!(page, expected);
    }

    #[test]
    fn the_layout_of_what_is_about_locks_is_bincodes() {
        let number = |number: u64| number.to_le_bytes();
        let holder = (3_u128 << 64) | 2;
        let (name, owner, lease_ms) = (&b"l"[..], &b"me"[..], 1000);
        let lock = |command| Command::Lock(command).encode();
        let acquire = lock(LockCommand::Acquire { name, holder, owner, lease_ms, wait: true });
        let begin = [&[1, 5, 0, 0, 0][..], &[0; 4], &number(1), b"l", &number(2), &number(3)];
        let end = [&number(2)[..], b"me", &number(1000), &[1]];
        assert_eq!(acquire, [begin.concat(), end.concat()].concat());
        let expire = lock(LockCommand::Expire { name, lease: 9 });
        let expected = [&[1, 5, 0, 0, 0][..], &[3, 0, 0, 0], &number(1), b"l", &number(9)];
        assert_eq!(expire, expected.concat());
        let granted = Reply::Lock(LockReply::Granted { token: 7 }).encode();
        assert_eq!(granted, [&[1, 8, 0, 0, 0][..], &[0; 4], &number(7)].concat());
        let left = Reply::Lock(LockReply::Left(Left::AskedAgain)).encode();
        assert_eq!(left, [1, 8, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0]);
        let look = Query::Lock(LockQuery::Look { name }).encode();
        assert_eq!(look, [&[1, 2, 0, 0, 0][..], &[0; 4], &number(1), b"l"].concat());
        let nobody = QueryReply::Lock(LockAnswer::Lock(None)).encode();
        assert_eq!(nobody, [1, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
        for length in 0..acquire.len() {
            assert!(Command::decode(&acquire[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let commands = [
            Command::Put { key: b"key", value: b"value" },
            Command::Append { key: b"", value: &[0; 300] },
            Command::Delete { key: b"key" },
            Command::CompareAndSet { key: b"key", expect: 7, value: b"value" },
            Command::Batch { conditions: vec![], writes: vec![] },
            Command::Batch {
                conditions: vec![Condition::Value { key: b"a", value: Some(b"") }],
                writes: vec![Write::Append { key: b"b", value: b"c" }; 3],
            },
        ];
        for command in commands {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let replies = [
            Reply::Written { version: 1 },
            Reply::Appended { length: 7, version: 2 },
            Reply::Deleted { version: 0 },
            Reply::NoKey,
            Reply::WrongVersion { version: 3 },
            Reply::BatchDone { versions: vec![1, 2, 3] },
            Reply::ConditionFailed { condition: 4, version: 5 },
            Reply::Refused(Refusal::ValueTooLong { bytes: 9, bytes_max: 8 }),
        ];
        for reply in replies {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        let page = Page::default();
        for reply in [QueryReply::Page(page), QueryReply::Refused(Refusal::Malformed)] {
            assert_eq!(QueryReply::decode(&reply.encode()), Ok(reply));
        }
    }

    /// The reply of a longest batch is kept for a duplicate of it.
    #[test]
    fn the_reply_of_a_batch_is_short_enough_for_a_session() {
        let versions = vec![u64::MAX; crate::BATCH_PARTS_MAX];
        let kept = raft_host::session::Limits::default().reply_bytes_max;
        assert!(Reply::BatchDone { versions }.encode().len() as u64 <= kept);
    }

    #[test]
    fn what_is_too_long_is_written_and_refused_by_the_store() {
        let value = vec![0; 5 << 20];
        let put = Command::Put { key: b"k", value: &value }.encode();
        assert_eq!(put.len(), 1 + 4 + 8 + 1 + 8 + value.len());
        assert!(Command::decode(&put).unwrap().check().is_err());
    }

    #[test]
    fn cut_lengthened_and_foreign_bytes_are_refused() {
        let good = Command::Put { key: b"key", value: b"value" }.encode();
        let writes = vec![Write::Delete { key: b"key" }; 2];
        let batch = Command::Batch { conditions: vec![], writes }.encode();
        for good in [&good, &batch] {
            for length in 0..good.len() {
                assert!(Command::decode(&good[..length]).is_err(), "cut at {length}");
            }
        }
        assert!(Command::decode(&[&good[..], &[0]].concat()).is_err());
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(Command::decode(&changed(0, 2)).is_err(), "another version");
        assert!(Command::decode(&changed(1, 9)).is_err(), "an unknown variant");
        assert!(Command::decode(&changed(12, 0xff)).is_err(), "a length of 16 EiB");
        let many = [&[VERSION, 4, 0, 0, 0][..], &u64::MAX.to_le_bytes()].concat();
        assert!(Command::decode(&many).is_err(), "2^64 conditions");
    }
}
