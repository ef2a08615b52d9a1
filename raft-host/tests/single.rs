//! A machine served without Raft: by its core alone, and over the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use bytes::Bytes;
use common::{Journal, PATIENCE, until};
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_core::types::LogIndex;
use raft_host::core::{GroupSettings, Output, Reply};
use raft_host::session::{Limits, SessionClient, Sessions};
use raft_host::single::SingleCore;
use raft_host::{
    Group, HostConfig, HostError, LeaderHooks, NotAppended, ProposeError, QueryError, RpcClient,
    Single, Unknown,
};

/// Parks `wait`; answers all that it parked, and whatever else comes, with the index of it. To `silent` it says
/// nothing, to `twice` it replies twice, and on `panic` it panics.
#[derive(Default)]
struct Desk {
    waiting: Vec<LogIndex>,
    last: LogIndex,
}

impl StateMachine for Desk {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            assert!(entry.id.index > self.last, "indexes rise");
            self.last = entry.id.index;
            match entry.data {
                b"wait" => {
                    replies.park(self.last);
                    self.waiting.push(self.last);
                }
                b"silent" => {}
                b"panic" => panic!("told to panic"),
                command => {
                    for index in self.waiting.drain(..).chain([self.last]) {
                        replies.push(index, self.last.to_string());
                    }
                    if command == b"twice" {
                        replies.push(self.last, "and again");
                    }
                }
            }
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        assert!(request != b"panic", "told to panic");
        self.last.to_string().into()
    }

    fn capture(&self) -> Box<dyn Capture> {
        unreachable!("nobody takes snapshots")
    }

    fn restore(&mut self, _: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        unreachable!("nobody takes snapshots")
    }
}

/// Proposes `tick` each time.
#[derive(Default)]
struct Ticking(Vec<Option<u64>>);

impl LeaderHooks<Desk> for Ticking {
    fn on_leadership(&mut self, _: &Desk, term: Option<u64>) {
        self.0.push(term);
    }

    fn on_leader_tick(&mut self, _: &Desk, _: u64) -> Vec<Bytes> {
        assert_eq!(self.0, [Some(1)], "it leads from the start to the end");
        vec!["tick".into()]
    }
}

/// A core, and the ends of its requests as words.
struct Driven {
    core: SingleCore<&'static str>,
    out: Output<&'static str>,
}

impl Driven {
    fn new(group: Group) -> Self {
        Driven { core: SingleCore::new(group, 1 << 20), out: Output::default() }
    }

    fn propose(&mut self, name: &'static str, command: &[u8]) -> Vec<String> {
        self.core.propose(1, command, name, &mut self.out);
        self.ends()
    }

    fn query(&mut self, query: &'static str) -> Vec<String> {
        self.core.query(1, query.into(), "query", &mut self.out);
        self.core.ask_all(&mut self.out);
        self.ends()
    }

    fn ends(&mut self) -> Vec<String> {
        let words = |(name, reply)| match reply {
            Reply::Proposed(Ok(reply)) | Reply::Queried(Ok(reply)) => {
                format!("{name} {}", String::from_utf8(reply.into()).unwrap())
            }
            Reply::Proposed(Err(error)) => format!("{name} {error:?}"),
            Reply::Queried(Err(error)) => format!("{name} {error:?}"),
        };
        self.out.replies.drain(..).map(words).collect()
    }
}

#[test]
fn commands_are_applied_the_moment_they_come_and_parked_ones_answered_later() {
    let mut desk = Driven::new(Group::new(1, Desk::default()));
    assert_eq!(desk.propose("a", b"first"), ["a 1"]);
    assert_eq!(desk.propose("b", b"wait"), [""; 0]);
    assert_eq!(desk.propose("c", b"wait"), [""; 0]);
    assert_eq!(desk.core.status().open_proposals, 2);
    assert_eq!(desk.propose("d", b"silent"), ["d "], "no reply is an empty one");
    assert_eq!(desk.query(""), ["query 4"]);
    assert_eq!(desk.propose("e", b"twice"), ["b 5", "c 5", "e 5"], "the first reply counts");
    let status = desk.core.status();
    assert_eq!((status.last_applied, status.counters.applied), (5, 5));
    assert_eq!(desk.core.request_bytes().0, 0);
    assert_eq!(desk.core.machine::<Desk>().unwrap().last, 5);
}

