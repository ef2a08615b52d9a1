//! Judges a history in a file: is it linearizable?
//!
//! ```sh
//! cargo run --release -p linearizability --example check_history -- linearizability/examples/stale_read.jsonl
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::time::Instant;

use linearizability::history::History;
use linearizability::{Checker, STEPS_MAX, Verdict};

const HELP: &str = "\
Judges a history: is there an order of its operations that explains every answer?

Usage: check_history [--steps N] FILE

  FILE         one operation a line, as JSON; `-` reads from standard input
  --steps N    looks at operations at most N times for each key (5000000 if not said)
  -h, --help   shows this

A line:
  {\"client\":3,\"op\":\"put\",\"key\":\"k\",\"value\":\"v\",\"call_ns\":10,\"return_ns\":25,\"outcome\":\"ok\",
   \"result_value\":null,\"result_version\":8,\"error\":null}
op: get, put, append, delete, or cas with \"expect\" (a version). outcome: ok, failed, unknown.

Ends with status 0 if it is linearizable, 1 if it is not, 2 if it can't be read, 3 if it was not decided
within the limit.
";

/// What the command line asks for.
struct Arguments {
    file: String,
    steps_max: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "-h" || argument == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(&arguments).and_then(|arguments| judge(&arguments)) {
        Ok(status) => status,
        Err(what) => {
            eprintln!("check_history: {what}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let mut file = None;
    let mut steps_max = STEPS_MAX;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--steps" => {
                let text = arguments.next().ok_or("--steps needs a number")?;
                steps_max =
                    text.parse().map_err(|_| format!("--steps {text:?} is not a number"))?;
            }
            option if option.starts_with("--") => {
                return Err(format!("there is no option {option}; --help shows those there are"));
            }
            _ if file.is_some() => {
                return Err(format!("one file at a time; {argument:?} is extra"));
            }
            _ => file = Some(argument.clone()),
        }
    }
    let file = file.ok_or("which FILE? --help says more")?;
    Ok(Arguments { file, steps_max })
}

fn judge(arguments: &Arguments) -> Result<ExitCode, String> {
    let file = &arguments.file;
    let source: Box<dyn BufRead> = if file == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(|error| format!("can't open {file}: {error}"))?;
        Box::new(BufReader::new(opened))
    };
    let history = History::read(source).map_err(|error| format!("{file}: {error}"))?;
    let start = Instant::now();
    let report = Checker::with_steps_max(arguments.steps_max).check(&history);
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    println!("{}", report.verdict);
    let operations = history.operations();
    let clients: BTreeSet<u64> = operations.iter().map(|operation| operation.client).collect();
    println!(
        "{} operations, {} keys, {} clients: {} steps, {elapsed_ms:.1} ms",
        operations.len(),
        report.keys,
        clients.len(),
        report.steps
    );
    Ok(match report.verdict {
        Verdict::Linearizable => ExitCode::SUCCESS,
        Verdict::NotLinearizable(_) => ExitCode::from(1),
        Verdict::Inconclusive { .. } => ExitCode::from(3),
    })
}
