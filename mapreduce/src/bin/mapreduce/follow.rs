//! Watches a job until it has ended, with a bar for what is being done.

use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mapreduce::client::{Client, ClientError};
use mapreduce::command::{JobId, Kind};
use mapreduce::query::JobView;
use program::Failure;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// So long workers may take to tidy up: then whoever waits does it.
const TIDY: Duration = Duration::from_secs(10);

/// Looks at a job until it has ended and is tidied up, or nobody has tidied up for a while, and shows each look to `look`,
/// whose error ends it. Answers what was seen last. Where nobody answers for a while, it waits: a new leader is on its
/// way, perhaps.
pub(crate) fn follow(
    client: &Client,
    job: JobId,
    shows_bar: bool,
    mut look: impl FnMut(&JobView) -> Result<(), Failure>,
) -> Result<JobView, Failure> {
    let bar = if shows_bar { bar() } else { ProgressBar::hidden() };
    let (mut failures, mut ended_at) = (0, None);
    loop {
        match client.job(job) {
            Ok(view) => {
                failures = 0;
                draw(&bar, &view);
                let looked = look(&view);
                if view.end.is_some() {
                    ended_at.get_or_insert_with(Instant::now);
                }
                let is_late = ended_at.is_some_and(|at| at.elapsed() >= TIDY);
                if looked.is_err() || view.stage.is_none() || is_late {
                    bar.finish_and_clear();
                    looked?;
                    return Ok(view);
                }
            }
            Err(error) if failures < 3 && !matches!(error, ClientError::Refused(_)) => {
                failures += 1
            }
            Err(error) => {
                bar.finish_and_clear();
                let why = match error {
                    // Nothing was read: of the job it says nothing.
                    ClientError::NotDone(why) => why,
                    error => error.to_string(),
                };
                let what = format!("how job {job} ends is not known: {why}");
                return Err(Failure::unknown(what));
            }
        }
        thread::sleep(LOOK);
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:24} [{bar:40}] {pos}/{len}  {elapsed}");
    bar.set_style(style.expect("a good template").progress_chars("=> "));
    bar
}

fn draw(bar: &ProgressBar, view: &JobView) {
    let Some(stage) = view.stage else { return };
    let phase = &view.phases[stage as usize];
    let workers = view.running.len();
    let name = match stage {
        Kind::Map => "map",
        Kind::Reduce => "reduce",
        Kind::Publish => "publish",
        Kind::Tidy => "tidy up",
    };
    bar.set_message(format!("{name}, {workers} at work"));
    bar.set_length(phase.tasks.into());
    bar.set_position(phase.done.into());
}