#[test]
fn what_it_can_not_take_is_refused_by_name() {
    let mut settings = GroupSettings::default();
    settings.config.command_bytes_max = 10;
    settings.request_bytes_max = 200;
    let group = Group::new(1, Desk::default()).with_settings(settings);
    let mut desk = Driven::new(group);
    let refused = |why| format!("a {:?}", ProposeError::NotAppended(why));
    let too_large = NotAppended::TooLarge { bytes: 11, bytes_max: 10 };
    assert_eq!(desk.propose("a", &[b'x'; 11]), [refused(too_large)]);
    desk.core.propose(2, b"x", "a", &mut desk.out);
    assert_eq!(desk.ends(), [refused(NotAppended::NoSuchGroup { group: 2 })]);
    desk.core.query(2, "x".into(), "q", &mut desk.out);
    assert_eq!(desk.ends(), [format!("q {:?}", QueryError::NoSuchGroup { group: 2 })]);
    // There is room for two that wait, not for three.
    assert_eq!(desk.propose("b", b"wait"), [""; 0]);
    assert_eq!(desk.propose("c", b"wait"), [""; 0]);
    assert_eq!(desk.propose("a", b"x"), [refused(NotAppended::Busy)]);
    assert_eq!(desk.core.status().last_applied, 2, "what is refused is not applied");
}

#[test]
fn a_panic_of_the_machine_ends_everything_and_is_named() {
    let mut desk = Driven::new(Group::new(1, Desk::default()));
    desk.propose("a", b"wait");
    let unknown = format!("{:?}", ProposeError::Unknown(Unknown::Bug));
    let ends = desk.propose("b", b"panic");
    assert_eq!(ends, [format!("a {unknown}"), format!("b {unknown}")]);
    let refused = ProposeError::NotAppended(NotAppended::Bug);
    assert_eq!(desk.propose("c", b"x"), [format!("c {refused:?}")]);
    assert_eq!(desk.query(""), [format!("query {:?}", QueryError::Bug)]);
    assert_eq!(desk.core.status().bug.as_deref(), Some("told to panic"));

    let mut desk = Driven::new(Group::new(1, Desk::default()));
    assert_eq!(desk.query("panic"), [format!("query {:?}", QueryError::Bug)]);
    assert_eq!(desk.propose("c", b"x"), [format!("c {refused:?}")]);
}

#[test]
fn its_hooks_are_those_of_a_leader() {
    let group = Group::with_hooks(1, Desk::default(), Ticking::default());
    let mut desk = Driven::new(group);
    desk.core.turn(&mut desk.out);
    assert_eq!(desk.query(""), ["query 1"]);
    desk.propose("a", b"wait");
    let due = desk.core.ticks_until_due().unwrap();
    assert_eq!(due, 10);
    desk.core.tick(due - 1);
    desk.core.turn(&mut desk.out);
    assert_eq!(desk.query(""), ["query 2"], "not before it is time");
    desk.core.tick(1);
    desk.core.turn(&mut desk.out);
    assert_eq!(desk.ends(), ["a 3"], "what they propose answers what was parked");
    assert_eq!(Driven::new(Group::new(1, Desk::default())).core.ticks_until_due(), None);
}

#[test]
fn a_shutdown_ends_what_is_parked() {
    let mut desk = Driven::new(Group::new(1, Desk::default()));
    desk.propose("a", b"wait");
    desk.core.shut_down(&mut desk.out);
    let unknown = ProposeError::Unknown(Unknown::Shutdown);
    assert_eq!(desk.ends(), [format!("a {unknown:?}")]);
    let refused = ProposeError::NotAppended(NotAppended::Shutdown);
    assert_eq!(desk.propose("b", b"x"), [format!("b {refused:?}")]);
}

