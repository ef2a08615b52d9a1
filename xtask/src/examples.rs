//! Every example needs no arguments and ends by itself with status 0: runs them all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::{cannot_start, cargo, name, root};

/// An example that runs longer than this hangs.
const EXAMPLE_SECONDS_MAX: u64 = 120;

/// Builds the examples of the package `examples` in release, then runs each as a step of its own.
pub(crate) fn run_all(report: &mut Report) {
    if !root().join("examples/Cargo.toml").exists() {
        return;
    }
    let mut programs = Vec::new();
    report.step("examples", "repair the build: `cargo build --release -p examples`", || {
        programs = build()?;
        Ok(())
    });
    for program in programs {
        let stem = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let advice = format!("look at `cargo run --release -p examples --example {stem}`");
        report.step(&format!("example {stem}"), &advice, || run_one(&program));
    }
}

/// Builds all examples and returns their programs, sorted.
fn build() -> Result<Vec<PathBuf>, String> {
    let mut command = cargo("build");
    command.args(["--quiet", "--release", "--package", "examples", "--bins", "--examples"]);
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| cannot_start(&command, &error))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", name(&command), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut programs: Vec<PathBuf> = text.lines().filter_map(example_program).collect();
    programs.sort();
    if programs.is_empty() {
        return Err("the package `examples` has no example".to_owned());
    }
    Ok(programs)
}

/// The program that one line of cargo's messages names, if it is about an example.
fn example_program(line: &str) -> Option<PathBuf> {
    if !line.contains(r#""kind":["example"]"#) {
        return None;
    }
    let (_, rest) = line.split_once(r#""executable":""#)?;
    let (path, _) = rest.split_once('"')?;
    Some(PathBuf::from(path.replace(r"\\", r"\")))
}

fn run_one(program: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
    let deadline = Instant::now() + Duration::from_secs(EXAMPLE_SECONDS_MAX);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Err(error) => return Err(format!("can't wait for it: {error}")),
        }
    }
    // It may have ended in this very moment, so whether there was something to kill says nothing.
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("it was still running after {EXAMPLE_SECONDS_MAX} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_an_example_names_its_program() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["example"],"name":"a"},"executable":"/t/release/examples/a","fresh":true}"#;
        assert_eq!(example_program(line), Some(PathBuf::from("/t/release/examples/a")));
    }

    #[test]
    fn other_messages_name_no_program() {
        for line in [
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"target":{"kind":["lib"]},"executable":null}"#,
            r#"{"target":{"kind":["example"]},"executable":null}"#,
            r#"{"target":{"kind":["bin"]},"executable":"/t/release/kv"}"#,
        ] {
            assert_eq!(example_program(line), None, "{line}");
        }
    }
}
