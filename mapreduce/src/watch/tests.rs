use raft_core::block::{Entry, EntryKind};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::EntryId;

use super::*;
use crate::command::{Counters, Outcome, PROTOCOL, Reply};
use crate::job::tests::spec;

/// A second, in ticks of 10 ms.
const SECOND: u64 = 100;

/// A coordinator whose leader looks.
struct Play {
    machine: Machine,
    index: u64,
    watch: Watch,
}

impl Play {
    fn new() -> Self {
        let watch = Watch::new(Timing::default(), Duration::from_millis(10));
        Play { machine: Machine::default(), index: 0, watch }
    }

    fn apply(&mut self, command: &Command) -> Option<Reply> {
        self.index += 1;
        let (id, data) = (EntryId { index: self.index, term: 1 }, command.encode());
        let entries = [Entry { id, kind: EntryKind::Command, data: &data }];
        let mut replies = Replies::default();
        self.machine.apply(Batch::of_entries(&entries), &mut replies);
        let own = replies.drain().find(|(index, _)| *index == self.index);
        own.map(|(_, reply)| Reply::decode(&reply).unwrap())
    }

    fn worker(&mut self, token: u128) -> WorkerId {
        let name = token.to_string();
        let hello = Command::Hello { version: PROTOCOL, name, token, stays: true };
        match self.apply(&hello) {
            Some(Reply::Welcome { worker }) => worker,
            other => panic!("{other:?}"),
        }
    }

    fn task(&mut self, worker: WorkerId, number: u64) -> AttemptId {
        match self.apply(&Command::Ask { worker, number }) {
            Some(Reply::Task(assignment)) => assignment.attempt,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, worker: WorkerId, attempt: AttemptId, elapsed_ms: u64) {
        let outcome = Outcome::Finished { counters: Counters::default(), elapsed_ms };
        self.apply(&Command::Report { worker, attempt, outcome });
    }

    /// What the leader proposes at this tick.
    fn looks(&mut self, tick: u64) -> Vec<Command> {
        let proposals = self.watch.on_leader_tick(&self.machine, tick);
        proposals.iter().map(|bytes| Command::decode(bytes).unwrap()).collect()
    }
}

#[test]
fn who_is_not_heard_of_is_silent_and_who_is_heard_again_is_not() {
    let mut play = Play::new();
    let (quiet, busy) = (play.worker(1), play.worker(2));
    assert_eq!(play.looks(7), []);
    play.apply(&Command::Beat { worker: busy, attempt: None });
    assert_eq!(play.looks(7 + 5 * SECOND), []);
    assert_eq!(play.looks(6 + 10 * SECOND), []);
    let silent = [Command::Silent { worker: quiet, heard: 0 }];
    assert_eq!(play.looks(7 + 10 * SECOND), silent);
    assert_eq!(play.looks(8 + 10 * SECOND), silent, "the proposal may have been lost");
    play.apply(&Command::Beat { worker: quiet, attempt: None });
    assert_eq!(play.looks(9 + 10 * SECOND), []);
    play.apply(&silent[0]);
    assert_eq!(play.machine.heard().count(), 2, "it was heard since");
}

#[test]
fn a_new_leader_measures_anew() {
    let mut play = Play::new();
    let worker = play.worker(1);
    play.looks(0);
    play.watch.on_leadership(&play.machine, Some(2));
    assert_eq!(play.looks(10 * SECOND), []);
    assert_eq!(play.looks(20 * SECOND), [Command::Silent { worker, heard: 0 }]);
}

#[test]
fn what_gets_no_further_is_stalled_and_what_does_is_not() {
    let mut play = Play::new();
    let worker = play.worker(1);
    play.apply(&Command::Submit { token: 1, spec: spec(&[1], None, 1) });
    let attempt = play.task(worker, 1);
    let stalls = |commands: Vec<Command>| -> Vec<Command> {
        commands.into_iter().filter(|it| matches!(it, Command::Stalled { .. })).collect()
    };
    play.looks(0);
    play.apply(&Command::Beat { worker, attempt: Some((attempt, 5)) });
    assert_eq!(stalls(play.looks(599 * SECOND)), []);
    assert_eq!(stalls(play.looks(1198 * SECOND)), []);
    // It is heard all the time, and gets no further.
    play.apply(&Command::Beat { worker, attempt: Some((attempt, 5)) });
    let stalled = Command::Stalled { attempt, progress: 5, seconds: 600 };
    assert_eq!(stalls(play.looks(1199 * SECOND)), [stalled]);
    play.apply(&Command::Beat { worker, attempt: Some((attempt, 6)) });
    assert_eq!(stalls(play.looks(1200 * SECOND)), []);
}

#[test]
fn the_last_stragglers_get_a_backup_when_somebody_is_free() {
    let mut play = Play::new();
    let (a, b) = (play.worker(1), play.worker(2));
    play.apply(&Command::Submit { token: 1, spec: spec(&[1, 1, 1], None, 1) });
    let slow = play.task(a, 1);
    let backups = |commands: Vec<Command>| -> Vec<Command> {
        commands.into_iter().filter(|it| matches!(it, Command::Backup { .. })).collect()
    };
    play.looks(0);
    let second = play.task(b, 1);
    play.finish(b, second, 5000);
    assert_eq!(backups(play.looks(14 * SECOND)), [], "there is another task to be handed out");
    let third = play.task(b, 2);
    play.finish(b, third, 5000);
    assert_eq!(backups(play.looks(14 * SECOND)), [], "nobody is free");
    play.apply(&Command::Ask { worker: b, number: 3 });
    // Three times the median of 5 s is more than 10 s.
    assert_eq!(backups(play.looks(14 * SECOND)), []);
    let backup = Command::Backup { attempt: slow };
    assert_eq!(backups(play.looks(15 * SECOND)), std::slice::from_ref(&backup));
    play.apply(&backup);
    assert_eq!(backups(play.looks(16 * SECOND)), [], "there is one now");
}
