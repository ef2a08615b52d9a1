//! Locks over a cluster of the key/value store: leases that are renewed in the background, fencing
//! tokens, and waiting in a fair queue without polling.
//!
//! ```
//! use lock::{Error, Fence, LockClient};
//!
//! # let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
//! # let (peers, clients) = (free()?.port(), free()?.port());
//! # let members = format!("1=127.0.0.1:{peers}/{clients}");
//! // A cluster of one, in memory; `members` is as in `kv serve --cluster`.
//! let cluster: kv::Cluster = members.parse()?;
//! let host = kv::Server::new(&cluster, 1).start_in_memory()?;
//!
//! let locks = LockClient::new(&cluster);
//! let guard = locks.acquire(b"printer")?;
//! assert!(guard.is_held());
//! let held = locks.try_acquire(b"printer");
//! assert!(matches!(held, Err(Error::Held { token, .. }) if token == guard.token()));
//!
//! // What the lock guards remembers the highest token, and so refuses a holder who comes late.
//! let mut printer = Fence::default();
//! printer.admit(guard.token())?;
//! let first = guard.token();
//! guard.release()?;
//! let guard = locks.acquire(b"printer")?;
//! printer.admit(guard.token())?;
//! assert!(printer.admit(first).is_err());
//! # drop(guard);
//! # host.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a lock promises
//!
//! At most one claim holds a lock in the replicated state, and each holder has a higher token than all
//! before it. A process can't know more than that about *now*: it may be stopped between looking at
//! [`Guard::is_held`] and acting on it, for longer than its lease. So whatever must never be done by two
//! carries the token to where it is done, and is refused there if a higher one has been seen ([`Fence`]).
//!
//! A claim lives as long as somebody gives signs of life for it within each lease. Time is measured in
//! two places, which never compare their clocks: a client counts its lease from *before* it asked, and
//! trusts nine tenths of it; the leader counts from *after* it has seen the renewal, and proposes the end
//! of the lease as an entry of the log, which names the renewal that it knew. So a guard stops trusting
//! its lease before anybody else can get the lock, as long as the two clocks run at rates that differ by
//! less than a tenth. A new leader gives every lease a full term.
//!
//! While a machine is suspended, or a virtual one is paused, its clock may stand still, as on Linux. After
//! that a guard believes in its lease for as much longer, although others may have the lock: there it is
//! the token that protects what the lock guards.
//!
//! # What became of a request
//!
//! Each claim has a random name. An acquire whose answer was lost is sent again, and the lock, if it was
//! granted, is recognised as this claim's. A release names token and claim, so that a late copy frees
//! nobody else's lock. A copy of an acquire that was delayed until after its release takes the lock for
//! nobody, until its lease runs out: that costs time, and nothing else.

pub mod client;
pub mod error;
pub mod fence;
pub mod guard;
pub mod versioned;

pub use client::LockClient;
pub use error::Error;
pub use fence::{Fence, StaleToken};
pub use guard::Guard;
pub use kv::lock::{Claimant, HolderId, LockPage, LockState, LockSummary, Token};
pub use versioned::VersionedLock;
