use super::*;
use crate::application::Registry;
use crate::command::{AttemptId, TaskId};

const TOKEN: u128 = 77;

/// A folder with two inputs and a job's own folder, and a worker.
struct Place {
    folder: tempfile::TempDir,
    config: WorkerConfig,
    paths: JobPaths,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a"), "x y x\n").unwrap();
        fs::write(root.join("b"), "y z\n").unwrap();
        let paths = JobPaths::new(root, "out", TOKEN).unwrap();
        fs::create_dir(&paths.work).unwrap();
        let config = WorkerConfig::new("w", root, Registry::standard());
        Place { folder, config, paths }
    }

    fn input(&self, name: &str) -> Input {
        let version = InputVersion::of(&fs::metadata(self.folder.path().join(name)).unwrap());
        let InputVersion { bytes, modified_ns } = version;
        Input { path: name.to_owned(), bytes, modified_ns }
    }

    fn assignment(&self, kind: Kind, number: u32, attempt: u32, work: Work) -> Assignment {
        Assignment {
            attempt: AttemptId { task: TaskId { job: 1, kind, number }, number: attempt },
            token: TOKEN,
            application: ApplicationName::Named("wc".to_owned()),
            output: "out".to_owned(),
            reducers: 1,
            memory_bytes: 1 << 20,
            record_bytes_max: 1 << 10,
            work,
        }
    }

    fn map_assignment(&self, number: u32, attempt: u32) -> Assignment {
        let input = self.input(["a", "b"][number as usize]);
        let split = Split { input: number, offset: 0, bytes: input.bytes };
        self.assignment(Kind::Map, number, attempt, Work::Map { input, split })
    }

    fn execute(&self, assignment: &Assignment) -> Outcome {
        execute(assignment, &self.config, &Arc::new(Progress::default()))
    }

    fn map(&self, number: u32, attempt: u32) -> Outcome {
        self.execute(&self.map_assignment(number, attempt))
    }

    fn reduce(&self, attempt: u32, maps: [u32; 2]) -> Outcome {
        let work = Work::Reduce { maps: maps.to_vec() };
        self.execute(&self.assignment(Kind::Reduce, 0, attempt, work))
    }

    fn publish(&self, attempt: u32, reduce: u32) -> Outcome {
        let work = Work::Publish { reduces: vec![reduce] };
        self.execute(&self.assignment(Kind::Publish, 0, attempt, work))
    }

    fn tidy(&self) -> Outcome {
        self.execute(&self.assignment(Kind::Tidy, 0, 0, Work::Tidy))
    }

    /// The maps and the reduce, one attempt each.
    fn done_but_for_publishing() -> Self {
        let place = Place::new();
        assert_finished(&place.map(0, 0));
        assert_finished(&place.map(1, 0));
        assert_finished(&place.reduce(0, [0, 0]));
        place
    }

    fn reduced(&self, attempt: u32) -> String {
        fs::read_to_string(self.paths.reduce_file(0, attempt)).unwrap()
    }

    fn results(&self) -> String {
        fs::read_to_string(self.paths.output.join("mr-out-0")).unwrap()
    }
}

const EXPECTED: &str = "x 2\ny 2\nz 1\n";

fn assert_finished(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
}

fn error(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { error } => error,
        other => panic!("{other:?}"),
    }
}

/// LABS P1.
#[test]
fn a_slow_worker_that_comes_late_changes_nothing_that_is_read() {
    let place = Place::new();
    assert_finished(&place.map(0, 1));
    assert_finished(&place.map(1, 0));
    assert_finished(&place.reduce(0, [1, 0]));
    let before = fs::read(place.paths.map_file(0, 1, 0)).unwrap();
    // Attempt 0 at map 0 is still there, and comes to its end after the reduce task has begun.
    assert_finished(&place.map(0, 0));
    assert_eq!(fs::read(place.paths.map_file(0, 1, 0)).unwrap(), before);
    assert_finished(&place.reduce(1, [1, 0]));
    assert_eq!((place.reduced(0), place.reduced(1)), (EXPECTED.to_owned(), EXPECTED.to_owned()));
}

/// LABS P2.
#[test]
fn two_workers_at_one_task_write_two_sets_of_files() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for attempt in 0..4 {
            scope.spawn({
                let place = &place;
                move || assert_finished(&place.map(0, attempt))
            });
        }
    });
    assert_finished(&place.map(1, 0));
    for attempt in 0..4 {
        assert_finished(&place.reduce(attempt, [attempt, 0]));
        assert_eq!(place.reduced(attempt), EXPECTED);
    }
}

