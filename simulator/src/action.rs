//! What can be done to a cluster, as a value. Scripts, random runs and shrunk runs are lists of these;
//! this is the one list of their words.
//!
//! ```
//! use simulator::action::Action;
//! use simulator::cluster::Cluster;
//!
//! let mut cluster = Cluster::calm(3, 42);
//! for line in ["wait 500000", "crash 1 keep=nothing", "wait 500000"] {
//!     Action::parse(line).unwrap().apply(&mut cluster).unwrap();
//! }
//! assert!(cluster.leader().is_some());
//! assert_eq!(Action::parse("wait soon").unwrap_err(), "word 2, `soon`: not a number that fits here");
//! ```

mod apply;
mod words;

use std::fmt;

use raft_core::types::NodeId;

use crate::disk::{Decay, Keep};
use crate::network::Link;
use crate::setup::HOUR;

pub(crate) use apply::{elect, links_of};
pub use words::Words;

/// Something that is done to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes, in microseconds.
    Wait(u64),
    /// Some nodes, or all where the list is empty, are told of so many ticks, one after the other.
    Tick(Vec<NodeId>, u64),
    /// Everything that is under way happens. For clusters whose ticks don't come by themselves.
    Stabilize,
    /// These links are cut.
    Cut(Vec<Link>),
    /// These links are mended.
    Mend(Vec<Link>),
    /// What is sent this way is held back.
    Hold(Vec<Link>),
    /// What is sent this way is held back no more.
    Unhold(Vec<Link>),
    /// All links are mended.
    Heal,
    /// The stream breaks that the first one has dialled to the second: for whole members.
    Break(Link),
    /// What was held back arrives.
    Release(Release),
    /// The faults stop, and these members, or all where the list is empty, must make progress; then all.
    Recover(Vec<NodeId>),
    /// Something is done to one node.
    At(NodeId, Deed),
}

/// Which of the packets that were held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// All of them.
    All,
    /// Those on this link.
    Link(Link),
    /// The oldest one.
    Oldest,
    /// Each with a chance of three in ten, by this seed.
    Some(u64),
}

/// Something that is done to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A client proposes this word, made as long as `size`, so many times.
    Propose {
        /// What is proposed; a number goes before it, so that no two commands are the same.
        word: String,
        /// Its length, at least.
        size: usize,
        /// How often.
        times: u32,
    },
    /// A client reads.
    Read,
    /// It stands for election.
    Campaign,
    /// It is made the leader of a cluster that nothing disturbs.
    Elect,
    /// All its links are cut.
    Isolate,
    /// It loses power.
    Crash(Keep),
    /// It loses power after so many effects on disk and network.
    CrashAfterEffects(u32),
    /// It loses power after so many operations of its disk.
    CrashAfterOperations(u64),
    /// Its process dies, and the machine goes on.
    Kill,
    /// It starts.
    Restart,
    /// It loses power, and something on its disk decays: in a file whose name begins like this, at a place
    /// that the seed chooses.
    Rot(Decay, String, u64),
    /// It gets a new, empty disk.
    Wipe,
    /// It ends in order.
    Stop,
    /// Its writes stay in flight.
    Stall,
    /// No more.
    Unstall,
    /// Its next write or sync fails.
    FailWrite,
    /// Its disk is full after so many bytes.
    Fill(u64),
    /// It takes a snapshot.
    Snapshot,
    /// It is told that its connection to this one closed.
    PeerLost(NodeId),
    /// It is told that a message to this one was dropped.
    Unreachable(NodeId),
    /// It is told of so many ticks at once.
    Burst(u32),
    /// It stands still.
    Pause,
    /// It goes on, and is told of so many ticks at once.
    Resume(u32),
}

/// How often a line may do something.
const MANY: u64 = 100_000;

/// Bytes of a command that a line may propose: more than any is allowed to have.
const SIZE_MAX: u64 = 4 << 20;

/// The words that begin an action, for whoever lists them.
pub const HELP: &str = "\
wait MICROSECONDS   tick N|1,2|all [K]   stabilize   recover [1,2]
cut A->B ..   mend A->B ..   hold A->B ..   unhold A->B ..   heal   break A->B
release [A->B | oldest | some=SEED]
propose N WORD [size=BYTES] [times=K]   read N   campaign N   elect N   isolate N
crash N [keep=nothing|everything|only:K|all-but:K|SEED]   kill N   restart N   wipe N   stop N
rot N kind=flip|lost-write|misdirected|stale-segment [file=PREFIX] [at=SEED]
crash-after N effects=K|operations=K   pause N   resume N [TICKS]   burst N TICKS
stall N   unstall N   fail-write N   fill N BYTES   snapshot N   peer-lost N P   unreachable N P
";

