//! Three members over TCP.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Addresses, CLUSTER, Journal, PATIENCE, until};
use raft_host::{Group, Host, HostConfig, RpcClient};

fn start(addresses: &Addresses, node: u64) -> Host {
    let config = addresses.fill(HostConfig::in_memory(CLUSTER, node));
    Host::start(config, [Group::new(1, Journal::default())]).unwrap()
}

#[test]
fn three_members_elect_a_leader_and_apply_what_a_client_proposes() {
    let addresses = Addresses::new(3);
    let hosts: Vec<Host> = (1..=3).map(|node| start(&addresses, node)).collect();
    assert!(hosts[0].client(1).wait_for_leader(PATIENCE).is_some());
    let client = RpcClient::new(addresses.servers());
    for number in 1..=20 {
        let reply = client.propose(1, format!("c{number}").as_bytes()).unwrap();
        assert_eq!(reply, number.to_string());
    }
    let all: String = (1..=20).map(|number| format!("c{number}\n")).collect();
    for host in &hosts {
        assert_eq!(host.client(1).query("").wait().unwrap(), all);
    }
    assert_eq!(client.query(1, b"").unwrap(), all);
    let status = client.status(&addresses.servers()[0]).unwrap();
    assert!(status.contains(r#""standing":"voter""#), "{status}");
    hosts.into_iter().for_each(|host| host.shutdown().unwrap());
}

#[test]
fn a_member_of_another_cluster_is_refused_and_the_status_says_so() {
    let addresses = Addresses::new(2);
    let config = |cluster, node| addresses.fill(HostConfig::in_memory(cluster, node));
    let ours = Host::start(config(CLUSTER, 1), [Group::new(1, Journal::default())]).unwrap();
    let theirs = Host::start(config(CLUSTER + 1, 2), [Group::new(1, Journal::default())]).unwrap();
    let refused = |host: &Host| {
        let status = host.status().unwrap();
        assert!(!status.peers[0].connected);
        status.peers[0].refused.clone().or(status.stranger_refused)
    };
    until("both say it", || {
        let texts = [refused(&ours), refused(&theirs)];
        texts.iter().flatten().filter(|text| text.contains("another cluster")).count() == 2
    });
}
