//! Three members in one process, over TCP, mostly without disks: what a client sees.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kv::{
    Appended, Client, Cluster, Condition, Error, Item, Page, Refusal, Server, VALUE_BYTES_MAX,
    Versioned, Write,
};
use raft_host::Host;

/// Three members on ports that were free a moment ago.
fn cluster() -> Cluster {
    let listeners: Vec<TcpListener> =
        (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |at: usize| listeners[at].local_addr().unwrap().port();
    let member = |id: usize| format!("{id}=127.0.0.1:{}/{}", port(id - 1), port(id + 2));
    [1, 2, 3].map(member).join(",").parse().unwrap()
}

fn start(cluster: &Cluster) -> BTreeMap<u64, Host> {
    let start = |id| (id, Server::new(cluster, id).start_in_memory().unwrap());
    (1..=3).map(start).collect()
}

fn leader(hosts: &BTreeMap<u64, Host>) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let leads = |host: &Host| host.status().unwrap().groups[0].role == "leader";
        if let Some((id, _)) = hosts.iter().find(|(_, host)| leads(host)) {
            return *id;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no leader within 10 s");
}

#[test]
fn a_client_puts_gets_appends_and_deletes() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let mut client = Client::new(&cluster);
    assert_eq!(client.get(b"k"), Ok(None));
    assert_eq!(client.get_or_empty(b"k"), Ok(Vec::new()));
    assert_eq!(client.put(b"k", b"hello"), Ok(1));
    assert_eq!(client.append(b"k", b" world"), Ok(Appended { length: 11, version: 2 }));
    assert_eq!(client.get(b"k"), Ok(Some(b"hello world".to_vec())));
    assert_eq!(client.another().get(b"k"), Ok(Some(b"hello world".to_vec())));
    assert_eq!(client.delete(b"k"), Ok(Some(2)));
    assert_eq!(client.delete(b"k"), Ok(None));
    assert_eq!(client.get(b"k"), Ok(None));
}

#[test]
fn a_client_sets_by_version_does_batches_and_scans() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let mut client = Client::new(&cluster);
    assert_eq!(client.compare_and_set(b"k/1", 1, b"x"), Err(Error::NoKey));
    assert_eq!(client.compare_and_set(b"k/1", 0, b"x"), Ok(1));
    assert_eq!(client.compare_and_set(b"k/1", 0, b"y"), Err(Error::WrongVersion { version: 1 }));
    let found = Versioned { value: b"x".to_vec(), version: 1 };
    assert_eq!(client.get_versioned(b"k/1"), Ok(Some(found)));

    let moving = |version| {
        let conditions = [
            Condition::Version { key: b"k/1", version },
            Condition::Value { key: b"k/2", value: None },
        ];
        (conditions, [Write::Delete { key: b"k/1" }, Write::Put { key: b"k/2", value: b"x" }])
    };
    let (conditions, writes) = moving(2);
    let failed = Error::ConditionFailed { condition: 0, version: 1 };
    assert_eq!(client.batch(&conditions, &writes), Err(failed));
    let (conditions, writes) = moving(1);
    assert_eq!(client.batch(&conditions, &writes), Ok(vec![1, 1]));

    client.put(b"k/3", b"z").unwrap();
    client.put(b"l", b"not in it").unwrap();
    let item = |key: &[u8], value: &[u8]| Item { key: key.into(), value: value.into(), version: 1 };
    let first = Page { items: vec![item(b"k/2", b"x")], has_more: true };
    assert_eq!(client.scan(b"k/", None, 1), Ok(first));
    let second = Page { items: vec![item(b"k/3", b"z")], has_more: false };
    assert_eq!(client.scan(b"k/", Some(b"k/2"), 9), Ok(second));
    assert_eq!(client.scan(b"", None, 0), Err(Error::Refused(Refusal::LimitZero)));
}

