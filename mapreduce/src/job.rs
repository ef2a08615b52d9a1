//! What a job is: what is read, what runs over it, and where the results go.

use crate::codec::{SchemaRead, SchemaWrite};
use crate::data::{self, plan_splits, split_count};
use crate::limits::{
    COMMAND_BYTES_MAX, INPUTS_MAX, MAPS_MAX, NAME_BYTES_MAX, REDUCERS_MAX, Refusal, SPEC_BYTES_MAX,
    check_path,
};

/// A job as it is submitted. Every path is below the root that the workers share: parts between `/`, none of them
/// `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct JobSpec {
    /// What is run.
    pub application: ApplicationName,
    /// What is read, in this order.
    pub inputs: Vec<Input>,
    /// A file is read by a map task for every so many bytes of it; with `None` by one, however long it is.
    pub split_bytes: Option<u64>,
    /// How many parts the result has, at least 1.
    pub reducers: u32,
    /// The folder that is to hold the results. Whoever runs the last task makes it.
    pub output: String,
    /// What a task may use, and how often one may fail.
    pub limits: TaskLimits,
}

/// What a job runs.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum ApplicationName {
    /// An application that the workers know by this name.
    Named(String),
    /// External commands for the shell, for workers that are allowed to run any.
    Commands {
        /// Reads lines, writes lines with a tab between key and value.
        mapper: String,
        /// Reads such lines in the order of their keys, and writes the result.
        reducer: String,
    },
}

/// A file, as it was when the job was submitted. A worker that finds it changed says so instead of reading it.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Input {
    /// Where it is below the root.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// When it was modified, in nanoseconds since 1970; negative before.
    pub modified_ns: i64,
}

/// What a task may use, and how often one may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct TaskLimits {
    /// The memory of a worker's process, in bytes; what an application itself takes, and a record that is longer than
    /// an eighth of it, come on top.
    pub memory_bytes: u64,
    /// The longest record.
    pub record_bytes_max: u64,
    /// A task that has failed so often fails its job, at least 1.
    pub failures_max: u32,
    /// A task during which so many workers were lost fails its job: it may well be what ends them. At least 1.
    pub losses_max: u32,
}

impl Default for TaskLimits {
    fn default() -> Self {
        let (memory_bytes, record_bytes_max) = (64 << 20, 8 << 20);
        TaskLimits { memory_bytes, record_bytes_max, failures_max: 4, losses_max: 20 }
    }
}

/// What an input costs besides its path: its length, two numbers.
const INPUT_BYTES: usize = 24;

/// What one map task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Split {
    /// Which of the job's inputs.
    pub input: u32,
    /// Records that begin from here on,
    pub offset: u64,
    /// and within so many bytes.
    pub bytes: u64,
}