impl Action {
    /// Reads an action from the words of a line.
    ///
    /// # Errors
    /// Says which word is wrong, and how.
    pub fn parse(line: &str) -> Result<Action, String> {
        let words = Words::new(line);
        let action = Action::from_words(&words)?;
        words.finish()?;
        Ok(action)
    }

    /// The same, where the line is taken apart already.
    ///
    /// # Errors
    /// As above.
    pub fn from_words(words: &Words<'_>) -> Result<Action, String> {
        Ok(match words.word(0)? {
            "wait" => Action::Wait(words.number_upto(1, HOUR)?),
            "tick" if words.count() < 3 => Action::Tick(words.nodes(1)?, 1),
            "tick" => Action::Tick(words.nodes(1)?, words.number_upto(2, MANY)?),
            "stabilize" => Action::Stabilize,
            "cut" => Action::Cut(words.links(1)?),
            "mend" => Action::Mend(words.links(1)?),
            "hold" => Action::Hold(words.links(1)?),
            "unhold" => Action::Unhold(words.links(1)?),
            "heal" => Action::Heal,
            "break" => Action::Break(words.link(1)?),
            "release" => Action::Release(release(words)?),
            "recover" if words.count() == 1 => Action::Recover(Vec::new()),
            "recover" => Action::Recover(words.nodes(1)?),
            name => {
                let Some(deed) = deed(name, words)? else {
                    return Err(words.wrong(0, "no such command"));
                };
                Action::At(words.number(1)?, deed)
            }
        })
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Action::Tick(nodes, _) | Action::Recover(nodes) => nodes.clone(),
            Action::Cut(links)
            | Action::Mend(links)
            | Action::Hold(links)
            | Action::Unhold(links) => links.iter().flat_map(|(a, b)| [*a, *b]).collect(),
            Action::Break((a, b)) | Action::Release(Release::Link((a, b))) => vec![*a, *b],
            Action::At(node, Deed::PeerLost(peer) | Deed::Unreachable(peer)) => vec![*node, *peer],
            Action::At(node, _) => vec![*node],
            Action::Wait(_) | Action::Stabilize | Action::Heal | Action::Release(_) => Vec::new(),
        }
    }
}

fn release(words: &Words<'_>) -> Result<Release, String> {
    if let Some(seed) = words.setting("some")? {
        return Ok(Release::Some(seed));
    }
    Ok(match words.word(1) {
        Err(_) => Release::All,
        Ok("oldest") => Release::Oldest,
        Ok(_) => Release::Link(words.link(1)?),
    })
}

/// What is done to the node that the second word names.
fn deed(name: &str, words: &Words<'_>) -> Result<Option<Deed>, String> {
    Ok(Some(match name {
        "propose" => {
            let times = words.setting_upto("times", MANY)?.unwrap_or(1) as u32;
            let size = words.setting_upto("size", SIZE_MAX)?.unwrap_or(0) as usize;
            Deed::Propose { word: words.word(2)?.into(), size, times }
        }
        "read" => Deed::Read,
        "campaign" => Deed::Campaign,
        "elect" => Deed::Elect,
        "isolate" => Deed::Isolate,
        "crash" => Deed::Crash(keep(words)?),
        "crash-after" => match words.setting_upto("effects", MANY)? {
            Some(effects) => Deed::CrashAfterEffects(effects as u32),
            None => {
                let operations = words.setting_upto("operations", MANY)?;
                let unsaid = || words.wrong(0, "after how many? effects=K or operations=K");
                Deed::CrashAfterOperations(operations.ok_or_else(unsaid)?)
            }
        },
        "kill" => Deed::Kill,
        "restart" => Deed::Restart,
        "rot" => {
            let kinds = Decay::ALL.map(|decay| decay.to_string()).join(", ");
            let unsaid = || words.wrong(0, format_args!("how? kind= one of {kinds}"));
            let (place, kind) = words.value("kind").ok_or_else(unsaid)?;
            let unknown = |()| words.wrong(place, format_args!("no such kind; there are {kinds}"));
            let kind = kind.parse().map_err(unknown)?;
            let file = words.value("file");
            let is_known = |prefix: &str| FILES.iter().any(|name| prefix.starts_with(name));
            if let Some((place, _)) = file.filter(|(_, prefix)| !is_known(prefix)) {
                let what = format_args!("files begin with one of {}", FILES.join(", "));
                return Err(words.wrong(place, what));
            }
            let prefix = file.map_or("", |(_, prefix)| prefix);
            Deed::Rot(kind, prefix.into(), words.setting("at")?.unwrap_or(0))
        }
        "wipe" => Deed::Wipe,
        "stop" => Deed::Stop,
        "stall" => Deed::Stall,
        "unstall" => Deed::Unstall,
        "fail-write" => Deed::FailWrite,
        "fill" => Deed::Fill(words.number_upto(2, 1 << 40)?),
        "snapshot" => Deed::Snapshot,
        "peer-lost" => Deed::PeerLost(words.number(2)?),
        "unreachable" => Deed::Unreachable(words.number(2)?),
        "burst" => Deed::Burst(words.number_upto(2, MANY)? as u32),
        "pause" => Deed::Pause,
        "resume" if words.count() < 3 => Deed::Resume(0),
        "resume" => Deed::Resume(words.number_upto(2, MANY)? as u32),
        _ => return Ok(None),
    }))
}

