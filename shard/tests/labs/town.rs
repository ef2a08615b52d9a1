//! Several groups in one virtual time, and those who ask them: clerks, controllers, agents.
//!
//! Each group is a stage of its own, with all of its rules. The town lets them go through the same time,
//! carries what [`Link`]s ask to the stages, and drives the tasks that wait for the ends.

mod link;
mod site;
mod tasks;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;

use raft_core::state_machine::StateMachine;
use raft_core::types::NodeId;
use raft_host::outcome::{ProposeError, ProposeResult, QueryError, QueryResult, Unknown};
use shard::net::Target;
use simulator::world::{Asked, Trial};

pub(crate) use link::Link;
use site::Place;
pub(crate) use site::Site;
pub(crate) use tasks::TaskId;
use tasks::Tasks;

use crate::lab::{Lab, SECOND};

/// How long one attempt may take.
const ATTEMPT_MAX: u64 = 2 * SECOND;

/// Nothing that a test waits for takes longer.
const WAIT_MAX: u64 = 300 * SECOND;

/// A call of a [`Link`], or something that is waited for.
pub(crate) type WaitId = u64;

/// Looks at all groups whenever something may have happened, and is told when.
pub(crate) type Watch = Box<dyn FnMut(&Sites, u64)>;

/// Groups by their names.
pub(crate) type Sites = BTreeMap<String, Box<dyn Site>>;

/// How a call has ended.
#[derive(Debug)]
pub(crate) enum End {
    Proposed(ProposeResult),
    Queried(QueryResult),
    /// It was only waited.
    Passed,
}

/// What gets lost between a link and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything.
    Both,
    /// Answers: what is asked arrives, and is done.
    Answers,
}

/// A call of a link at a group.
struct Call {
    link: u64,
    name: String,
    is_query: bool,
}

struct Wait {
    task: TaskId,
    /// `None` if it is only waited.
    call: Option<Call>,
    end: Option<End>,
}

#[derive(Default)]
struct Inner {
    now: u64,
    sites: Sites,
    waits: BTreeMap<WaitId, Wait>,
    timers: BTreeSet<(u64, WaitId)>,
    next_id: u64,
    /// Links that are cut off: nothing of theirs arrives, in either direction.
    cut: BTreeSet<u64>,
    /// Links that are cut off from one group, by its name.
    cuts: BTreeMap<(u64, String), Loss>,
    watch: Option<Watch>,
}

/// Several groups in one time. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Town {
    inner: Rc<RefCell<Inner>>,
    tasks: Rc<RefCell<Tasks>>,
}