#[test]
fn keys_and_values_over_the_limit_are_refused_with_their_length() {
    let cluster = cluster();
    let _hosts = start(&cluster);
    let mut client = Client::new(&cluster);
    let long = vec![0; VALUE_BYTES_MAX];
    client.put(b"k", &long).unwrap();
    let too_long = Refusal::ValueTooLong { bytes: 524_289, bytes_max: 524_288 };
    assert_eq!(client.append(b"k", b"+"), Err(Error::Refused(too_long)));
    assert_eq!(client.put(b"k", &[&long[..], b"+"].concat()), Err(Error::Refused(too_long)));
    let key_too_long = Refusal::KeyTooLong { bytes: 5000, bytes_max: 4096 };
    assert_eq!(client.get(&[0; 5000]), Err(Error::Refused(key_too_long)));
    assert_eq!(client.put(b"", b"v"), Err(Error::Refused(Refusal::KeyEmpty)));
    assert_eq!(client.get(b""), Err(Error::Refused(Refusal::KeyEmpty)));
    assert_eq!(client.get(b"k").unwrap().map(|value| value.len()), Some(VALUE_BYTES_MAX));
}

#[test]
fn clients_follow_the_leader_and_each_append_is_applied_once() {
    let cluster = cluster();
    let mut hosts = start(&cluster);
    leader(&hosts);
    let first = Client::new(&cluster);
    let clients: Vec<Client> = (0..4).map(|_| first.another()).collect();
    let appending: Vec<_> = (0..4u8)
        .zip(clients)
        .map(|(name, mut client)| {
            thread::spawn(move || {
                for count in 0..200u8 {
                    client.append(&[b'k', name], &[count]).unwrap();
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    // In mid-load, so that some commands end `Unknown` and are sent again.
    drop(hosts.remove(&leader(&hosts)));
    appending.into_iter().for_each(|thread| thread.join().unwrap());
    for name in 0..4 {
        assert_eq!(first.get(&[b'k', name]), Ok(Some((0..200).collect())), "client {name}");
    }
}

#[test]
fn a_member_that_was_away_for_long_is_sent_a_snapshot() {
    let cluster = cluster();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("away");
    let _ = fs::remove_dir_all(&directory);
    let server = |id: u64| Server::new(&cluster, id).log_bytes_max(50_000);
    let start = |id: u64| (id, server(id).start(&directory.join(id.to_string())).unwrap());
    let mut hosts: BTreeMap<u64, Host> = (1..=3).map(start).collect();
    leader(&hosts);
    hosts.remove(&3).unwrap().shutdown().unwrap();

    // More than the log keeps for members that lag a little.
    let first = Client::new(&cluster);
    let writing: Vec<_> = (0..32u8)
        .map(|name| {
            let mut client = first.another();
            thread::spawn(move || {
                for key in 0..=255u8 {
                    client.put(&[name, key], &[key, name]).unwrap();
                }
            })
        })
        .collect();
    writing.into_iter().for_each(|thread| thread.join().unwrap());
    hosts.extend([start(3)]);
    let away = || hosts[&3].status().unwrap().groups.remove(0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while away().last_applied < 32 * 256 {
        assert!(Instant::now() < deadline, "{:?}", away());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(away().core.snapshots_installed > 0, "{:?}", away());

    // What it was sent counts: it is needed for the majority now.
    hosts.remove(&1).unwrap().shutdown().unwrap();
    for (name, key) in [(0, 0), (13, 200), (31, 255)] {
        assert_eq!(first.get(&[name, key]), Ok(Some(vec![key, name])));
    }
    first.another().put(b"k", b"v").unwrap();
}

#[test]
fn without_a_majority_nothing_is_claimed() {
    let cluster = cluster();
    let mut hosts = start(&cluster);
    let mut client = Client::new(&cluster).with_patience(Duration::from_secs(1));
    assert!(matches!(
        Client::new(&"1=127.0.0.1:1".parse().unwrap())
            .with_patience(Duration::from_millis(200))
            .put(b"k", b"v"),
        Err(Error::NotDone(_))
    ));
    leader(&hosts);
    client.put(b"k", b"v").unwrap();
    hosts.remove(&1);
    hosts.remove(&2);
    assert!(matches!(client.put(b"k", b"w"), Err(Error::NotDone(_) | Error::Unknown(_))));
    assert!(matches!(client.get(b"k"), Err(Error::NotRead(_))));
}
