use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::application::{AppError, Combine, Output, Record, Records, Values};
use crate::apps::{Indexer, Sort, WordCount};
use crate::data::testing::{Job, names_in, text};
use crate::data::{InputError, SCRATCH, plan_splits, run_reduce};
use crate::sequential::sequential;

/// An application whose map is a function.
struct Mapping<F>(F);

impl<F> Application for Mapping<F>
where
    F: Fn(&Record<'_>, &mut Emitter<'_>) -> Result<(), AppError> + Send + Sync,
{
    fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
        (self.0)(record, emit)
    }

    fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
        Ok(())
    }
}

fn mapping<F>(map: F) -> Mapping<F>
where
    F: Fn(&Record<'_>, &mut Emitter<'_>) -> Result<(), AppError> + Send + Sync,
{
    Mapping(map)
}

#[test]
fn spilling_changes_nothing_but_the_number_of_spills() {
    let input = text(1, 20_000);
    let inputs: &[(&str, &[u8])] = &[("input", &input)];
    let jobs = [
        ("wc", Job::new(WordCount, inputs)),
        ("indexer", Job::new(Indexer, inputs)),
        ("sort", Job::new(Sort, inputs)),
    ];
    for (name, mut job) in jobs {
        let at_once = job.run().unwrap();
        assert_eq!(at_once.maps[0].spills, 0, "{name}");
        for (memory_bytes, fan_in_max) in [(0, 2), (200 << 10, 3), (200 << 10, 1000)] {
            (job.memory_bytes, job.fan_in_max) = (memory_bytes, fan_in_max);
            let spilled = job.run().unwrap();
            assert!(spilled.maps[0].spills >= 3, "{name}: {:?}", spilled.maps);
            assert_eq!(spilled.maps[0].pairs, at_once.maps[0].pairs);
            assert!(spilled.runs == at_once.runs, "{name} in {memory_bytes} bytes");
            assert!(spilled.lines == at_once.lines, "{name} in {memory_bytes} bytes");
        }
    }
}

#[test]
fn a_job_in_little_memory_does_what_is_done_in_one_thread() {
    let (one, two) = (text(2, 3000), text(3, 5000));
    let inputs: &[(&str, &[u8])] = &[("one", &one), ("two", &two), ("three", b"")];
    for split_bytes in [7000, 50_000, 1 << 30] {
        let jobs: [(Job, &dyn Application); 3] = [
            (Job::new(WordCount, inputs), &WordCount),
            (Job::new(Indexer, inputs), &Indexer),
            (Job::new(Sort, inputs), &Sort),
        ];
        for (mut job, application) in jobs {
            (job.split_bytes, job.memory_bytes, job.fan_in_max) = (split_bytes, 0, 4);
            let found = job.run().unwrap();
            let records: u64 = found.maps.iter().map(|map| map.records).sum();
            assert_eq!(records, 8000);
            assert!(found.lines == sequential(application, inputs).unwrap());
        }
    }
}

/// Lines of which a reduce task's runs are ten times its memory.
#[test]
fn ten_times_more_than_memory_is_sorted() {
    let input = text(4, 90_000);
    let mut job = Job::new(Sort, &[("input", &input)]);
    (job.memory_bytes, job.split_bytes) = (MEMORY_BYTES_MIN, 500_000);
    assert!(input.len() > 10 * 3 * MEMORY_BYTES_MIN, "{}", input.len());
    let found = job.run().unwrap();
    assert!(found.maps.iter().all(|map| map.spills > 5), "{:?}", found.maps);
    let mut expected: Vec<_> = input.split_inclusive(|byte| *byte == b'\n').collect();
    expected.sort_unstable();
    assert!(found.lines == expected.concat());
    let values: u64 = found.reduces.iter().map(|reduce| reduce.values).sum();
    let lines: u64 = found.reduces.iter().map(|reduce| reduce.lines).sum();
    assert_eq!((values, lines), (90_000, 90_000));
}

