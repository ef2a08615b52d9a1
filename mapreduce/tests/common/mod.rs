//! Folders, texts and processes of the program `mapreduce`, for tests.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mapreduce::application::Application;
use mapreduce::sequential::sequential;
use simulator::dice::Dice;

/// A folder of a test's own, empty.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("in")).unwrap();
    folder
}

/// The labs' texts have these names, and some of their applications look at them.
#[rustfmt::skip]
const NAMES: [&str; 8] = [
    "being_ernest", "dorian_gray", "frankenstein", "grimm", "huckleberry_finn", "metamorphosis",
    "sherlock_holmes", "tom_sawyer",
];

/// Eight files in `in`, of so many lines each.
pub(crate) fn write_texts(folder: &Path, lines: u64, seed: u64) {
    for name in NAMES {
        let mut dice = Dice::new(seed, name);
        let mut text = String::new();
        for _ in 0..lines {
            for _ in 0..dice.between(1, 9) {
                // Few words are frequent, and many are rare.
                let word = dice.below(dice.clone().below(20_000) + 1);
                let digits = word.to_string();
                text.extend(digits.bytes().map(|digit| char::from(digit - b'0' + b'a')));
                text.push(*dice.pick(&[' ', ' ', ',', '-']));
            }
            text.push('\n');
        }
        fs::write(folder.join(format!("in/pg-{name}.txt")), text).unwrap();
    }
}

/// What a job over all of `in` must come to.
pub(crate) fn expected(application: &dyn Application, folder: &Path) -> Vec<u8> {
    let mut names: Vec<String> = fs::read_dir(folder.join("in"))
        .unwrap()
        .map(|entry| format!("in/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    names.sort();
    let texts: Vec<Vec<u8>> =
        names.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect();
    let inputs: Vec<(&str, &[u8])> =
        names.iter().map(String::as_str).zip(texts.iter().map(Vec::as_slice)).collect();
    sequential(application, &inputs).unwrap()
}

/// All lines of a job's results, in order.
pub(crate) fn results(folder: &Path, output: &str) -> Vec<u8> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder.join(output)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with("mr-out-") {
            let text = fs::read(entry.path()).unwrap();
            lines.extend(text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    lines.sort();
    lines.concat()
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The program, in a folder.
pub(crate) fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapreduce"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_remove("MAPREDUCE_CLUSTER");
    command
}

/// The same, run to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().unwrap()
}

/// The same, which must be well.
pub(crate) fn run_well(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {} {error}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A process that is killed when the test is over.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        Process(command.spawn().unwrap())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.kill();
        }
    }
}

/// Waits until something is so.
pub(crate) fn await_that(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {patience:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody has, and that no other call returns. It is below those that the operating system gives away, to
/// other tests and to whoever dials.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number =
            std::process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The replicas of a coordinator, as the program is told.
pub(crate) fn cluster(replicas: u64) -> String {
    let replica = |id| format!("{id}=127.0.0.1:{}/{}", free_port(), free_port());
    (1..=replicas).map(replica).collect::<Vec<_>>().join(",")
}
