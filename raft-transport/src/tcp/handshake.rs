//! The handshake: who dials says who it is and whom it wants; the answer says who was reached, or
//! why not. docs/wire-format.md draws the bytes.
//!
//! It keeps clusters, members and stores apart that met by mistake. It is no proof of identity:
//! that takes TLS, so plain TCP belongs on a network where everybody is trusted.

use std::collections::BTreeSet;

use raft_core::types::{ClusterId, Incarnation, Member, NodeId};
use raft_core::wire::Segments;

use super::frame::{self, FrameKind};

/// The lowest version of the protocol that we speak.
pub const VERSION_LOWEST: u8 = 1;

/// The highest version of the protocol that we speak.
pub const VERSION_HIGHEST: u8 = 1;

/// No frame of the handshake has a longer body.
pub const HANDSHAKE_BYTES_MAX: usize = 64;

/// Who we are, and who may talk to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our node and the incarnation of its store, one for the whole process.
    pub member: Member,
    /// The nodes that may dial us. Anybody else is a stranger.
    pub peers: BTreeSet<NodeId>,
}

/// What the dialling side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) cluster: ClusterId,
    pub(crate) from: Member,
    /// Whom it wants; incarnation 0 where it does not know.
    pub(crate) target: Member,
    pub(crate) version_lowest: u8,
    pub(crate) version_highest: u8,
}

/// What the accepting side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) cluster: ClusterId,
    pub(crate) from: Member,
    pub(crate) target: Member,
    /// The highest version that both speak.
    pub(crate) version: u8,
}

/// Why a handshake failed. Names the fact on the side that refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The other side belongs to another cluster.
    #[error("it belongs to another cluster")]
    WrongCluster,
    /// The dialled address is another node's.
    #[error("the address is that of node {node}")]
    WrongNode {
        /// Who is there.
        node: NodeId,
    },
    /// The node that was dialled has another store than the one that was meant.
    #[error("the node has a store of incarnation {incarnation:x} now")]
    WrongIncarnation {
        /// The incarnation that it has.
        incarnation: Incarnation,
    },
    /// The dialling node is nobody that the other side knows.
    #[error("the dialling node is not known there")]
    Stranger,
    /// The sides have no version of the protocol in common.
    #[error("it speaks protocol versions {lowest} to {highest}")]
    NoCommonVersion {
        /// The lowest version of the side that refused.
        lowest: u8,
        /// Its highest.
        highest: u8,
    },
}

/// Why bytes are no frame of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no handshake: {0} bytes of it, or an unknown reason")]
pub struct BadHandshake(pub usize);

impl Refusal {
    const fn to_parts(self) -> (u8, u64) {
        match self {
            Refusal::WrongCluster => (1, 0),
            Refusal::WrongNode { node } => (2, node),
            Refusal::WrongIncarnation { incarnation } => (3, incarnation),
            Refusal::Stranger => (4, 0),
            Refusal::NoCommonVersion { lowest, highest } => {
                (5, lowest as u64 | (highest as u64) << 8)
            }
        }
    }

    const fn from_parts(reason: u8, value: u64) -> Option<Self> {
        Some(match reason {
            1 => Refusal::WrongCluster,
            2 => Refusal::WrongNode { node: value },
            3 => Refusal::WrongIncarnation { incarnation: value },
            4 => Refusal::Stranger,
            5 => Refusal::NoCommonVersion { lowest: value as u8, highest: (value >> 8) as u8 },
            _ => return None,
        })
    }

    pub(crate) fn to_frame(self) -> Segments {
        let (reason, value) = self.to_parts();
        framed(FrameKind::Refuse, &[&[reason], &value.to_le_bytes()])
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, BadHandshake> {
        let (reason, value) = body.split_first().ok_or(BadHandshake(0))?;
        let value = value.try_into().map_err(|_| BadHandshake(body.len()))?;
        Refusal::from_parts(*reason, u64::from_le_bytes(value)).ok_or(BadHandshake(body.len()))
    }
}

impl Hello {
    pub(crate) fn new(local: &Local, target: Member) -> Self {
        Hello {
            cluster: local.cluster,
            from: local.member,
            target,
            version_lowest: VERSION_LOWEST,
            version_highest: VERSION_HIGHEST,
        }
    }

