//! The applications that come with the crate: word count, inverted index, sort, and those with which the
//! labs test that a job outlives its workers.

mod indexer;
mod labs;
mod sort;
mod wc;
mod words;

pub use indexer::Indexer;
pub use labs::{Crash, EarlyExit, JobCount, MapTiming, ReduceTiming};
pub use sort::Sort;
pub use wc::WordCount;

use crate::application::Registry;

/// Adds all of them under the names that the labs know them by.
pub(crate) fn register(registry: &mut Registry) {
    registry.insert("wc", WordCount);
    registry.insert("indexer", Indexer);
    registry.insert("sort", Sort);
    registry.insert("mtiming", MapTiming::default());
    registry.insert("rtiming", ReduceTiming::default());
    registry.insert("jobcount", JobCount::default());
    registry.insert("early_exit", EarlyExit);
    registry.insert("crash", Crash { crashes: true });
    registry.insert("nocrash", Crash { crashes: false });
}
