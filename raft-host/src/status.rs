//! What a host says about itself: plain numbers and words, ready to be printed as JSON.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raft_core::node::Node;
use raft_core::ready::RoleName;
use raft_core::status::Standing;
use raft_core::types::{ClusterId, GroupId, LogIndex, NodeId, Term};
use raft_core::why::{WhyLagging, WhyNoLeader};

use crate::core::CoreStats;

/// Where one group stands, as its member on this host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// `leader`, `follower`, `candidate`, `pre-candidate` or `joining`; `single` where there is no Raft.
    pub role: &'static str,
    /// Whether this member has a vote, and if not, why.
    pub standing: String,
    /// The current term.
    pub term: Term,
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Why no leader is known.
    pub why_no_leader: Option<String>,
    /// On a leader: who is behind, and why.
    pub lagging: Vec<Lagging>,
    /// This store's incarnation, in hexadecimal; `0` where an operator vouched for it.
    pub incarnation: String,
    /// The end of the log.
    pub last_log_index: LogIndex,
    /// Up to here the log is durable here.
    pub durable_index: LogIndex,
    /// Up to here the log is committed.
    pub commit_index: LogIndex,
    /// Up to here it is applied.
    pub last_applied: LogIndex,
    /// The last entry in the latest snapshot.
    pub snapshot_index: LogIndex,
    /// Up to here the log is compacted.
    pub compacted_index: LogIndex,
    /// Bytes of hard state and retained log in the store.
    pub state_bytes: u64,
    /// Bytes of memory held for payloads of the log.
    pub window_bytes: usize,
    /// Writes handed to the disk and not answered.
    pub writes_in_flight: usize,
    /// Messages that wait for a write.
    pub held_messages: usize,
    /// Why the member is fenced, if it is. It then needs a restart.
    pub fenced: Option<String>,
    /// Why the last snapshot could not be stored, if it could not. The log keeps growing meanwhile.
    pub snapshot_failed: Option<String>,
    /// From whom a message was refused last, and why. Such a message changes nothing.
    pub message_refused: Option<String>,
    /// What a bug said, if the member stopped at one. It then needs a restart.
    pub bug: Option<String>,
    /// Proposals that wait for their end.
    pub open_proposals: usize,
    /// Queries that wait for their end.
    pub open_queries: usize,
    /// Bytes of both.
    pub request_bytes: usize,
    /// The most bytes of both.
    pub request_bytes_max: usize,
    /// What the host counted.
    pub counters: GroupCounters,
    /// What the core counted.
    pub core: CoreCounters,
}

/// A member that is behind its leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Lagging {
    /// Which.
    pub node: NodeId,
    /// Why, in a word: `silent`, `lost-acknowledged`, `read-error`, `snapshot`; and, on the way, `reading`, `probing`,
    /// `in-flight`.
    pub kind: &'static str,
    /// Why, with the numbers.
    pub why: String,
}

impl Lagging {
    fn all(node: &Node) -> Vec<Lagging> {
        let of = |peer: NodeId| {
            let (kind, why) = lagging_text(node.why_lagging(peer))?;
            Some(Lagging { node: peer, kind, why })
        };
        node.membership().voters().iter().filter_map(|member| of(member.node)).collect()
    }
}

/// Counts of one group since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct GroupCounters {
    /// Proposals that entered the log.
    pub proposals: u64,
    /// Proposals that did not.
    pub proposals_refused: u64,
    /// Proposals that were applied.
    pub applied: u64,
    /// Proposals that ended superseded or unknown.
    pub proposals_without_reply: u64,
    /// Queries that were begun.
    pub queries: u64,
    /// Queries that were not.
    pub queries_refused: u64,
    /// Queries that were begun and ended without an answer.
    pub queries_rejected: u64,
    /// Changes of role, leader or term.
    pub changes: u64,
    /// Snapshots taken of the state machine.
    pub snapshots_taken: u64,
}

/// Counts of a group's node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CoreCounters {
    /// Elections it stood for.
    pub elections: u64,
    /// Times it became leader.
    pub leaderships: u64,
    /// Messages of an earlier term or for a former role.
    pub stale_messages: u64,
    /// Messages refused.
    pub rejected_messages: u64,
    /// Snapshots installed from a leader.
    pub snapshots_installed: u64,
}

/// Where a whole host stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HostStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its groups, in rising order.
    pub groups: Vec<GroupStatus>,
    /// Counters over all groups.
    pub core: CoreStats,
    /// The other members, as far as the network knows them.
    pub peers: Vec<PeerStatus>,
    /// Why somebody who is no member, as it seems, was refused last.
    pub stranger_refused: Option<String>,
    /// What went through all connections.
    pub network: NetworkCounters,
    /// Connections of clients.
    pub clients: usize,
    /// How many there may be, which follows from how many files the process may have open.
    pub clients_max: usize,
    /// How many idle ones were closed because others came and all places were taken.
    pub clients_displaced: u64,
    /// How many were closed as soon as they came, because all places were taken and nobody was idle.
    pub clients_refused: u64,
    /// Why nobody can come in at present, where the operating system says so.
    pub accept_failed: Option<String>,
    /// Why writes to the log wait, although nothing has failed: there is no file descriptor for the next segment. They
    /// go on once there is.
    pub log_waits: Option<String>,
    /// What its queues hold.
    pub queues: Vec<Gauge>,
}