fn serve(machine: impl StateMachine + Send + 'static) -> (Single, String) {
    let config = HostConfig::single("127.0.0.1:0").client_bytes_max(10_000);
    let server = Single::start(config, Group::new(1, machine)).unwrap();
    let address = server.address().to_string();
    (server, address)
}

#[test]
fn clients_of_a_host_are_clients_of_a_single_server() {
    let (server, address) = serve(Journal::default());
    let client = RpcClient::new([address.clone()]);
    // More than may be open at a time: it is read no more until there is room.
    let command = [b'x'; 1000];
    let pending: Vec<_> = (0..1000).map(|_| client.begin_propose(1, &command)).collect();
    for (count, later) in (1..).zip(pending) {
        assert_eq!(later.wait().unwrap(), format!("{count}"));
    }
    assert_eq!(client.query(1, b"3000000").unwrap().len(), 3_000_000);
    assert_eq!(client.query(1, b"5000000"), Err(QueryError::AnswerTooLarge));
    let status: serde_json::Value =
        serde_json::from_str(&client.status(&address).unwrap()).unwrap();
    let group = &status["groups"][0];
    assert_eq!((&group["role"], &group["last_applied"]), (&"single".into(), &1000.into()));

    let own = server.client();
    assert_eq!(own.wait_for_leader(PATIENCE), Some(1));
    assert_eq!(own.propose("own").wait().unwrap(), "1001");
    assert_eq!(own.query("1").wait().unwrap(), "x");
    let queues = server.status().unwrap().queues;
    assert!(queues.iter().all(|queue| queue.bytes == 0), "{queues:?}");
    server.shutdown().unwrap();
    assert_eq!(own.status(), None);
    let end = own.propose("late").wait();
    assert_eq!(end, Err(ProposeError::NotAppended(NotAppended::Shutdown)));
}

#[test]
fn sessions_and_parked_replies_go_over_the_network() {
    let (server, address) = serve(Sessions::new(Desk::default(), Limits::default()));
    let rpc = RpcClient::new([address]);
    let waiter = std::thread::spawn({
        let mut session = SessionClient::new(rpc.clone(), 1);
        move || session.propose(b"wait")
    });
    let own = server.client();
    until("it waits", || own.status().unwrap().open_proposals == 1);
    let mut session = SessionClient::new(rpc, 1);
    let reply = session.propose(b"go").unwrap();
    assert_eq!(waiter.join().unwrap().unwrap(), reply);
    server.shutdown().unwrap();
}

#[test]
fn what_keeps_it_from_starting_is_named() {
    let start = |config| Single::start(config, Group::new(1, Journal::default()));
    let server = start(HostConfig::single("127.0.0.1:0")).unwrap();
    let taken = server.address();
    let error = start(HostConfig::single(taken.to_string())).unwrap_err();
    assert!(matches!(error, HostError::PortInUse { address } if address == taken), "{error}");
    let error = start(HostConfig::single("0.0.0.0:0")).unwrap_err();
    assert!(matches!(error, HostError::NotLoopback { .. }), "{error}");
    let member = HostConfig::single("127.0.0.1:0").member(1, "127.0.0.1:0", None);
    for config in [member, HostConfig::in_memory(7, 1), HostConfig::new(7, 1, "/nowhere")] {
        assert!(matches!(start(config).unwrap_err(), HostError::Config(_)));
    }
    // The port is free once it has ended, and nothing is left of what it knew.
    server.client().propose("x").wait().unwrap();
    server.shutdown().unwrap();
    let again = start(HostConfig::single(taken.to_string())).unwrap();
    assert_eq!(again.client().query("").wait().unwrap(), "");
}
