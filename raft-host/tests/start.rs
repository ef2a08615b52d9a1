//! What keeps a host from starting, and what it says about it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::{Addresses, CLUSTER, Journal, PATIENCE, TempDir};
use raft_core::Config;
use raft_host::core::GroupSettings;
use raft_host::{Group, Host, HostConfig, HostError, ProposeError, QueryError};

fn alone() -> HostConfig {
    HostConfig::in_memory(CLUSTER, 1).member(1, "127.0.0.1:0", Some("127.0.0.1:0"))
}

fn start(config: HostConfig) -> Result<Host, HostError> {
    Host::start(config, [Group::new(1, Journal::default())])
}

#[test]
fn a_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    for config in [alone().listen(taken.to_string()), alone().listen_clients(taken.to_string())] {
        let error = start(config).unwrap_err();
        assert!(matches!(error, HostError::PortInUse { address } if address == taken), "{error}");
    }
}

#[test]
fn addresses_that_others_can_reach_have_to_be_allowed() {
    let error = start(alone().listen("0.0.0.0:0")).unwrap_err();
    assert!(matches!(error, HostError::NotLoopback { .. }), "{error}");
    assert!(error.to_string().contains("insecure"), "{error}");
    let error = start(alone().listen_clients("0.0.0.0:0")).unwrap_err();
    assert!(matches!(error, HostError::NotLoopback { .. }), "{error}");
    let error = start(alone().member(2, "192.0.2.1:80", None)).unwrap_err();
    assert!(matches!(error, HostError::NotLoopback { .. }), "{error}");
    start(alone().listen("0.0.0.0:0").insecure(true)).unwrap().shutdown().unwrap();
}

#[test]
fn an_address_that_is_none_is_named_with_its_node() {
    for bad in ["nowhere", "127.0.0.1:port", "no.such.host.invalid:80", ""] {
        let error = start(alone().member(2, bad, None)).unwrap_err();
        let HostError::BadAddress { node: 2, address, .. } = &error else { panic!("{error}") };
        assert_eq!(address, bad);
    }
}

#[test]
fn a_host_that_does_not_start_leaves_no_store_behind() {
    let dir = TempDir::new("refused");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let config = || HostConfig::new(CLUSTER, 1, dir.path()).member(1, "127.0.0.1:0", None);
    for refused in [
        config().listen("0.0.0.0:0"),
        config().listen_clients("0.0.0.0:0"),
        config().listen(&taken),
        config().listen_clients(&taken),
        config().member(2, "192.0.2.1:80", None),
        config().member(2, "no.such.host.invalid:80", None),
        config().tick_interval(Duration::ZERO),
    ] {
        let error = start(refused).unwrap_err();
        assert!(!dir.path().exists(), "{error}");
    }
    start(config()).unwrap().shutdown().unwrap();
    assert!(dir.path().exists());
}

#[test]
fn too_many_members_are_refused_before_there_is_a_store() {
    let dir = TempDir::new("crowd");
    let config = HostConfig::new(CLUSTER, 1, dir.path());
    let config = (1..=32).fold(config, |config, node| config.member(node, "127.0.0.1:0", None));
    let error = start(config).unwrap_err();
    assert!(matches!(&error, HostError::Config(what) if what.contains("32 members")), "{error}");
    assert!(!dir.path().exists());
}

#[test]
fn a_store_is_not_started_with_other_members_than_it_knows() {
    let dir = TempDir::new("members");
    let alone = || HostConfig::new(CLUSTER, 1, dir.path()).member(1, "127.0.0.1:0", None);
    let host = start(alone()).unwrap();
    assert_eq!(host.client(1).wait_for_leader(PATIENCE), Some(1));
    host.shutdown().unwrap();
    for _ in 0..2 {
        let more = alone().member(2, "127.0.0.1:1", None).member(3, "127.0.0.1:2", None);
        let error = start(more).unwrap_err();
        let HostError::OtherMembers { group: 1, stored, configured, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((&stored[..], &configured[..]), (&[1][..], &[1, 2, 3][..]));
        assert!(error.to_string().contains("[1]") && error.to_string().contains("[1, 2, 3]"));
    }
    start(alone()).unwrap().shutdown().unwrap();
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let stranger = HostConfig::in_memory(CLUSTER, 2).member(1, "127.0.0.1:0", None);
    assert!(matches!(start(stranger).unwrap_err(), HostError::Config(_)));
    let nobody = HostConfig::in_memory(CLUSTER, 0).member(0, "127.0.0.1:0", None);
    assert!(matches!(start(nobody).unwrap_err(), HostError::Config(_)));
    let twice = [Group::new(1, Journal::default()), Group::new(1, Journal::default())];
    assert!(matches!(Host::start(alone(), twice).unwrap_err(), HostError::Config(_)));
    assert!(matches!(Host::start(alone(), []).unwrap_err(), HostError::Config(_)));
}

#[test]
fn commands_that_no_message_could_carry_are_refused_at_the_start() {
    let with = |change: fn(&mut Config)| {
        let mut settings = GroupSettings::default();
        change(&mut settings.config);
        Host::start(alone(), [Group::new(1, Journal::default()).with_settings(settings)])
    };
    for change in [
        (|config| config.command_bytes_max = 10 << 20) as fn(&mut Config),
        |config| config.append_bytes_max = 8 << 20,
        |config| config.chunk_bytes_max = usize::MAX,
    ] {
        let error = with(change).unwrap_err();
        assert!(error.to_string().contains("group 1"), "{error}");
    }
    with(|config| config.command_bytes_max = 6 << 20).unwrap().shutdown().unwrap();
}

#[test]
fn a_host_runs_a_hundred_groups() {
    let groups = (1..=100).map(|id| Group::new(id, Journal::default()));
    let host = Host::start(alone(), groups).unwrap();
    let clients: Vec<_> = (1..=100).map(|id| host.client(id)).collect();
    for client in &clients {
        assert_eq!(client.wait_for_leader(PATIENCE), Some(1));
    }
    for round in 1..=10 {
        let pending: Vec<_> = clients.iter().map(|client| client.propose("command")).collect();
        for later in pending {
            assert_eq!(later.wait().unwrap(), round.to_string());
        }
    }
    let status = host.status().unwrap();
    assert_eq!(status.groups.len(), 100);
    assert!(status.groups.iter().all(|group| group.counters.applied == 10));
    host.shutdown().unwrap();
}

#[test]
fn after_a_shutdown_every_request_ends_at_once() {
    let addresses = Addresses::new(2);
    // The other member never comes, so nothing can be committed.
    let config = addresses.fill(HostConfig::in_memory(CLUSTER, 1)).new_cluster(true);
    let host = start(config).unwrap();
    let client = host.client(1);
    let query = client.query("");
    assert!(query.wait_timeout(PATIENCE).unwrap().is_err());
    host.shutdown().unwrap();
    let end = client.propose("late").wait().unwrap_err();
    assert!(matches!(end, ProposeError::NotAppended(_)), "{end}");
    assert_eq!(client.query("").wait(), Err(QueryError::Shutdown));
    assert_eq!(client.status(), None);
    assert_eq!(client.wait_for_leader(PATIENCE), None);
}

#[test]
fn a_dropped_host_frees_its_ports() {
    let addresses = Addresses::new(1);
    let config = addresses.fill(HostConfig::in_memory(CLUSTER, 1));
    drop(start(config.clone()).unwrap());
    start(config).unwrap().shutdown().unwrap();
}