    pub(crate) fn to_frame(self) -> Segments {
        let parties = parties(self.cluster, self.from, self.target);
        framed(FrameKind::Hello, &[&parties, &[self.version_lowest, self.version_highest]])
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, BadHandshake> {
        let (cluster, from, target, versions) = split_parties(body)?;
        let [version_lowest, version_highest] =
            versions.try_into().map_err(|_| BadHandshake(body.len()))?;
        Ok(Hello { cluster, from, target, version_lowest, version_highest })
    }

    /// Whether we talk to whoever says this, and in which version.
    pub(crate) fn judge(&self, local: &Local) -> Result<Welcome, Refusal> {
        if self.cluster != local.cluster {
            return Err(Refusal::WrongCluster);
        }
        if !local.peers.contains(&self.from.node) || self.from.node == local.member.node {
            return Err(Refusal::Stranger);
        }
        is_member(local.member, self.target)?;
        let version = self.version_highest.min(VERSION_HIGHEST);
        if version < VERSION_LOWEST.max(self.version_lowest) {
            return Err(no_common_version());
        }
        Ok(Welcome { cluster: local.cluster, from: local.member, target: self.from, version })
    }
}

impl Welcome {
    pub(crate) fn to_frame(self) -> Segments {
        let parties = parties(self.cluster, self.from, self.target);
        framed(FrameKind::Welcome, &[&parties, &[self.version]])
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, BadHandshake> {
        let (cluster, from, target, version) = split_parties(body)?;
        let [version] = version.try_into().map_err(|_| BadHandshake(body.len()))?;
        Ok(Welcome { cluster, from, target, version })
    }

    /// Whether whoever says this is the one we dialled.
    pub(crate) fn judge(&self, local: &Local, dialled: Member) -> Result<(), Refusal> {
        if self.cluster != local.cluster {
            return Err(Refusal::WrongCluster);
        }
        is_member(self.from, dialled)?;
        if self.target != local.member {
            return Err(Refusal::Stranger);
        }
        if !(VERSION_LOWEST..=VERSION_HIGHEST).contains(&self.version) {
            return Err(no_common_version());
        }
        Ok(())
    }
}

const fn no_common_version() -> Refusal {
    Refusal::NoCommonVersion { lowest: VERSION_LOWEST, highest: VERSION_HIGHEST }
}

/// Whether `reached` is the one that was `wanted`, whose incarnation may be unknown (0).
fn is_member(reached: Member, wanted: Member) -> Result<(), Refusal> {
    if reached.node != wanted.node {
        return Err(Refusal::WrongNode { node: reached.node });
    }
    if wanted.incarnation != 0 && reached.incarnation != wanted.incarnation {
        return Err(Refusal::WrongIncarnation { incarnation: reached.incarnation });
    }
    Ok(())
}

const PARTIES_BYTES: usize = 40;

fn parties(cluster: ClusterId, from: Member, target: Member) -> [u8; PARTIES_BYTES] {
    let mut bytes = [0; PARTIES_BYTES];
    let words = [cluster, from.node, from.incarnation, target.node, target.incarnation];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn split_parties(body: &[u8]) -> Result<(ClusterId, Member, Member, &[u8]), BadHandshake> {
    let (parties, rest) =
        body.split_first_chunk::<PARTIES_BYTES>().ok_or(BadHandshake(body.len()))?;
    let word = |at: usize| {
        let bytes = parties[at * 8..at * 8 + 8].try_into().expect("a word has eight bytes");
        u64::from_le_bytes(bytes)
    };
    let from = Member { node: word(1), incarnation: word(2) };
    let target = Member { node: word(3), incarnation: word(4) };
    Ok((word(0), from, target, rest))
}

fn framed(kind: FrameKind, pieces: &[&[u8]]) -> Segments {
    let mut out = Segments::new();
    frame::begin(&mut out);
    pieces.iter().for_each(|piece| out.put(piece));
    frame::seal(kind, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Member = Member { node: 1, incarnation: 11 };
    const B: Member = Member { node: 2, incarnation: 22 };

    fn local(member: Member) -> Local {
        Local { cluster: 7, member, peers: [1, 2, 3].into() }
    }

    fn body(frame: Segments) -> Vec<u8> {
        frame.to_bytes()[frame::HEADER_BYTES..].to_vec()
    }

    #[test]
    fn frames_of_the_handshake_come_back_and_cuts_are_refused() {
        let hello = Hello::new(&local(A), B);
        let bytes = body(hello.to_frame());
        assert_eq!(Hello::parse(&bytes), Ok(hello));
        assert!((0..bytes.len()).all(|end| Hello::parse(&bytes[..end]).is_err()));
        let welcome = hello.judge(&local(B)).unwrap();
        let bytes = body(welcome.to_frame());
        assert_eq!(Welcome::parse(&bytes), Ok(welcome));
        assert!((0..bytes.len()).all(|end| Welcome::parse(&bytes[..end]).is_err()));
        assert!(bytes.len() <= HANDSHAKE_BYTES_MAX);
        for refusal in [
            Refusal::WrongCluster,
            Refusal::WrongNode { node: 9 },
            Refusal::WrongIncarnation { incarnation: u64::MAX },
            Refusal::Stranger,
            no_common_version(),
        ] {
            let bytes = body(refusal.to_frame());
            assert_eq!(Refusal::parse(&bytes), Ok(refusal));
            assert!((0..bytes.len()).all(|end| Refusal::parse(&bytes[..end]).is_err()));
        }
        assert!(Refusal::parse(&[0; 9]).is_err());
    }

    #[test]
    fn everybody_but_the_expected_is_refused_by_name() {
        let hello = Hello::new(&local(A), B);
        let judge = |hello: Hello| hello.judge(&local(B)).map(|welcome| welcome.version);
        assert_eq!(judge(hello), Ok(1));
        let unknown = Member { node: 2, incarnation: 0 };
        assert_eq!(judge(Hello { target: unknown, ..hello }), Ok(1));
        assert_eq!(judge(Hello { cluster: 8, ..hello }), Err(Refusal::WrongCluster));
        for node in [0, 2, 4, u64::MAX] {
            let from = Member { node, incarnation: 11 };
            assert_eq!(judge(Hello { from, ..hello }), Err(Refusal::Stranger));
        }
        let wrong_node = Member { node: 3, incarnation: 0 };
        let refusal = Refusal::WrongNode { node: 2 };
        assert_eq!(judge(Hello { target: wrong_node, ..hello }), Err(refusal));
        let former_store = Member { node: 2, incarnation: 21 };
        let refusal = Refusal::WrongIncarnation { incarnation: 22 };
        assert_eq!(judge(Hello { target: former_store, ..hello }), Err(refusal));
        let newer = Hello { version_lowest: 2, version_highest: 5, ..hello };
        assert_eq!(judge(newer), Err(no_common_version()));
        assert_eq!(judge(Hello { version_highest: 5, ..hello }), Ok(1));
    }

    #[test]
    fn an_answer_of_somebody_else_is_refused() {
        let welcome = Hello::new(&local(A), B).judge(&local(B)).unwrap();
        let judge = |welcome: Welcome| welcome.judge(&local(A), B);
        assert_eq!(judge(welcome), Ok(()));
        assert_eq!(judge(Welcome { cluster: 8, ..welcome }), Err(Refusal::WrongCluster));
        assert_eq!(judge(Welcome { target: B, ..welcome }), Err(Refusal::Stranger));
        assert_eq!(judge(Welcome { version: 2, ..welcome }), Err(no_common_version()));
        let from = Member { node: 3, incarnation: 22 };
        assert_eq!(judge(Welcome { from, ..welcome }), Err(Refusal::WrongNode { node: 3 }));
        let from = Member { node: 2, incarnation: 23 };
        let refusal = Refusal::WrongIncarnation { incarnation: 23 };
        assert_eq!(judge(Welcome { from, ..welcome }), Err(refusal));
    }
}
