use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const RECORD_BYTES_MAX: usize = 1000;

struct Input {
    path: PathBuf,
    version: InputVersion,
    _folder: TempDir,
}

impl Input {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        fs::write(&path, bytes).unwrap();
        let version = InputVersion::of(&fs::metadata(&path).unwrap());
        Input { path, version, _folder: folder }
    }

    fn source(&self, offset: u64, bytes: u64, block_bytes: usize) -> Source<'_> {
        Source {
            path: &self.path,
            name: "input",
            version: self.version,
            split: Split { offset, bytes },
            records: Records::Lines,
            block_bytes,
            record_bytes_max: RECORD_BYTES_MAX,
        }
    }

    fn whole(&self) -> Source<'_> {
        self.source(0, self.version.bytes, 16)
    }
}

fn read(source: Source<'_>) -> Result<Vec<(u64, Vec<u8>)>, TaskError> {
    let mut reader = SplitReader::open(source, Arc::default())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        assert_eq!(record.name, "input");
        records.push((record.offset, record.bytes.to_vec()));
    }
    reader.finish()?;
    Ok(records)
}

/// The plain way: all lines with their offsets.
fn lines(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut offset = 0;
    let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let begin = offset;
        offset += line.len() as u64;
        (begin, line.strip_suffix(b"\n").unwrap_or(line).to_vec())
    });
    lines.collect()
}

proptest! {
    #[test]
    fn every_line_is_read_once_and_in_order(
        text in "[ab\n\r]{0,120}",
        split_bytes in 1..50_u64,
        block_bytes in 1..40_usize,
    ) {
        let input = Input::new(text.as_bytes());
        let mut found = Vec::new();
        for Split { offset, bytes } in plan_splits(input.version.bytes, split_bytes) {
            let of_split = read(input.source(offset, bytes, block_bytes)).unwrap();
            for (begin, _) in &of_split {
                prop_assert!((offset..offset + bytes).contains(begin));
            }
            found.extend(of_split);
        }
        prop_assert_eq!(found, lines(text.as_bytes()));
    }
}

#[test]
fn splits_cover_the_file() {
    let split = |offset, bytes| Split { offset, bytes };
    let plan = |size, split_bytes| plan_splits(size, split_bytes).collect::<Vec<_>>();
    assert_eq!(plan(10, 4), [split(0, 4), split(4, 4), split(8, 2)]);
    assert_eq!(plan(8, 4), [split(0, 4), split(4, 4)]);
    assert_eq!(plan(3, 4), [split(0, 3)]);
    assert_eq!(plan(0, 4), [split(0, 0)]);
    assert_eq!(plan(u64::MAX, 1 << 63).len(), 2);
}

#[test]
fn carriage_returns_stay_and_the_last_line_needs_no_end() {
    let input = Input::new(b"a\r\n\r\nlast");
    let expected = [(0, b"a\r".to_vec()), (3, b"\r".to_vec()), (5, b"last".to_vec())];
    assert_eq!(read(input.whole()).unwrap(), expected);
    assert_eq!(read(Input::new(b"").whole()).unwrap(), []);
    assert_eq!(read(Input::new(b"\n").whole()).unwrap(), [(0, vec![])]);
}

