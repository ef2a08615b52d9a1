//! The program `shard` as a user meets it: what it prints, and how it ends.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::free_port;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// The program, which is told of no store.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shard"));
    command.env_remove("SHARD_CONTROLLER").env_remove("SHARD_STORE").stdin(Stdio::null());
    command
}

/// Processes that serve the same groups. Dropping them ends them.
struct Servers {
    members: String,
    arguments: Vec<String>,
    directory: PathBuf,
    running: BTreeMap<u64, Child>,
}

impl Servers {
    /// So many, each started with these arguments; those that keep the configurations, unless `home` names others.
    fn start(name: &str, count: u64, home: (&str, Option<&str>), groups: &str) -> Self {
        let member = |id| format!("{id}=127.0.0.1:{}/{}", free_port(), free_port());
        let members = (1..=count).map(member).collect::<Vec<_>>().join(",");
        let (kind, configs) = home;
        let mut arguments = vec![kind, configs.unwrap_or(&members), "--groups", groups];
        arguments.extend(["--servers", &members]);
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let mut servers = Servers { members, arguments, directory, running: BTreeMap::new() };
        (1..=count).for_each(|id| servers.start_one(id));
        servers
    }

    fn start_one(&mut self, id: u64) {
        let log = File::options().create(true).append(true).open(self.log(id)).unwrap();
        let mut command = program();
        command.args(["serve", "--id", &id.to_string()]).args(&self.arguments);
        command.arg("--data").arg(self.directory.join(id.to_string())).stderr(log);
        self.running.insert(id, command.spawn().unwrap());
    }

    fn log(&self, id: u64) -> PathBuf {
        self.directory.join(format!("{id}.log"))
    }

    fn said(&self, id: u64) -> String {
        fs::read_to_string(self.log(id)).unwrap()
    }

