//! Whole servers over real sockets: shards that move under load, servers that restart, transactions over groups.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Trio, clerk};
use raft_host::HostError;
use raft_host::rpc::RpcClient;
use shard::configs::Configs;
use shard::controller::ControllerClient;
use shard::map::stand;
use shard::net::{Net, Sockets, Target, block_on};
use shard::server::{CONFIGS, Home, Server};
use shard::store::Kind as TxnKind;
use shard::{Config, Gid, Kind, LockError, Mover, Partition};

/// Nothing here takes so long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// Whether each of the groups serves what the configuration says, and nothing is on its way.
fn is_settled(config: &Config, groups: &[(Gid, Target)]) -> bool {
    groups.iter().all(|(gid, target)| {
        let net = Sockets::default();
        let slots = block_on(stand(&net, target, net.now() + PATIENCE)).unwrap().slots;
        (0..).zip(&slots).all(|(shard, slot)| {
            slot.serving.is_some() == (config.group_of(shard) == *gid)
                && slot.leaving.is_none()
                && slot.arriving.is_none()
        })
    })
}

fn await_settled(config: &Config, groups: &[(Gid, Target)]) {
    let began = Instant::now();
    while !is_settled(config, groups) {
        assert!(began.elapsed() < PATIENCE, "shards arrive in time");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Appends to keys of its own until it is told to stop, and then reads them. Returns how much it has appended.
fn work(configs: &Configs, client: u64, stop: &AtomicBool) -> u64 {
    let mut clerk = clerk(configs, client.into()).with_patience(Duration::from_secs(30));
    let mut appended = 0;
    block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let name = key(1000 * (client + 1) + appended % 24);
            clerk.append(&name, format!("{appended} ").as_bytes()).await.unwrap();
            appended += 1;
        }
        for at in 0..appended.min(24) {
            let found = clerk.get(&key(1000 * (client + 1) + at)).await.unwrap().unwrap();
            let expected: String = (at..appended).step_by(24).map(|n| format!("{n} ")).collect();
            assert_eq!(String::from_utf8(found.value).unwrap(), expected, "each exactly once");
        }
    });
    appended
}

/// Lets some clients work while something is done.
fn under_load(configs: &Configs, deeds: impl FnOnce()) {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for client in 0..3 {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || done.fetch_add(work(configs, client, stop), Ordering::Relaxed));
        }
        thread::sleep(Duration::from_millis(400));
        deeds();
        thread::sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Relaxed);
    });
    let done = done.into_inner();
    assert!(done > 20, "the clients did something: {done} appends");
}

#[test]
fn groups_that_pull_serve_while_shards_move_and_servers_restart() {
    let mut first = Trio::start("pulled-1", &[1, 2], Home::Here(Kind::Pulled));
    let configs = first.configs();
    let mut second = Trio::start("pulled-2", &[3], Home::There(configs.clone()));
    let mut controller = ControllerClient::new(RpcClient::new(first.servers()), CONFIGS);
    controller.join([(1, first.servers())]).unwrap();
    under_load(&configs, || {
        controller.join([(2, first.servers()), (3, second.servers())]).unwrap();
        thread::sleep(Duration::from_millis(300));
        second.stop_one(2);
        controller.move_shard(0, 3).unwrap();
        second.start_one(2);
        controller.leave([2]).unwrap();
        // A whole group loses power, and the controller one server.
        second.stop();
        first.stop_one(1);
        thread::sleep(Duration::from_millis(300));
        (1..=3).for_each(|id| second.start_one(id));
        first.start_one(1);
    });
    let config = controller.query(None).unwrap();
    assert_eq!(config.num, 4);
    let groups = [(1, first.target(1)), (2, first.target(2)), (3, second.target(3))];
    await_settled(&config, &groups);
}

#[test]
fn locks_pass_from_one_to_the_next_while_their_shard_moves() {
    let servers = Trio::start("locks", &[1, 2], Home::Here(Kind::Pulled));
    let configs = servers.configs();
    let mut controller = ControllerClient::new(RpcClient::new(servers.servers()), CONFIGS);
    controller.join([(1, servers.servers()), (2, servers.servers())]).unwrap();
    let (name, lease) = (b"lock", Duration::from_secs(2));
    let shard = Partition::default().shard_of(name);
    let (held, tokens) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for client in 0..3 {
            let (configs, held, tokens) = (&configs, &held, &tokens);
            scope.spawn(move || {
                let mut clerk = clerk(configs, client).with_patience(PATIENCE);
                for _ in 0..10 {
                    let mut claim = block_on(clerk.acquire(name, lease, PATIENCE)).unwrap();
                    assert!(!held.swap(true, Ordering::SeqCst), "one at a time");
                    tokens.lock().unwrap().push(claim.token());
                    thread::sleep(Duration::from_millis(10));
                    block_on(clerk.renew(&mut claim)).unwrap();
                    held.store(false, Ordering::SeqCst);
                    block_on(clerk.release(claim)).unwrap();
                }
            });
        }
        for gid in [2, 1, 2] {
            controller.move_shard(shard, gid).unwrap();
            thread::sleep(Duration::from_millis(200));
        }
    });
    let tokens = tokens.into_inner().unwrap();
    assert_eq!(tokens.len(), 30);
    assert!(
        tokens.is_sorted_by(|one, next| one < next),
        "each proves that it came later: {tokens:?}"
    );
    // Who is gone loses the lock when its lease ends.
    let (mut dead, mut next) = (clerk(&configs, 8), clerk(&configs, 9));
    let began = Instant::now();
    let lost = block_on(dead.acquire(name, lease, PATIENCE)).unwrap();
    let claim = block_on(next.acquire(name, lease, PATIENCE)).unwrap();
    assert!(began.elapsed() >= lease, "{:?}", began.elapsed());
    assert!(matches!(block_on(dead.release(lost)), Err(LockError::Lost { .. })));
    block_on(next.release(claim)).unwrap();
    assert_eq!(block_on(next.look_at_lock(name)), Ok(None));
}

