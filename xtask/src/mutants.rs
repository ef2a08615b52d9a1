//! Brings known bugs back, one at a time, and sees which test notices.
//!
//! `docs/mutants.md` has what came of it; the rows of its table are left in `target/mutants/table.md`.
//! Each file of `mutants/` is a small patch with one line above it that says what it breaks; those of
//! `mutants/neutral/` change nothing that matters and must stay unnoticed. Patches are applied to a
//! clone of the last commit, whose target directory they share.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{cannot_start, name, root, run};

/// A test that takes longer, having been compiled, hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is run against each patch, in this order, until something fails: quick first.
const TIERS: [(&str, &[&str]); 12] = [
    ("raft-core", &["-p", "raft-core", "--tests"]),
    ("scripts and labs", &["-p", "simulator", "--test", "scripts", "--test", "labs"]),
    ("storage and sessions", &["-p", "raft-storage", "-p", "raft-host", "--lib", "--tests"]),
    ("seeds", &["-p", "simulator", "--test", "seeds", "--test", "loss_of_power"]),
    ("whole members", &["-p", "simulator", "--test", "world"]),
    ("explorer", &["-p", "simulator", "--test", "explorer"]),
    ("key/value store", &["-p", "kv", "--lib", "--test", "model", "--test", "versioned"]),
    ("locks", &["-p", "kv", "-p", "lock", "--lib", "--test", "locks", "--test", "lost"]),
    ("shards", &["-p", "shard", "--tests"]),
    ("MapReduce", &["-p", "mapreduce", "--lib", "--test", "simulated"]),
    ("transport and tools", &TRANSPORT_AND_TOOLS),
    ("documentation", &DOCUMENTATION),
];

/// Real sockets, and what surrounds the simulator's runs.
#[rustfmt::skip]
const TRANSPORT_AND_TOOLS: [&str; 21] = [
    "-p", "raft-transport", "-p", "simulator", "-p", "linearizability", "--lib", "--test", "clients",
    "--test", "members", "--test", "shrinking", "--test", "graphs", "--test", "cli", "--test", "checker",
    "--test", "trial",
];

/// Examples in the documentation. Cargo compiles them as it runs them, which takes a few seconds more.
#[rustfmt::skip]
const DOCUMENTATION: [&str; 17] = [
    "--doc", "-p", "raft-core", "-p", "raft-storage", "-p", "raft-transport", "-p", "raft-host",
    "-p", "linearizability", "-p", "simulator", "-p", "kv",
    "-p", "mapreduce",
];

/// How a test notices a patch.
enum Sign {
    /// This one fails.
    Fails(String),
    /// This one never ends; it was waited for.
    Hangs(String),
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Fails(test) => write!(f, "`{test}`"),
            Sign::Hangs(test) => write!(f, "`{test}` hangs"),
        }
    }
}

/// What became of a patch.
enum Fate {
    /// A test of this tier noticed after so many seconds of processor time.
    Noticed { tier: &'static str, sign: Sign, seconds: f64 },
    /// Nothing did.
    Unnoticed { seconds: f64 },
    /// It does not apply, or does not compile.
    Broken(String),
}

/// Runs the patches whose names begin with one of `chosen`, or all.
pub(crate) fn mutants(chosen: &[&str]) -> ExitCode {
    match try_all(chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::from(2)
        }
    }
}

fn try_all(chosen: &[&str]) -> Result<bool, String> {
    let is_chosen = |patch: &PathBuf| {
        let stem = stem(patch);
        chosen.is_empty() || chosen.iter().any(|name| stem.starts_with(name))
    };
    let mut patches = all_patches()?;
    patches.retain(is_chosen);
    if patches.is_empty() {
        return Err(format!("no patch of mutants/ begins with {}", chosen.join(" or ")));
    }
    let scratch = Scratch::new()?;
    match scratch.test() {
        Fate::Unnoticed { .. } => {}
        Fate::Noticed { tier, sign, .. } => {
            return Err(format!("without any patch, this is noticed already by {tier}: {sign}"));
        }
        Fate::Broken(error) => return Err(format!("without any patch: {error}")),
    }
    let mut all_well = true;
    let (mut seconds_to_notice, mut hanging, mut table) = (Vec::new(), 0, String::new());
    for (number, patch) in patches.iter().enumerate() {
        let is_neutral = patch.parent().is_some_and(|folder| folder.ends_with("neutral"));
        let (fate, stem) = (scratch.try_patch(patch), stem(patch));
        let (is_well, what) = match fate {
            Fate::Noticed { tier, sign, seconds } => {
                let took = match sign {
                    Sign::Fails(_) => {
                        seconds_to_notice.push(seconds);
                        format!("{seconds:.1}")
                    }
                    // What it has used is not known, and nobody would wait for less.
                    Sign::Hangs(_) => {
                        hanging += 1;
                        format!("waited for {}", PATIENCE.as_secs())
                    }
                };
                table += &format!("| {stem} | {} | {tier}: {sign} | {took} |\n", title(patch));
                (!is_neutral, format!("noticed ({took} s) by {tier}: {sign}"))
            }
            Fate::Unnoticed { seconds } => (is_neutral, format!("UNNOTICED in {seconds:.1} s")),
            Fate::Broken(error) => (false, format!("BROKEN: {error}")),
        };
        all_well &= is_well;
        let verdict = if is_well { "ok  " } else { "FAIL" };
        println!("{verdict} {}/{} {stem} {what}", number + 1, patches.len());
        println!("       {}", title(patch));
    }
    seconds_to_notice.sort_by(f64::total_cmp);
    if let Some(median) = seconds_to_notice.get(seconds_to_notice.len() / 2) {
        println!("{} noticed, median {median:.1} CPU seconds", seconds_to_notice.len());
    }
    if hanging > 0 {
        println!("{hanging} more noticed by a test that hangs");
    }
    let path = scratch.target.with_file_name("table.md");
    fs::write(&path, table).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(all_well)
}

