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
    use crate::lock::{
        Claimant, Left, LockAnswer, LockCommand, LockPage, LockQuery, LockReply, LockState,
        LockSummary,
    };
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

    /// A version, the numbers of variants from the outside in, and what they hold.
    fn layout(variants: &[u32], fields: &[&[u8]]) -> Vec<u8> {
        let variants = variants.iter().flat_map(|variant| variant.to_le_bytes());
        [1].into_iter().chain(variants).chain(fields.concat()).collect()
    }

    fn of_numbers(variants: &[u32], numbers: &[u64]) -> Vec<u8> {
        let numbers: Vec<_> = numbers.iter().map(|number| number.to_le_bytes()).collect();
        layout(variants, &numbers.iter().map(|number| &number[..]).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_and_query_about_locks_has_its_layout() {
        let [one, two, three, five, seven] = [1u64, 2, 3, 5, 7].map(u64::to_le_bytes);
        let (name, owner, lease_ms, holder) = (&b"l"[..], &b"me"[..], 7, (3_u128 << 64) | 2);
        let (named, held): ([&[u8]; 2], [&[u8]; 2]) = ([&one, b"l"], [&two, &three]);
        let claim = [named, held].concat().concat();
        let acquire = |wait| LockCommand::Acquire { name, holder, owner, lease_ms, wait };
        for (command, variant, fields) in [
            (acquire(false), 0, [&claim[..], &two, b"me", &seven, &[0]].concat()),
            (acquire(true), 0, [&claim[..], &two, b"me", &seven, &[1]].concat()),
            (LockCommand::Release { name, holder, token: 5 }, 1, [&claim[..], &five].concat()),
            (LockCommand::Renew { name, holder, token: 5 }, 2, [&claim[..], &five].concat()),
            (LockCommand::Expire { name, lease: 5 }, 3, [&named.concat()[..], &five].concat()),
        ] {
            let bytes = Command::Lock(command).encode();
            assert_eq!(bytes, layout(&[5, variant], &[&fields]), "{command:?}");
            assert_eq!(Command::decode(&bytes), Ok(Command::Lock(command)));
            for length in 0..bytes.len() {
                assert!(Command::decode(&bytes[..length]).is_err(), "cut at {length}");
            }
        }
        let list = |after| LockQuery::List { prefix: b"l", after, limit: 5 };
        for (query, variant, fields) in [
            (LockQuery::Look { name }, 0, named.concat()),
            (list(None), 1, [&named.concat()[..], &[0], &five].concat()),
            (list(Some(b"me")), 1, [&named.concat()[..], &[1], &two, b"me", &five].concat()),
        ] {
            let bytes = Query::Lock(query).encode();
            assert_eq!(bytes, layout(&[2, variant], &[&fields]), "{query:?}");
            assert_eq!(Query::decode(&bytes), Ok(Query::Lock(query)));
        }
    }

    #[test]
    fn every_reply_and_answer_about_locks_has_its_layout() {
        for (reply, variants, numbers) in [
            (LockReply::Granted { token: 7 }, &[0][..], &[7][..]),
            (LockReply::Waiting { ahead: 7 }, &[1], &[7]),
            (LockReply::Held { token: 7, waiters: 8 }, &[2], &[7, 8]),
            (LockReply::NoRoom { claims: 7, claims_max: 8 }, &[3], &[7, 8]),
            (LockReply::Released, &[4], &[]),
            (LockReply::NotHolder { token: 7 }, &[5], &[7]),
            (LockReply::Left(Left::Expired), &[6, 0], &[]),
            (LockReply::Left(Left::GivenUp), &[6, 1], &[]),
            (LockReply::Left(Left::AskedAgain), &[6, 2], &[]),
            (LockReply::Expired, &[7], &[]),
            (LockReply::Late, &[8], &[]),
        ] {
            let bytes = Reply::Lock(reply).encode();
            assert_eq!(bytes, of_numbers(&[&[8], variants].concat(), numbers), "{reply:?}");
            assert_eq!(Reply::decode(&bytes), Ok(Reply::Lock(reply)));
        }
        let [one, two, three, seven] = [1u64, 2, 3, 7].map(u64::to_le_bytes);
        let holder = Claimant { id: (3_u128 << 64) | 2, owner: b"me".to_vec(), lease_ms: 7 };
        let claimant = [&two[..], &three, &two, b"me", &seven].concat();
        let waiters = vec![holder.clone()];
        let state = LockState { token: 7, holder, waiters };
        let summary =
            LockSummary { name: b"l".to_vec(), token: 7, owner: b"me".to_vec(), waiters: 3 };
        let page = LockPage { locks: vec![summary], has_more: true };
        let listed = [&one[..], &one, b"l", &seven, &two, b"me", &three, &[1]].concat();
        for (answer, variant, fields) in [
            (LockAnswer::Lock(None), 0, vec![0]),
            (
                LockAnswer::Lock(Some(state)),
                0,
                [&[1][..], &seven, &claimant, &one, &claimant].concat(),
            ),
            (LockAnswer::Page(page), 1, listed),
        ] {
            let answer = QueryReply::Lock(answer);
            assert_eq!(answer.encode(), layout(&[3, variant], &[&fields]), "{answer:?}");
            assert_eq!(QueryReply::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn every_refusal_has_its_layout() {
        let (bytes, bytes_max, parts, parts_max) = (7, 8, 7, 8);
        for (refusal, variant, numbers) in [
            (Refusal::KeyEmpty, 0, &[][..]),
            (Refusal::KeyTooLong { bytes, bytes_max }, 1, &[7, 8]),
            (Refusal::ValueTooLong { bytes, bytes_max }, 2, &[7, 8]),
            (Refusal::BatchOfTooMany { parts, parts_max }, 3, &[7, 8]),
            (Refusal::BatchTooLong { bytes, bytes_max }, 4, &[7, 8]),
            (Refusal::LimitZero, 5, &[]),
            (Refusal::Malformed, 6, &[]),
            (Refusal::LockNameEmpty, 7, &[]),
            (Refusal::LockNameTooLong { bytes, bytes_max }, 8, &[7, 8]),
            (Refusal::OwnerTooLong { bytes, bytes_max }, 9, &[7, 8]),
            (Refusal::LeaseOutOfRange { ms: 7, ms_min: 8, ms_max: 9 }, 10, &[7, 8, 9]),
        ] {
            let (reply, answer) = (Reply::Refused(refusal), QueryReply::Refused(refusal));
            assert_eq!(reply.encode(), of_numbers(&[7, variant], numbers), "{refusal:?}");
            assert_eq!(answer.encode(), of_numbers(&[2, variant], numbers), "{refusal:?}");
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
            assert_eq!(QueryReply::decode(&answer.encode()), Ok(answer));
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
