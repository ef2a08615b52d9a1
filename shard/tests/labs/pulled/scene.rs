//! Three groups that pull, as the labs set them up, and what keys must hold.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use shard::clerk::Clerk;
use shard::net::Net;
use shard::{Gid, KeyHash, Kind, Partition, ShardId};
use simulator::dice::Dice;

use crate::groups::Groups;
use crate::lab::{MILLISECOND, SECOND};
use crate::noted::group_of;
use crate::town::{Link, TaskId, Town};

/// The labs' ten shards.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstByte };

/// The labs' groups.
pub(super) const GROUPS: [Gid; 3] = [100, 101, 102];

/// What the keys 0, 1 and so on must hold.
pub(super) type Values = Rc<RefCell<Vec<String>>>;

/// The groups, none of which has joined, a clerk, and what it has written.
pub(super) struct Scene {
    pub(super) groups: Groups,
    pub(super) town: Town,
    pub(super) dice: Dice,
    pub(super) values: Values,
    clerk: Option<Clerk<Link>>,
    written: u64,
    log_bytes_max: Option<u64>,
    seed: u64,
}

/// Clerks who append in loops.
pub(super) struct Appenders {
    tasks: Vec<TaskId>,
    is_over: Rc<Cell<bool>>,
}

/// A key holds what it must.
pub(super) async fn check(clerk: &mut Clerk<Link>, values: &Values, key: usize) {
    let found = clerk.get(key.to_string().as_bytes()).await.expect("it is waited for");
    let found = found.map_or(Vec::new(), |found| found.value);
    // Whoever has appended knows of it: what is there was appended once each, and in order.
    assert_eq!(String::from_utf8(found).expect("a text"), values.borrow()[key], "key {key}");
}

/// Lengthens a key, and what it must hold.
pub(super) async fn append(clerk: &mut Clerk<Link>, values: &Values, key: usize, text: &str) {
    let end = clerk.append(key.to_string().as_bytes(), text.as_bytes()).await;
    let length = end.expect("it is waited for").length;
    let expected = &mut values.borrow_mut()[key];
    expected.push_str(text);
    assert_eq!(length, expected.len() as u64, "key {key}, {text}");
}

impl Scene {
    /// `log_bytes_max` is the labs' maxraftstate.
    pub(super) fn new(seed: u64, log_bytes_max: Option<u64>) -> Self {
        Scene::of(Groups::new(Kind::Pulled, TEN, seed, log_bytes_max), seed, log_bytes_max)
    }

    /// As dslabs has it: groups of five servers, and keys that begin with the numbers of their shards.
    pub(super) fn of_dslabs(seed: u64) -> Self {
        let ten = Partition { shards: 10, hash: KeyHash::FirstDigit };
        Scene::of(Groups::new(Kind::Pulled, ten, seed, None).of_servers(5), seed, None)
    }

    fn of(groups: Groups, seed: u64, log_bytes_max: Option<u64>) -> Self {
        println!("SEED={seed}");
        for gid in GROUPS {
            groups.start(gid);
        }
        let (town, clerk, values) = (groups.town.clone(), groups.clerk(), Values::default());
        let (clerk, dice) = (Some(clerk), Dice::new(seed, "scene"));
        Scene { groups, town, dice, values, clerk, written: 0, log_bytes_max, seed }
    }

    /// The network of the labs that loses and delays, or the one that does not.
    pub(super) fn set_unreliable(&self, is_unreliable: bool) {
        self.groups.set_unreliable(is_unreliable);
    }

    // The operator.

    pub(super) fn join(&self, gids: &[Gid]) {
        let (operator, gids) = (self.groups.operator(), gids.to_vec());
        self.town.run(async move { operator.join(&gids).await });
    }

    pub(super) fn leave(&self, gids: &[Gid]) {
        let (operator, gids) = (self.groups.operator(), gids.to_vec());
        self.town.run(async move { operator.leave(&gids).await });
    }

    /// The keys that a group serves in the latest configuration.
    pub(super) fn keys_of(&self, gid: Gid) -> Vec<usize> {
        let operator = self.groups.operator();
        let config = self.town.run(async move { operator.config().await });
        let is_its = |key: &usize| config.group_of(TEN.shard_of(key.to_string().as_bytes())) == gid;
        (0..self.values.borrow().len()).filter(is_its).collect()
    }

    /// The shards that a group serves, as it has committed.
    pub(super) fn served(&self, gid: Gid) -> Vec<ShardId> {
        self.town.at(&gid.to_string(), |site| {
            let group = group_of(site.committed().1).expect("of this kind");
            group.served().collect()
        })
    }

    // Life and death.

    /// All servers of a group end, in order or without power: what was acknowledged is on disk.
    pub(super) fn shut_down(&mut self, gid: Gid) {
        match self.dice.coin() {
            true => self.groups.stop(gid),
            false => self.groups.crash(gid),
        }
    }

    pub(super) fn restart(&self, gid: Gid) {
        self.groups.restart(gid);
    }

    pub(super) fn shut_down_all(&mut self) {
        GROUPS.into_iter().for_each(|gid| self.shut_down(gid));
    }

