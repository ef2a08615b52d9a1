//! Groups whose shards stay where they are.

use raft_host::outcome::ProposeResult;
use shard::clerk::Clerk;
use shard::configs::{CURRENT, Configs};
use shard::group::{Command, Cursor};
use shard::net::{Net, Target};
use shard::{Config, Group, Kind, Partition};

use crate::lab::seed;
use crate::town::{Link, Town};

/// Gives a group shards that nobody has.
async fn begin(link: &Link, group: &Target, config: &Config) {
    for shard in config.shards_of(group.group) {
        let (num, from) = (config.num, Cursor::START);
        let install = Command::Install { shard, num, from, data: &[], next: None }.encode();
        until_done(link, group, install).await;
    }
}

async fn until_done(link: &Link, to: &Target, command: Vec<u8>) {
    loop {
        let end: ProposeResult = link.propose(to, command.clone()).await;
        match end {
            Ok(_) => return,
            Err(_) => link.sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

#[test]
fn a_clerk_finds_the_group_of_each_key() {
    let town = Town::default();
    let partition = Partition::default();
    let store = town.add(("store", kv::server::GROUP), kv::Machine::default, (1, seed(), None));
    let group = |gid: u64| {
        let make = move || Group::new(gid, partition, Kind::Pushed);
        town.add((&gid.to_string(), gid), make, (3, seed() + gid, None))
    };
    let groups = [group(100), group(101)];
    let servers = groups.iter().map(|to| (to.group, to.servers.clone()));
    let config = Config::new(&partition).join(servers).rebalanced();
    let link = town.link();
    town.run(async move {
        for group in &groups {
            begin(&link, group, &config).await;
        }
        let value = serde_json::to_vec(&config).unwrap();
        let put = kv::Command::Put { key: CURRENT, value: &value }.encode();
        until_done(&link, &store, put).await;
        let mut clerk = Clerk::new(link.clone(), partition, Configs::Store(store.clone()), 1);
        for number in 0..60 {
            let (key, value) = (format!("k{number}"), format!("v{number}"));
            assert_eq!(clerk.put(key.as_bytes(), value.as_bytes()).await, Ok(1));
        }
        for number in 0..60 {
            let key = format!("k{number}");
            let found = clerk.get(key.as_bytes()).await.unwrap().expect("it was put");
            assert_eq!((found.value, found.version), (format!("v{number}").into_bytes(), 1));
            assert_eq!(clerk.put_at(key.as_bytes(), b"w", 1).await, Ok(2));
        }
    });
    town.finish();
}
