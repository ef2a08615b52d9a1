//! Runs members of Raft groups. So far: [`session`]s, which apply each command exactly once.
//!
//! ```
//! use raft_host::session::Session;
//!
//! let session = Session::new(0x5eed);
//! assert!(!session.is_open());
//! ```

pub mod session;
