//! How a cluster is set up, as the words of a script's first line: the one list of their names.
//!
//! ```
//! use simulator::setup::Setup;
//!
//! let setup = Setup::parse("cluster nodes=5 seed=42 ticks=true loss=100 delay=100..3000").unwrap();
//! assert_eq!(setup.network.loss_permille, 100);
//! assert_eq!(setup.to_string(), "cluster nodes=5 seed=42 delay=100..3000 loss=100 ticks=true");
//! ```

use std::fmt;

use raft_core::Config;

use crate::action::Words;
use crate::cluster::{Cluster, ClusterConfig};
use crate::network::NetworkFaults;
use crate::storage::Missing;

/// A cluster, its limits and what goes wrong all the time.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The members.
    pub cluster: ClusterConfig,
    /// The network between them.
    pub network: NetworkFaults,
    /// Whether claims are not compared with what is on disk: see [`Cluster::look_at_disks`].
    pub is_blind: bool,
}

impl Default for Setup {
    /// What a script begins with: three members, nothing goes wrong, and time stands still.
    fn default() -> Self {
        let mut cluster = ClusterConfig::calm(3, 1);
        cluster.ticks = false;
        cluster.disk.write_delay = (0, 0);
        cluster.disk.read_delay = (0, 0);
        cluster.policy.state_bytes_max = None;
        cluster.policy.lag_entries = 0;
        let network = NetworkFaults { delay: (500, 500), ..NetworkFaults::default() };
        Setup { cluster, network, is_blind: false }
    }
}

/// A value that has a place in a script's first line.
pub(crate) trait Value {
    fn read(&mut self, text: &str) -> Option<()>;
    fn show(&self) -> String;
    /// The smallest and the largest number in it, if there are numbers.
    fn numbers(&self) -> Option<(u64, u64)> {
        None
    }
}

/// An hour of simulated time: nothing takes longer.
pub(crate) const HOUR: u64 = 3_600_000_000;

/// What a setting may be. Far more than anybody wants, and little enough to be added up.
fn bounds(name: &str) -> (u64, u64) {
    match name {
        "seed" => (0, u64::MAX),
        "nodes" => (1, 9),
        "clients" => (1, 100),
        "heartbeat" | "election_timeout" => (1, (1 << 30) - 1),
        "append_bytes" | "inflight" | "inflight_bytes" | "undurable" | "uncommitted"
        | "apply_bytes" | "chunk" | "write_stall" | "read_patience" | "reads" | "sessions" => {
            (1, 1 << 40)
        }
        "segment" => (1024, 64 << 20),
        "batch" => (1, 64 << 20),
        "answer_within" => (1, HOUR),
        "delay" | "slow_delay" | "snapshot_delay" | "write_delay" | "read_delay" | "think" => {
            (0, HOUR)
        }
        // With more, a healthy leader's heartbeats may come after a timeout: they are due twice in the shortest one.
        "drift" => (0, 300),
        "loss" | "duplicates" | "slow" | "holds" | "read_errors" | "abandon" => (0, 1000),
        _ => (0, 1 << 40),
    }
}

macro_rules! plain_values {
    ($($kind:ty: $number:expr),*) => { $(
        impl Value for $kind {
            fn read(&mut self, text: &str) -> Option<()> {
                *self = text.parse().ok()?;
                Some(())
            }
            fn show(&self) -> String {
                self.to_string()
            }
            fn numbers(&self) -> Option<(u64, u64)> {
                let number: fn($kind) -> Option<u64> = $number;
                number(*self).map(|number| (number, number))
            }
        }
    )* };
}
plain_values! { bool: |_| None, u32: |n| Some(u64::from(n)), u64: Some }

/// `all` is no limit.
impl Value for usize {
    fn read(&mut self, text: &str) -> Option<()> {
        *self = if text == "all" { usize::MAX } else { text.parse().ok()? };
        Some(())
    }
    fn show(&self) -> String {
        if *self == usize::MAX { "all".into() } else { self.to_string() }
    }
    fn numbers(&self) -> Option<(u64, u64)> {
        (*self != usize::MAX).then_some((*self as u64, *self as u64))
    }
}

/// A range, as `100..3000`; one number is a range of itself.
impl Value for (u64, u64) {
    fn read(&mut self, text: &str) -> Option<()> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        *self = (first.parse().ok()?, last.parse().ok()?);
        (self.0 <= self.1).then_some(())
    }
    fn show(&self) -> String {
        if self.0 == self.1 { self.0.to_string() } else { format!("{}..{}", self.0, self.1) }
    }
    fn numbers(&self) -> Option<(u64, u64)> {
        Some(*self)
    }
}

impl Value for Option<u64> {
    fn read(&mut self, text: &str) -> Option<()> {
        *self = if text == "none" { None } else { Some(text.parse().ok()?) };
        Some(())
    }
    fn show(&self) -> String {
        self.map_or("none".into(), |number| number.to_string())
    }
    fn numbers(&self) -> Option<(u64, u64)> {
        self.map(|number| (number, number))
    }
}

