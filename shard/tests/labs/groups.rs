//! Groups that serve shards, with all that belongs to them: the controller or the store of configurations, and
//! an agent beside each member.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use raft_core::types::NodeId;
use shard::clerk::Clerk;
use shard::configs::{Configs, Feed};
use shard::group::{Leases, Stand};
use shard::net::{Net, Target};
use shard::settler::Patience;
use shard::{Agent, Config, Gid, Group, Kind, Mover, Partition, Settler, ShardId, controller};

use crate::ledger::Ledger;
use crate::noted::{Noted, group_of};
use crate::owners::Owners;
use crate::town::{Link, TaskId, Town};

/// What a tick of a member takes.
const TICK: Duration = Duration::from_millis(10);

/// The name of the controller, and of the store of configurations.
const HEAD: &str = "head";

/// Stands for it where a group is named: no group has this number.
pub(crate) const HEAD_GID: Gid = 0;

/// The name of a group, or of the head.
pub(crate) fn name(gid: Gid) -> String {
    if gid == HEAD_GID { HEAD.to_owned() } else { gid.to_string() }
}

/// What goes on beside each member.
type Agents = BTreeMap<(Gid, NodeId), Vec<TaskId>>;

/// Some groups, of one kind.
#[derive(Clone)]
pub(crate) struct Groups {
    pub(crate) town: Town,
    pub(crate) partition: Partition,
    /// Where configurations are kept.
    pub(crate) head: Target,
    kind: Kind,
    seed: u64,
    log_bytes_max: Option<u64>,
    /// Servers of each group.
    servers: u64,
    /// How patient settlers are.
    patience: Patience,
    groups: Rc<RefCell<BTreeMap<Gid, Target>>>,
    agents: Rc<RefCell<Agents>>,
    /// The way of what goes on beside each member.
    links: Rc<RefCell<BTreeMap<(Gid, NodeId), Link>>>,
    clients: Rc<RefCell<u128>>,
    /// What is known of all transactions.
    pub(crate) ledger: Rc<RefCell<Ledger>>,
}

impl Groups {
    /// No groups yet. `log_bytes_max` is the labs' maxraftstate.
    pub(crate) fn new(
        kind: Kind,
        partition: Partition,
        seed: u64,
        log_bytes_max: Option<u64>,
    ) -> Self {
        let town = Town::default();
        let (mut owners, ledger) = (Owners::default(), Rc::new(RefCell::new(Ledger::default())));
        let known = ledger.clone();
        town.watch(move |sites, now| {
            owners.look(sites);
            known.borrow_mut().look(sites, now);
        });
        let head = match kind {
            Kind::Pulled => {
                let make = move || controller::Machine::new(partition);
                town.add((HEAD, 1), make, (3, seed, None))
            }
            Kind::Pushed => {
                town.add((HEAD, kv::server::GROUP), kv::Machine::default, (3, seed, None))
            }
        };
        let (groups, agents, links, clients) = Default::default();
        // So impatient that settlers often meet clients that live.
        let (servers, mut patience) = (3, Patience::default());
        patience.prepared = Duration::from_millis(50);
        Groups {
            town,
            partition,
            head,
            kind,
            seed,
            log_bytes_max,
            servers,
            patience,
            groups,
            agents,
            links,
            clients,
            ledger,
        }
    }

    /// Who moves shards.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// With groups of so many servers instead of three.
    pub(crate) fn of_servers(self, servers: u64) -> Self {
        Groups { servers, ..self }
    }

    /// With settlers that are so patient.
    pub(crate) fn with_patience(self, patience: Patience) -> Self {
        Groups { patience, ..self }
    }

    /// Starts the servers of a group, which serve nothing yet.
    pub(crate) fn start(&self, gid: Gid) -> Target {
        let Groups { town, partition, kind, .. } = self.clone();
        let make = move || Noted::new(Group::new(gid, partition, kind));
        let target = town.add(
            (&gid.to_string(), gid),
            make,
            (self.servers, self.seed + gid, self.log_bytes_max),
        );
        self.groups.borrow_mut().insert(gid, target.clone());
        (1..=self.servers).for_each(|node| self.start_agents(gid, node));
        target
    }