#[test]
fn a_line_of_the_greatest_length_is_read_and_a_longer_one_is_named() {
    let longest = vec![b'x'; RECORD_BYTES_MAX];
    for end in [&b""[..], b"\n", b"\nab\n"] {
        let text = [&b"ab\n"[..], &longest, end].concat();
        let input = Input::new(&text);
        for block_bytes in [16, 2000] {
            let source = Source { block_bytes, ..input.whole() };
            assert_eq!(read(source).unwrap(), lines(&text));
        }
        let text = [&b"ab\n"[..], b"y", &longest, end].concat();
        let input = Input::new(&text);
        for block_bytes in [16, 2000] {
            let source = Source { block_bytes, ..input.whole() };
            match read(source) {
                Err(TaskError::RecordTooLong { path, offset: 3, bytes_max }) => {
                    assert_eq!((path, bytes_max), (input.path.clone(), RECORD_BYTES_MAX));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The line is another split's, so it is that one's error, and takes no memory here.
#[test]
fn a_long_line_that_is_skipped_is_not_kept() {
    let text = [&vec![b'x'; 10 * RECORD_BYTES_MAX][..], b"\nab\n"].concat();
    let input = Input::new(&text);
    let source = input.source(5, text.len() as u64 - 5, 16);
    let reader = SplitReader::open(source.clone(), Arc::default()).unwrap();
    assert_eq!(reader.buffer.len(), 16);
    assert_eq!(read(source).unwrap(), [(text.len() as u64 - 3, b"ab".to_vec())]);
}

#[test]
fn a_whole_file_is_one_record() {
    for text in [&b""[..], b"a\nb\n", b"\xff\0"] {
        let input = Input::new(text);
        let source = Source { records: Records::WholeFile, ..input.whole() };
        assert_eq!(read(source).unwrap(), [(0, text.to_vec())]);
    }
    let input = Input::new(&[b'x'; RECORD_BYTES_MAX + 1]);
    let error = read(Source { records: Records::WholeFile, ..input.whole() }).unwrap_err();
    assert!(matches!(error, TaskError::RecordTooLong { offset: 0, .. }), "{error}");
}

#[test]
fn a_file_that_was_written_to_is_noticed() {
    let input = Input::new(b"one\ntwo\n");
    let other = InputVersion { modified_ns: input.version.modified_ns - 1, ..input.version };
    let error = read(Source { version: other, ..input.whole() }).unwrap_err();
    assert!(matches!(error, TaskError::Input(InputError::Changed { .. })), "{error}");

    let mut reader = SplitReader::open(input.whole(), Arc::default()).unwrap();
    reader.next().unwrap();
    fs::write(&input.path, b"one\ntwo\nthree\n").unwrap();
    let error = reader.finish().unwrap_err();
    assert!(error.to_string().contains("it had 8 bytes, and has 14"), "{error}");
    let error = read(input.whole()).unwrap_err();
    assert!(matches!(error, TaskError::Input(InputError::Changed { .. })), "{error}");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_noticed() {
    let input = Input::new(&[b'\n'; 100]);
    let mut reader = SplitReader::open(input.whole(), Arc::default()).unwrap();
    reader.next().unwrap();
    fs::write(&input.path, b"").unwrap();
    let error = loop {
        match reader.next() {
            Ok(record) => assert!(record.is_some(), "the end of a file that was cut"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("it ends at byte 16"), "{error}");
    assert!(reader.finish().is_err());
}

#[test]
fn a_file_that_is_gone_is_told_from_one_that_cant_be_read() {
    let input = Input::new(b"text");
    fs::remove_file(&input.path).unwrap();
    let error = read(input.whole()).unwrap_err();
    assert!(matches!(error, TaskError::Input(InputError::Vanished { .. })), "{error}");
    let path = input.path.join("below");
    fs::write(&input.path, b"text").unwrap();
    let error = read(Source { path: &path, ..input.whole() }).unwrap_err();
    assert!(matches!(error, TaskError::Input(InputError::Unreadable { .. })), "{error}");
}

#[test]
fn a_cancelled_task_reads_no_further_block() {
    let input = Input::new(&b"12345\n".repeat(100));
    let progress: Arc<Progress> = Arc::default();
    let mut reader = SplitReader::open(input.whole(), Arc::clone(&progress)).unwrap();
    assert!(reader.next().unwrap().is_some());
    progress.cancel();
    let records = std::iter::from_fn(|| reader.next().map(|_| ()).ok()).count();
    assert!(records <= 2, "{records} more records fit in no block of 16 bytes");
    assert!(matches!(reader.next(), Err(TaskError::Cancelled)));
}
