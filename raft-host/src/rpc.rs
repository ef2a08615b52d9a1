//! Requests and responses over the network, on a listener of their own: propose, query, status, and [last wills](will).
//!
//! A server reads requests as fast as its groups take them: when a client has too much open, or all
//! have, its socket is read no more until there is room. [`RpcClient`] is the other side.

pub mod client;
pub(crate) mod codec;
mod connection;
pub mod repeat;
mod search;
pub(crate) mod service;
mod silence;
pub mod will;

pub use client::{PendingProposal, RpcClient, RpcOptions};
pub use repeat::Repeated;
