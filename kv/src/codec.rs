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
    use crate::{Command, Query, QueryReply, Refusal, Reply};

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
            Reply::Appended { length: 258 }.encode(),
            [1, 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(QueryReply::Value(None).encode(), [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let commands = [
            Command::Put { key: b"key", value: b"value" },
            Command::Append { key: b"", value: &[0; 300] },
            Command::Delete { key: b"key" },
        ];
        for command in commands {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let replies = [
            Reply::Done,
            Reply::Appended { length: 7 },
            Reply::Deleted { existed: true },
            Reply::Refused(Refusal::ValueTooLong { bytes: 9, bytes_max: 8 }),
        ];
        for reply in replies {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        for reply in [QueryReply::Value(Some(b"v".to_vec())), QueryReply::Malformed] {
            assert_eq!(QueryReply::decode(&reply.encode()), Ok(reply));
        }
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
        for length in 0..good.len() {
            assert!(Command::decode(&good[..length]).is_err(), "cut at {length}");
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
    }
}