impl Town {
    /// Adds a group, and answers where its servers are: `NAME/1` and so on.
    pub(crate) fn add<M: StateMachine + Send + 'static>(
        &self,
        (name, group): (&str, u64),
        make: impl Fn() -> M + 'static,
        (nodes, seed, log_bytes_max): (u64, u64, Option<u64>),
    ) -> Target {
        // A stage borrows its trial; a test has few of them.
        let trial: &'static Trial<M> = Box::leak(Box::new(Trial::scripted(make)));
        let lab = Lab::new(trial, nodes, seed, log_bytes_max);
        let mut place = Place::new(lab);
        place.run_to(self.now());
        self.inner.borrow_mut().sites.insert(name.to_owned(), Box::new(place));
        let servers = (1..=nodes).map(|node| format!("{name}/{node}")).collect();
        Target { group, servers }
    }

    /// A way to all groups.
    pub(crate) fn link(&self) -> Link {
        Link::new(self.clone(), self.id())
    }

    fn id(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        inner.next_id += 1;
        inner.next_id
    }

    /// Microseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.inner.borrow().now
    }

    /// Does something with a group, at the time of the others.
    pub(crate) fn at<T>(&self, name: &str, act: impl FnOnce(&mut dyn Site) -> T) -> T {
        let mut inner = self.inner.borrow_mut();
        let now = inner.now;
        let site = inner.sites.get_mut(name).unwrap_or_else(|| panic!("there is no {name}"));
        site.run_to(now);
        act(&mut **site)
    }

    /// From now on all groups are looked at, in one state after the other: whoever looks may assert.
    pub(crate) fn watch(&self, watch: impl FnMut(&Sites, u64) + 'static) {
        self.inner.borrow_mut().watch = Some(Box::new(watch));
    }

    /// A link hears nothing, and nothing is heard of it; or it is heard again.
    pub(crate) fn set_cut(&self, link: &Link, is_cut: bool) {
        let mut inner = self.inner.borrow_mut();
        match is_cut {
            true => inner.cut.insert(link.id()),
            false => inner.cut.remove(&link.id()),
        };
    }

    /// Nothing, or no answer, comes through between a link and one group; or everything does again.
    pub(crate) fn cut_between(&self, link: &Link, name: &str, loss: Option<Loss>) {
        let (mut inner, way) = (self.inner.borrow_mut(), (link.id(), name.to_owned()));
        match loss {
            Some(loss) => inner.cuts.insert(way, loss),
            None => inner.cuts.remove(&way),
        };
    }

    /// No link is cut off from any one group any more.
    pub(crate) fn mend_cuts(&self) {
        self.inner.borrow_mut().cuts.clear();
    }

    // Tasks.

    /// Begins something, which goes on while other things are waited for.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) -> TaskId {
        self.tasks.borrow_mut().spawn(Box::pin(future))
    }

    /// Ends something in its middle: what it has asked goes on, what it waited for it never learns.
    pub(crate) fn kill(&self, task: TaskId) {
        let dropped = self.tasks.borrow_mut().kill(task);
        drop(dropped);
    }

    /// Whether a task has ended.
    pub(crate) fn has_ended(&self, task: TaskId) -> bool {
        !self.tasks.borrow().is_alive(task)
    }

    /// Runs everything until this has ended.
    pub(crate) fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let output = Rc::new(RefCell::new(None));
        let result = output.clone();
        let task = self.spawn(async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
        });
        let end = self.now() + WAIT_MAX;
        while !self.has_ended(task) {
            assert!(self.step(end), "something waits for ever, or longer than {WAIT_MAX} us");
        }
        output.take().expect("it has ended")
    }

    /// Lets time pass.
    pub(crate) fn run_for(&self, microseconds: u64) {
        let end = self.now() + microseconds;
        while self.step(end) {}
        self.advance(end);
    }

    /// Does what is to be done next, unless that is later. Answers whether there was anything.
    fn step(&self, end: u64) -> bool {
        let task = self.tasks.borrow_mut().next_ready();
        if let Some((task, mut future)) = task {
            let is_over = tasks::poll(&mut future);
            self.tasks.borrow_mut().polled(task, (!is_over).then_some(future));
            return true;
        }
        let next = {
            let inner = self.inner.borrow();
            let timer = inner.timers.first().map(|(at, _)| *at);
            inner.sites.values().filter_map(|site| site.next_at()).chain(timer).min()
        };
        match next.filter(|next| *next <= end) {
            Some(next) => self.advance(next),
            None => return false,
        }
        true
    }

    /// All groups come to this time, and what has ended is delivered.
    fn advance(&self, now: u64) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        inner.now = inner.now.max(now);
        let mut ended = Vec::new();
        for site in inner.sites.values_mut().filter(|it| it.next_at().is_some_and(|at| at <= now)) {
            site.run_to(now);
            site.take_ends(&mut ended);
        }
        if let Some(watch) = &mut inner.watch {
            watch(&inner.sites, now);
        }
        for (wait, end) in ended {
            inner.end(wait, end, &self.tasks);
        }
        while let Some(&(at, wait)) = inner.timers.first()
            && at <= now
        {
            inner.timers.pop_first();
            inner.time_out(wait, &self.tasks);
        }
    }

    // What links do.

    fn begin(&self, link: u64, to: &Target, asked: Asked) -> WaitId {
        let (name, nodes) = servers(&to.servers);
        let is_query = matches!(asked, Asked::Query(_));
        let call = Call { link, name: name.to_owned(), is_query };
        let mut inner = self.inner.borrow_mut();
        let is_lost = inner.cut.contains(&link) || inner.loss(&call) == Some(Loss::Both);
        drop(inner);
        let id = self.wait_until(ATTEMPT_MAX, Some(call));
        inner = self.inner.borrow_mut();
        if !is_lost {
            let now = inner.now;
            // A group that was never there answers nothing.
            if let Some(site) = inner.sites.get_mut(name) {
                site.run_to(now);
                site.begin(id, &nodes, asked);
            }
        }
        id
    }

    fn wait_until(&self, microseconds: u64, call: Option<Call>) -> WaitId {
        let id = self.id();
        let mut inner = self.inner.borrow_mut();
        let at = inner.now + microseconds;
        inner.timers.insert((at, id));
        let task = self.tasks.borrow().current();
        inner.waits.insert(id, Wait { task, call, end: None });
        id
    }

    fn take_end(&self, id: WaitId) -> Option<End> {
        self.inner.borrow_mut().waits.get_mut(&id)?.end.take()
    }

    fn forget(&self, id: WaitId) {
        self.inner.borrow_mut().waits.remove(&id);
    }

    /// All faults stop; every group's rules are judged.
    pub(crate) fn finish(self) {
        let mut inner = self.inner.borrow_mut();
        inner.sites.values_mut().for_each(|site| site.finish());
    }

    /// Nothing is there any more. Tasks keep their town, and a town its tasks: whoever builds thousands takes them
    /// apart.
    pub(crate) fn take_apart(self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        let inner = std::mem::take(&mut *self.inner.borrow_mut());
        drop(inner);
    }
}

impl Inner {
    fn loss(&self, call: &Call) -> Option<Loss> {
        if self.cuts.is_empty() {
            return None;
        }
        self.cuts.get(&(call.link, call.name.clone())).copied()
    }

    fn end(&mut self, id: WaitId, end: End, tasks: &RefCell<Tasks>) {
        // Nobody may wait for it any more.
        let Some(wait) = self.waits.get(&id) else { return };
        let is_lost = |call: &Call| self.cut.contains(&call.link) || self.loss(call).is_some();
        if wait.call.as_ref().is_some_and(is_lost) {
            return;
        }
        let wait = self.waits.get_mut(&id).expect("it was just there");
        wait.end.get_or_insert(end);
        tasks.borrow_mut().wake(wait.task);
    }

    fn time_out(&mut self, id: WaitId, tasks: &RefCell<Tasks>) {
        let Some(wait) = self.waits.get_mut(&id) else { return };
        let end = match &wait.call {
            None => End::Passed,
            Some(Call { is_query: true, .. }) => End::Queried(Err(QueryError::Timeout)),
            Some(_) => End::Proposed(Err(ProposeError::Unknown(Unknown::Timeout))),
        };
        wait.end.get_or_insert(end);
        tasks.borrow_mut().wake(wait.task);
    }
}

/// `NAME/1`, `NAME/3`: the name, and the numbers.
fn servers(servers: &[String]) -> (&str, Vec<NodeId>) {
    let split = |server| -> (&str, NodeId) {
        let (name, node) = str::split_once(server, '/').expect("NAME/NUMBER");
        (name, node.parse().expect("NAME/NUMBER"))
    };
    let name = servers.first().map_or("", |server| split(server).0);
    (name, servers.iter().map(|server| split(server).1).collect())
}
