//! MapReduce over a folder that its workers share: the programming model, the applications that come
//! with it, and the work of one task.
//!
//! An application says what a record becomes and what becomes of a key with its values:
//!
//! ```
//! use mapreduce::application::{AppError, Application, Emitter, Output, Record, Values};
//!
//! /// How long the longest line is that begins with a letter.
//! struct Longest;
//!
//! impl Application for Longest {
//!     fn map(&self, line: &Record<'_>, emit: &mut Emitter<'_>) -> Result<(), AppError> {
//!         let Some(first) = line.bytes.first() else { return Ok(()) };
//!         Ok(emit.pair(&[*first], line.bytes.len().to_string().as_bytes())?)
//!     }
//!
//!     fn reduce(
//!         &self,
//!         letter: &[u8],
//!         lengths: &mut Values<'_>,
//!         output: &mut Output<'_>,
//!     ) -> Result<(), AppError> {
//!         let mut longest = 0;
//!         while let Some(length) = lengths.next()? {
//!             longest = longest.max(mapreduce::decimal::parse(length).unwrap_or(0));
//!         }
//!         Ok(output.line(letter, longest.to_string().as_bytes())?)
//!     }
//! }
//!
//! let poem = b"Tyger Tyger\nburning bright\nIn the forests\nof the night\n";
//! let lines = mapreduce::sequential::sequential(&Longest, &[("poem", poem)])?;
//! assert_eq!(lines, b"I 14\nT 11\nb 14\no 12\n");
//! # Ok::<(), mapreduce::data::TaskError>(())
//! ```
//!
//! The same application, told to [`data::run_map`] and [`data::run_reduce`], handles any amount of data
//! in bounded memory: a map task reads a split of a file and leaves one sorted run for each reduce task;
//! a reduce task merges its runs and writes one output file.

pub mod application;
pub mod apps;
pub mod client;
mod codec;
pub mod command;
pub mod data;
pub mod decimal;
pub mod external;
pub mod job;
pub mod limits;
pub mod local;
pub mod machine;
pub mod partition;
pub mod paths;
pub mod plan;
pub mod query;
pub mod sequential;
pub mod server;
pub mod submit;
pub mod watch;
pub mod worker;

pub use codec::Unreadable;
pub use server::Server;