/// What the network knows of another member.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its node.
    pub node: NodeId,
    /// Where it is expected.
    pub address: String,
    /// Whether there is a connection, whoever has dialled it.
    pub connected: bool,
    /// Whether the one that we dial stands. Only over that one we can send to it.
    pub reached: bool,
    /// Why that one does not stand, once it has failed.
    pub not_reached: Option<String>,
    /// The incarnation of its store, in hexadecimal, as it said last.
    pub incarnation: Option<String>,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: u64,
    /// Why it refused us, or we it, since it was connected last.
    pub refused: Option<String>,
}

/// What went through all connections since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct NetworkCounters {
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Frames that came in.
    pub frames_in: u64,
    /// Frames that went out.
    pub frames_out: u64,
    /// Messages that were dropped, because there was no connection or no room.
    pub messages_dropped: u64,
    /// Connections that were closed at once because there were too many.
    pub turned_away: u64,
}

/// One queue: how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Gauge {
    /// Which.
    pub name: &'static str,
    /// Bytes in it.
    pub bytes: u64,
    /// The most bytes that may be in it; `None` where other limits bound it.
    pub bytes_max: Option<u64>,
}

impl GroupStatus {
    /// What the node said, if it could still speak.
    pub(crate) fn new(group: GroupId, node: &Node) -> Self {
        let blank = GroupStatus { group, role: "unknown", ..GroupStatus::default() };
        // A node in mid-panic may be in any state.
        let ask = || (node.status(), node.why_no_leader(), Lagging::all(node));
        let Ok((status, why, lagging)) = catch_unwind(AssertUnwindSafe(ask)) else { return blank };
        let stats = status.stats;
        GroupStatus {
            role: role_text(status.role),
            standing: standing_text(&status.standing),
            term: status.term,
            leader: status.leader,
            why_no_leader: why_text(&why),
            lagging,
            incarnation: format!("{:x}", status.identity.member.incarnation),
            last_log_index: status.last_log.index,
            durable_index: status.durable_index,
            commit_index: status.commit_index,
            last_applied: status.last_applied,
            snapshot_index: status.snapshot.index,
            compacted_index: status.compacted.index,
            state_bytes: status.state_bytes,
            window_bytes: status.window_bytes,
            writes_in_flight: status.writes_in_flight,
            held_messages: status.held_messages,
            fenced: status.fenced.map(|error| error.0),
            core: CoreCounters {
                elections: stats.elections,
                leaderships: stats.leaderships,
                stale_messages: stats.stale_messages,
                rejected_messages: stats.rejected_messages,
                snapshots_installed: stats.snapshots_installed,
            },
            ..blank
        }
    }
}

fn role_text(role: RoleName) -> &'static str {
    match role {
        RoleName::Joining => "joining",
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

fn standing_text(standing: &Standing) -> String {
    match standing {
        Standing::Voter => "voter".to_owned(),
        Standing::WaitingFor(nodes) => {
            let nodes = nodes_text(nodes);
            format!("no vote: the store is new, and waits to hear from {nodes}")
        }
        Standing::Replaced(Some(member)) => format!(
            "no vote: the store is new, but the group knows this node by another store, {member}: \
             the directory was emptied or replaced"
        ),
        Standing::Replaced(None) => {
            "no vote: the store is new, but the group has members and this node is none".to_owned()
        }
        _ => "no vote: the membership does not name this node".to_owned(),
    }
}

fn lagging_text(why: WhyLagging) -> Option<(&'static str, String)> {
    Some(match why {
        WhyLagging::NotMine | WhyLagging::UpToDate => return None,
        WhyLagging::Silent { ticks } => {
            ("silent", format!("nothing has come from it for {ticks} ticks"))
        }
        WhyLagging::LostAcknowledged => (
            "lost-acknowledged",
            "its store has lost what it had acknowledged, and must be replaced".to_owned(),
        ),
        WhyLagging::ReadError(what) => {
            ("read-error", format!("what it needs can't be read here: {what}"))
        }
        WhyLagging::Reading => ("reading", "what it needs is being read here".to_owned()),
        WhyLagging::Probing { next_index } => {
            ("probing", format!("where its log parts from this one is asked, now at {next_index}"))
        }
        WhyLagging::Snapshot { snapshot, offset, size } => (
            "snapshot",
            format!("the snapshot at {} is being sent: {offset} of {size} bytes", snapshot.index),
        ),
        WhyLagging::InFlight { match_index, appends } => (
            "in-flight",
            format!("it has the log up to {match_index}; {appends} appends are on their way"),
        ),
        other => ("other", format!("{other:?}")),
    })
}

fn why_text(why: &WhyNoLeader) -> Option<String> {
    Some(match why {
        WhyNoLeader::ThereIsOne(_) => return None,
        WhyNoLeader::Fenced => "this member is fenced".to_owned(),
        WhyNoLeader::NoVote(_) => "this member has no vote and hears from no leader".to_owned(),
        WhyNoLeader::Waiting { ticks } => {
            format!("waits for a leader; asks for pre-votes in {ticks} ticks")
        }
        WhyNoLeader::Unelected { term, quorum, granted, denied, silent, .. } => format!(
            "stands for election from term {term}; {quorum} votes are needed; granted by {}, denied by {}, silent {}",
            nodes_text(granted),
            nodes_text(denied),
            nodes_text(silent)
        ),
        other => format!("{other:?}"),
    })
}

fn nodes_text(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_member_is_behind_is_told_in_words() {
        let (kind, why) = lagging_text(WhyLagging::Silent { ticks: 1237 }).unwrap();
        assert_eq!((kind, why.as_str()), ("silent", "nothing has come from it for 1237 ticks"));
        assert_eq!(lagging_text(WhyLagging::UpToDate), None);
        assert_eq!(
            (nodes_text(&[]), nodes_text(&[1, 3])),
            ("nobody".into(), "node 1 and node 3".into())
        );
    }
}