    /// What goes on beside a member while it lives.
    fn start_agents(&self, gid: Gid, node: NodeId) {
        let (town, name) = (self.town.clone(), gid.to_string());
        let own = Target { group: gid, servers: vec![format!("{name}/{node}")] };
        let (link, seen) = (self.member_link(gid, node), Rc::new(RefCell::new(None)));
        let clock = link.clone();
        let look = move || {
            let (now, mut seen) = (clock.now(), seen.borrow_mut());
            town.at(&name, |site| {
                let group = group_of(site.leading(node)?).expect("the site runs a group");
                // A member shows how it stands once a tick.
                let known: &mut (Duration, Arc<Stand>) =
                    seen.get_or_insert_with(|| (now, Arc::new(group.stand())));
                if now - known.0 >= TICK {
                    *known = (now, Arc::new(group.stand()));
                }
                Some(known.1.clone())
            })
        };
        let settler = Settler::new(link.clone(), self.partition, self.configs(), look.clone());
        let settler = settler.with_patience(self.patience);
        let mut tasks = vec![self.town.spawn(async move { settler.run().await })];
        tasks.push(self.town.spawn(end_leases(link.clone(), self.town.clone(), own.clone(), node)));
        if self.kind == Kind::Pulled {
            let feed = Arc::new(Feed::new(self.head.clone()));
            let agent = Agent::new(link, gid, own, feed, look);
            tasks.push(self.town.spawn(async move { agent.run().await }));
        }
        self.agents.borrow_mut().insert((gid, node), tasks);
    }

    /// The way of what goes on beside a member, however often it starts.
    pub(crate) fn member_link(&self, gid: Gid, node: NodeId) -> Link {
        self.links.borrow_mut().entry((gid, node)).or_insert_with(|| self.town.link()).clone()
    }

    fn kill_agents_of(&self, gid: Gid, node: NodeId) {
        let tasks = self.agents.borrow_mut().remove(&(gid, node)).unwrap_or_default();
        tasks.into_iter().for_each(|task| self.town.kill(task));
    }

    fn kill_agents(&self, gid: Gid) {
        (1..=self.servers).for_each(|node| self.kill_agents_of(gid, node));
    }

    /// All servers of a group end.
    pub(crate) fn stop(&self, gid: Gid) {
        self.kill_agents(gid);
        self.town.at(&name(gid), |site| site.stop_all());
    }

    /// All servers of a group lose power.
    pub(crate) fn crash(&self, gid: Gid) {
        self.kill_agents(gid);
        self.town.at(&name(gid), |site| site.crash_all());
    }

    /// All servers of a group start again.
    pub(crate) fn restart(&self, gid: Gid) {
        self.town.at(&name(gid), |site| site.start_all());
        if gid != HEAD_GID {
            (1..=self.servers).for_each(|node| self.start_agents(gid, node));
        }
    }

    /// One server of a group ends.
    pub(crate) fn stop_one(&self, gid: Gid, node: NodeId) {
        self.kill_agents_of(gid, node);
        self.town.at(&name(gid), |site| site.act(&format!("stop {node}")));
    }

    /// One server of a group loses power; `keep` says what reaches its disk of what was not synced.
    pub(crate) fn crash_one(&self, gid: Gid, node: NodeId, keep: u64) {
        self.kill_agents_of(gid, node);
        self.town.at(&name(gid), |site| site.act(&format!("crash {node} keep={keep}")));
    }

    /// One server of a group starts again.
    pub(crate) fn restart_one(&self, gid: Gid, node: NodeId) {
        self.town.at(&name(gid), |site| site.act(&format!("restart {node}")));
        if gid != HEAD_GID {
            self.start_agents(gid, node);
        }
    }

    /// The labs' network that loses and delays, everywhere; or the one that does not.
    pub(crate) fn set_unreliable(&self, is_unreliable: bool) {
        let gids = self.groups.borrow();
        let names = gids.keys().map(Gid::to_string).chain([HEAD.to_owned()]);
        names.for_each(|name| self.town.at(&name, |site| site.set_unreliable(is_unreliable)));
    }

    /// The most bytes of term, vote and log at any server of a group, and those of a snapshot.
    pub(crate) fn bytes(&self, gid: Gid) -> (u64, u64) {
        self.town.at(&gid.to_string(), |site| (site.state_bytes(), site.snapshot_bytes()))
    }

