//! Lab 4A, and 4C's test of the same: a replicated counter. What the labs call Submit is a command that is sent
//! once, without a session, to a server that the test names.

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::NodeId;
use raft_host::outcome::{ProposeError, Unknown};
use raft_host::session::Answer;
use simulator::world::{Asked, End, Ended, Stage, StageClient, Trial};

use crate::lab::{Lab, MILLISECOND, SECOND, seed};

/// Counts `inc`; `null` changes nothing, and `dec` must never be executed.
#[derive(Default)]
struct Counter {
    count: u64,
    decremented: u64,
}

impl StateMachine for Counter {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            match entry.data {
                b"inc" => self.count += 1,
                b"dec" => self.decremented += 1,
                _ => {}
            }
            replies.push(entry.id.index, self.count.to_string());
        }
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        self.count.to_string().into()
    }

    fn capture(&self) -> Box<dyn Capture> {
        Box::new([self.count.to_le_bytes(), self.decremented.to_le_bytes()].concat())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        let bytes = source.read_all(16)?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let wrong = || SnapshotError::new("16 bytes");
        self.count = number(0).ok_or_else(wrong)?;
        self.decremented = number(8).ok_or_else(wrong)?;
        Ok(())
    }
}

fn trial() -> Trial<Counter> {
    Trial::scripted(Counter::default).checking(|counter| match counter.decremented {
        0 => Ok(()),
        times => Err(format!("{times} commands of a minority's leader were executed")),
    })
}

type Counters<'a> = Lab<Stage<'a, Counter>>;

fn three(trial: &Trial<Counter>) -> Counters<'_> {
    Lab::new(trial, 3, seed(), None)
}

/// Submits a command at a server, which has all the time it wants.
fn submit(lab: &mut Counters<'_>, server: NodeId, command: &str) -> StageClient {
    let client = lab.stage.client_without_session();
    lab.stage.limit(client, &[server]);
    lab.stage.patience(client, 100 * SECOND);
    lab.stage.ask(client, Asked::Command(command.into()), 0);
    client
}

/// So many at once.
fn submit_many(lab: &mut Counters<'_>, server: NodeId, command: &str, count: usize) {
    (0..count).for_each(|_| _ = submit(lab, server, command));
}

/// Everything that ends within this time.
fn ends(lab: &mut Counters<'_>, within: u64) -> Vec<End> {
    let end = lab.stage.now() + within;
    let mut ends = Vec::new();
    while let Some(ended) = lab.stage.next_end(end - lab.stage.now()) {
        ends.push(ended);
    }
    lab.check_rules();
    ends
}

/// The counter that a command was answered; `None` if it was not done.
fn count(end: &End) -> Option<u64> {
    let Ended::Attempted(Ok(reply)) = &end.end else { return None };
    let Ok(Answer::Applied(count)) = Answer::read(reply) else { panic!("{end:?}") };
    let count = std::str::from_utf8(&count).ok().and_then(|count| count.parse().ok());
    Some(count.expect("the machine writes numbers"))
}

/// Increments at the leader, again where there is another one by then. Answers the counter.
fn increment(lab: &mut Counters<'_>) -> u64 {
    let give_up = lab.stage.now() + 10 * SECOND;
    while lab.stage.now() < give_up {
        let leader = lab.leader();
        submit(lab, leader, "inc");
        let end = lab.stage.next_end(10 * SECOND);
        lab.check_rules();
        if let Some(count) = count(&end.expect("it ends")) {
            return count;
        }
        lab.run_for(50 * MILLISECOND);
    }
    panic!("nothing is counted within 10 s");
}

/// Waits until so many servers have this counter.
fn await_count(lab: &mut Counters<'_>, expected: u64, servers: usize) {
    let nodes: Vec<_> = lab.nodes().collect();
    let has = |node: &NodeId, lab: &Stage<'_, Counter>| {
        lab.machine(*node).is_some_and(|counter| counter.count == expected)
    };
    let have =
        |lab: &Stage<'_, Counter>| nodes.iter().filter(|node| has(node, lab)).count() >= servers;
    assert!(lab.stage.run_until(10 * SECOND, have), "{}", lab.stage.summary());
    lab.check_rules();
}

/// TestBasic4A.
#[test]
fn every_server_counts_every_increment() {
    let trial = trial();
    let mut lab = three(&trial);
    for number in 1..=10 {
        assert_eq!(increment(&mut lab), number);
        await_count(&mut lab, number, 3);
    }
    lab.finish();
}

/// TestConcurrent4A.
#[test]
fn increments_at_once_are_all_counted() {
    let trial = trial();
    let mut lab = three(&trial);
    let leader = lab.leader();
    submit_many(&mut lab, leader, "inc", 50);
    let mut counts: Vec<_> = ends(&mut lab, SECOND).iter().filter_map(count).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>(), "each has a reply of its own");
    await_count(&mut lab, 50, 3);
    lab.finish();
}