/// What the allocator has given out at once, against what the task was given.
#[test]
fn memory_is_bounded_by_what_the_task_is_given() {
    let input = text(5, 60_000);
    for memory_bytes in [256 << 10, 1 << 20] {
        let jobs = [
            Job::new(WordCount, &[("input", &input)]),
            Job::new(Indexer, &[("input", &input)]),
            Job::new(Sort, &[("input", &input)]),
        ];
        for mut job in jobs {
            (job.memory_bytes, job.fan_in_max) = (memory_bytes, 64);
            let task = job.map_task(0, 0, None);
            let mut spills = 0;
            let info = allocation_counter::measure(|| spills = run_map(&task).unwrap().spills);
            assert!(spills > 0);
            // Not counted is where the runs of spills are.
            let most = (memory_bytes + (8 << 10)) as u64 + spills * 3 * 100;
            assert!(info.bytes_max <= most, "{memory_bytes}, {spills} spills: {info:?}");
            let task = job.reduce_task(0, &[task.directory]);
            let info = allocation_counter::measure(|| assert!(run_reduce(&task).is_ok()));
            assert!(info.bytes_max <= most, "{memory_bytes}: {info:?}");
        }
    }
}

#[test]
fn every_reduce_task_has_its_run_even_if_it_is_empty() {
    let job = Job::new(WordCount, &[("input", b"12 34\n")]);
    let found = job.run().unwrap();
    assert!(found.runs.iter().all(|run| run.len() == 33), "header and trailer");
    assert_eq!(found.maps[0].run_bytes, [33; 3]);
    assert_eq!(found.maps[0].records, 1);
}

/// An application that is not told to combine, counts all the same.
#[test]
fn counts_are_values_in_decimal() {
    let application = mapping(|line, emit| Ok(emit.count(line.bytes, 42)?));
    let job = Job::new(application, &[("input", b"key\n")]);
    let found = job.run().unwrap();
    let pair = b"\x03\x02key42";
    assert!(found.runs.iter().any(|run| run.windows(pair.len()).any(|part| part == pair)));
}

#[test]
fn records_know_where_they_are_from() {
    let application = mapping(|line, emit| {
        Ok(emit.pair(format!("{}@{}", line.name, line.offset).as_bytes(), line.bytes)?)
    });
    let mut job = Job::new(application, &[("input", b"ab\n\ncd")]);
    job.split_bytes = 2;
    let all = job.run().unwrap().runs.concat();
    for expected in [&b"input@0ab"[..], b"input@3", b"input@4cd"] {
        assert!(all.windows(expected.len()).any(|part| part == expected), "{expected:?}");
    }
}

fn error_of(job: &Job) -> TaskError {
    let task = job.map_task(0, 0, None);
    run_map(&task).unwrap_err()
}

#[test]
fn a_panic_and_an_error_of_the_application_are_its_errors() {
    let panics = mapping(|line, _| panic!("no {}", String::from_utf8_lossy(line.bytes)));
    let error = error_of(&Job::new(panics, &[("input", b"more\n")]));
    assert!(
        matches!(error, TaskError::Application { ref message } if message == "it panicked: no more")
    );
    let refuses = mapping(|_, _| Err(AppError::new("not so")));
    let error = error_of(&Job::new(refuses, &[("input", b"more\n")]));
    assert_eq!(error.to_string(), "the application has failed: not so");
}

#[test]
fn a_value_that_is_no_count_is_the_applications_error() {
    struct Wrong;
    impl Application for Wrong {
        fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
            Ok(emit.pair(b"key", record.bytes)?)
        }
        fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
            Ok(())
        }
        fn combine(&self) -> Combine {
            Combine::Sum
        }
    }
    let error = error_of(&Job::new(Wrong, &[("input", b"1\ntwo\n")]));
    assert!(error.to_string().contains("\"two\", which is no count"), "{error}");
    let text = format!("{}\n1\n", u64::MAX);
    let error = error_of(&Job::new(Wrong, &[("input", text.as_bytes())]));
    assert!(matches!(error, TaskError::Application { .. }), "{error}");
}

/// It is wrong whatever else there is, and as soon as it is emitted.
#[test]
fn a_pair_that_is_too_long_is_refused_even_by_an_application_that_keeps_quiet() {
    let quiet = mapping(|line, emit| {
        emit.pair(b"small", b"").unwrap();
        let error = emit.pair(b"key", &line.bytes.repeat(100_000)).unwrap_err();
        assert!(matches!(error, TaskError::PairTooLong { bytes: 100_003, .. }), "{error}");
        Ok(())
    });
    let mut job = Job::new(quiet, &[("input", b"x\n")]);
    job.memory_bytes = 100_000;
    assert!(error_of(&job).to_string().contains("kept quiet"));
}

