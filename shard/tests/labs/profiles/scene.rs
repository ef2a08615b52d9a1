//! The stage of both profiles: three groups of either kind with their agents, the controller or the store of
//! configurations, those who change the configuration all the while, and everything that goes wrong.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use raft_core::types::NodeId;
use shard::config::Num;
use shard::configs::NEXT;
use shard::group::SlotState;
use shard::mover::Changed;
use shard::net::Net;
use shard::settler::Patience;
use shard::{Config, Gid, KeyHash, Kind, Mover, Partition, ShardId};
use simulator::dice::Dice;

use super::tally::Tally;
use crate::groups::{Groups, HEAD_GID, Operator, name};
use crate::lab::{MILLISECOND, SECOND};
use crate::noted::group_of;
use crate::town::{Link, Loss, TaskId, Town};

pub(super) const PARTITION: Partition = Partition { shards: 6, hash: KeyHash::FirstDigit };
pub(super) const GIDS: [Gid; 3] = [1, 2, 3];

/// Servers of a group.
const NODES: u64 = 3;

/// How long settlers wait for clients that prepared something: so short that they often meet some that live.
const PREPARED: Duration = Duration::from_millis(50);

/// How long a transaction of a client that is gone is in the way of others.
const IDLE: Duration = Duration::from_millis(700);

/// How long the faults go on, if that was enough to show something.
const STORM: u64 = 2_500 * MILLISECOND;

/// Nobody may wait for longer once the faults have stopped.
const CALM_MAX: u64 = 120 * SECOND;

/// Whoever changes the configuration.
struct Changer {
    link: Link,
    task: TaskId,
    is_cut: bool,
}

/// Whoever uses the store.
pub(super) struct Client {
    /// By which its transactions are known.
    pub(super) name: u128,
    pub(super) link: Link,
    pub(super) task: TaskId,
}

/// What controllers have in common.
#[derive(Clone)]
struct Common {
    groups: Groups,
    is_over: Rc<Cell<bool>>,
    /// What was put in force, as those say who pushed it.
    done: Rc<RefCell<BTreeMap<Num, Config>>>,
    /// The longest pause between two changes of one of them.
    pause: u64,
}

pub(super) struct Scene {
    pub(super) groups: Groups,
    pub(super) town: Town,
    pub(super) dice: Dice,
    pub(super) tally: Tally,
    pub(super) clients: Vec<Client>,
    kind: Kind,
    common: Common,
    changers: Vec<Changer>,
    /// Changes that are made once.
    errands: Vec<TaskId>,
    down: BTreeSet<Gid>,
    down_one: BTreeSet<(Gid, NodeId)>,
    end: u64,
}

impl Scene {
    /// All groups run, and these have the shards.
    pub(super) fn new(seed: u64, stream: &str, first: &[Gid], pause: u64) -> Self {
        let mut dice = Dice::new(seed, stream);
        let kind = if seed.is_multiple_of(2) { Kind::Pulled } else { Kind::Pushed };
        let limit = *dice.pick(&[None, Some(1), Some(300), Some(3000)]);
        let mut patience = Patience::default();
        (patience.prepared, patience.idle) = (PREPARED, IDLE);
        let groups = Groups::new(kind, PARTITION, seed, limit).with_patience(patience);
        GIDS.iter().for_each(|gid| _ = groups.start(*gid));
        let town = groups.town.clone();
        let common =
            Common { groups: groups.clone(), is_over: Rc::default(), done: Rc::default(), pause };
        let mut scene = Scene {
            groups,
            town,
            dice,
            tally: Tally { runs: 1, ..Tally::default() },
            clients: Vec::new(),
            kind,
            common,
            changers: Vec::new(),
            errands: Vec::new(),
            down: BTreeSet::new(),
            down_one: BTreeSet::new(),
            end: 0,
        };
        scene.tally.pushed = u64::from(kind == Kind::Pushed);
        scene.begin(first.to_vec());
        scene
    }

    fn begin(&self, first: Vec<Gid>) {
        let groups = self.groups.clone();
        self.town.run(async move {
            if groups.kind() == Kind::Pulled {
                return groups.operator().join(&first).await;
            }
            let config = groups.joined(&Config::new(&PARTITION), &first);
            assert_eq!(groups.mover().0.init(&config).await, Ok(Changed::Done));
        });
    }

    /// Faults begin, and changes.
    pub(super) fn begin_storm(&mut self) {
        (0..2).for_each(|_| self.hire());
        let is_unreliable = self.dice.below(3) == 0;
        self.groups.set_unreliable(is_unreliable);
        self.end = self.town.now() + STORM;
    }

    /// Whether faults go on: for a while, and longer where nothing was shown yet.
    pub(super) fn goes_on(&mut self, acknowledged: u64) -> bool {
        let (is_vacuous, now) = (self.is_vacuous(acknowledged), self.town.now());
        now < self.end || now < self.end + 5 * STORM && is_vacuous
    }

