use super::*;
use crate::command::{Counters, Work};
use crate::job::tests::spec;
use raft_core::block::Entry;
use raft_core::block::EntryKind;
use raft_core::types::EntryId;

/// A coordinator, and whoever talks to it.
#[derive(Default)]
struct Play {
    machine: Machine,
    index: LogIndex,
    /// Replies that nobody has looked at.
    replies: BTreeMap<LogIndex, Reply>,
}

impl Play {
    /// Applies a command. Answers its place in the log, where its reply is, now or later.
    fn send(&mut self, command: &Command) -> LogIndex {
        self.index += 1;
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).as_ref(), Ok(command));
        let (id, kind) = (EntryId { index: self.index, term: 1 }, EntryKind::Command);
        let entries = [Entry { id, kind, data: &bytes }];
        let mut replies = Replies::default();
        self.machine.apply(Batch::of_entries(&entries), &mut replies);
        for (index, reply) in replies.drain() {
            let before = self.replies.insert(index, Reply::decode(&reply).unwrap());
            assert_eq!(before, None, "{index} is answered twice");
        }
        self.through_a_snapshot();
        self.index
    }

    /// Whatever the state is, a snapshot brings it back.
    fn through_a_snapshot(&self) {
        struct Sink(Vec<u8>);
        impl raft_core::snapshot::SnapshotSink for Sink {
            fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
        }
        let mut sink = Sink(Vec::new());
        self.machine.capture().write_to(&mut sink).unwrap();
        let mut restored = Machine::default();
        restored.restore(&mut &sink.0[..]).unwrap();
        assert_eq!(restored, self.machine);
    }

    fn call(&mut self, command: &Command) -> Reply {
        let index = self.send(command);
        self.replies.remove(&index).expect("it is answered at once")
    }

    fn hello(&mut self, token: u128) -> WorkerId {
        let name = format!("worker {token}");
        let hello = Command::Hello { version: PROTOCOL, name, token, stays: false };
        match self.call(&hello) {
            Reply::Welcome { worker } => worker,
            other => panic!("{other:?}"),
        }
    }

    fn submit(&mut self, spec: JobSpec) -> JobId {
        let token = u128::from(self.index);
        let spec = JobSpec { output: format!("out-{token}"), ..spec };
        match self.call(&Command::Submit { token, spec }) {
            Reply::Submitted { job } => job,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, worker: WorkerId, number: u64) -> Option<Reply> {
        let index = self.send(&Command::Ask { worker, number });
        self.replies.remove(&index)
    }

    fn task(&mut self, worker: WorkerId, number: u64) -> Assignment {
        match self.ask(worker, number) {
            Some(Reply::Task(assignment)) => assignment,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, worker: WorkerId, attempt: AttemptId) -> Reply {
        let counters = Counters { records_in: 7, peak_bytes: 9, ..Counters::default() };
        let outcome = Outcome::Finished { counters, elapsed_ms: 100 };
        self.call(&Command::Report { worker, attempt, outcome })
    }

    fn fail(&mut self, worker: WorkerId, attempt: AttemptId) -> Reply {
        let outcome = Outcome::Failed { error: "no".to_owned() };
        self.call(&Command::Report { worker, attempt, outcome })
    }

    /// Worker 1 is about to put the results of a job in their place.
    fn publishing() -> (Self, JobId, AttemptId) {
        let mut play = Play::default();
        let worker = play.hello(1);
        assert_eq!(worker, 1, "its number is that of the first entry");
        let job = play.submit(spec(&[1], None, 1));
        for number in 1..=2 {
            let attempt = play.task(worker, number).attempt;
            play.finish(worker, attempt);
        }
        let attempt = play.task(worker, 3).attempt;
        (play, job, attempt)
    }

    /// Does everything that is left, by one worker. Answers what it did.
    fn work_off(&mut self, worker: WorkerId, first_number: u64) -> Vec<TaskId> {
        let mut done = Vec::new();
        for number in first_number.. {
            let Some(Reply::Task(assignment)) = self.ask(worker, number) else { break };
            assert_eq!(self.finish(worker, assignment.attempt), Reply::Accepted);
            done.push(assignment.attempt.task);
        }
        done
    }

    fn view(&self, job: JobId) -> JobView {
        self.machine.view(job).expect("it is known")
    }
}

fn kinds(tasks: &[TaskId]) -> Vec<Kind> {
    tasks.iter().map(|task| task.kind).collect()
}

#[test]
fn a_job_is_done_in_order() {
    let mut play = Play::default();
    let worker = play.hello(7);
    let job = play.submit(spec(&[25, 5], Some(10), 2));
    let done = play.work_off(worker, 1);
    let (map, reduce) = ([Kind::Map; 4], [Kind::Reduce; 2]);
    assert_eq!(kinds(&done), [&map[..], &reduce, &[Kind::Publish, Kind::Tidy]].concat());
    let view = play.view(job);
    assert_eq!((view.stage, view.end), (None, Some(JobEnd::Done)));
    assert_eq!(play.ask(worker, 99), Some(Reply::Leave));
}

#[test]
fn reduces_wait_for_the_last_map_and_workers_for_the_last_reduce() {
    let mut play = Play::default();
    let (a, b) = (play.hello(1), play.hello(2));
    play.submit(spec(&[1, 1], None, 1));
    let (first, second) = (play.task(a, 1), play.task(b, 1));
    play.finish(a, first.attempt);
    let waits = play.send(&Command::Ask { worker: a, number: 2 });
    assert!(!play.replies.contains_key(&waits), "no reduce before the last map");
    play.finish(b, second.attempt);
    let Some(Reply::Task(reduce)) = play.replies.remove(&waits) else { panic!("a reduce") };
    assert_eq!(reduce.work, Work::Reduce { maps: vec![0, 0] });
    let waits = play.send(&Command::Ask { worker: b, number: 2 });
    play.finish(a, reduce.attempt);
    let Some(Reply::Task(publish)) = play.replies.remove(&waits) else { panic!("to publish") };
    assert_eq!(publish.work, Work::Publish { reduces: vec![0] });
    let waits = play.send(&Command::Ask { worker: a, number: 3 });
    assert!(!play.replies.contains_key(&waits), "nobody leaves before the results are there");
    play.finish(b, publish.attempt);
    let Some(Reply::Task(tidy)) = play.replies.remove(&waits) else { panic!("to tidy up") };
    assert_eq!(tidy.work, Work::Tidy);
    let waits = play.send(&Command::Ask { worker: b, number: 3 });
    play.finish(a, tidy.attempt);
    assert_eq!(play.replies.remove(&waits), Some(Reply::Leave));
}

#[test]
fn of_several_attempts_one_is_accepted() {
    let mut play = Play::default();
    let (a, b) = (play.hello(1), play.hello(2));
    let job = play.submit(spec(&[1], None, 1));
    let slow = play.task(a, 1).attempt;
    let waits = play.send(&Command::Ask { worker: b, number: 1 });
    play.call(&Command::Backup { attempt: slow });
    let Some(Reply::Task(backup)) = play.replies.remove(&waits) else { panic!("a backup") };
    assert_eq!(backup.attempt, AttemptId { number: 1, ..slow });
    assert_eq!(play.view(job).phases[0].backups, 1);
    assert_eq!(play.finish(b, backup.attempt), Reply::Accepted);
    assert_eq!(play.finish(b, backup.attempt), Reply::Accepted, "its report is repeated");
    let progress = Command::Beat { worker: a, attempt: Some((slow, 5)) };
    assert_eq!(play.call(&progress), Reply::Drop);
    assert_eq!(play.finish(a, slow), Reply::Late);
    let reduce = play.task(a, 2);
    assert_eq!(reduce.work, Work::Reduce { maps: vec![1] }, "it reads what was accepted");
    assert_eq!(play.view(job).phases[0].done, 1);
}

#[test]
fn who_is_gone_or_silent_loses_its_task_and_may_still_be_first() {
    for silent in [false, true] {
        let mut play = Play::default();
        let (a, b) = (play.hello(1), play.hello(2));
        let job = play.submit(spec(&[1], None, 1));
        let lost = play.task(a, 1).attempt;
        let heard = play.machine.heard().find(|(worker, _)| *worker == a).unwrap().1;
        let waits = play.send(&Command::Ask { worker: b, number: 1 });
        play.call(&match silent {
            true => Command::Silent { worker: a, heard },
            false => Command::Gone { worker: a },
        });
        let Some(Reply::Task(again)) = play.replies.remove(&waits) else { panic!("again") };
        assert_eq!(again.attempt, AttemptId { number: 1, ..lost });
        assert_eq!(play.view(job).phases[0].losses, 1);
        // It was only slow, and comes first after all: its files are as good.
        assert_eq!(play.finish(a, lost), Reply::Accepted);
        assert_eq!(play.finish(b, again.attempt), Reply::Late);
        assert_eq!(play.task(b, 2).work, Work::Reduce { maps: vec![0] });
    }
}

#[test]
fn who_has_been_heard_since_is_not_silent() {
    let mut play = Play::default();
    let (a, b) = (play.hello(1), play.hello(2));
    play.submit(spec(&[1], None, 1));
    let attempt = play.task(a, 1).attempt;
    let heard = play.machine.heard().find(|(worker, _)| *worker == a).unwrap().1;
    let beat = Command::Beat { worker: a, attempt: Some((attempt, 1)) };
    assert_eq!(play.call(&beat), Reply::GoOn);
    play.call(&Command::Silent { worker: a, heard });
    assert_eq!(play.ask(b, 1), None, "the task is still under way");
    assert_eq!(play.call(&beat), Reply::GoOn);
}

#[test]
fn an_ask_is_answered_alike_when_it_is_asked_again() {
    let mut play = Play::default();
    let worker = play.hello(1);
    let early = play.send(&Command::Ask { worker, number: 1 });
    let again = play.send(&Command::Ask { worker, number: 1 });
    assert_eq!(play.replies.remove(&early), Some(Reply::AskedAgain));
    let job = play.submit(spec(&[1, 1], None, 1));
    let Some(Reply::Task(first)) = play.replies.remove(&again) else { panic!("a task") };
    assert_eq!(play.task(worker, 1), first, "the reply was lost");
    assert_eq!(play.view(job).phases[0].attempts, 1);
    assert_eq!(play.ask(worker, 0), Some(Reply::AskedAgain));
    // It asks for another one without a word about the first: that one is free again.
    let second = play.task(worker, 2);
    assert_ne!(second.attempt, first.attempt);
    assert_eq!(play.view(job).phases[0].attempts, 2);
    assert_eq!(play.view(job).running.len(), 1);
}

#[test]
fn a_worker_that_was_forgotten_goes_on_with_what_nobody_else_was_given() {
    let mut play = Play::default();
    let a = play.hello(1);
    let job = play.submit(spec(&[1], None, 1));
    let attempt = play.task(a, 1).attempt;
    play.call(&Command::Gone { worker: a });
    let beat = |worker| Command::Beat { worker, attempt: Some((attempt, 9)) };
    assert_eq!(play.call(&beat(a)), Reply::Stranger);
    let a = play.hello(1);
    assert_eq!(play.call(&beat(a)), Reply::GoOn);
    let b = play.hello(2);
    assert_eq!(play.ask(b, 1), None, "it is under way again");
    assert_eq!(play.call(&beat(b)), Reply::Drop, "it is another's");
    assert_eq!(play.finish(a, attempt), Reply::Accepted);
    assert_eq!(play.view(job).phases[0].attempts, 1);
}

#[test]
fn a_task_that_fails_too_often_fails_its_job() {
    let mut play = Play::default();
    let worker = play.hello(1);
    let job = play.submit(spec(&[1, 1], None, 1));
    let mut number = 0;
    let end = loop {
        number += 1;
        let assignment = play.task(worker, number);
        if assignment.work == Work::Tidy {
            break play.view(job).end.unwrap();
        }
        assert_eq!(play.fail(worker, assignment.attempt), Reply::Accepted);
    };
    let JobEnd::Failed { error } = end else { panic!("{end:?}") };
    assert!(error.contains("failed 4 times, at last: no"), "{error}");
    assert!(error.contains("in/"), "the input is named: {error}");
    assert!(number <= 8, "both tasks are tried, none more than four times");
    assert_eq!(play.work_off(worker, number), [TaskId { job, kind: Kind::Tidy, number: 0 }]);
    assert_eq!(play.ask(worker, 99), Some(Reply::Leave));
}

#[test]
fn a_task_that_ends_its_workers_fails_its_job() {
    let mut play = Play::default();
    let job = play.submit(spec(&[1], None, 1));
    for token in 0..20 {
        assert_eq!(play.view(job).end, None);
        let worker = play.hello(token);
        play.task(worker, 1);
        play.call(&Command::Gone { worker });
    }
    let Some(JobEnd::Failed { error }) = play.view(job).end else { panic!("it has failed") };
    assert!(error.contains("20 workers were lost"), "{error}");
}

#[test]
fn a_worker_at_which_everything_fails_is_set_aside() {
    let mut play = Play::default();
    let (bad, good) = (play.hello(1), play.hello(2));
    let job = play.submit(spec(&[1; 6], None, 1));
    let mut tasks = Vec::new();
    for number in 1..=3 {
        let attempt = play.task(bad, number).attempt;
        tasks.push(attempt.task);
        play.fail(bad, attempt);
    }
    tasks.dedup();
    assert_eq!(tasks.len(), 3, "it is not given what has just failed there");
    let waits = play.send(&Command::Ask { worker: bad, number: 4 });
    assert!(!play.replies.contains_key(&waits), "there are tasks, and another worker");
    play.work_off(good, 1);
    assert_eq!(play.view(job).end, Some(JobEnd::Done));
    assert_eq!(play.replies.remove(&waits), Some(Reply::Leave));
}

#[test]
fn who_is_set_aside_works_when_nobody_else_is_left() {
    let mut play = Play::default();
    let (bad, good) = (play.hello(1), play.hello(2));
    play.submit(spec(&[1; 6], None, 1));
    for number in 1..=3 {
        let attempt = play.task(bad, number).attempt;
        play.fail(bad, attempt);
    }
    let waits = play.send(&Command::Ask { worker: bad, number: 4 });
    // The other one was dead all the time, and now it is known.
    play.call(&Command::Silent { worker: good, heard: 0 });
    assert!(!play.replies.is_empty(), "{waits} is answered");
    let Some(Reply::Task(again)) = play.replies.remove(&waits) else { panic!("a task") };
    assert_eq!(play.finish(bad, again.attempt), Reply::Accepted);
    let fresh = play.hello(3);
    assert!(matches!(play.ask(fresh, 1), Some(Reply::Task(_))));
    assert!(matches!(play.ask(bad, 5), Some(Reply::Task(_))), "one has succeeded");
}

#[test]
fn the_only_worker_is_not_set_aside() {
    let mut play = Play::default();
    let worker = play.hello(1);
    play.submit(spec(&[1; 6], None, 1));
    for number in 1..=5 {
        let attempt = play.task(worker, number).attempt;
        play.fail(worker, attempt);
    }
    assert!(matches!(play.ask(worker, 6), Some(Reply::Task(_))));
}

#[test]
fn output_that_is_lost_is_written_again_under_another_name() {
    let mut play = Play::default();
    let (a, b) = (play.hello(1), play.hello(2));
    let job = play.submit(spec(&[1, 1], None, 2));
    let (first, second) = (play.task(a, 1).attempt, play.task(b, 1).attempt);
    play.finish(a, first);
    play.finish(b, second);
    let reduce = play.task(a, 2);
    let error = "cut".to_owned();
    let lost = Outcome::Lost { kind: Kind::Map, number: 1, attempt: 0, error };
    let report = Command::Report { worker: a, attempt: reduce.attempt, outcome: lost };
    assert_eq!(play.call(&report), Reply::Accepted);
    assert_eq!(play.call(&report), Reply::Late);
    let JobView { stage, phases, .. } = play.view(job);
    assert_eq!((stage, phases[0].done, phases[0].counters.records_in), (Some(Kind::Map), 1, 7));
    let again = play.task(b, 2).attempt;
    assert_eq!(again.task.number, 1);
    assert_eq!(play.finish(b, second), Reply::Late, "that is what was lost");
    let waits = play.send(&Command::Ask { worker: a, number: 3 });
    assert!(!play.replies.contains_key(&waits), "no reduce without it");
    assert_eq!(play.finish(b, again), Reply::Accepted);
    let Some(Reply::Task(reduce)) = play.replies.remove(&waits) else { panic!("a reduce") };
    assert_eq!(reduce.work, Work::Reduce { maps: vec![0, again.number] });
    let Counters { records_in, peak_bytes, .. } = play.view(job).phases[0].counters;
    assert_eq!((records_in, peak_bytes), (14, 9), "what was lost does not count");
}

#[test]
fn an_attempt_that_gets_no_further_has_failed() {
    let mut play = Play::default();
    let (a, b) = (play.hello(1), play.hello(2));
    let job = play.submit(spec(&[1], None, 1));
    let attempt = play.task(a, 1).attempt;
    let beat = Command::Beat { worker: a, attempt: Some((attempt, 5)) };
    play.call(&beat);
    play.call(&Command::Stalled { attempt, progress: 4, seconds: 600 });
    assert_eq!(play.call(&beat), Reply::GoOn, "it has got on since");
    play.call(&Command::Stalled { attempt, progress: 5, seconds: 600 });
    assert_eq!(play.task(b, 1).attempt.number, 1);
    assert_eq!(play.call(&beat), Reply::Drop);
    assert_eq!(
        play.view(job).last_error.unwrap(),
        "map 0 (in/0 from byte 0): no progress for 600 s"
    );
}

#[test]
fn an_attempt_that_has_failed_does_not_come_back() {
    let mut play = Play::default();
    let worker = play.hello(1);
    let job = play.submit(spec(&[1], None, 1));
    let attempt = play.task(worker, 1).attempt;
    // Nobody else is there who could be given the task.
    play.call(&Command::Stalled { attempt, progress: 0, seconds: 600 });
    let beat = Command::Beat { worker, attempt: Some((attempt, 0)) };
    assert_eq!(play.call(&beat), Reply::Drop);
    let outcome = Outcome::Dropped;
    play.call(&Command::Report { worker, attempt, outcome });
    assert_eq!(play.task(worker, 2).attempt, AttemptId { number: 1, ..attempt });
    assert_eq!(play.view(job).phases[0].failures, 1);
}

#[test]
fn a_task_waits_for_somebody_else_than_at_whom_it_has_failed() {
    let mut play = Play::default();
    let (bad, good) = (play.hello(1), play.hello(2));
    let job = play.submit(spec(&[1, 1], None, 1));
    let (first, second) = (play.task(bad, 1).attempt, play.task(good, 1).attempt);
    play.fail(bad, first);
    let waits = play.send(&Command::Ask { worker: bad, number: 2 });
    assert!(!play.replies.contains_key(&waits), "the other one is to try, when it is free");
    play.finish(good, second);
    assert_eq!(play.task(good, 2).attempt, AttemptId { number: 1, ..first });
    assert_eq!(play.view(job).phases[0].failures, 1);
}

#[test]
fn a_worker_that_comes_back_was_not_lost() {
    let mut play = Play::default();
    let job = play.submit(spec(&[1], None, 1));
    let mut worker = play.hello(1);
    let attempt = play.task(worker, 1).attempt;
    for _ in 0..50 {
        play.call(&Command::Gone { worker });
        assert_eq!(play.view(job).phases[0].losses, 1);
        worker = play.hello(1);
        let beat = Command::Beat { worker, attempt: Some((attempt, 1)) };
        assert_eq!(play.call(&beat), Reply::GoOn);
        assert_eq!(play.view(job).phases[0].losses, 0);
    }
    assert_eq!(play.finish(worker, attempt), Reply::Accepted);
}

#[test]
fn a_job_whose_publishing_came_to_nothing_can_be_cancelled() {
    let (mut play, job, attempt) = Play::publishing();
    let worker = 1;
    let late = Reply::Refused(Refusal::TooLate { job });
    assert_eq!(play.call(&Command::Cancel { job }), late);
    play.fail(worker, attempt);
    assert_eq!(play.call(&Command::Cancel { job }), Reply::Ended(JobEnd::Cancelled));
}

#[test]
fn a_cancelled_job_is_tidied_up_and_others_go_on() {
    let mut play = Play::default();
    let worker = play.hello(1);
    let (first, second) = (play.submit(spec(&[1], None, 1)), play.submit(spec(&[1], None, 1)));
    let attempt = play.task(worker, 1).attempt;
    assert_eq!(attempt.task.job, first);
    let cancelled = Reply::Ended(JobEnd::Cancelled);
    assert_eq!(play.call(&Command::Cancel { job: first }), cancelled);
    assert_eq!(play.call(&Command::Cancel { job: first }), cancelled);
    let beat = Command::Beat { worker, attempt: Some((attempt, 5)) };
    assert_eq!(play.call(&beat), Reply::Drop);
    assert_eq!(play.finish(worker, attempt), Reply::Late);
    let done = play.work_off(worker, 2);
    assert_eq!(done[0], TaskId { job: first, kind: Kind::Tidy, number: 0 });
    assert_eq!(play.call(&Command::Cancel { job: first }), cancelled);
    assert_eq!(play.call(&Command::Cancel { job: second }), Reply::Ended(JobEnd::Done));
    let unknown = Reply::Refused(Refusal::NoSuchJob { job: 12345 });
    assert_eq!(play.call(&Command::Cancel { job: 12345 }), unknown);
}

#[test]
fn what_is_being_published_is_not_cancelled() {
    let (mut play, job, attempt) = Play::publishing();
    let worker = 1;
    assert_eq!(attempt.task.kind, Kind::Publish);
    let late = Reply::Refused(Refusal::TooLate { job });
    assert_eq!(play.call(&Command::Cancel { job }), late);
    // Also while nobody is at it: whoever stands still, or is gone, may still come to it.
    play.call(&Command::Stalled { attempt, progress: 0, seconds: 600 });
    assert_eq!(play.call(&Command::Cancel { job }), late);
    let again = play.task(worker, 4).attempt;
    play.call(&Command::Gone { worker });
    for attempt in [attempt, again] {
        assert_eq!(play.call(&Command::Cancel { job }), late);
        play.call(&Command::Report { worker, attempt, outcome: Outcome::Dropped });
    }
    assert_eq!(play.call(&Command::Cancel { job }), Reply::Ended(JobEnd::Cancelled));
}

#[test]
fn a_job_is_submitted_once() {
    let mut play = Play::default();
    let submit = |token: u128| {
        let spec = JobSpec { output: format!("out-{token}"), ..spec(&[1], None, 1) };
        Command::Submit { token, spec }
    };
    let first = play.call(&submit(5));
    assert_eq!(play.call(&submit(5)), first);
    assert_ne!(play.call(&submit(6)), first);
    let Command::Submit { spec: same, .. } = submit(5) else { unreachable!("it is one") };
    let Reply::Submitted { job } = first else { panic!("{first:?}") };
    let taken = Reply::Refused(Refusal::OutputTaken { job });
    assert_eq!(play.call(&Command::Submit { token: 8, spec: same }), taken);
    let bad = Command::Submit { token: 7, spec: spec(&[], None, 1) };
    assert_eq!(play.call(&bad), Reply::Refused(Refusal::NoInput));
    for token in 7.. {
        let reply = play.call(&submit(token));
        if let Reply::Refused(refusal) = reply {
            assert_eq!(refusal, Refusal::TooManyJobs);
            assert_eq!(token - 5, OPEN_JOBS_MAX as u128);
            break;
        }
    }
}

#[test]
fn strangers_and_other_versions_are_told_so() {
    let mut play = Play::default();
    let hello = |version, name: &str| Command::Hello {
        version,
        name: name.to_owned(),
        token: 1,
        stays: false,
    };
    let other = Refusal::Version { worker: 9, coordinator: PROTOCOL };
    assert_eq!(play.call(&hello(9, "a")), Reply::Refused(other));
    let long = "a".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(play.call(&hello(PROTOCOL, &long)), Reply::Refused(Refusal::WorkerName));
    assert_eq!(play.ask(77, 1), Some(Reply::Stranger));
    assert_eq!(play.call(&Command::Beat { worker: 77, attempt: None }), Reply::Stranger);
    assert_eq!(play.call(&Command::Gone { worker: 77 }), Reply::Noted);
    // Attempts that were never handed out, at tasks that are not there.
    let job = play.submit(spec(&[1], None, 1));
    let worker = play.hello(1);
    for (kind, task, number) in [(Kind::Map, 0, 0), (Kind::Map, 9, 0), (Kind::Reduce, 0, 0)] {
        let attempt = attempt_of(job, kind, task, number);
        assert_eq!(play.finish(worker, attempt), Reply::Late);
        assert_eq!(play.fail(worker, attempt), Reply::Late);
        let beat = Command::Beat { worker, attempt: Some((attempt, 1)) };
        assert_eq!(play.call(&beat), Reply::Drop);
        play.call(&Command::Backup { attempt });
        play.call(&Command::Stalled { attempt, progress: 0, seconds: 1 });
    }
    assert_eq!(play.view(job).phases[0].attempts, 0);
    assert_eq!(play.work_off(worker, 1).len(), 4);
}

#[test]
fn bytes_that_are_no_command_change_nothing() {
    let mut play = Play::default();
    play.submit(spec(&[1], None, 1));
    let before = play.machine.clone();
    let good = Command::Submit { token: 5, spec: spec(&[1], None, 1) }.encode();
    for length in 0..good.len() {
        let (id, kind) = (EntryId { index: 9, term: 1 }, EntryKind::Command);
        let entries = [Entry { id, kind, data: &good[..length] }];
        let mut replies = Replies::default();
        play.machine.apply(Batch::of_entries(&entries), &mut replies);
        let replies: Vec<_> = replies.drain().map(|(_, reply)| Reply::decode(&reply)).collect();
        assert_eq!(replies, [Ok(Reply::Refused(Refusal::Malformed))]);
    }
    assert_eq!(play.machine, before);
    assert_eq!(play.machine.answer(b"?"), Answer::Refused(Refusal::Malformed));
}