    fn kill(&mut self, id: u64) {
        let mut child = self.running.remove(&id).unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "server {id} had ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end, as an operator does, and waits until it has.
    fn stop(&mut self, id: u64) {
        let mut child = self.running.remove(&id).unwrap();
        let kill = format!("kill -TERM {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "{}", self.said(id));
            thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success(), "{}", self.said(id));
        assert!(self.said(id).ends_with(&format!("shard: server {id} has stopped\n")));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// A store, as its user names it.
struct Store(&'static str, String);

impl Store {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).env(self.0, &self.1);
        command
    }

    /// Runs the program and checks its exit status; what it printed, and what it said.
    fn run(&self, status: i32, arguments: &[&str]) -> (String, String) {
        checked(status, arguments, self.command(arguments).output().unwrap())
    }

    /// The same, with something to read.
    fn feed(&self, status: i32, arguments: &[&str], text: &str) -> (String, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who has read enough closes it.
        _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        checked(status, arguments, child.wait_with_output().unwrap())
    }

    fn map(&self) -> Value {
        serde_json::from_str(&self.run(0, &["map", "--json"]).0).unwrap()
    }

    /// Waits until every shard is served by this group or that one, and nothing moves.
    fn await_settled(&self, groups: &[u64]) -> Value {
        let began = Instant::now();
        loop {
            let map = self.map();
            let shards = map["shards"].as_array().unwrap();
            let is_there = |shard: &Value| {
                let served = &shard["served"]["gid"];
                shard["moving"].is_null() && groups.iter().any(|gid| *served == *gid)
            };
            if shards.len() == 12 && shards.iter().all(is_there) {
                return map;
            }
            assert!(began.elapsed() < PATIENCE, "shards arrive in time: {map}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn checked(status: i32, arguments: &[&str], output: Output) -> (String, String) {
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {printed}{said}");
    (printed, said)
}

#[test]
fn groups_that_pull_are_served_changed_and_asked() {
    let mut servers = Servers::start("program-pulled", 3, ("--controller", None), "1,2");
    let store = Store("SHARD_CONTROLLER", servers.members.clone());
    // Nobody has joined, however long it takes the servers to come.
    let (_, said) = store.run(3, &["get", "greeting"]);
    assert_eq!(said, "shard: no group serves anything: let one join, with `shard join GROUP`\n");
    assert_eq!(store.run(0, &["join", "1", "2"]).0, "configuration 1\n");
    assert_eq!(store.run(0, &["put", "greeting", "hello"]).0, "");
    assert_eq!(store.run(0, &["append", "greeting", " world"]).0, "11\n");
    let json = "{\"key\":\"greeting\",\"value\":\"hello world\",\"version\":2}\n";
    assert_eq!(store.run(0, &["get", "greeting", "--json"]).0, json);
    assert_eq!(store.run(1, &["get", "none"]).1, "shard: there is no key `none`\n");
    assert_eq!(store.run(1, &["delete", "none"]).1, "shard: there is no key `none`\n");

    let said = store.run(3, &["join", "2"]).1;
    assert!(said.starts_with("shard: refused: group 2 is there already"), "{said}");
    assert!(store.run(3, &["join", "3"]).1.contains("group 3 is not among the groups of these"));
    assert!(store.run(3, &["leave", "9"]).1.contains("refused: there is no group 9"));
    assert!(store.run(3, &["move", "0", "9"]).1.contains("refused: there is no group 9"));
    assert!(store.run(3, &["move", "12", "1"]).1.contains("refused: there is no shard 12"));

    servers.kill(3);
    let mut others =
        Servers::start("program-others", 1, ("--controller", Some(&servers.members)), "3");
    let joined = store.run(0, &["join", "3", "--servers", &others.members, "--json"]).0;
    assert_eq!(joined, "{\"num\":2}\n");
    let map = store.await_settled(&[1, 2, 3]);
    assert_eq!(map["groups"]["3"]["shards"], 4);
    assert_eq!(store.run(0, &["get", "greeting"]).0, "hello world\n");
    assert_eq!(store.run(0, &["move", "0", "3"]).0, "configuration 3\n");
    store.run(0, &["leave", "1", "2"]);
    servers.start_one(3);
    assert_eq!(store.await_settled(&[3])["config"]["num"], 4);
    assert_eq!(store.run(0, &["get", "greeting"]).0, "hello world\n");

    let (table, _) = store.run(0, &["query"]);
    assert!(
        table.starts_with("configuration 4, 12 shards\n\nGROUP  SHARDS  SERVERS\n3      0-11  ")
    );
    let second: Value = serde_json::from_str(&store.run(0, &["query", "2", "--json"]).0).unwrap();
    assert_eq!((&second["num"], second["shards"].as_array().unwrap().len()), (&2.into(), 12));
    assert!(store.run(1, &["query", "5"]).1.contains("the latest is 4"));
    others.stop(1);
    servers.stop(1);
    // Whoever is silent is named.
    let (table, _) = store.run(0, &["map", "--timeout", "0.5"]);
    assert!(table.contains("group 3 is to serve it, and does not answer"), "{table}");
    assert!(table.contains("\ngroup 3 does not answer: "), "{table}");
}

#[test]
fn groups_that_are_pushed_move_before_the_command_ends() {
    let servers = Servers::start("program-pushed", 1, ("--store", None), "1,2");
    let store = Store("SHARD_STORE", servers.members.clone());
    assert!(store.run(3, &["leave", "1"]).1.contains("let one join"));
    assert_eq!(store.run(0, &["join", "1"]).0, "configuration 1\n");
    for number in 0..24 {
        store.run(0, &["put", &format!("key {number}"), &number.to_string()]);
    }
    let mut others = Servers::start("program-late", 1, ("--store", Some(&servers.members)), "3");
    assert_eq!(store.run(0, &["join", "2"]).0, "configuration 2\n");
    // Whatever the command has moved is there when it ends.
    let map = store.map();
    let shards = map["shards"].as_array().unwrap();
    assert!(shards.iter().all(|shard| shard["moving"].is_null() && !shard["served"].is_null()));
    let keys = |gid: &str| map["groups"][gid]["keys"].as_u64().unwrap();
    assert_eq!(keys("1") + keys("2"), 24);
    assert!(store.run(3, &["join", "1"]).1.contains("refused: group 1 is there already"));
    assert!(store.run(3, &["leave", "1", "2"]).1.contains("nobody would serve shard 0"));
    assert!(store.run(3, &["join", "4"]).1.contains("Nothing has changed"));

    // A group that is gone holds up what it is to get: the change is begun, and the next command finishes it.
    store.run(0, &["join", "3", "--servers", &others.members]);
    others.kill(1);
    let (_, said) = store.run(4, &["leave", "2", "--timeout", "0.5"]);
    assert!(said.contains("It is begun, and not finished: the same command finishes it"), "{said}");
    let (table, _) = store.run(0, &["map", "--timeout", "0.5"]);
    assert!(table.contains("; configuration 4 is begun, "), "{table}");
    let stuck = "from group 2 to group 3, which does not answer, in configuration 4: 0 of ";
    assert!(table.contains(stuck), "{table}");
    assert!(table.contains("\ngroup 3 does not answer: "), "{table}");
    let begun = "shard: configuration 4 is begun, and not in force yet\n";
    assert_eq!(store.run(0, &["query"]).1, begun);
    let (_, said) = store.run(3, &["move", "0", "1", "--timeout", "0.5"]);
    assert!(said.contains("an earlier change is begun, and can't be finished"), "{said}");
    others.start_one(1);
    let (printed, said) = store.run(0, &["leave", "2"]);
    let finished =
        "shard: that is so already: it was begun before, or others were at work as well\n";
    assert_eq!((&printed[..], &said[..]), ("configuration 4\n", finished));
    let keys = |map: &Value, gid: &str| map["groups"][gid]["keys"].as_u64().unwrap();
    let map = store.map();
    assert_eq!(keys(&map, "1") + keys(&map, "3"), 24, "{map}");
}

/// What `txn` promises, by both kinds.
#[test]
fn transactions_happen_whole_or_not_at_all() {
    let servers = Servers::start("program-txn", 1, ("--controller", None), "1,2");
    let store = Store("SHARD_CONTROLLER", servers.members.clone());
    store.run(0, &["join", "1", "2"]);
    for kind in ["optimistic", "locking"] {
        let txn = |status, arguments: &[&str]| {
            store.run(status, &[&["txn", "--kind", kind], arguments].concat())
        };
        let done = txn(0, &["get a", "put b 'x y'", "add c 40", "add c 2", "get b"]);
        assert_eq!(done.0, "a\nc\t40\nc\t42\nb\tx y\n");
        let (_, said) = txn(1, &["put d 1", "require b other", "delete b"]);
        assert_eq!(said, "shard: operation 2: `b` is `x y`, and not `other`. Nothing was done\n");
        let (_, said) = txn(1, &["delete a", "absent c"]);
        assert_eq!(said, "shard: operation 2: `c` is there: `42`. Nothing was done\n");
        let (_, said) = txn(3, &["add c 1", "add b 1"]);
        assert_eq!(
            said,
            "shard: operation 2: `b` is `x y`, which is no number. Nothing was done\n"
        );
        let (_, said) = txn(3, &["add c 9223372036854775807"]);
        assert!(said.contains("would be over the limits of 64 bits"), "{said}");
        // Nobody holds a lock of what was given up: this does not wait for one to expire.
        let began = Instant::now();
        let script =
            "# all of it\n\nrequire c 42\nabsent d\r\ndelete b\ndelete c # and this\nget d";
        let arguments = ["txn", "--file", "-", "--kind", kind, "--json"];
        let (json, _) = store.feed(0, &arguments, script);
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        let json: Value = serde_json::from_str(&json).unwrap();
        let read = serde_json::json!([{ "operation": "get", "key": "d", "value": null }]);
        assert_eq!((&json["results"], &json["kind"]), (&read, &kind.into()));
        let (_, said) = store.feed(2, &["txn", "--file", "-"], "get a\nput b\n");
        assert!(said.starts_with("shard: -: line 2: `put` needs a key and a value"), "{said}");
        let long: String = (0..20_000).map(|number| format!("put {number} v\n")).collect();
        let (_, said) = store.feed(3, &["txn", "--file", "-"], &long);
        assert!(said.contains("a transaction may touch 1024 keys of a shard"), "{said}");
        assert_eq!(txn(0, &["get 7"]).0, "7\n");
    }
    let bench = ["bench", "--seconds", "1", "--clients", "4", "--keys", "20", "--txns", "40"];
    let (json, _) = store.run(0, &[&bench[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["transactions"]["operations"].as_u64().unwrap() > 0, "{json}");
    let map = store.map();
    assert!(map["groups"].as_object().unwrap().values().all(|group| group["keys"] == 0), "{map}");
}

#[test]
fn what_can_not_be_understood_ends_with_status_2() {
    let store = Store("SHARD_CONTROLLER", "1=127.0.0.1:1/2".to_owned());
    for (arguments, what) in [
        (&["get", "k", "--controller", "1=h:1/2", "--store", "1=h:1/2"][..], "cannot be used with"),
        (&["join"], "required"),
        (&["join", "0"], "there can be no group 0"),
        (&["join", "1", "1"], "group 1 is named twice"),
        (&["join", "1-9999999"], "is too much"),
        (&["leave", "one"], "`one` is no group"),
        (&["move", "0", "0"], "there is no group 0 to move to"),
        (&["move", "-1", "1"], "unexpected argument"),
        (&["query", "x"], "invalid digit"),
        (&["serve", "--id", "2", "--data", "d"], "--id 2 is not among the servers: 1"),
        (&["serve", "--id", "1", "--data", "d", "--shards", "0"], "0 is not in"),
        (&["serve", "--id", "1", "--data", "d", "--logs-bytes-max", "1"], "at least 65536"),
        (
            &["serve", "--id", "1", "--data", "d", "--servers", "1=127.0.0.1:3/4"],
            "nothing to serve",
        ),
        (&["txn"], "required"),
        (&["txn", "# nothing"], "there is no operation in it"),
        (&["txn", "get 'a"], "operation 1: a ' is not closed"),
        (&["txn", "--file", "no-such-file"], "no-such-file: No such file"),
        (&["txn", "--file", "/dev/zero"], "longer than 16 MiB"),
        (&["bench", "--reads", "80", "--txns", "30"], "more than a hundred"),
        (&["get", "k", "--timeout", "soon"], "not a number of seconds"),
        (&["get", "--escaped", r"\q"], "a backslash before `q`"),
    ] {
        let (_, said) = store.run(2, arguments);
        assert!(said.contains(what), "{arguments:?}: {said}");
    }
    let none = Store("NOTHING", String::new());
    assert!(none.run(2, &["get", "k"]).1.starts_with("shard: which store? Name the members"));
    let mut both = store.command(&["get", "k"]);
    let said = checked(2, &["both"], both.env("SHARD_STORE", "1=h:1/2").output().unwrap()).1;
    assert!(said.contains("are both there, and a store is of one kind"), "{said}");
    assert!(
        Store("SHARD_STORE", "1".into())
            .run(2, &["map"])
            .1
            .starts_with("shard: SHARD_STORE: `1` is no")
    );
    // Nobody is there, and it takes no longer than it was given.
    let began = Instant::now();
    for arguments in [&["get", "k"][..], &["join", "1"], &["map"], &["query"], &["bench"]] {
        let (_, said) = store.run(3, &[arguments, &["--timeout", "0.2"]].concat());
        assert!(said.contains("a majority of the members that --controller names"), "{said}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn where_nobody_reads_the_answer_the_program_says_so() {
    let servers = Servers::start("program-unread", 1, ("--controller", None), "1");
    let store = Store("SHARD_CONTROLLER", servers.members.clone());
    store.run(0, &["join", "1"]);
    store.run(0, &["put", "k", "v"]);
    for (status, arguments) in [
        (3, &["map"][..]),
        (3, &["map", "--json"]),
        (3, &["map", "--watch"]),
        (3, &["query"]),
        (3, &["get", "k"]),
        (3, &["txn", "get k"]),
        (0, &["txn", "add n 1"]),
        (0, &["append", "k", "x"]),
        (0, &["move", "0", "1"]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = store.command(arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains("can't write the answer"), "{said}");
    }
}
