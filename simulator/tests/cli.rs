//! The program: what it says to mistakes, and that its runs don't depend on process, threads or order.

use std::fs::File;
use std::io::BufReader;
use std::process::{Command, Output};

use linearizability::history::{History, Operation, Outcome};
use linearizability::{Verdict, check};

fn simulator(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulator"));
    command.args(arguments.split_whitespace()).output().expect("it is built")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints text")
}

#[test]
fn mistakes_are_named() {
    for (arguments, what) in [
        ("--seed soon", "invalid value 'soon' for '--seed <SEED>'"),
        ("--seed 1 --profile lousy", "no such profile; there are swarm, calm, busy,"),
        ("--seeds 0", "0 is not in 1.."),
        ("--seed 1 --seeds 2", "cannot be used with"),
        ("--script no/such/file.txt", "simulator: no/such/file.txt: "),
        ("--seed 1 --missing everything", "--missing everything: no such sync"),
        ("--seed 1 --missing all", "there are log, hard-state, snapshot,"),
        ("--seeds 2 --threads 0", "0 is not in 1..=1024"),
        ("--seeds 5 --first 18446744073709551614", "there are no 5 seeds from there on"),
        ("--script /dev/zero", "a script has at most 4194304 bytes"),
        ("", "what shall run: --seed, --seeds or --script?"),
        ("--seed 1 --history h", "--history h: only the profile `members` has clients"),
        ("--seed 1 --profile members --history no/such/folder", "--history no/such/folder: "),
        ("--seeds 1 --profile members --history h", "cannot be used with"),
        ("--history h", "--seed <SEED>"),
    ] {
        let output = simulator(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(error.contains(what), "{arguments}: {error}");
    }
}

#[test]
fn a_wrong_word_in_a_script_is_named_with_its_line() {
    let path = std::env::temp_dir().join(format!("simulator-{}.txt", std::process::id()));
    for (script, what) in [
        ("cluster nodes=3\n\ncrash one", "line 3: `crash one`: word 2, `one`: not a number"),
        ("crash 1", "line 1: `crash 1`: word 1, `crash`: before there is a `cluster`"),
        ("cluster nodes=3\nrestart 4", "line 2: `restart 4`: word 2, `4`: there is no node 4"),
        ("cluster nodes=3\ncut 2->1 1->4", "word 3, `1->4`: there is no node 4"),
        ("cluster nodes=3\npeer-lost 3 4", "word 3, `4`: there is no node 4"),
        ("cluster nodes=3 leader=4", "word 3, `leader=4`: there is no node 4"),
        ("cluster nodes=3 leader=1\nwhy 1 4", "word 3, `4`: there is no node 4"),
        ("cluster nodes=3 ticks=true\nelect 1", "word 1, `elect`: time runs by itself"),
        (
            "cluster nodes=3\n\nrecover",
            "line 3: `recover`: word 1, `recover`: time stands still in this cluster; set ticks=true",
        ),
        ("cluster nodes=3 leader=1\nlog", "line 2: `log`: word 2 is missing"),
        ("# nothing\n\n", "there is no line in this script"),
        ("members batch=0", "line 1: `members batch=0`: word 2, `batch=0`: not within 1..67108864"),
        ("members answer_within=0", "word 2, `answer_within=0`: not within 1..3600000000"),
        ("members nodes=3\nlog 1", "line 2: `log 1`: word 1, `log`: no such command"),
    ] {
        std::fs::write(&path, script).unwrap();
        let output = simulator(&format!("--script {}", path.display()));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{script}");
        assert!(error.contains(what), "{script}: {error}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_script_that_breaks_no_rule_ends_well() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/figure_8.txt");
    let output = simulator(&format!("--script {path}"));
    assert!(output.status.success());
    assert!(stdout(&output).contains("acknowledges"));
}

#[test]
fn what_the_clients_of_a_run_saw_can_be_judged_from_its_file() {
    let path = std::env::temp_dir().join(format!("simulator-{}.jsonl", std::process::id()));
    let output = simulator(&format!("--seed 7 --profile members --history {}", path.display()));
    assert!(output.status.success());
    let said = stdout(&output);
    assert!(said.contains("histories: 1 judged from outside, 0 too long"), "{said}");
    let history = History::read(BufReader::new(File::open(&path).unwrap())).unwrap();
    std::fs::remove_file(path).unwrap();
    let acknowledged = said.lines().find_map(|line| line.split_once(" acknowledged")).unwrap().0;
    let is_known = |operation: &&Operation| operation.outcome == Outcome::Ok;
    let known = history.operations().iter().filter(is_known).count();
    assert_eq!(known.to_string(), acknowledged);
    assert_eq!(check(&history), Verdict::Linearizable);
}

#[test]
fn runs_depend_on_nothing_but_their_seeds() {
    let summary = |threads: u64| {
        let output = simulator(&format!("--seeds 2 --first 7 --threads {threads}"));
        let text = stdout(&output);
        assert!(output.status.success(), "{text}");
        // The only line with processor time in it.
        text.lines().filter(|line| !line.contains("CPU")).map(str::to_string).collect::<Vec<_>>()
    };
    let alone = summary(1);
    assert!(alone.iter().any(|line| line.contains("trace")), "{alone:?}");
    assert_eq!(alone, summary(3));
}
