//! A job is handed in: a name that nobody else has, the folder for what it writes on its way, and the word to the
//! coordinator.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Client, ClientError};
use crate::command::JobId;
use crate::job::JobSpec;
use crate::plan::{self, PlanError};

/// Why a job was not handed in, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Its folder could not be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The coordinator refused it, or was not reached.
    #[error(transparent)]
    Client(ClientError),
    /// The coordinator gave no answer, or none that makes sense: the job may be there.
    #[error("{why}; where the coordinator does not show the job, {} can be removed", .work.display())]
    Unknown {
        /// What came of the last attempt.
        why: ClientError,
        /// The folder for what it would write on its way.
        work: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A job that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its number.
    pub job: JobId,
    /// The folder for what it writes on its way.
    pub work: PathBuf,
}

/// Hands in a job whose paths are below this root.
///
/// # Errors
/// [`SubmitError`]. Where the job is surely not there, nothing is left behind.
pub fn submit(client: &Client, root: &Path, spec: &JobSpec) -> Result<Submitted, SubmitError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| SubmitError::Random(error.to_string()))?;
    let token = u128::from_le_bytes(random);
    let work = plan::make_work_folder(root, spec, token)?;
    match client.submit(token, spec) {
        Ok(job) => Ok(Submitted { job, work }),
        Err(error @ (ClientError::Refused(_) | ClientError::NotDone(_))) => {
            // Nobody will work there. That it stays where it can't be removed does no harm.
            _ = fs::remove_dir(&work);
            Err(SubmitError::Client(error))
        }
        Err(why) => Err(SubmitError::Unknown { why, work }),
    }
}