    /// The bytes that all servers of a group keep: term, vote, log and snapshot.
    pub(crate) fn bytes_of_all(&self, gid: Gid) -> u64 {
        self.town.at(&gid.to_string(), |site| site.bytes_of_all())
    }

    /// Where a group's servers are.
    pub(crate) fn target(&self, gid: Gid) -> Target {
        self.groups.borrow()[&gid].clone()
    }

    fn client(&self) -> u128 {
        let mut clients = self.clients.borrow_mut();
        *clients += 1;
        *clients
    }

    fn configs(&self) -> Configs {
        match self.kind {
            Kind::Pulled => Configs::Controller(self.head.clone()),
            Kind::Pushed => Configs::Store(self.head.clone()),
        }
    }

    /// A new clerk.
    pub(crate) fn clerk(&self) -> Clerk<Link> {
        self.named_clerk().1
    }

    /// A new clerk, and the name by which its transactions are known.
    pub(crate) fn named_clerk(&self) -> (u128, Clerk<Link>) {
        let client = self.client();
        let clerk = Clerk::new(self.town.link(), self.partition, self.configs(), client);
        // As in the labs: until it is done.
        (client, clerk.with_patience(Duration::from_secs(200)))
    }

    /// A new controller of groups that are pushed, and its way.
    pub(crate) fn mover(&self) -> (Mover<Link>, Link) {
        let link = self.town.link();
        (Mover::new(link.clone(), self.partition, self.head.clone()), link)
    }

    /// The configuration with more groups, balanced.
    pub(crate) fn joined(&self, config: &Config, gids: &[Gid]) -> Config {
        let servers = |gid: &Gid| (*gid, self.target(*gid).servers);
        config.join(gids.iter().map(servers)).rebalanced()
    }

    /// An operator of groups that pull.
    pub(crate) fn operator(&self) -> Operator {
        Operator { link: self.town.link(), groups: self.clone() }
    }

    /// Faults stop, all groups run, and everything is judged.
    pub(crate) fn finish(self) {
        let agents: Vec<_> = self.agents.borrow().values().flatten().copied().collect();
        agents.into_iter().for_each(|task| self.town.kill(task));
        self.town.finish();
    }
}

/// What a host does by [`LeaderHooks`](raft_host::LeaderHooks): ends leases that have run out, while the member
/// leads.
async fn end_leases(link: Link, town: Town, own: Target, node: NodeId) {
    let (mut leases, name) = (Leases::new(TICK), own.group.to_string());
    loop {
        link.sleep(10 * TICK).await;
        let ticks = (link.now().as_millis() / TICK.as_millis()) as u64;
        let expiries = town.at(&name, |site| {
            let group = site.leading(node).and_then(group_of);
            let Some(group) = group else {
                leases.forget();
                return Vec::new();
            };
            leases.expiries(group, ticks)
        });
        for expiry in expiries {
            _ = link.propose(&own, expiry).await;
        }
    }
}

/// Tells the controller of groups that pull what to do.
pub(crate) struct Operator {
    pub(crate) link: Link,
    groups: Groups,
}

impl Operator {
    pub(crate) async fn join(&self, gids: &[Gid]) {
        let groups = gids.iter().map(|gid| (*gid, self.groups.target(*gid).servers)).collect();
        self.change(controller::Command::Join { groups }).await;
    }

    pub(crate) async fn leave(&self, gids: &[Gid]) {
        self.change(controller::Command::Leave { gids: gids.to_vec() }).await;
    }

    pub(crate) async fn move_shard(&self, shard: ShardId, gid: Gid) {
        self.change(controller::Command::Move { shard, gid }).await;
    }

    pub(crate) async fn config(&self) -> Config {
        let configs = Configs::Controller(self.groups.head.clone());
        loop {
            match configs.latest(&self.link, &self.groups.partition).await {
                Ok(config) => return config,
                Err(_) => self.link.sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// A join that is done twice is refused the second time, and so is a leave, and a move moves nothing then: no
    /// session is needed.
    async fn change(&self, command: controller::Command) {
        while self.link.propose(&self.groups.head, command.encode()).await.is_err() {
            self.link.sleep(Duration::from_millis(20)).await;
        }
    }
}
