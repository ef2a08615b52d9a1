//! The project's chores, as one program in plain std: `cargo xtask check`, `fix`, `simulate` and
//! `mutants`.

mod check;
mod examples;
mod links;
mod mutants;
mod report;
mod simulate;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::{env, io};

use report::Report;

const HELP: &str = "\
The project's chores.

Usage: cargo xtask <COMMAND>

Commands:
  check   everything CI asks for besides the tests; changes no source file
  fix     formats the code and applies what clippy can repair by itself
  simulate --seeds N [--profile P] [..]
          runs fresh seeds, drawn from the operating system; the rest goes to the simulator's own program,
          or, for the profiles shard-storm and transactions, to the tests of the sharded store
  mutants [NAME..]
          brings known bugs back, one at a time, and says which test notices each

Examples:
  cargo test --workspace && cargo xtask check    what CI runs
  cargo xtask fix && git diff                    repair, then look at what it did
  cargo xtask simulate --seeds 1000              1000 fresh seeds of each mix of faults
  cargo xtask simulate --profile transactions --seeds 1000    of a profile of the sharded store
  cargo xtask mutants                            all of mutants/, for an hour or so
  cargo xtask mutants e01 s                      one of them, and all that begin with s
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["check"] => check::check(),
        ["fix"] => fix(),
        ["simulate", arguments @ ..] if !arguments.is_empty() => simulate::simulate(arguments),
        ["mutants", chosen @ ..] if !chosen.contains(&"--help") => mutants::mutants(chosen),
        asked if asked.iter().any(|word| ["--help", "-h", "help"].contains(word)) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        [] => {
            eprintln!("xtask: which chore?\n\n{HELP}");
            ExitCode::from(2)
        }
        other => {
            eprintln!("xtask: don't know `{}`\n\n{HELP}", other.join(" "));
            ExitCode::from(2)
        }
    }
}

fn fix() -> ExitCode {
    let mut report = Report::new("fix");
    // Clippy first: what it rewrites is not always formatted.
    report.step("clippy", "repair by hand what clippy names above", || {
        let targets = ["--workspace", "--all-targets"];
        run(cargo("clippy").args(["--fix", "--allow-dirty", "--allow-staged"]).args(targets))
    });
    report.step("format", "repair the syntax errors above", || run(cargo("fmt").arg("--all")));
    report.finish()
}

/// The workspace's root: cargo names this package's folder to whatever it runs.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.and_then(|package| package.parent().map(PathBuf::from)).unwrap_or_default()
}

/// The cargo that runs us, in the workspace's root, with nothing to read from a terminal.
fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command to its end; its output goes where ours goes.
fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", name(command))) }
}

fn cannot_start(command: &Command, error: &io::Error) -> String {
    format!("can't start {}: {error}", name(command))
}

/// The program and its arguments, as one would type them.
fn name(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    format!("`{}`", words.join(" "))
}
