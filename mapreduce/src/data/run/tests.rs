use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::data::Progress;

const NAME: RunName = RunName { map: 3, reduce: 5 };

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs() -> Pairs {
    let long = vec![b'z'; 300];
    let pairs: [(&[u8], &[u8]); 6] =
        [(b"", b""), (b"a", b"1"), (b"a", b"0"), (b"a\0", b""), (b"key", &long), (&long, b"v")];
    pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn write(path: &Path, block_bytes: usize, pairs: &Pairs) -> Run {
    let progress = Progress::default();
    let mut writer = RunWriter::create(path, block_bytes, &progress).unwrap();
    let run = write_one(&mut writer, pairs, Origin::MapTask);
    writer.finish(true).unwrap();
    assert_eq!(progress.bytes_out(), fs::metadata(path).unwrap().len());
    run
}

fn write_one(writer: &mut RunWriter<'_>, pairs: &Pairs, origin: Origin) -> Run {
    writer.begin(NAME).unwrap();
    for (key, value) in pairs {
        writer.append(key, value).unwrap();
    }
    writer.end(origin).unwrap()
}

fn read(run: Run, block_bytes: usize) -> Result<Pairs, TaskError> {
    let mut reader = RunReader::open(run, block_bytes, Arc::default())?;
    let mut pairs = Vec::new();
    while reader.advance()? {
        pairs.push((reader.key().to_vec(), reader.value().to_vec()));
    }
    assert!(!reader.advance()?, "the end stays the end");
    Ok(pairs)
}

fn read_file(path: &Path, block_bytes: usize) -> Result<Pairs, TaskError> {
    read(Run::of_map_task(path, NAME)?, block_bytes)
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("run")
    }
}

#[test]
fn the_layout_is_as_it_is_drawn() {
    let folder = Folder::new();
    let long = vec![b'v'; 200];
    write(&folder.path(), 64, &vec![(b"ab".to_vec(), long.clone())]);
    let body: &[&[u8]] = &[b"MRUN", &[1, 3, 0, 0, 0, 5, 0, 0, 0], &[2, 0xc8, 1], b"ab", &long];
    let numbers: &[&[u8]] = &[&[1, 0, 0, 0, 0, 0, 0, 0], &[202, 0, 0, 0, 0, 0, 0, 0]];
    let mut expected = [body.concat(), numbers.concat()].concat();
    let checksum = raft_core::checksum::crc32c(&expected);
    expected.extend(checksum.to_le_bytes());
    assert_eq!(fs::read(folder.path()).unwrap(), expected);
}

#[test]
fn what_is_written_is_read_whatever_the_blocks() {
    for block_bytes in [1, 2, 7, 64, 300, 5000] {
        let folder = Folder::new();
        let run = write(&folder.path(), block_bytes, &pairs());
        assert_eq!(run, Run::of_map_task(&folder.path(), NAME).unwrap());
        assert_eq!((run.pairs, run.longest), (6, 303));
        for block_bytes in [1, 2, 7, 64, 300, 5000] {
            assert_eq!(read(run.clone(), block_bytes).unwrap(), pairs());
        }
    }
    let folder = Folder::new();
    write(&folder.path(), 64, &Pairs::new());
    assert_eq!(read_file(&folder.path(), 64).unwrap(), Pairs::new());
}

#[test]
fn several_runs_in_one_file_are_apart() {
    let folder = Folder::new();
    let progress = Progress::default();
    let mut writer = RunWriter::create(&folder.path(), 16, &progress).unwrap();
    let first = write_one(&mut writer, &pairs(), Origin::Scratch);
    let empty = write_one(&mut writer, &Pairs::new(), Origin::Scratch);
    let last = write_one(&mut writer, &pairs(), Origin::Scratch);
    writer.finish(false).unwrap();
    assert_eq!(empty.offset, first.bytes);
    assert_eq!(read(empty, 16).unwrap(), Pairs::new());
    assert_eq!(read(last, 16).unwrap(), pairs());
    assert_eq!(read(first, 16).unwrap(), pairs());
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let folder = Folder::new();
    fs::write(folder.path(), b"another's").unwrap();
    assert!(RunWriter::create(&folder.path(), 16, &Progress::default()).is_err());
    assert_eq!(fs::read(folder.path()).unwrap(), b"another's");
}

