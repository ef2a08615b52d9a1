//! How whole members and their clients are set up, as the words of a script's first line.

use std::fmt;

use raft_core::Config;
use raft_host::core::GroupSettings;
use raft_host::session::Limits;

use crate::action::Words;
use crate::cluster::ClusterConfig;
use crate::network::NetworkFaults;
use crate::setup::{Named, Settings, values_of};

/// Members, their clients, and what goes wrong all the time. Times are in microseconds.
///
/// ```
/// use simulator::world::Setup;
///
/// let setup = Setup::parse("members nodes=5 clients=3 loss=10").unwrap();
/// assert_eq!(setup.clients, 3);
/// assert_eq!(setup.to_string(), "members nodes=5 loss=10 clients=3");
/// assert_eq!(Setup::parse("members ticks=true").unwrap_err(), "word 2, `ticks=true`: has no meaning here");
/// ```
#[derive(Clone, Debug)]
pub struct Setup {
    /// The members.
    pub cluster: ClusterConfig,
    /// Loss, repetition and delay between clients and members; between members, delay alone.
    pub network: NetworkFaults,
    /// Whether claims are not compared with what is on disk.
    pub is_blind: bool,
    /// How many clients there are.
    pub clients: u64,
    /// They begin no more once so many operations were acknowledged, until all is healed.
    pub operations: u64,
    /// How long they think between two operations.
    pub think: (u64, u64),
    /// How long they wait for an answer, up to twice of it.
    pub patience: u64,
    /// How often they give up then, of a thousand times.
    pub abandon_permille: u32,
    /// Sessions that the machine remembers.
    pub sessions_max: u64,
    /// Bytes of a reply that a session remembers.
    pub reply_bytes_max: u64,
    /// How long a member lets a query wait.
    pub query_patience_ticks: u32,
}

impl Default for Setup {
    /// What a script begins with: three members, one client, and nothing goes wrong.
    fn default() -> Self {
        let (limits, settings) = (Limits::default(), GroupSettings::default());
        let mut cluster = ClusterConfig::calm(3, 1);
        cluster.policy.state_bytes_max = None;
        Setup {
            cluster,
            network: NetworkFaults { delay: (500, 500), ..NetworkFaults::default() },
            is_blind: false,
            clients: 1,
            operations: 10_000,
            think: (10_000, 10_000),
            patience: 100_000,
            abandon_permille: 0,
            sessions_max: limits.sessions_max,
            reply_bytes_max: limits.reply_bytes_max,
            query_patience_ticks: settings.query_patience_ticks,
        }
    }
}

impl Settings for Setup {
    const WORD: &'static str = "members";

    fn values(&mut self) -> Vec<Named<'_>> {
        let (mut values, replicas) = values_of(&mut self.cluster, &mut self.network);
        // Of replies to clients: what members tell each other keeps its order.
        values
            .extend(replicas.into_iter().filter(|(name, _)| ["slow", "slow_delay"].contains(name)));
        let clients: [Named<'_>; 9] = [
            ("clients", &mut self.clients),
            ("operations", &mut self.operations),
            ("think", &mut self.think),
            ("answer_within", &mut self.patience),
            ("abandon", &mut self.abandon_permille),
            ("sessions", &mut self.sessions_max),
            ("reply_bytes", &mut self.reply_bytes_max),
            ("query_patience", &mut self.query_patience_ticks),
            ("blind", &mut self.is_blind),
        ];
        values.extend(clients);
        values
    }

    fn config(&self) -> &Config {
        &self.cluster.config
    }
}

impl Setup {
    /// Reads the words of a line `members nodes=3 clients=2 ..`.
    ///
    /// # Errors
    /// Says which word is wrong, and how.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words = Words::new(line);
        let setup = Setup::of_words(&words)?;
        words.finish()?;
        Ok(setup)
    }

    /// All settings by name, for whoever lists them.
    pub fn names() -> Vec<&'static str> {
        Setup::default().values().iter().map(|(name, _)| *name).collect()
    }

    /// How each member runs its group.
    pub(super) fn group_settings(&self) -> GroupSettings {
        let mut settings = GroupSettings::default();
        settings.config = self.cluster.config.clone();
        settings.snapshots = self.cluster.policy;
        settings.query_patience_ticks = self.query_patience_ticks;
        settings
    }

    pub(super) fn sessions(&self) -> Limits {
        Limits { sessions_max: self.sessions_max, reply_bytes_max: self.reply_bytes_max }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}