/// TestLeaderFailure4A.
#[test]
fn a_leader_that_was_cut_off_catches_up() {
    let trial = trial();
    let mut lab = three(&trial);
    assert_eq!(increment(&mut lab), 1);
    await_count(&mut lab, 1, 3);
    let old = lab.leader();
    lab.partition(&[old]);
    lab.run_for(SECOND);
    assert_eq!(increment(&mut lab), 2);
    await_count(&mut lab, 2, 2);
    assert_eq!(lab.stage.machine(old).unwrap().count, 1);
    lab.act("heal");
    await_count(&mut lab, 2, 3);
    lab.finish();
}

/// TestLeaderPartition4A: what is submitted to a minority's leader is not done, not released within a second,
/// and released within a second of the healing.
#[test]
fn a_leader_without_majority_lets_nothing_go_too_early_or_too_late() {
    let trial = trial();
    let mut lab = three(&trial);
    assert_eq!(increment(&mut lab), 1);
    let old = lab.leader();
    lab.partition(&[old]);
    submit_many(&mut lab, old, "dec", 100);
    let mut released = ends(&mut lab, SECOND);
    assert_eq!(released.len(), 0, "a release timer is too short");
    assert_eq!(increment(&mut lab), 2);
    lab.act("heal");
    released.extend(ends(&mut lab, SECOND));
    assert_eq!(released.len(), 100, "some are still waiting");
    for end in &released {
        let superseded = Ended::Attempted(Err(ProposeError::Superseded));
        assert_eq!(end.end, superseded, "the new leader's entries are in their places");
    }
    await_count(&mut lab, 2, 3);
    lab.finish();
}

/// TestRestartReplay4A.
#[test]
fn a_restart_replays_what_was_counted() {
    let trial = trial();
    let mut lab = three(&trial);
    (1..=100).for_each(|number| assert_eq!(increment(&mut lab), number));
    lab.crash_all();
    lab.run_for(SECOND);
    lab.start_all();
    assert_eq!(increment(&mut lab), 101);
    await_count(&mut lab, 101, 3);
    lab.finish();
}

/// TestRestartSubmit4A: requests from before a shutdown are not taken for new ones.
#[test]
fn requests_across_a_shutdown_are_not_confused() {
    let trial = trial();
    let mut lab = three(&trial);
    (1..=100).for_each(|number| assert_eq!(increment(&mut lab), number));
    lab.crash_all();
    lab.run_for(SECOND);
    lab.start_all();
    assert_eq!(increment(&mut lab), 101);
    await_count(&mut lab, 101, 3);

    let leader = lab.leader();
    submit_many(&mut lab, leader, "null", 100);
    lab.run_for(20 * MILLISECOND);
    lab.stop_all();
    assert_eq!(ends(&mut lab, SECOND).len(), 100);
    lab.start_all();
    assert_eq!(increment(&mut lab), 102);
    await_count(&mut lab, 102, 3);
    lab.finish();
}

/// TestShutdown4A. The labs allow 11 s; here all that was taken is answered on the spot.
#[test]
fn a_shutdown_ends_every_request() {
    for after in [0, 1, 20 * MILLISECOND] {
        let trial = trial();
        let mut lab = three(&trial);
        assert_eq!(increment(&mut lab), 1);
        let leader = lab.leader();
        let others: Vec<_> = lab.nodes().filter(|node| *node != leader).collect();
        // Nothing can be committed, so that there is something to end.
        lab.partition(&[leader]);
        submit_many(&mut lab, leader, "null", 100);
        lab.run_for(MILLISECOND + after);
        lab.stop_all();
        let ended = ends(&mut lab, 11 * SECOND);
        assert_eq!(ended.len(), 100);
        for end in &ended {
            let shutdown = Ended::Attempted(Err(ProposeError::Unknown(Unknown::Shutdown)));
            assert_eq!(end.end, shutdown);
            assert!(end.at - end.called <= after + 3 * MILLISECOND, "{end:?}");
        }
        assert_eq!(others.len(), 2);
        lab.start_all();
        assert_eq!(increment(&mut lab), 2);
        lab.finish();
    }
}

/// TestSnapshot4C.
#[test]
fn snapshots_keep_the_state_small_and_survive_a_restart() {
    let trial = trial();
    let mut lab = Lab::new(&trial, 3, seed(), Some(1000));
    for number in 1..=100 {
        assert_eq!(increment(&mut lab), number);
        let bytes = lab.state_bytes();
        assert!(bytes <= 2 * 1000, "{bytes} B of state after {number}");
    }
    await_count(&mut lab, 100, 3);
    assert!(lab.snapshot_bytes() > 0, "no snapshot was taken");
    lab.crash_all();
    lab.run_for(SECOND);
    lab.start_all();
    assert_eq!(increment(&mut lab), 101);
    await_count(&mut lab, 101, 3);
    lab.finish();
}