    pub(super) fn is_vacuous(&mut self, acknowledged: u64) -> bool {
        self.tally.acknowledged = acknowledged;
        self.read_ledger();
        self.tally.vacuous().is_some()
    }

    fn read_ledger(&mut self) {
        let ledger = self.groups.ledger.borrow();
        let tally = &mut self.tally;
        [tally.optimistic, tally.locking] = ledger.committed;
        (tally.aborted, tally.prepared) = (ledger.aborted, ledger.prepared);
        (tally.moves, tally.moves_prepared) = (ledger.moves, ledger.moves_prepared);
    }

    /// Whether clients begin something new.
    pub(super) fn is_over(&self) -> Rc<Cell<bool>> {
        self.common.is_over.clone()
    }

    // Those who change the configuration.

    fn hire(&mut self) {
        let (dice, common) = (Dice::new(self.dice.number(), "changer"), self.common.clone());
        let (link, task) = match self.kind {
            Kind::Pulled => {
                let operator = self.groups.operator();
                (operator.link.clone(), self.town.spawn(operate(operator, dice, common)))
            }
            Kind::Pushed => {
                let (mover, link) = self.groups.mover();
                (link.clone(), self.town.spawn(push(mover, link, dice, common)))
            }
        };
        self.changers.push(Changer { link, task, is_cut: false });
    }

    /// Somebody moves a shard, once.
    pub(super) fn move_shard(&mut self, shard: ShardId) {
        let (groups, to) = (self.groups.clone(), *self.dice.pick(&GIDS));
        let done = self.common.done.clone();
        let task = match self.kind {
            Kind::Pulled => {
                let operator = groups.operator();
                self.town.spawn(async move { operator.move_shard(shard, to).await })
            }
            Kind::Pushed => self.town.spawn(async move {
                let mover = groups.mover().0;
                let now = mover.query().await.expect("the first one is there");
                if now.groups.contains_key(&to) && now.group_of(shard) != to {
                    change(&mover, now.moved(shard, to), &done).await;
                }
            }),
        };
        self.errands.push(task);
    }

    // What goes wrong.

    /// Something goes wrong, and something gets better perhaps.
    pub(super) fn strike(&mut self) {
        let shows_nothing = self.town.now() >= self.end;
        if shows_nothing || self.dice.coin() {
            self.ease();
        }
        if shows_nothing && self.dice.below(4) > 0 {
            return self.ease();
        }
        let gid = self.dice.below(1 + GIDS.len() as u64);
        let node = self.dice.between(1, NODES);
        match self.dice.below(12) {
            0 => self.turn_off(gid),
            1..=3 => self.turn_one(gid, node),
            4 | 5 => {
                self.tally.partitions += 1;
                self.town.at(&name(gid), |site| site.partition(&[node]));
            }
            6 => {
                let is_unreliable = self.dice.below(3) == 0;
                self.groups.set_unreliable(is_unreliable);
            }
            7..=9 => self.cut(gid),
            10 => self.strike_changers(),
            _ => {
                let at = self.dice.below(self.changers.len() as u64) as usize;
                let changer = &mut self.changers[at];
                changer.is_cut = !changer.is_cut;
                self.town.set_cut(&changer.link, changer.is_cut);
            }
        }
    }

    /// Something gets better.
    fn ease(&mut self) {
        let gid = self.dice.below(1 + GIDS.len() as u64);
        match self.dice.below(5) {
            0 | 1 => self.mend(),
            2 => self.town.mend_cuts(),
            3 => self.groups.set_unreliable(false),
            _ => self.town.at(&name(gid), |site| site.act("heal")),
        }
    }

    pub(super) fn turn_off(&mut self, gid: Gid) {
        if self.down.len() == 2 || !self.down.insert(gid) {
            return;
        }
        self.count_crash(gid);
        match self.dice.coin() {
            true => self.groups.crash(gid),
            false => self.groups.stop(gid),
        }
        self.down_one.retain(|(of, _)| *of != gid);
    }

    fn count_crash(&mut self, gid: Gid) {
        self.tally.crashes += 1;
        self.tally.head_crashes += u64::from(gid == HEAD_GID);
    }

    fn turn_one(&mut self, gid: Gid, node: NodeId) {
        if self.down.contains(&gid) {
            return;
        }
        if self.down_one.remove(&(gid, node)) {
            return self.groups.restart_one(gid, node);
        }
        self.count_crash(gid);
        self.down_one.insert((gid, node));
        match self.dice.coin() {
            true => self.groups.stop_one(gid, node),
            false => self.groups.crash_one(gid, node, self.dice.number() >> 1),
        }
    }