/// Memory was divided for many small pairs; the longest that is allowed comes after them.
#[test]
fn the_longest_pair_fits_after_many_short_ones() {
    for combine in [Combine::None, Combine::Fold(|_, _, _| ())] {
        struct Mixed(Combine, AtomicU64);
        impl Application for Mixed {
            fn map(&self, _: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
                for _ in 0..20_000 {
                    let number = self.1.fetch_add(1, Ordering::Relaxed);
                    emit.pair(&number.to_le_bytes(), b"")?;
                }
                emit.pair(&[b'x'; 12_000], b"")?;
                Ok(emit.pair(b"", &[b'x'; 12_000])?)
            }
            fn reduce(
                &self,
                _: &[u8],
                _: &mut Values<'_>,
                _: &mut Output<'_>,
            ) -> Result<(), AppError> {
                Ok(())
            }
            fn combine(&self) -> Combine {
                self.0
            }
        }
        let mut job = Job::new(Mixed(combine, AtomicU64::new(0)), &[("input", b"1\n2\n3\n")]);
        job.memory_bytes = 0;
        job.run().unwrap();
    }
}

#[test]
fn a_cancelled_task_ends() {
    let job = Job::new(Sort, &[("input", &text(6, 5000))]);
    let task = job.map_task(0, 0, None);
    task.progress.cancel();
    assert!(matches!(run_map(&task), Err(TaskError::Cancelled)));

    // In the midst of one record.
    let endless = mapping(|line, emit| {
        loop {
            emit.pair(line.bytes, b"")?;
        }
    });
    let job = Job::new(endless, &[("input", b"again\n")]);
    let task = job.map_task(0, 0, None);
    let cancelled = std::thread::scope(|scope| {
        let running = scope.spawn(|| run_map(&task));
        while task.progress.bytes_out() == 0 {
            std::thread::yield_now();
        }
        task.progress.cancel();
        running.join().unwrap()
    });
    assert!(matches!(cancelled, Err(TaskError::Cancelled)), "{cancelled:?}");
}

#[test]
fn progress_is_told() {
    let input = text(7, 3000);
    let job = Job::new(WordCount, &[("input", &input)]);
    let task = job.map_task(0, 0, None);
    let summary = run_map(&task).unwrap();
    assert_eq!(task.progress.records(), 3000);
    assert_eq!(task.progress.bytes_in(), input.len() as u64);
    assert_eq!(task.progress.bytes_out(), summary.run_bytes.iter().sum::<u64>());
}

#[test]
fn a_folder_that_takes_nothing_is_named() {
    let job = Job::new(WordCount, &[("input", b"word\n")]);
    let mut task = job.map_task(0, 0, None);
    task.directory.push("missing");
    match run_map(&task).unwrap_err() {
        TaskError::Disk { path, .. } => assert_eq!(path.parent().unwrap(), task.directory),
        other => panic!("{other}"),
    }
    let task = job.map_task(0, 0, None);
    std::fs::write(task.directory.join("mr-0-1"), b"another's").unwrap();
    assert!(matches!(run_map(&task), Err(TaskError::Disk { .. })));
}

#[test]
fn an_input_that_has_changed_fails_the_task() {
    let job = Job::new(WordCount, &[("input", b"one two\n")]);
    let mut task = job.map_task(0, 0, None);
    task.version.bytes += 1;
    let error = run_map(&task).unwrap_err();
    assert!(matches!(error, TaskError::Input(InputError::Changed { .. })), "{error}");
    assert!(names_in(&task.directory).is_empty());
}

#[test]
fn a_whole_file_is_mapped_as_one_record() {
    struct Whole;
    impl Application for Whole {
        fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
            assert_eq!(record.bytes, b"a\nb\n");
            Ok(emit.pair(b"key", b"")?)
        }
        fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
            Ok(())
        }
        fn records(&self) -> Records {
            Records::WholeFile
        }
    }
    let job = Job::new(Whole, &[("input", b"a\nb\n")]);
    assert_eq!(plan_splits(4, u64::MAX).count(), 1);
    let found = job.run().unwrap();
    assert_eq!((found.maps[0].records, found.maps[0].pairs), (1, 1));
}