const MISSING: [(&str, Missing); 6] = [
    ("log", Missing::Log),
    ("hard-state", Missing::HardState),
    ("snapshot", Missing::Snapshot),
    ("snapshot-record", Missing::SnapshotRecord),
    ("directory", Missing::Directory),
    ("late-sync", Missing::LateSync),
];

/// The names of syncs that can be left out.
pub fn missing_names() -> [&'static str; 6] {
    MISSING.map(|(name, _)| name)
}

impl Value for Option<Missing> {
    fn read(&mut self, text: &str) -> Option<()> {
        let found = MISSING.iter().find(|(name, _)| *name == text);
        *self = if text == "none" { None } else { Some(found?.1) };
        Some(())
    }
    fn show(&self) -> String {
        let found = MISSING.iter().find(|(_, missing)| Some(*missing) == *self);
        found.map_or("none", |(name, _)| name).into()
    }
}

/// A value and its name.
pub(crate) type Named<'a> = (&'static str, &'a mut dyn Value);

/// What a script's first line says: a word, and settings by name.
pub(crate) trait Settings: Clone + Default {
    /// The line's first word.
    const WORD: &'static str;

    /// Every setting and its name.
    fn values(&mut self) -> Vec<Named<'_>>;

    /// The limits of each member.
    fn config(&self) -> &Config;

    /// What is wrong with them together.
    fn check(&self, words: &Words<'_>) -> Result<(), String> {
        let config = self.config();
        let Err(error) = config.check() else { return Ok(()) };
        let (timeout, heartbeat) = (config.election_timeout_ticks, config.heartbeat_ticks);
        if timeout / 2 >= heartbeat {
            return Err(error.to_string());
        }
        let what = format!("election_timeout={timeout} is not twice heartbeat={heartbeat}");
        let word = words.value("heartbeat").or_else(|| words.value("election_timeout"));
        Err(word.map_or(what.clone(), |(place, _)| words.wrong(place, what)))
    }

    /// Reads the words of the line.
    fn of_words(words: &Words<'_>) -> Result<Self, String> {
        if words.word(0)? != Self::WORD {
            let what = format!("a script begins with its `{}`", Self::WORD);
            return Err(words.wrong(0, what));
        }
        let mut settings = Self::default();
        for (name, value) in settings.values() {
            if let Some((place, text)) = words.value(name) {
                value.read(text).ok_or_else(|| words.wrong(place, "not a value that fits here"))?;
                let (least, most) = bounds(name);
                if value.numbers().is_some_and(|(first, last)| first < least || last > most) {
                    return Err(words.wrong(place, format_args!("not within {least}..{most}")));
                }
            }
        }
        settings.check(words)?;
        Ok(settings)
    }

    /// The line that makes them again; what is as in every script is left out.
    fn line(&self) -> String {
        let unlike = self.unlike(&Self::default());
        let mut line = Self::WORD.to_string();
        for (name, value) in self.clone().values() {
            if unlike.contains(&name) || name == "nodes" {
                line.push_str(&format!(" {name}={}", value.show()));
            }
        }
        line
    }

    /// Names of the settings that are not as in other ones.
    fn unlike(&self, other: &Self) -> Vec<&'static str> {
        let (mut this, mut other) = (self.clone(), other.clone());
        let pairs = this.values().into_iter().zip(other.values());
        let unlike = pairs.filter(|(a, b)| a.1.show() != b.1.show());
        unlike.map(|(a, _)| a.0).collect()
    }

    /// A setting by its name, as it is shown.
    fn shown(&self, name: &str) -> Option<String> {
        self.clone().values().iter().find(|value| value.0 == name).map(|value| value.1.show())
    }

    /// These settings, with one of them like this; the same where it does not fit.
    fn with(&self, name: &str, text: &str) -> Self {
        let mut changed = self.clone();
        let value = changed.values().into_iter().find(|value| value.0 == name);
        match value.and_then(|value| value.1.read(text)) {
            Some(()) => changed,
            None => self.clone(),
        }
    }
}

