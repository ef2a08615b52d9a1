//! `shard join`, `leave` and `move`: the next configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use program::Failure;
use program::output::{done, print, print_json};
use raft_host::outcome::QueryError;
use raft_host::rpc::RpcClient;
use serde_json::{Map as Json, json};
use shard::configs::NoConfig;
use shard::controller::{Command, ControllerClient, Error};
use shard::map::{Moving, stand};
use shard::mover::{MoveError, OrderError, Ordered};
use shard::net::{Net, Sockets, Target as Group, block_on};
use shard::server::CONFIGS;
use shard::{Config, Gid, Kind, Map, Mover, Partition};

use crate::args::{Groups, Join, Leave, Move, Target};
use crate::place::{Place, no_config, partition};
use crate::say;

pub(crate) fn join(join: &Join) -> Result<(), Failure> {
    let Join { target, groups, servers, json } = join;
    let place = target.home.place()?;
    let servers = servers.as_ref().unwrap_or(&place.members).clients();
    let groups = distinct(groups)?.into_iter().map(|gid| (gid, servers.clone())).collect();
    Order { target, place: &place, command: Command::Join { groups } }.carry_out(*json)
}

pub(crate) fn leave(leave: &Leave) -> Result<(), Failure> {
    let Leave { target, groups, json } = leave;
    let gids = distinct(groups)?.into_iter().collect();
    Order { target, place: &target.home.place()?, command: Command::Leave { gids } }
        .carry_out(*json)
}

pub(crate) fn move_shard(order: &Move) -> Result<(), Failure> {
    let Move { target, shard, group, json } = order;
    if *group == 0 {
        return Err(Failure::wrong("there is no group 0 to move to: groups are counted from 1"));
    }
    let command = Command::Move { shard: *shard, gid: *group };
    Order { target, place: &target.home.place()?, command }.carry_out(*json)
}

fn distinct(groups: &[Groups]) -> Result<BTreeSet<Gid>, Failure> {
    let mut distinct = BTreeSet::new();
    for gid in groups.iter().flat_map(|groups| &groups.0) {
        if !distinct.insert(*gid) {
            return Err(Failure::wrong(format!("group {gid} is named twice")));
        }
    }
    Ok(distinct)
}

/// What is to be changed, and where.
struct Order<'a> {
    target: &'a Target,
    place: &'a Place,
    command: Command,
}

