//! What a node needs from its network.

use crate::message::Envelope;

/// Sends messages to the other members. What arrives is handed to whoever drives the replica.
pub trait Transport {
    /// Sends, if it can. Best effort: it never blocks, and a message may be lost, late, twice there
    /// or out of order; Raft copes. A transport that knows it dropped a message may say so with
    /// `Node::unreachable`, one whose connection closed with `Node::peer_lost`.
    fn send(&mut self, envelope: Envelope);
}