    /// Members of a group, controllers or clients, one of them or all, hear no more of a group; or are not heard.
    fn cut(&mut self, to: Gid) {
        let from = *self.dice.pick(&GIDS);
        let links: Vec<Link> = match self.dice.below(3) {
            0 if from == to => return,
            0 => (1..=NODES).map(|node| self.groups.member_link(from, node)).collect(),
            1 => self.changers.iter().map(|it| it.link.clone()).collect(),
            _ => self.clients.iter().map(|it| it.link.clone()).collect(),
        };
        let (is_all, one) = (self.dice.coin(), self.dice.below(links.len() as u64) as usize);
        let loss = if self.dice.coin() { Loss::Both } else { Loss::Answers };
        for (at, link) in links.iter().enumerate() {
            if is_all || at == one {
                self.town.cut_between(link, &name(to), Some(loss));
            }
        }
        self.tally.cuts += 1;
    }

    /// One of them dies; another one takes its place, or is there besides.
    fn strike_changers(&mut self) {
        if self.changers.len() < 4 && self.dice.coin() {
            return self.hire();
        }
        let at = self.dice.below(self.changers.len() as u64) as usize;
        let dead = self.changers.swap_remove(at);
        self.town.kill(dead.task);
        self.tally.killed += 1;
        self.hire();
    }

    /// Somebody who is down starts again.
    fn mend(&mut self) {
        if let Some(gid) = self.down.pop_first() {
            self.groups.restart(gid);
        }
        if let Some((gid, node)) = self.down_one.pop_first() {
            self.groups.restart_one(gid, node);
        }
    }

    // The end.

    /// Where the storm has left room for nothing, everything works again, until something is shown.
    pub(super) fn lull(&mut self, acknowledged: impl Fn() -> u64) {
        if !self.is_vacuous(acknowledged()) {
            return;
        }
        self.mend_all();
        self.hire();
        let until = self.town.now() + CALM_MAX;
        while self.is_vacuous(acknowledged()) && self.town.now() < until {
            self.town.run_for(100 * MILLISECOND);
        }
    }

    fn mend_all(&mut self) {
        while !(self.down.is_empty() && self.down_one.is_empty()) {
            self.mend();
        }
        for gid in GIDS.into_iter().chain([HEAD_GID]) {
            self.town.at(&name(gid), |site| site.act("heal"));
        }
        self.town.mend_cuts();
        self.groups.set_unreliable(false);
    }

    /// All faults stop, and everybody comes to an end. Answers what is in force then.
    pub(super) fn calm(&mut self) -> Config {
        self.mend_all();
        // Some come back, others never do.
        for changer in std::mem::take(&mut self.changers) {
            match changer.is_cut && self.dice.coin() {
                true => self.town.kill(changer.task),
                false => {
                    self.town.set_cut(&changer.link, false);
                    self.errands.push(changer.task);
                }
            }
        }
        self.common.is_over.set(true);
        self.wait("a controller works", |scene| scene.have_ended(&scene.errands));
        if self.kind == Kind::Pushed {
            // Whoever died has left behind what only the next one finishes.
            self.finish_pushed();
        }
        let clients: Vec<TaskId> = self.clients.iter().map(|client| client.task).collect();
        self.wait("a client waits", |scene| scene.have_ended(&clients));
        // A change that was sent by whoever died may still be made.
        let until = self.town.now() + CALM_MAX;
        let mut config = self.in_force();
        while !self.is_settled(&config) {
            assert!(self.town.now() < until, "a shard is not where it should be: {config:?}");
            self.town.run_for(50 * MILLISECOND);
            config = self.in_force();
        }
        // What clients have left behind that are gone is settled by others.
        self.wait("a transaction is under way", |scene| {
            GIDS.iter().all(|gid| scene.slots(*gid).iter().all(|slot| slot.txns == 0))
        });
        self.tally.configurations = config.num;
        self.tally.seconds = self.town.now() / SECOND;
        self.read_ledger();
        config
    }

    fn have_ended(&self, tasks: &[TaskId]) -> bool {
        tasks.iter().all(|task| self.town.has_ended(*task))
    }

    fn wait(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let end = self.town.now() + CALM_MAX;
        while !is_there(self) {
            if self.town.now() >= end {
                panic!("{what} for ever{}", self.stand());
            }
            self.town.run_for(50 * MILLISECOND);
        }
    }

    fn in_force(&self) -> Config {
        match self.kind {
            Kind::Pulled => {
                let operator = self.groups.operator();
                self.town.run(async move { operator.config().await })
            }
            Kind::Pushed => self.finish_pushed(),
        }
    }