impl Order<'_> {
    fn carry_out(&self, is_json: bool) -> Result<(), Failure> {
        let net = Sockets::default();
        let config = self.config(&net)?;
        let shards = match &self.command {
            Command::Join { groups } => self.check_groups(&net, groups, config.as_ref())?,
            _ => None,
        };
        let shards = config.as_ref().map(|config| config.shards.len()).or(shards);
        let num = match self.place.kind {
            Kind::Pulled => self.pulled()?,
            Kind::Pushed => self.pushed(&net, partition(shards.unwrap_or_default()))?,
        };
        if let (Command::Leave { gids }, Some(before)) = (&self.command, &config)
            && before.groups.keys().all(|gid| gids.contains(gid))
        {
            say(
                "no group serves anything now. What there was stays on the servers of the groups that have left: they \
                 must go on until another group has joined and has it all",
            );
        }
        let told = if is_json {
            print_json(Json::from_iter([("num".to_owned(), json!(num))]))
        } else {
            print(format!("configuration {num}\n").as_bytes())
        };
        done(told, say)
    }

    /// The configuration that is in force, or is to be; `None` where only a first join makes sense.
    fn config(&self, net: &Sockets) -> Result<Option<Config>, Failure> {
        let configs = self.place.configs();
        let unknown = |error| no_config(error, self.place.kind);
        match block_on(configs.find(net, self.target.timeout)) {
            Ok(config) => Ok(Some(config)),
            Err(NoConfig::NotThere) => {
                let begun = block_on(configs.begun(net, self.target.timeout)).map_err(unknown)?;
                if begun.is_none() && !matches!(self.command, Command::Join { .. }) {
                    return Err(unknown(NoConfig::NotThere));
                }
                Ok(begun)
            }
            Err(error) => Err(unknown(error)),
        }
    }

    /// Whoever joins must be there, or shards would go to nobody. Answers how many shards they have.
    fn check_groups(
        &self,
        net: &Sockets,
        groups: &BTreeMap<Gid, Vec<String>>,
        config: Option<&Config>,
    ) -> Result<Option<usize>, Failure> {
        let deadline = net.now() + self.target.timeout;
        let mut shards = config.map(|config| config.shards.len());
        for (gid, servers) in groups {
            if config.is_some_and(|config| config.groups.contains_key(gid)) {
                continue;
            }
            let group = Group { group: *gid, servers: servers.clone() };
            let stand = block_on(stand(net, &group, deadline));
            let stand = stand.map_err(|error| no_group(*gid, servers, &error))?;
            if stand.config.is_some() != (self.place.kind == Kind::Pulled) {
                let (is, needs) = match self.place.kind {
                    Kind::Pulled => ("pushed", "--controller"),
                    Kind::Pushed => ("one that pulls", "--store"),
                };
                return Err(Failure::not_done(format!(
                    "group {gid} is {is}: start its servers with {needs}. Nothing has changed"
                )));
            }
            let (found, expected) = (stand.slots.len(), *shards.get_or_insert(stand.slots.len()));
            if found != expected {
                return Err(Failure::not_done(format!(
                    "group {gid} has {found} shards, and the store has {expected}: start its servers with --shards \
                     {expected}. Nothing has changed"
                )));
            }
        }
        Ok(shards)
    }

    fn pulled(&self) -> Result<u64, Failure> {
        let rpc = RpcClient::new(self.place.members.clients());
        let mut controller = ControllerClient::new(rpc, CONFIGS).with_patience(self.target.timeout);
        let made = match &self.command {
            Command::Join { groups } => controller.join(groups.clone()),
            Command::Leave { gids } => controller.leave(gids.clone()),
            Command::Move { shard, gid } => controller.move_shard(*shard, *gid),
        };
        made.map_err(|error| match error {
            Error::Unknown(_) | Error::OtherVersion => {
                Failure::unknown(format!("{error}; look with `shard query` before doing it again"))
            }
            Error::Refused(_) => Failure::not_done(format!("{error}. Nothing has changed")),
            error => Failure::not_done(format!(
                "{error}; nothing has changed. A majority of the members that --controller names must be up"
            )),
        })
    }

    fn pushed(&self, net: &Sockets, partition: Partition) -> Result<u64, Failure> {
        let store = self.place.configs().target().clone();
        let mover = Mover::new(net.clone(), partition, store).with_patience(self.target.timeout);
        let ordered = self.with_progress(|| block_on(mover.order(&self.command)));
        match ordered.map_err(|error| not_ordered(&error))? {
            Ordered::Made(num) => Ok(num),
            Ordered::Finished(num) => {
                say("that is so already: it was begun before, or others were at work as well");
                Ok(num)
            }
        }
    }

    /// Shows on a terminal what is on its way, while it lasts.
    fn with_progress<T>(&self, work: impl FnOnce() -> T) -> T {
        let bar = ProgressBar::new_spinner();
        if bar.is_hidden() {
            return work();
        }
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.expect("the template is good"));
        let is_over = AtomicBool::new(false);
        let (configs, look) = (self.place.configs(), Duration::from_millis(200));
        let end = thread::scope(|scope| {
            let shows = scope.spawn(|| {
                let net = Sockets::default();
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(map) = block_on(Map::gather(&net, &configs, look)) {
                        bar.set_message(progress(&map));
                    }
                    bar.tick();
                    thread::park_timeout(look);
                }
            });
            let end = work();
            is_over.store(true, Ordering::Relaxed);
            shows.thread().unpark();
            end
        });
        bar.finish_and_clear();
        end
    }
}

/// Which shards are on their way, in a line.
fn progress(map: &Map) -> String {
    let Some(begun) = &map.begun else { return String::new() };
    let moving = map.shards.iter().filter_map(|shard| Some((shard.shard, shard.moving?)));
    let moving: Vec<_> = moving.collect();
    let shown = moving.iter().take(3).map(|(shard, way)| {
        let Moving { from, to, keys_arrived, keys, .. } = way;
        let from = from.map_or(String::new(), |from| format!(" from group {from}"));
        let keys = keys.map_or(String::new(), |keys| format!(", {keys_arrived} of {keys} keys"));
        format!("shard {shard}{from} to group {to}{keys}")
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    format!("configuration {}: {} shards to go; {shown}", begun.num, moving.len())
}

fn no_group(gid: Gid, servers: &[String], error: &QueryError) -> Failure {
    let what = match error {
        QueryError::NoSuchGroup { .. } => "is not among the groups of these servers".to_owned(),
        error => format!("does not answer: {error}"),
    };
    Failure::not_done(format!(
        "group {gid} {what}. Nothing has changed: start its servers first ({}), or name them with --servers",
        servers.join(", ")
    ))
}

/// How far it has come, and how it goes on.
fn not_ordered(error: &OrderError) -> Failure {
    match error {
        OrderError::Refused(_) => Failure::not_done(format!("{error}. Nothing of this was done")),
        OrderError::Earlier(_) => Failure::not_done(format!(
            "{error}. Nothing of this was done; `shard map` shows what is in the way"
        )),
        OrderError::Move(
            MoveError::Config(_)
            | MoveError::Hole { .. }
            | MoveError::Homeless { .. }
            | MoveError::NotBegun(_)
            | MoveError::NoConfig(_),
        ) => Failure::not_done(format!("{error}. Nothing of this was done")),
        OrderError::Doubt => {
            Failure::unknown(format!("{error}; look with `shard query` before doing it again"))
        }
        OrderError::Move(_) => Failure::unknown(format!(
            "{error}. It is begun, and not finished: the same command finishes it, and any other join, leave or move \
             does so first. `shard map` shows what is in the way"
        )),
    }
}
