//! How long nobody can write when the leader's process is killed under load, and when it stands still: 20
//! times each. A killed process's sockets close, which the others take as a hint; of one that stands still they
//! learn by their election timeouts alone, of 150 to 300 ms.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Members;
use kv::Client;
use raft_host::rpc::RpcClient;
use serde_json::Value;

const ROUNDS: usize = 20;
const WRITERS: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// When each acknowledged write ended.
struct Load {
    last: Mutex<Instant>,
    is_over: AtomicBool,
}

impl Load {
    fn write(&self, mut client: Client, name: u8) {
        while !self.is_over.load(Ordering::Relaxed) {
            let called = Instant::now();
            client.put(&[b'k', name], b"value").unwrap();
            // One that was under way when the leader went may have been committed before.
            let mut last = self.last.lock().unwrap();
            *last = called.max(*last);
        }
    }

    /// Waits for a write that was begun after this moment, and answers how long that took.
    fn written_after(&self, moment: Instant) -> Duration {
        while *self.last.lock().unwrap() <= moment {
            assert!(moment.elapsed() < PATIENCE, "no write for {PATIENCE:?}");
            thread::sleep(Duration::from_micros(200));
        }
        moment.elapsed()
    }
}

/// The member that leads, once all members run and know it.
fn leader(members: &Members, rpc: &RpcClient) -> u64 {
    let began = Instant::now();
    loop {
        let status = |(_, address): (u64, &kv::cluster::MemberAddress)| -> Option<Value> {
            serde_json::from_str(&rpc.status(&address.clients()).ok()?).ok()
        };
        let leaders: Vec<Option<u64>> = members
            .cluster
            .members()
            .map(|member| status(member)?["groups"][0]["leader"].as_u64())
            .collect();
        if let Some(leader) = leaders[0]
            && leaders.iter().all(|known| *known == Some(leader))
        {
            return leader;
        }
        assert!(began.elapsed() < PATIENCE, "no leader that all know: {leaders:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Median and worst.
fn summary(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
fn a_killed_leader_is_replaced_sooner_than_one_that_stands_still() {
    let mut members = Members::new("failover");
    (1..=3).for_each(|id| members.start(id));
    let first = Client::new(&members.cluster).with_patience(PATIENCE);
    let rpc = RpcClient::new(members.cluster.clients());
    let load = Load { last: Mutex::new(Instant::now()), is_over: AtomicBool::new(false) };
    let (killed, stopped) = thread::scope(|scope| {
        for name in 0..WRITERS {
            let (load, client) = (&load, first.another());
            scope.spawn(move || load.write(client, name));
        }
        let mut killed = Vec::new();
        for _ in 0..ROUNDS {
            let id = leader(&members, &rpc);
            let moment = Instant::now();
            members.kill(id);
            killed.push(load.written_after(moment));
            members.start(id);
        }
        let mut stopped = Vec::new();
        for _ in 0..ROUNDS {
            let id = leader(&members, &rpc);
            members.signal(id, "STOP");
            // Until then it went on serving: it takes a process to send the signal.
            let moment = Instant::now();
            stopped.push(load.written_after(moment));
            members.signal(id, "CONT");
        }
        load.is_over.store(true, Ordering::Relaxed);
        (summary(killed), summary(stopped))
    });
    println!("kill -9 of the leader, {ROUNDS} times: median {:?}, worst {:?}", killed.0, killed.1);
    println!(
        "SIGSTOP of the leader, {ROUNDS} times: median {:?}, worst {:?}",
        stopped.0, stopped.1
    );
    assert!(killed.0 < stopped.0, "closed sockets are no hint: {killed:?}, {stopped:?}");
    assert!(killed.1 < Duration::from_secs(3) && stopped.1 < Duration::from_secs(5), "too slow");
}
