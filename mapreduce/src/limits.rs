//! What a coordinator takes, and what it refuses.

use crate::codec::{SchemaRead, SchemaWrite};

/// The most files of one job.
pub const INPUTS_MAX: u64 = 20_000;

/// The most map tasks of one job.
pub const MAPS_MAX: u64 = 20_000;

/// The most reduce tasks of one job.
pub const REDUCERS_MAX: u32 = 1000;

/// The most bytes of all names and commands of one job, and of what else is said of its inputs: with all the rest, it is
/// one entry of the log.
pub const SPEC_BYTES_MAX: u64 = 1000 << 10;

/// The longest name of a worker or an application, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// The longest external command, in bytes.
pub const COMMAND_BYTES_MAX: usize = 8 << 10;

/// The most of an error's text that is kept.
pub const ERROR_BYTES_MAX: usize = 4 << 10;

/// The most jobs that are not at their end.
pub const OPEN_JOBS_MAX: usize = 64;

/// So many ended jobs are remembered.
pub const ENDED_JOBS_MAX: usize = 256;

/// The most workers, those included that have not been heard of for a while.
pub const WORKERS_MAX: usize = 10_000;

/// Why the coordinator refused something.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no command or query of this version.
    #[error("the coordinator does not understand these bytes; is this program of its version?")]
    Malformed,
    /// A worker of another version.
    #[error(
        "this worker speaks version {worker}, and the coordinator version {coordinator}: run the \
         same release on both sides"
    )]
    Version {
        /// The worker's.
        worker: u32,
        /// The coordinator's.
        coordinator: u32,
    },
    /// A name of a worker that is too long.
    #[error("a worker's name has at most {NAME_BYTES_MAX} bytes")]
    WorkerName,
    /// There are too many workers.
    #[error("there are {WORKERS_MAX} workers already, and all of them have been heard of")]
    TooManyWorkers,
    /// There is nothing to read.
    #[error("the job has no input")]
    NoInput,
    /// Too many files.
    #[error("the job has {inputs} input files; at most {inputs_max} are allowed")]
    TooManyInputs {
        /// How many.
        inputs: u64,
        /// The limit.
        inputs_max: u64,
    },
    /// Names and commands are too long together.
    #[error(
        "names and commands of the job have {bytes} bytes; at most {bytes_max} are allowed: read fewer and larger files, \
         or from a folder with a shorter name"
    )]
    SpecTooLong {
        /// Their bytes.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// None or too many reducers.
    #[error("the job has {reducers} reducers; 1 to {reducers_max} are allowed")]
    Reducers {
        /// How many.
        reducers: u32,
        /// The limit.
        reducers_max: u32,
    },
    /// Too many map tasks.
    #[error("the job has {maps} map tasks; at most {maps_max} are allowed: make the splits larger")]
    TooManyMaps {
        /// How many.
        maps: u64,
        /// The limit.
        maps_max: u64,
    },
    /// The application has no name, or one that is too long.
    #[error("an application's name has 1 to {NAME_BYTES_MAX} bytes")]
    ApplicationName,
    /// An external command is empty or too long.
    #[error("a command has 1 to {COMMAND_BYTES_MAX} bytes; put a longer one into a script")]
    CommandLength,
    /// A path that is not simply one below the root.
    #[error(
        "`{path}` is no path below the workers' root: no `..`, no `\\`, not from `/`, at most \
         {PATH_BYTES_MAX} bytes"
    )]
    Path {
        /// The path, or its beginning.
        path: String,
    },
    /// A limit that would allow nothing.
    #[error("memory, the longest record, and how often a task may fail must be at least 1")]
    LimitZero,
    /// Another job is to have its results there.
    #[error("job {job} is to put its results into the same folder; name another one")]
    OutputTaken {
        /// Its number.
        job: u64,
    },
    /// There are too many open jobs.
    #[error("there are {OPEN_JOBS_MAX} open jobs already; wait for one, or cancel one")]
    TooManyJobs,
    /// There is no such job, or it is forgotten.
    #[error("there is no job {job}; at most {ENDED_JOBS_MAX} ended ones are remembered")]
    NoSuchJob {
        /// Its number.
        job: u64,
    },
    /// The results are being put in their place.
    #[error("job {job} is putting its results in their place: too late to cancel it")]
    TooLate {
        /// Its number.
        job: u64,
    },
}

/// Whether a path is simply one below a root: no part of it leads up or elsewhere, on no system. What links
/// do is another matter, for whoever opens it.
///
/// # Errors
/// [`Refusal::Path`].
pub fn check_path(path: &str) -> Result<(), Refusal> {
    let is_bad = |part: &str| part.is_empty() || part == "." || part == "..";
    let has_drive = path.as_bytes().get(1) == Some(&b':');
    let is_long = path.len() > PATH_BYTES_MAX;
    if is_long || has_drive || path.contains(['\\', '\0']) || path.split('/').any(is_bad) {
        return Err(Refusal::Path { path: path.chars().take(200).collect() });
    }
    Ok(())
}

/// The beginning of a text, of so many bytes at most.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_taken() {
        for good in ["a", "a/b.txt", "...", "a/..b", "ä/ö ü", "-x", "at-12:30.log"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "a\\b", "c:a"]
        {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("aöb".to_owned(), 2), "a");
        assert_eq!(cut("aöb".to_owned(), 3), "aö");
        assert_eq!(cut("aöb".to_owned(), 9), "aöb");
    }
}