fn patches(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut patches: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "patch")).collect();
    patches.sort();
    Ok(patches)
}

fn all_patches() -> Result<Vec<PathBuf>, String> {
    let mut all = patches(&root().join("mutants"))?;
    all.extend(patches(&root().join("mutants/neutral"))?);
    Ok(all)
}

/// Whether each patch still applies: one that does not shows nothing, and only a run of an hour would say so.
pub(crate) fn check() -> Result<(), String> {
    for patch in all_patches()? {
        let mut git = Command::new("git");
        run(git.args(["apply", "--check"]).arg(patch).current_dir(root()))?;
    }
    Ok(())
}

fn stem(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The patch's first line.
fn title(patch: &Path) -> String {
    let text = fs::read_to_string(patch).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned()
}

/// A clone of the last commit, to be broken.
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self, String> {
        let base = root().join("target/mutants");
        let (tree, target) = (base.join("tree"), base.join("target"));
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
        }
        run(Command::new("git").args(["clone", "--quiet", "--local"]).arg(root()).arg(&tree))?;
        Ok(Scratch { tree, target })
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.tree);
        command
    }

    fn try_patch(&self, patch: &Path) -> Fate {
        let applied = run(self.git(&["apply"]).arg(patch));
        let fate = match applied {
            Ok(()) => self.test(),
            Err(_) => Fate::Broken("it does not apply any more".to_owned()),
        };
        match run(&mut self.git(&["checkout", "--quiet", "--force", "."])) {
            Ok(()) => fate,
            Err(error) => Fate::Broken(error),
        }
    }

    /// Runs the tiers until one notices something. Compiling is not counted.
    fn test(&self) -> Fate {
        let mut seconds = 0.0;
        for (tier, arguments) in TIERS {
            if arguments[0] != "--doc"
                && let Err(error) = run(self.cargo(arguments).arg("--no-run"))
            {
                return Fate::Broken(error);
            }
            let before = children_seconds();
            let failed = self.run_tests(arguments);
            seconds += children_seconds() - before;
            match failed {
                Ok(None) => {}
                Ok(Some(sign)) => return Fate::Noticed { tier, sign, seconds },
                Err(error) => return Fate::Broken(error),
            }
        }
        Fate::Unnoticed { seconds }
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = crate::cargo("test");
        command.arg("--quiet").args(arguments).current_dir(&self.tree);
        command.env("CARGO_TARGET_DIR", &self.target).env_remove("CARGO_MANIFEST_DIR");
        command.env("RUSTFLAGS", "-Awarnings").stderr(Stdio::null());
        command
    }

    /// The first test that fails, if one does. One that hangs is ended.
    fn run_tests(&self, arguments: &[&str]) -> Result<Option<Sign>, String> {
        let log = self.target.join("output.txt");
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let mut command = self.cargo(arguments);
        command.stdout(file).process_group(0);
        let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if began.elapsed() > PATIENCE => {
                    // The tests are children of cargo's, in its group.
                    run(Command::new("kill").args(["-9", "--"]).arg(format!("-{}", child.id())))?;
                    child.wait().map_err(|error| error.to_string())?;
                    let output = fs::read_to_string(&log).unwrap_or_default();
                    return Ok(Some(Sign::Hangs(running(&output).unwrap_or(name(&command)))));
                }
                None => sleep(Duration::from_millis(20)),
            }
        };
        if status.success() {
            return Ok(None);
        }
        let output = fs::read_to_string(&log).unwrap_or_default();
        let failed = output.lines().find_map(|line| {
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        });
        Ok(Some(Sign::Fails(failed.unwrap_or("a test binary that died").to_owned())))
    }
}

/// The test of the last binary that has been running for longest, by what the harness says after a minute.
fn running(output: &str) -> Option<String> {
    let last = output.rsplit("\nrunning ").next()?;
    let (before, _) = last.split_once(" has been running for over ")?;
    // Dots for the tests before it may stand on the same line.
    before.rsplit("test ").next().map(str::to_owned)
}

/// Seconds of processor time of all children that have ended, by Linux's count.
fn children_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name, which may contain anything but ends with the last parenthesis.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok());
    (ticks(13).unwrap_or(0.0) + ticks(14).unwrap_or(0.0)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_that_hangs_is_named() {
        let slow = "\nrunning 2 tests\n.test slow has been running for over 60 seconds\n.\n";
        let second = "\nrunning 3 tests\n..test a::stuck has been running for over 60 seconds\n";
        assert_eq!(running(&format!("{slow}{second}")).as_deref(), Some("a::stuck"));
        assert_eq!(running(&format!("{slow}\nrunning 1 test\n")), None);
        assert_eq!(running(""), None);
    }
}