/// Values that are joined to more than fits in memory come to the reduce task in several.
#[test]
fn joined_values_may_be_longer_than_memory_all_together() {
    struct Joined;
    impl Application for Joined {
        fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
            Ok(emit.pair(b"key", record.bytes)?)
        }
        fn reduce(
            &self,
            key: &[u8],
            values: &mut Values<'_>,
            output: &mut Output<'_>,
        ) -> Result<(), AppError> {
            let (mut count, mut all) = (0, Vec::new());
            while let Some(value) = values.next()? {
                count += 1;
                all.extend_from_slice(value);
            }
            assert!(count > 10, "{count} values");
            Ok(output.line(key, &all)?)
        }
        fn combine(&self) -> Combine {
            Combine::Fold(|_, accumulator, value| accumulator.extend_from_slice(value))
        }
    }
    let lines: Vec<_> = (0..100_000).map(|number| format!("{number},\n")).collect();
    let mut job = Job::new(Joined, &[("input", lines.concat().as_bytes())]);
    for (split_bytes, fan_in_max) in [(1 << 30, 2), (20_000, 3)] {
        (job.memory_bytes, job.split_bytes, job.fan_in_max) = (0, split_bytes, fan_in_max);
        let expected = format!("key {}\n", lines.concat().replace('\n', ""));
        assert!(job.run().unwrap().lines == expected.into_bytes());
    }
}

#[test]
fn a_key_that_is_too_long_to_be_counted_is_refused() {
    let mut job = Job::new(WordCount, &[("input", &[b'x'; 30_000])]);
    job.memory_bytes = 0;
    let error = error_of(&job);
    assert!(matches!(error, TaskError::PairTooLong { bytes: 30_000, .. }), "{error}");
}

/// What was joined of one spill is joined to what was joined of another, in other code than the first time.
#[test]
fn a_panic_where_spills_are_merged_is_the_applications() {
    struct Joined;
    impl Application for Joined {
        fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
            Ok(emit.pair(record.bytes, b"v")?)
        }
        fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
            Ok(())
        }
        fn combine(&self) -> Combine {
            Combine::Fold(|_, joined, value| {
                assert_eq!(value, b"v", "not one that was emitted");
                joined.push(b'v');
            })
        }
    }
    let lines: Vec<_> = (0..20_000).map(|number| format!("{}\n", number / 2 % 4000)).collect();
    let mut job = Job::new(Joined, &[("input", lines.concat().as_bytes())]);
    assert_eq!(job.run().unwrap().maps[0].spills, 0);
    job.memory_bytes = 0;
    let error = error_of(&job);
    let TaskError::Application { message } = error else { panic!("{error}") };
    assert!(message.contains("it panicked: ") && message.contains("not one that was emitted"));
}

/// The application panics over a value that it never emitted: the disk has changed it.
#[test]
fn a_spill_that_is_damaged_is_not_the_applications_fault() {
    struct Damaging(std::sync::OnceLock<PathBuf>);
    impl Application for Damaging {
        fn map(&self, record: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
            if record.bytes == b"last" {
                let path = self.0.get().expect("it was told").join(SCRATCH).join("spill-0");
                let mut bytes = std::fs::read(&path).unwrap();
                let at = bytes.iter().rposition(|byte| *byte == b'v').unwrap();
                bytes[at] = b'w';
                std::fs::write(&path, bytes).unwrap();
            }
            Ok(emit.pair(record.bytes, b"v")?)
        }
        fn reduce(&self, _: &[u8], _: &mut Values<'_>, _: &mut Output<'_>) -> Result<(), AppError> {
            Ok(())
        }
        fn combine(&self) -> Combine {
            Combine::Fold(|_, joined, value| {
                assert!(joined.iter().chain(value).all(|byte| *byte == b'v'));
                joined.extend_from_slice(value);
            })
        }
    }
    let mut lines: Vec<_> = (0..20_000).map(|number| format!("{}\n", number % 4000)).collect();
    lines.push("last".to_owned());
    let application = Arc::new(Damaging(std::sync::OnceLock::new()));
    let mut job = Job::new(WordCount, &[("input", lines.concat().as_bytes())]);
    (job.application, job.memory_bytes) = (application.clone(), 0);
    let task = job.map_task(0, 0, None);
    application.0.set(task.directory.clone()).unwrap();
    let error = run_map(&task).unwrap_err();
    let TaskError::Disk { path, .. } = &error else { panic!("{error}") };
    assert!(path.ends_with("scratch/spill-0"), "{error}");
}