/// The settings that replicas and whole members have, and those that replicas alone have.
pub(crate) fn values_of<'a>(
    cluster: &'a mut ClusterConfig,
    network: &'a mut NetworkFaults,
) -> (Vec<Named<'a>>, Vec<Named<'a>>) {
    let ClusterConfig {
        nodes,
        seed,
        config,
        policy,
        asks,
        disk,
        snapshot_delay,
        ticks,
        drift_permille,
        ties,
    } = cluster;
    let both: Vec<Named<'_>> = vec![
        ("nodes", nodes),
        ("seed", seed),
        ("asks", asks),
        ("election_timeout", &mut config.election_timeout_ticks),
        ("heartbeat", &mut config.heartbeat_ticks),
        ("noop", &mut config.noop),
        ("pre_vote", &mut config.pre_vote),
        ("check_quorum", &mut config.check_quorum),
        ("append_bytes", &mut config.append_bytes_max),
        ("inflight", &mut config.inflight_appends_max),
        ("inflight_bytes", &mut config.inflight_bytes_max),
        ("undurable", &mut config.undurable_bytes_max),
        ("uncommitted", &mut config.uncommitted_bytes_max),
        ("window", &mut config.window_bytes_max),
        ("apply_bytes", &mut config.apply_bytes_max),
        ("chunk", &mut config.chunk_bytes_max),
        ("write_stall", &mut config.write_stall_ticks),
        ("patience", &mut config.ticket_patience_ticks),
        ("read_patience", &mut config.read_patience_ticks),
        ("reads", &mut config.reads_max),
        ("snapshot_at", &mut policy.state_bytes_max),
        ("lag", &mut policy.lag_entries),
        ("snapshot_delay", snapshot_delay),
        ("write_delay", &mut disk.write_delay),
        ("read_delay", &mut disk.read_delay),
        ("read_errors", &mut disk.read_error_permille),
        ("tail", &mut disk.tail_bytes),
        ("segment", &mut disk.segment_bytes),
        ("batch", &mut disk.batch_bytes),
        ("missing", &mut disk.missing),
        ("delay", &mut network.delay),
        ("loss", &mut network.loss_permille),
        ("duplicates", &mut network.duplicate_permille),
        ("drift", drift_permille),
        ("ties", ties),
    ];
    let replicas: Vec<Named<'_>> = vec![
        ("ticks", ticks),
        ("in_order", &mut network.in_order),
        ("slow", &mut network.slow_permille),
        ("slow_delay", &mut network.slow_delay),
        ("slow_replies_only", &mut network.slow_replies_only),
        ("holds", &mut network.hold_permille),
    ];
    (both, replicas)
}

impl Settings for Setup {
    const WORD: &'static str = "cluster";

    fn values(&mut self) -> Vec<Named<'_>> {
        let Setup { cluster, network, is_blind } = self;
        let (mut values, replicas) = values_of(cluster, network);
        values.extend(replicas);
        values.push(("blind", is_blind));
        values
    }

    fn config(&self) -> &Config {
        &self.cluster.config
    }
}

impl Setup {
    /// Reads the words of a line `cluster nodes=3 ..`.
    ///
    /// # Errors
    /// Says which word is wrong, and how.
    pub fn parse(line: &str) -> Result<Self, String> {
        let words = Words::new(line);
        let setup = Setup::from_words(&words)?;
        words.finish()?;
        Ok(setup)
    }

    /// The same, where the line is taken apart already.
    ///
    /// # Errors
    /// As above.
    pub fn from_words(words: &Words<'_>) -> Result<Self, String> {
        Setup::of_words(words)
    }

    /// All settings by name, for whoever lists them.
    pub fn names() -> Vec<&'static str> {
        Setup::default().values().iter().map(|(name, _)| *name).collect()
    }

    /// Starts the members.
    pub fn start(&self) -> Cluster {
        let mut cluster = Cluster::new(self.cluster.clone());
        cluster.network.faults = self.network;
        cluster.look_at_disks(!self.is_blind);
        cluster
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named() {
        for (line, what) in [
            ("clster", "word 1, `clster`: a script begins with its `cluster`"),
            ("cluster nodse=3", "word 2, `nodse=3`: has no meaning here"),
            ("cluster nodes=3 delay=9..3", "word 3, `delay=9..3`: not a value that fits here"),
            ("cluster batch=0", "word 2, `batch=0`: not within 1..67108864"),
            ("cluster loss=1001", "word 2, `loss=1001`: not within 0..1000"),
            (
                "cluster delay=0..18446744073709551615",
                "word 2, `delay=0..18446744073709551615`: not within 0..3600000000",
            ),
            ("cluster missing=all", "word 2, `missing=all`: not a value that fits here"),
            ("cluster nodes=0", "word 2, `nodes=0`: not within 1..9"),
            ("cluster heartbeat=0", "word 2, `heartbeat=0`: not within 1..1073741823"),
            (
                "cluster nodes=3 heartbeat=8",
                "word 3, `heartbeat=8`: election_timeout=15 is not twice heartbeat=8",
            ),
            (
                "cluster election_timeout=5",
                "word 2, `election_timeout=5`: election_timeout=5 is not twice heartbeat=5",
            ),
        ] {
            assert_eq!(Setup::parse(line).unwrap_err(), what, "{line}");
        }
    }

    #[test]
    fn what_no_member_would_take_is_named_by_its_setting() {
        for name in Setup::names() {
            let line = format!("cluster {name}=0");
            let Err(what) = Setup::parse(&line) else { continue };
            assert!(what.starts_with(&format!("word 2, `{name}=0`: not ")), "{what}");
        }
    }

    #[test]
    fn every_setting_is_read_as_it_is_shown() {
        let line = "cluster nodes=5 seed=7 snapshot_at=300 tail=50 missing=hard-state delay=1..2";
        assert_eq!(Setup::parse(line).unwrap().to_string(), line);
    }
}