fn assert_damaged(path: &Path, what: &str) {
    for block_bytes in [7, 5000] {
        match read_file(path, block_bytes) {
            Err(TaskError::DamagedRun { map: 3, path: named, .. }) => assert_eq!(named, path),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let folder = Folder::new();
    write(&folder.path(), 64, &pairs());
    let good = fs::read(folder.path()).unwrap();
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            fs::write(folder.path(), &bytes).unwrap();
            assert_damaged(&folder.path(), &format!("byte {at} changed by {change:#x}"));
        }
    }
    fs::write(folder.path(), &good).unwrap();
    assert_eq!(read_file(&folder.path(), 64).unwrap(), pairs());
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    let folder = Folder::new();
    write(&folder.path(), 64, &pairs());
    let good = fs::read(folder.path()).unwrap();
    for length in 0..good.len() {
        fs::write(folder.path(), &good[..length]).unwrap();
        assert_damaged(&folder.path(), &format!("cut to {length} bytes"));
    }
    for more in [&b"\0"[..], b"x", &good] {
        fs::write(folder.path(), [&good, more].concat()).unwrap();
        assert_damaged(&folder.path(), "continued");
    }
    fs::remove_file(folder.path()).unwrap();
    assert_damaged(&folder.path(), "removed");
}

#[test]
fn another_tasks_run_is_refused() {
    let folder = Folder::new();
    write(&folder.path(), 64, &pairs());
    for name in [RunName { map: 4, ..NAME }, RunName { reduce: 4, ..NAME }] {
        let run = Run::of_map_task(&folder.path(), name).unwrap();
        let error = read(run, 64).unwrap_err();
        assert!(error.to_string().contains("its header"), "{error}");
    }
}

/// A length is believed only as far as the trailer bears it out, and that only as far as the file does.
#[test]
fn a_forged_length_costs_no_memory() {
    let folder = Folder::new();
    write(&folder.path(), 64, &pairs());
    let good = fs::read(folder.path()).unwrap();
    let forged = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        fs::write(folder.path(), &bytes).unwrap();
        let info = allocation_counter::measure(|| assert!(read_file(&folder.path(), 64).is_err()));
        assert!(info.bytes_max < 10_000, "{info:?}");
    };
    forged(HEADER_BYTES, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    forged(HEADER_BYTES, &[0xff; 12]);
    forged(good.len() - 12, &(1_u64 << 40).to_le_bytes());
    forged(good.len() - 12, &u64::MAX.to_le_bytes());
}

/// The disk is this task's, so no map task is to blame.
#[test]
fn damage_of_a_tasks_own_run_is_its_disks() {
    let folder = Folder::new();
    let progress = Progress::default();
    let mut writer = RunWriter::create(&folder.path(), 64, &progress).unwrap();
    let run = write_one(&mut writer, &pairs(), Origin::Scratch);
    writer.finish(false).unwrap();
    let mut bytes = fs::read(folder.path()).unwrap();
    bytes[20] ^= 1;
    fs::write(folder.path(), bytes).unwrap();
    assert!(matches!(read(run, 64), Err(TaskError::Disk { .. })));
}

#[test]
fn varints_are_read_as_they_are_written() {
    for length in [0, 1, 127, 128, 300, 16_383, 16_384, usize::MAX] {
        let mut bytes = Vec::new();
        put_length(length, &mut bytes);
        assert_eq!(length_at(&bytes), Some((length, bytes.len())));
        for cut in 0..bytes.len() {
            assert_eq!(length_at(&bytes[..cut]), None);
        }
    }
    assert_eq!(length_at(&[0xff; 11]), None);
    assert_eq!(length_at(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
}

#[test]
fn prefixes_are_ordered_as_keys_are() {
    let keys: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0", b"ab", b"abcdefgh", b"abcdefghi", b"\xff"];
    for (low, high) in keys.iter().zip(&keys[1..]) {
        assert!(prefix(low) <= prefix(high), "{low:?} {high:?}");
    }
    assert_eq!(prefix(b"ab"), 0x6162_0000_0000_0000);
    assert_eq!(prefix(b"abcdefghi"), 0x6162_6364_6566_6768);
}
