//! Members of a controller, and clerks who ask it.

use std::collections::BTreeMap;

use shard::config::Num;
use shard::controller::{Command, Machine, Query, QueryReply, Refusal, Reply};
use shard::{Config, Gid, KeyHash, Partition, ShardId};
use simulator::world::{Asked, Ended, Stage, StageClient, Trial};

use crate::balance::{check_step, spread};
use crate::lab::{Lab, SECOND};

/// Whatever is asked has an answer within this time: the labs' limit for an agreement.
pub(crate) const ANSWER_MAX: u64 = 10 * SECOND;

/// The shards of the labs.
pub(crate) const SHARDS: u32 = 10;

/// MIT's; the hash is the groups' affair.
pub(crate) fn machine() -> Machine {
    Machine::new(Partition { shards: SHARDS, hash: KeyHash::FirstByte })
}

/// Members that keep the rules of configurations at all times.
pub(crate) fn trial() -> Trial<Machine> {
    Trial::scripted(machine).checking(check_machine)
}

/// All configurations are there, without a hole, and each follows from the one before by the rules.
pub(crate) fn check_machine(machine: &Machine) -> Result<(), String> {
    let config = |num| machine.config(num).ok_or_else(|| format!("configuration {num} is missing"));
    let latest = machine.latest();
    let mut before = config(0)?;
    if before != Config::new(machine.partition()) {
        return Err(format!("number 0 is {before:?}"));
    }
    for num in 1..=latest.num {
        let after = config(num)?;
        check_step(&before, &after)?;
        before = after;
    }
    if &before == latest { Ok(()) } else { Err(format!("{before:?} is not {latest:?}")) }
}

/// Groups with the addresses of their servers.
pub(crate) fn groups(named: &[(Gid, &[&str])]) -> BTreeMap<Gid, Vec<String>> {
    let servers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    named.iter().map(|(gid, names)| (*gid, servers(names))).collect()
}

/// Groups of three servers that are called after the group.
pub(crate) fn threes(gids: &[Gid]) -> BTreeMap<Gid, Vec<String>> {
    let servers = |gid: Gid| ["a", "b", "c"].map(|name| format!("{gid}{name}")).to_vec();
    gids.iter().map(|gid| (*gid, servers(*gid))).collect()
}

pub(crate) struct Controllers<'a> {
    pub(crate) lab: Lab<Stage<'a, Machine>>,
}

impl<'a> Controllers<'a> {
    pub(crate) fn new(lab: Lab<Stage<'a, Machine>>) -> Self {
        Controllers { lab }
    }

    pub(crate) fn clerk(&mut self) -> StageClient {
        self.lab.stage.client()
    }

    fn ask(&mut self, clerk: StageClient, asked: Asked) -> Vec<u8> {
        self.lab.stage.ask(clerk, asked, 0);
        let (from, bytes) = self.next_end();
        assert_eq!(from, clerk, "somebody else is answered");
        bytes
    }

    fn next_end(&mut self) -> (StageClient, Vec<u8>) {
        let end = self.lab.stage.next_end(ANSWER_MAX);
        self.lab.check_rules();
        let end = end.expect("every request has an end");
        assert!(end.at - end.called <= ANSWER_MAX, "{end:?}");
        match end.end {
            Ended::Done(bytes) => (end.client, bytes),
            other => panic!("in a session every end is known: {other:?}"),
        }
    }

    pub(crate) fn tell(&mut self, clerk: StageClient, command: &Command) -> Reply {
        let bytes = self.ask(clerk, Asked::Command(command.encode()));
        Reply::decode(&bytes).expect("the machine wrote it")
    }

    fn change(&mut self, clerk: StageClient, command: &Command) -> Num {
        match self.tell(clerk, command) {
            Reply::Changed { num } => num,
            Reply::Refused(refusal) => panic!("{command:?}: {refusal}"),
        }
    }

    pub(crate) fn join(&mut self, clerk: StageClient, groups: BTreeMap<Gid, Vec<String>>) -> Num {
        self.change(clerk, &Command::Join { groups })
    }

    pub(crate) fn leave(&mut self, clerk: StageClient, gids: &[Gid]) -> Num {
        self.change(clerk, &Command::Leave { gids: gids.to_vec() })
    }

    pub(crate) fn move_shard(&mut self, clerk: StageClient, shard: ShardId, gid: Gid) -> Num {
        self.change(clerk, &Command::Move { shard, gid })
    }

    pub(crate) fn query(&mut self, clerk: StageClient, num: Option<Num>) -> Config {
        let bytes = self.ask(clerk, Asked::Query(Query { num }.encode()));
        match QueryReply::decode(&bytes).expect("the machine wrote it") {
            QueryReply::Config(config) => config,
            refused @ QueryReply::Refused(_) => panic!("{refused:?}"),
        }
    }

    pub(crate) fn latest(&mut self, clerk: StageClient) -> Config {
        self.query(clerk, None)
    }

    /// The labs' check: these groups are there, every shard has one of them, and they are in balance.
    pub(crate) fn check(&mut self, clerk: StageClient, gids: &[Gid]) -> Config {
        let latest = self.latest(clerk);
        let mut expected = gids.to_vec();
        expected.sort_unstable();
        assert_eq!(latest.groups.keys().copied().collect::<Vec<_>>(), expected);
        let serves = |gid: &Gid| gids.contains(gid) || gids.is_empty() && *gid == 0;
        assert!(latest.shards.iter().all(serves), "{latest:?}");
        assert!(spread(&latest) <= 1, "{latest:?}");
        latest
    }

    /// Each list of commands is told by a clerk of its own, one command after the other; all clerks at once.
    /// Answers what each was replied, and lets something be done after every reply.
    pub(crate) fn tell_at_once(
        &mut self,
        lists: &[Vec<Command>],
        mut between: impl FnMut(&mut Self),
    ) -> Vec<Vec<Result<Num, Refusal>>> {
        let clerks: Vec<_> = lists.iter().map(|_| self.clerk()).collect();
        let mut replies: Vec<Vec<_>> = vec![Vec::new(); lists.len()];
        let first = |list: &[Command]| Asked::Command(list[0].encode());
        for (clerk, list) in clerks.iter().zip(lists) {
            self.lab.stage.ask(*clerk, first(list), 0);
        }
        for _ in 0..lists.iter().map(Vec::len).sum() {
            let (from, bytes) = self.next_end();
            let at = clerks.iter().position(|clerk| *clerk == from).expect("a clerk");
            replies[at].push(match Reply::decode(&bytes).expect("the machine wrote it") {
                Reply::Changed { num } => Ok(num),
                Reply::Refused(refusal) => Err(refusal),
            });
            if let list @ [_, ..] = &lists[at][replies[at].len()..] {
                self.lab.stage.ask(from, first(list), 0);
            }
            between(self);
        }
        replies
    }
}