/// What a member's files are called.
const FILES: [&str; 3] = ["wal-", "snapshot-", "staged-"];

fn keep(words: &Words<'_>) -> Result<Keep, String> {
    let Some((place, kept)) = words.value("keep") else { return Ok(Keep::Nothing) };
    let number = |text: &str| {
        text.parse().map_err(|_| words.wrong(place, "not a number, `nothing` or `everything`"))
    };
    Ok(match kept.split_once(':') {
        Some(("only", change)) => Keep::Only(number(change)? as usize),
        Some(("all-but", change)) => Keep::AllBut(number(change)? as usize),
        _ if kept == "nothing" => Keep::Nothing,
        _ if kept == "everything" => Keep::Everything,
        _ => Keep::Random(number(kept)?),
    })
}

/// Numbers or links with something between them.
fn join<T>(of: &[T], between: &str, show: impl Fn(&T) -> String) -> String {
    of.iter().map(show).collect::<Vec<_>>().join(between)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = |links: &[Link]| join(links, " ", |(a, b)| format!("{a}->{b}"));
        let nodes = |nodes: &[NodeId]| match nodes {
            [] => "all".to_string(),
            some => join(some, ",", NodeId::to_string),
        };
        match self {
            Action::Wait(microseconds) => write!(f, "wait {microseconds}"),
            Action::Tick(some, ticks) => write!(f, "tick {} {ticks}", nodes(some)),
            Action::Stabilize => write!(f, "stabilize"),
            Action::Cut(some) => write!(f, "cut {}", links(some)),
            Action::Mend(some) => write!(f, "mend {}", links(some)),
            Action::Hold(some) => write!(f, "hold {}", links(some)),
            Action::Unhold(some) => write!(f, "unhold {}", links(some)),
            Action::Heal => write!(f, "heal"),
            Action::Break(link) => write!(f, "break {}", links(&[*link])),
            Action::Release(Release::All) => write!(f, "release"),
            Action::Release(Release::Link(link)) => write!(f, "release {}", links(&[*link])),
            Action::Release(Release::Oldest) => write!(f, "release oldest"),
            Action::Release(Release::Some(seed)) => write!(f, "release some={seed}"),
            Action::Recover(core) => write!(f, "recover {}", nodes(core)),
            Action::At(node, deed) => deed.write(*node, f),
        }
    }
}