impl JobSpec {
    /// Whether this can be a job at all.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self) -> Result<(), Refusal> {
        let inputs = self.inputs.len() as u64;
        if inputs == 0 {
            return Err(Refusal::NoInput);
        }
        if inputs > INPUTS_MAX {
            return Err(Refusal::TooManyInputs { inputs, inputs_max: INPUTS_MAX });
        }
        let bytes = self.name_bytes();
        if bytes > SPEC_BYTES_MAX {
            return Err(Refusal::SpecTooLong { bytes, bytes_max: SPEC_BYTES_MAX });
        }
        if self.reducers == 0 || self.reducers > REDUCERS_MAX {
            let (reducers, reducers_max) = (self.reducers, REDUCERS_MAX);
            return Err(Refusal::Reducers { reducers, reducers_max });
        }
        self.check_application()?;
        self.inputs.iter().try_for_each(|input| check_path(&input.path))?;
        check_path(&self.output)?;
        let maps = self.maps();
        if self.split_bytes == Some(0) || maps > MAPS_MAX {
            return Err(Refusal::TooManyMaps { maps, maps_max: MAPS_MAX });
        }
        let TaskLimits { memory_bytes, record_bytes_max, failures_max, losses_max } = self.limits;
        if failures_max == 0 || losses_max == 0 || record_bytes_max == 0 || memory_bytes == 0 {
            return Err(Refusal::LimitZero);
        }
        Ok(())
    }

    fn check_application(&self) -> Result<(), Refusal> {
        match &self.application {
            ApplicationName::Named(name) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
                Err(Refusal::ApplicationName)
            }
            ApplicationName::Named(_) => Ok(()),
            ApplicationName::Commands { mapper, reducer } => {
                let fits = |command: &String| (1..=COMMAND_BYTES_MAX).contains(&command.len());
                let both = fits(mapper) && fits(reducer);
                both.then_some(()).ok_or(Refusal::CommandLength)
            }
        }
    }

    /// Bytes of all names and commands, and of what else is said of each input.
    fn name_bytes(&self) -> u64 {
        let application = match &self.application {
            ApplicationName::Named(name) => name.len(),
            ApplicationName::Commands { mapper, reducer } => mapper.len() + reducer.len(),
        };
        let inputs = self.inputs.iter().map(|input| input.path.len() + INPUT_BYTES);
        (application + self.output.len() + inputs.sum::<usize>()) as u64
    }

    /// How many map tasks there are.
    fn maps(&self) -> u64 {
        let maps = self.inputs.iter().map(|input| split_count(input.bytes, self.step()));
        maps.fold(0, u64::saturating_add)
    }

    /// What each map task reads. A file without a byte has a task as well, so that it is seen.
    pub(crate) fn splits(&self) -> Vec<Split> {
        let of = |(input, file): (u32, &Input)| {
            let splits = plan_splits(file.bytes, self.step());
            splits.map(move |data::Split { offset, bytes }| Split { input, offset, bytes })
        };
        (0..).zip(&self.inputs).flat_map(of).collect()
    }

    /// How much a map task reads.
    fn step(&self) -> u64 {
        self.split_bytes.unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec(inputs: &[u64], split_bytes: Option<u64>, reducers: u32) -> JobSpec {
        let input = |(at, bytes): (usize, &u64)| Input {
            path: format!("in/{at}"),
            bytes: *bytes,
            modified_ns: 0,
        };
        JobSpec {
            application: ApplicationName::Named("wc".to_owned()),
            inputs: inputs.iter().enumerate().map(input).collect(),
            split_bytes,
            reducers,
            output: "out".to_owned(),
            limits: TaskLimits::default(),
        }
    }

    #[test]
    fn splits_cover_every_byte_once() {
        let split = |input, offset, bytes| Split { input, offset, bytes };
        let splits = spec(&[25, 0, 10], Some(10), 1).splits();
        let first = [split(0, 0, 10), split(0, 10, 10), split(0, 20, 5)];
        assert_eq!(splits, [&first[..], &[split(1, 0, 0), split(2, 0, 10)]].concat());
        assert_eq!(spec(&[25, 0], None, 1).splits(), [split(0, 0, 25), split(1, 0, 0)]);
        assert_eq!(spec(&[u64::MAX], None, 1).splits(), [split(0, 0, u64::MAX)]);
    }

    #[test]
    fn what_can_be_no_job_is_refused() {
        let good = spec(&[1], None, 1);
        assert_eq!(good.check(), Ok(()));
        let refused = |change: fn(&mut JobSpec)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check().unwrap_err()
        };
        assert_eq!(refused(|job| job.inputs.clear()), Refusal::NoInput);
        assert!(matches!(refused(|job| job.reducers = 0), Refusal::Reducers { .. }));
        assert!(matches!(refused(|job| job.reducers = u32::MAX), Refusal::Reducers { .. }));
        let many = refused(|job| (job.inputs[0].bytes, job.split_bytes) = (u64::MAX, Some(1)));
        assert_eq!(many, Refusal::TooManyMaps { maps: u64::MAX, maps_max: MAPS_MAX });
        assert!(matches!(refused(|job| job.split_bytes = Some(0)), Refusal::TooManyMaps { .. }));
        let none = ApplicationName::Named(String::new());
        let mut bad = good.clone();
        bad.application = none;
        assert_eq!(bad.check(), Err(Refusal::ApplicationName));
        assert!(matches!(refused(|job| job.output = "/etc".to_owned()), Refusal::Path { .. }));
        let up = refused(|job| job.inputs[0].path = "a/../b".to_owned());
        assert!(matches!(up, Refusal::Path { .. }));
        let long = refused(|job| job.inputs[0].path = "a".repeat(2 << 20));
        assert!(matches!(long, Refusal::SpecTooLong { .. }));
        assert_eq!(refused(|job| job.limits.failures_max = 0), Refusal::LimitZero);
    }
}
