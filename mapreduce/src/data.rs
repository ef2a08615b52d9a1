//! The work of one task, in bounded memory: from a split of an input to sorted runs, and from runs to
//! an output file. Tasks work in a private folder each; who starts them publishes what they leave there.
//!
//! ```text
//!  input file                                              mr-0-Y  mr-1-Y  mr-2-Y ...
//!      |  split: the lines that begin in it                    \      |      /
//!      v                                                        v     v     v
//!  Application::map                                         merge: by key, then by map task
//!      |  pairs                                                      |  groups
//!      v                                                             v
//!  collect: combined, sorted, spilled when memory is full   Application::reduce
//!      |                                                             |  lines
//!      v                                                             v
//!  mr-X-0  mr-X-1  mr-X-2 ...                                     mr-out-Y
//! ```

mod budget;
mod collect;
mod error;
mod fan_in;
mod map_task;
mod merge;
mod progress;
mod reduce_task;
mod run;
mod split;
#[cfg(test)]
pub(crate) mod testing;

pub use error::{InputError, TaskError};
pub use map_task::{MapSummary, MapTask, run_map};
pub use progress::Progress;
pub use reduce_task::{ReduceSummary, ReduceTask, run_reduce};
pub use split::{InputVersion, Split, plan_splits, split_count};

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::application::AppError;

/// The least memory that a task works in; less counts as this.
pub const MEMORY_BYTES_MIN: usize = 64 << 10;

/// The name of the file for reduce task Y that map task X leaves.
pub fn run_file_name(map: u32, reduce: u32) -> String {
    format!("mr-{map}-{reduce}")
}

/// The name of the file that reduce task Y leaves.
pub fn output_file_name(reduce: u32) -> String {
    format!("mr-out-{reduce}")
}

/// The folder in a task's folder for what it needs only while it works.
const SCRATCH: &str = "scratch";

/// Calls an application. A panic there costs the task, not the worker.
fn guarded(call: impl FnOnce() -> Result<(), AppError>) -> Result<(), TaskError> {
    // What the call was working on is thrown away with the task.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => Ok(done?),
        Err(panic) => {
            let message = format!("it panicked: {}", text_of(panic.as_ref()));
            Err(TaskError::Application { message })
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Makes the names in a folder durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), TaskError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| TaskError::disk(directory, error))
}

/// Removes what the task needed only while it worked.
fn remove_scratch(directory: &Path) -> Result<(), TaskError> {
    let scratch = directory.join(SCRATCH);
    match std::fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TaskError::disk(&scratch, error))
        }
        _ => Ok(()),
    }
}