#[test]
fn groups_that_are_pushed_serve_while_shards_move() {
    let first = Trio::start("pushed-1", &[1, 2], Home::Here(Kind::Pushed));
    let configs = first.configs();
    let mut second = Trio::start("pushed-2", &[3], Home::There(configs.clone()));
    let mover = Mover::new(Sockets::default(), Partition::default(), first.target(CONFIGS));
    let one = Config::new(&Partition::default()).join([(1, first.servers())]).rebalanced();
    block_on(mover.init(&one)).unwrap();
    let two = one.join([(2, first.servers()), (3, second.servers())]).rebalanced();
    under_load(&configs, || {
        block_on(mover.change(&two)).unwrap();
        second.stop();
        let three = two.leave([2]).rebalanced();
        thread::scope(|scope| {
            // The group that is down holds it up, until it is back.
            let change = scope.spawn(|| block_on(mover.change(&three)).unwrap());
            thread::sleep(Duration::from_millis(300));
            assert!(!change.is_finished());
            (1..=3).for_each(|id| second.start_one(id));
        });
    });
    let config = block_on(mover.query()).unwrap();
    assert_eq!(config.num, 3);
    let groups = [(1, first.target(1)), (2, first.target(2)), (3, second.target(3))];
    assert!(is_settled(&config, &groups), "a change that has ended has moved all");
}

#[test]
fn money_stays_the_same_over_real_groups() {
    let trio = Trio::start("bank", &[1, 2, 3], Home::Here(Kind::Pulled));
    let configs = trio.configs();
    let mut controller = ControllerClient::new(RpcClient::new(trio.servers()), CONFIGS);
    controller.join([1, 2].map(|gid| (gid, trio.servers()))).unwrap();
    let accounts = 10;
    let transfer = |client: u64, kind: TxnKind| {
        let mut clerk = clerk(&configs, client.into());
        block_on(async {
            for round in 0..40 {
                let (from, to) =
                    (key((client + round) % accounts), key((client * round + 3) % accounts));
                if from == to {
                    continue;
                }
                let end = clerk
                    .transact(kind, async |txn| {
                        let balance = |value: Option<Vec<u8>>| -> u64 {
                            String::from_utf8(value.unwrap()).unwrap().parse().unwrap()
                        };
                        let (a, b) = (balance(txn.get(&from).await?), balance(txn.get(&to).await?));
                        let amount = a.min(7);
                        txn.put(&from, (a - amount).to_string().as_bytes()).await?;
                        txn.put(&to, (b + amount).to_string().as_bytes()).await
                    })
                    .await;
                end.unwrap();
            }
        });
    };
    block_on(async {
        let mut clerk = clerk(&configs, 99);
        for number in 0..accounts {
            clerk.put(&key(number), b"100").await.unwrap();
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| transfer(1, TxnKind::Optimistic));
        scope.spawn(|| transfer(2, TxnKind::Locking));
        scope.spawn(|| transfer(3, TxnKind::Optimistic));
        controller.join([(3, trio.servers())]).unwrap();
        thread::sleep(Duration::from_millis(100));
        controller.leave([1]).unwrap();
    });
    let total = block_on(clerk(&configs, 98).transact(TxnKind::Optimistic, async |txn| {
        let mut total = 0;
        for number in 0..accounts {
            let value = txn.get(&key(number)).await?.unwrap();
            total += String::from_utf8(value).unwrap().parse::<u64>().unwrap();
        }
        Ok(total)
    }));
    assert_eq!(total, Ok(1000));
}

#[test]
fn a_store_is_not_served_as_what_it_is_not() {
    let port = common::free_port;
    let servers = format!("1=127.0.0.1:{}/{}", port(), port()).parse().unwrap();
    let data = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("other-kind");
    _ = std::fs::remove_dir_all(&data);
    let server = |kind| Server::new(&servers, 1, [1], Home::Here(kind));
    server(Kind::Pulled).start(&data).unwrap().shutdown().unwrap();
    let seven = Partition { shards: 7, ..Partition::default() };
    for other in [server(Kind::Pushed), server(Kind::Pulled).partition(seven)] {
        let error = other.start(&data).unwrap_err();
        assert!(matches!(error, HostError::ForeignStore { .. }), "{error}");
    }
    server(Kind::Pulled).start(&data).unwrap().shutdown().unwrap();
}