    pub(super) fn restart_all(&self) {
        GROUPS.into_iter().for_each(|gid| self.restart(gid));
    }

    pub(super) fn shut_down_one_of_each(&self, node: u64) {
        GROUPS.into_iter().for_each(|gid| self.groups.stop_one(gid, node));
    }

    pub(super) fn restart_one_of_each(&self, node: u64) {
        GROUPS.into_iter().for_each(|gid| self.groups.restart_one(gid, node));
    }

    pub(super) fn run_for_up_to(&mut self, microseconds: u64) {
        let time = self.dice.below(microseconds);
        self.town.run_for(time);
    }

    // The clerk.

    /// Lets the clerk do something, and waits for it.
    pub(super) fn with_clerk<T: 'static>(
        &mut self,
        act: impl AsyncFnOnce(&mut Clerk<Link>, &Values) -> T + 'static,
    ) -> T {
        let mut clerk = self.clerk.take().expect("it is put back below");
        let values = self.values.clone();
        let (clerk, output) = self.town.run(async move {
            let output = act(&mut clerk, &values).await;
            (clerk, output)
        });
        self.clerk = Some(clerk);
        output
    }

    /// A text that is not written anywhere else, of so many bytes.
    pub(super) fn text(&mut self, bytes: usize) -> String {
        self.written += 1;
        format!("{:x>bytes$}", self.written)
    }

    /// Gives keys values of so many bytes.
    pub(super) fn put_all(&mut self, keys: usize, bytes: usize) {
        for key in 0..keys {
            let value = self.text(bytes);
            self.put(key, value);
        }
    }

    pub(super) fn put(&mut self, key: usize, value: String) {
        self.with_clerk(async move |clerk, values| {
            clerk.put(key.to_string().as_bytes(), value.as_bytes()).await.expect("waited for");
            let mut values = values.borrow_mut();
            let keys = values.len().max(key + 1);
            values.resize(keys, String::new());
            values[key] = value;
        });
    }

    /// All keys hold what they must.
    pub(super) fn check(&mut self) {
        let keys = self.values.borrow().len();
        self.check_first(keys);
    }

    pub(super) fn check_first(&mut self, keys: usize) {
        (0..keys).for_each(|key| self.check_key(key));
    }

    pub(super) fn check_key(&mut self, key: usize) {
        self.with_clerk(async move |clerk, values| check(clerk, values, key).await);
    }

    /// All keys hold what they must, and are lengthened.
    pub(super) fn check_and_append(&mut self, bytes: usize) {
        let keys = self.values.borrow().len();
        for key in 0..keys {
            let text = self.text(bytes);
            self.with_clerk(async move |clerk, values| {
                check(clerk, values, key).await;
                append(clerk, values, key, &text).await;
            });
        }
    }

    /// A clerk for each key begins to append to it, with pauses.
    pub(super) fn appenders(&self, pause: u64) -> Appenders {
        let is_over = Rc::new(Cell::new(false));
        let keys = self.values.borrow().len();
        let appender = |key| {
            let (mut clerk, link) = (self.groups.clerk(), self.town.link());
            let (values, is_over) = (self.values.clone(), is_over.clone());
            self.town.spawn(async move {
                for number in 0_u64.. {
                    append(&mut clerk, &values, key, &format!("x{key}.{number}y")).await;
                    if is_over.get() {
                        return;
                    }
                    link.sleep(Duration::from_micros(pause)).await;
                }
            })
        };
        let tasks = (0..keys).map(appender).collect();
        Appenders { tasks, is_over }
    }

    /// They end their loops; then all is there once.
    pub(super) fn end(&mut self, appenders: Appenders) {
        appenders.is_over.set(true);
        self.wait_for(&appenders.tasks, 10 * SECOND);
        self.check();
    }

    /// How many of these have ended once 2 s have passed in which none has.
    pub(super) fn ended_when_quiet(&self, tasks: &[TaskId]) -> usize {
        let ended = || tasks.iter().filter(|task| self.town.has_ended(**task)).count();
        let (mut known, mut since) = (0, self.town.now());
        while self.town.now() < since + 2 * SECOND {
            self.town.run_for(10 * MILLISECOND);
            if ended() > known {
                (known, since) = (ended(), self.town.now());
            }
        }
        known
    }

    pub(super) fn wait_for(&self, tasks: &[TaskId], within: u64) {
        let end = self.town.now() + within;
        while !tasks.iter().all(|task| self.town.has_ended(*task)) {
            assert!(self.town.now() < end, "SEED={}: no end within {within} us", self.seed);
            self.town.run_for(10 * MILLISECOND);
        }
    }

    // Sizes.

    /// The labs' limits of what a server keeps beside its snapshot; without snapshots there are none.
    pub(super) fn check_logs(&self) {
        for gid in GROUPS {
            let (state, snapshot) = self.groups.bytes(gid);
            match self.log_bytes_max {
                Some(max) => assert!(state <= 8 * max, "{state} B at group {gid}"),
                None => assert_eq!(snapshot, 0, "bytes of a snapshot at group {gid}"),
            }
        }
    }

    pub(super) fn finish(self) {
        self.groups.finish();
    }
}