impl Deed {
    fn write(&self, node: NodeId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Propose { word, size, times } => {
                write!(f, "propose {node} {word}")?;
                if *size > word.len() {
                    write!(f, " size={size}")?;
                }
                if *times != 1 { write!(f, " times={times}") } else { Ok(()) }
            }
            Deed::Read => write!(f, "read {node}"),
            Deed::Campaign => write!(f, "campaign {node}"),
            Deed::Elect => write!(f, "elect {node}"),
            Deed::Isolate => write!(f, "isolate {node}"),
            Deed::Crash(Keep::Nothing) => write!(f, "crash {node} keep=nothing"),
            Deed::Crash(Keep::Everything) => write!(f, "crash {node} keep=everything"),
            Deed::Crash(Keep::Only(change)) => write!(f, "crash {node} keep=only:{change}"),
            Deed::Crash(Keep::AllBut(change)) => write!(f, "crash {node} keep=all-but:{change}"),
            Deed::Crash(Keep::Random(seed)) => write!(f, "crash {node} keep={seed}"),
            Deed::CrashAfterEffects(count) => write!(f, "crash-after {node} effects={count}"),
            Deed::CrashAfterOperations(count) => write!(f, "crash-after {node} operations={count}"),
            Deed::Kill => write!(f, "kill {node}"),
            Deed::Restart => write!(f, "restart {node}"),
            Deed::Rot(kind, prefix, seed) => {
                write!(f, "rot {node} kind={kind}")?;
                if !prefix.is_empty() {
                    write!(f, " file={prefix}")?;
                }
                write!(f, " at={seed}")
            }
            Deed::Wipe => write!(f, "wipe {node}"),
            Deed::Stop => write!(f, "stop {node}"),
            Deed::Stall => write!(f, "stall {node}"),
            Deed::Unstall => write!(f, "unstall {node}"),
            Deed::FailWrite => write!(f, "fail-write {node}"),
            Deed::Fill(bytes) => write!(f, "fill {node} {bytes}"),
            Deed::Snapshot => write!(f, "snapshot {node}"),
            Deed::PeerLost(peer) => write!(f, "peer-lost {node} {peer}"),
            Deed::Unreachable(peer) => write!(f, "unreachable {node} {peer}"),
            Deed::Burst(ticks) => write!(f, "burst {node} {ticks}"),
            Deed::Pause => write!(f, "pause {node}"),
            Deed::Resume(ticks) => write!(f, "resume {node} {ticks}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_read_as_it_is_written() {
        let lines = "wait 7\ntick 1,2 3\ntick all 1\nstabilize\ncut 1->2 2->1\nmend 1->2\nhold 1->2\n\
                     unhold 1->2\nheal\nbreak 1->2\nrelease\nrelease 1->2\nrelease oldest\nrelease some=9\n\
                     recover all\nrecover 1,2\npropose 1 x\npropose 1 x size=9 times=2\nread 1\n\
                     campaign 1\nelect 1\nisolate 1\ncrash 1 keep=nothing\ncrash 1 keep=everything\n\
                     crash 1 keep=only:4\ncrash 1 keep=all-but:5\ncrash 1 keep=6\n\
                     crash-after 1 effects=3\ncrash-after 1 operations=3\nkill 1\nrestart 1\nwipe 1\n\
                     rot 1 kind=flip at=7\nrot 1 kind=lost-write file=wal- at=0\n\
                     rot 1 kind=misdirected at=1\nrot 1 kind=stale-segment at=2\n\
                     stop 1\nstall 1\nunstall 1\nfail-write 1\nfill 1 512\nsnapshot 1\npeer-lost 1 2\n\
                     unreachable 1 2\nburst 1 9\npause 1\nresume 1 4";
        for line in lines.lines() {
            assert_eq!(Action::parse(line).unwrap().to_string(), line);
            let name = line.split(' ').next().unwrap();
            assert!(HELP.split_whitespace().any(|word| word == name), "{name} is not in the help");
        }
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, what) in [
            ("crsh 1", "word 1, `crsh`: no such command"),
            ("crash one", "word 2, `one`: not a number that fits here"),
            ("crash 1 kep=nothing", "word 3, `kep=nothing`: has no meaning here"),
            ("crash 1 keep=some", "word 3, `keep=some`: not a number, `nothing` or `everything`"),
            ("cut 1-2", "word 2, `1-2`: not a link like `1->2`"),
            ("crash", "word 2 is missing"),
            ("crash-after 1", "word 1, `crash-after`: after how many? effects=K or operations=K"),
            ("wait 3600000001", "word 2, `3600000001`: more than 3600000000"),
            ("tick all 100001", "word 3, `100001`: more than 100000"),
            ("propose 1 a size=5000000", "word 4, `size=5000000`: more than 4194304"),
            ("propose 1 a times=1000000000", "word 4, `times=1000000000`: more than 100000"),
            ("crash-after 1 operations=9999999", "word 3, `operations=9999999`: more than 100000"),
            ("tick 1,x", "word 2, `1,x`: not nodes like `1,2` or `all`"),
            ("recover 1,1", "word 2, `1,1`: 1 stands there twice"),
            (
                "rot 1",
                "word 1, `rot`: how? kind= one of flip, lost-write, misdirected, stale-segment",
            ),
            (
                "rot 1 kind=flip file=wall",
                "word 4, `file=wall`: files begin with one of wal-, snapshot-, staged-",
            ),
        ] {
            assert_eq!(Action::parse(line).unwrap_err(), what, "{line}");
        }
    }
}