/// LABS P5.
#[test]
fn half_a_set_of_files_is_never_read() {
    let place = Place::new();
    // A worker died between two files of attempt 0, and another one is at attempt 1.
    let half = place.paths.private(place.map_assignment(0, 0).attempt);
    fs::create_dir(&half).unwrap();
    fs::write(half.join("mr-0-0"), "half").unwrap();
    assert_finished(&place.map(0, 1));
    assert_finished(&place.map(1, 0));
    let Outcome::Lost { kind, number, attempt, .. } = place.reduce(0, [0, 0]) else {
        panic!("attempt 0 has left nothing that counts");
    };
    assert_eq!((kind, number, attempt), (Kind::Map, 0, 0));
    assert_finished(&place.reduce(1, [1, 0]));
    assert_eq!(place.reduced(1), EXPECTED);
    // The same attempt once more, by a worker that was given it again: what was half there goes.
    assert_finished(&place.map(0, 0));
    assert_finished(&place.map(0, 0));
    assert_finished(&place.reduce(2, [0, 0]));
    assert_eq!(place.reduced(2), EXPECTED);
}

#[test]
fn files_that_are_damaged_are_named_so_that_they_are_written_again() {
    let place = Place::new();
    assert_finished(&place.map(0, 3));
    assert_finished(&place.map(1, 0));
    let file = place.paths.map_file(0, 3, 0);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let Outcome::Lost { kind, number, attempt, error } = place.reduce(0, [3, 0]) else {
        panic!("a bit is wrong");
    };
    assert_eq!((kind, number, attempt), (Kind::Map, 0, 3));
    assert!(error.contains("mr-0-0"), "{error}");
}

#[test]
fn results_appear_at_once_and_once() {
    let place = Place::done_but_for_publishing();
    assert!(!place.paths.output.exists());
    assert_finished(&place.publish(0, 0));
    assert_eq!(place.results(), EXPECTED);
    // The report was lost, and another worker does it again; also when all else is gone.
    assert_finished(&place.publish(1, 0));
    assert_finished(&place.tidy());
    assert!(!place.paths.work.exists());
    assert_finished(&place.publish(2, 0));
    assert_finished(&place.tidy());
    assert_eq!(place.results(), EXPECTED);
}

#[test]
fn results_of_others_are_left_alone_and_an_empty_folder_is_filled() {
    let place = Place::done_but_for_publishing();
    fs::create_dir(&place.paths.output).unwrap();
    fs::write(place.paths.output.join("mr-out-0"), "theirs").unwrap();
    let said = error(place.publish(0, 0));
    assert!(said.contains("not empty"), "{said}");
    assert_eq!(place.results(), "theirs");
    fs::remove_file(place.paths.output.join("mr-out-0")).unwrap();
    assert_finished(&place.publish(1, 0));
    assert_eq!(place.results(), EXPECTED);
}

#[test]
fn a_part_of_the_result_that_is_gone_is_written_again() {
    let place = Place::done_but_for_publishing();
    fs::remove_file(place.paths.reduce_file(0, 0)).unwrap();
    let Outcome::Lost { kind, number, attempt, .. } = place.publish(0, 0) else {
        panic!("there is nothing to publish");
    };
    assert_eq!((kind, number, attempt), (Kind::Reduce, 0, 0));
    assert!(!place.paths.output.exists());
    assert_finished(&place.reduce(1, [0, 0]));
    assert_finished(&place.publish(1, 1));
    assert_eq!(place.results(), EXPECTED);
}

#[test]
fn who_comes_after_a_job_was_tidied_up_leaves_nothing_behind() {
    let place = Place::new();
    assert_finished(&place.tidy());
    let said = error(place.map(0, 0));
    assert!(said.contains("the job's folder") && said.contains("is not there"), "{said}");
    assert!(!place.paths.work.exists());
}

#[test]
fn what_a_worker_has_not_or_may_not_is_refused() {
    let mut place = Place::new();
    let mut assignment = place.map_assignment(0, 0);
    assignment.application = ApplicationName::Named("nothing".to_owned());
    assert!(error(place.execute(&assignment)).contains("no application `nothing`; it has crash"));
    let commands =
        ApplicationName::Commands { mapper: "cat".to_owned(), reducer: "cat".to_owned() };
    assignment.application = commands;
    assert!(error(place.execute(&assignment)).contains("runs no external commands"));
    place.config.allows_commands = true;
    assert_finished(&place.execute(&assignment));
    let mut outside = place.map_assignment(0, 1);
    outside.output = "../out".to_owned();
    assert!(error(place.execute(&outside)).contains("no path below"));
    std::os::unix::fs::symlink("/etc/hostname", place.folder.path().join("link")).unwrap();
    let Work::Map { input, .. } = &mut outside.work else { unreachable!("it is a map") };
    input.path = "link".to_owned();
    outside.output = "out".to_owned();
    assert!(error(place.execute(&outside)).contains("leads out of"));
}

#[test]
fn a_place_that_leads_out_of_the_root_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let place = Place::new();
    let assignment = place.map_assignment(0, 0);
    fs::remove_dir(&place.paths.work).unwrap();
    std::os::unix::fs::symlink(outside.path(), &place.paths.work).unwrap();
    assert!(error(place.execute(&assignment)).contains("is a link, or leads out of"));
    std::os::unix::fs::symlink(outside.path(), place.folder.path().join("elsewhere")).unwrap();
    let mut assignment = assignment;
    assignment.output = "elsewhere/out".to_owned();
    assert!(error(place.execute(&assignment)).contains("is a link, or leads out of"));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
