//! Which store is meant, and what is to be known of it before it can be asked.

use std::env;
use std::time::Duration;

use kv::Cluster;
use program::Failure;
use raft_host::outcome::QueryError;
use shard::configs::{Configs, NoConfig};
use shard::net::{Sockets, Target as Group, block_on};
use shard::server::CONFIGS;
use shard::{Clerk, Config, Kind, Partition};

use crate::args::{Home, Target};

/// The members that keep the configurations, and for which kind of groups.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) members: Cluster,
    pub(crate) kind: Kind,
}

impl Home {
    /// What the command line says comes first.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        let said = self.controller.clone().map(|members| (members, Kind::Pulled));
        let said = said.or(self.store.clone().map(|members| (members, Kind::Pushed)));
        let (members, kind) = match said {
            Some(said) => said,
            None => match (from("SHARD_CONTROLLER")?, from("SHARD_STORE")?) {
                (Some(members), None) => (members, Kind::Pulled),
                (None, Some(members)) => (members, Kind::Pushed),
                (None, None) => return Err(Failure::wrong(WHICH)),
                (Some(_), Some(_)) => return Err(Failure::wrong(BOTH)),
            },
        };
        Ok(Place { members, kind })
    }
}

const WHICH: &str = "which store? Name the members that keep its configurations: with --controller or in \
                     SHARD_CONTROLLER, if its groups pull, or with --store or in SHARD_STORE, if they are pushed; as in \
                     1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003";

const BOTH: &str = "SHARD_CONTROLLER and SHARD_STORE are both there, and a store is of one kind: unset one of them, or \
                    say --controller or --store";

fn from(variable: &str) -> Result<Option<Cluster>, Failure> {
    // An empty one is as good as none.
    let Some(members) = env::var_os(variable).filter(|members| !members.is_empty()) else {
        return Ok(None);
    };
    let members = members.to_string_lossy().parse();
    members.map(Some).map_err(|error| Failure::wrong(format!("{variable}: {error}")))
}

impl Place {
    pub(crate) fn configs(&self) -> Configs {
        let at = Group { group: CONFIGS, servers: self.members.clients() };
        match self.kind {
            Kind::Pulled => Configs::Controller(at),
            Kind::Pushed => Configs::Store(at),
        }
    }
}

/// A store that has been found.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) net: Sockets,
    pub(crate) configs: Configs,
    pub(crate) config: Config,
    pub(crate) kind: Kind,
    pub(crate) patience: Duration,
}

impl Target {
    /// Reads the configuration, by which the number of shards is known.
    pub(crate) fn find(&self) -> Result<Store, Failure> {
        let place = self.home.place()?;
        self.find_at(&place).map_err(|error| no_config(error, place.kind))
    }

    pub(crate) fn find_at(&self, place: &Place) -> Result<Store, NoConfig> {
        let (net, configs, patience) = (Sockets::default(), place.configs(), self.timeout);
        let config = block_on(configs.find(&net, patience))?;
        Ok(Store { net, configs, config, kind: place.kind, patience })
    }
}

impl Store {
    pub(crate) fn partition(&self) -> Partition {
        partition(self.config.shards.len())
    }

    /// A client, where somebody serves something.
    pub(crate) fn clerk(&self) -> Result<Clerk<Sockets>, Failure> {
        if self.config.groups.is_empty() {
            return Err(Failure::not_done(NOBODY));
        }
        let clerk = Clerk::connect(self.net.clone(), self.partition(), self.configs.clone());
        Ok(clerk.with_patience(self.patience))
    }
}

/// By the hash that all stores of this program have.
pub(crate) fn partition(shards: usize) -> Partition {
    Partition { shards: shards as u32, ..Partition::default() }
}

const NOBODY: &str = "no group serves anything: let one join, with `shard join GROUP`";

/// Why there is no configuration, and what to do about it.
pub(crate) fn no_config(error: NoConfig, kind: Kind) -> Failure {
    let (this, other) = match kind {
        Kind::Pulled => ("--controller", "--store"),
        Kind::Pushed => ("--store", "--controller"),
    };
    Failure::not_done(match &error {
        NoConfig::NotThere => NOBODY.to_owned(),
        NoConfig::NotRead(QueryError::NoSuchGroup { .. }) => format!(
            "these servers keep no configurations: {this} must name those that do, which were started without --servers"
        ),
        NoConfig::NotRead(_) => {
            format!("{error}; a majority of the members that {this} names must be up")
        }
        NoConfig::Unreadable | NoConfig::Senseless(_) => {
            format!("{error}; is it a store of the other kind, for {other}?")
        }
    })
}