    /// What was begun is finished; then what is next is in force, and is what its controller said.
    fn finish_pushed(&self) -> Config {
        let (mover, link) = self.groups.mover();
        let head = self.groups.head.clone();
        let (next, config) = self.town.run(async move {
            mover.recover().await.expect("what is there makes sense");
            let config = mover.query().await.expect("it is there");
            loop {
                let query = kv::Query::Get { key: NEXT }.encode();
                if let Ok(answer) = link.query(&head, query).await {
                    let answer = kv::QueryReply::decode(&answer).expect("the store wrote it");
                    let next = answer.value().expect("it was asked for").expect("it was written");
                    let next: Config = serde_json::from_slice(&next.value).expect("it was posted");
                    return (next, config);
                }
                link.sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(next, config, "what is next, and what is in force");
        let done = self.common.done.borrow();
        assert!(done.get(&config.num).is_none_or(|done| *done == config), "{config:?} {done:?}");
        config
    }

    /// Who waits, and how all groups stand, for people.
    fn stand(&self) -> String {
        let waits = |task: &TaskId| !self.town.has_ended(*task);
        let clients = self.clients.iter().filter(|it| waits(&it.task)).map(|it| it.name);
        let errands = self.errands.iter().filter(|it| waits(it)).count();
        let clients: Vec<u128> = clients.collect();
        let mut text = format!(": clients {clients:?}, {errands} who change something");
        for gid in GIDS {
            for (shard, slot) in self.slots(gid).iter().enumerate() {
                let (leaving, arriving) = (slot.leaving, &slot.arriving);
                if let Some(keys) = slot.serving {
                    let txns = slot.txns;
                    text += &format!("\n{gid} serves {shard}: {keys} keys, {txns} transactions");
                }
                if leaving.is_some() || arriving.is_some() {
                    text += &format!("\n{gid} moves {shard}: {leaving:?} {arriving:?}");
                }
            }
        }
        text
    }

    /// Whether each shard is where the configuration says, and nothing is on its way.
    fn is_settled(&self, config: &Config) -> bool {
        GIDS.iter().all(|gid| {
            let slots = self.slots(*gid);
            (0..).zip(&slots).all(|(shard, slot)| {
                slot.serving.is_some() == (config.group_of(shard) == *gid)
                    && slot.leaving.is_none()
                    && slot.arriving.is_none()
            })
        })
    }

    fn slots(&self, gid: Gid) -> Vec<SlotState> {
        self.town.at(&name(gid), |site| {
            group_of(site.committed().1).expect("it is a group").stand().slots
        })
    }

    /// Every member's state is judged, and nothing is left.
    pub(super) fn finish(self) -> Tally {
        self.groups.clone().finish();
        self.town.take_apart();
        self.tally
    }
}

/// An operator does what comes to its mind, whatever the others do.
async fn operate(operator: Operator, mut dice: Dice, common: Common) {
    while !common.is_over.get() {
        let gid = *dice.pick(&GIDS);
        match dice.below(5) {
            0 | 1 => operator.join(&[gid]).await,
            2 if operator.config().await.groups.len() > 1 => operator.leave(&[gid]).await,
            _ => {
                operator.move_shard(dice.below(u64::from(PARTITION.shards)) as u32, gid).await;
            }
        }
        operator.link.sleep(Duration::from_micros(dice.below(common.pause))).await;
    }
    // Everybody has a place to go to.
    operator.join(&GIDS).await;
}

/// A controller that pushes whatever comes to its mind.
async fn push(mover: Mover<Link>, link: Link, mut dice: Dice, common: Common) {
    mover.recover().await.expect("what is there makes sense");
    while !common.is_over.get() {
        let now = mover.query().await.expect("the first one is there");
        let next = any_next(&mut dice, &now, &common.groups);
        change(&mover, next, &common.done).await;
        link.sleep(Duration::from_micros(dice.below(common.pause))).await;
    }
}

async fn change(mover: &Mover<Link>, next: Config, done: &RefCell<BTreeMap<Num, Config>>) {
    if mover.change(&next).await.expect("it makes sense") == Changed::Done {
        let known = done.borrow_mut().insert(next.num, next.clone());
        let is_one = known.is_none_or(|known| known == next);
        assert!(is_one, "two configurations {} were put in force", next.num);
    }
}

/// Any configuration that may follow.
fn any_next(dice: &mut Dice, now: &Config, groups: &Groups) -> Config {
    let gid = *dice.pick(&GIDS);
    let members: Vec<Gid> = now.groups.keys().copied().collect();
    match dice.below(4) {
        0 | 1 if !members.contains(&gid) => groups.joined(now, &[gid]),
        0 if members.len() > 1 => now.leave([gid]).rebalanced(),
        0..3 => {
            let shard = dice.below(PARTITION.shards.into()) as u32;
            now.moved(shard, *dice.pick(&members))
        }
        _ => {
            let shards = now.shards.iter().map(|_| *dice.pick(&members)).collect();
            Config { num: now.num + 1, shards, ..now.clone() }
        }
    }
}
