//! `kill -9` of a random member, 100 times under load, with real processes and logs on disk: no
//! acknowledged write is lost, none is there twice.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use common::{Dice, Members};
use kv::{Appended, Client};

const KILLS: usize = 100;
const CLIENTS: u8 = 8;
/// After this long no further kill is begun, so that a slow machine ends in time.
const KILLING_TIME: Duration = Duration::from_secs(60);
/// No member stays away for longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Appends numbered marks to a key of its own, and puts a second key, until told to stop. Answers how
/// many marks were acknowledged, and whether the last one's end is unknown.
fn work(
    mut client: Client,
    name: u8,
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
) -> (u32, bool) {
    let mut marks = 0u32;
    while !stop.load(Relaxed) {
        let mark = format!("{marks:06};");
        let done = client.append(&[b'a', name], mark.as_bytes());
        if done.is_err() {
            return (marks, true);
        }
        marks += 1;
        let once = Appended { length: u64::from(marks) * 7, version: marks.into() };
        assert_eq!(done, Ok(once), "client {name}: an append was there twice");
        client.put(&[b'p', name], &marks.to_le_bytes()).unwrap();
        acknowledged.fetch_add(1, Relaxed);
    }
    (marks, false)
}

fn wait_for_progress(acknowledged: &AtomicUsize, seed: u64, round: usize) {
    let (before, began) = (acknowledged.load(Relaxed), Instant::now());
    while acknowledged.load(Relaxed) < before + usize::from(CLIENTS) {
        assert!(began.elapsed() < PATIENCE, "no progress after kill {round}, seed {seed}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9_of_a_random_member_a_hundred_times() {
    let seed = 6;
    let mut dice = Dice(seed);
    let mut members = Members::new("kill");
    (1..=3).for_each(|id| members.start(id));
    let first = Client::new(&members.cluster).with_patience(PATIENCE);
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let (client, stop, acknowledged) =
                (first.another(), stop.clone(), acknowledged.clone());
            thread::spawn(move || work(client, name, &stop, &acknowledged))
        })
        .collect();
    wait_for_progress(&acknowledged, seed, 0);
    let began = Instant::now();
    let mut kills = 0;
    while kills < KILLS && began.elapsed() < KILLING_TIME {
        thread::sleep(Duration::from_millis(dice.below(150)));
        let id = 1 + dice.below(3);
        members.kill(id);
        kills += 1;
        thread::sleep(Duration::from_millis(dice.below(150)));
        members.start(id);
        wait_for_progress(&acknowledged, seed, kills);
    }
    stop.store(true, Relaxed);
    let written: Vec<(u32, bool)> =
        workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    println!("{kills} kills in {:?}, {} writes", began.elapsed(), acknowledged.load(Relaxed) * 2);

    // From the logs alone.
    (1..=3).for_each(|id| members.kill(id));
    (1..=3).for_each(|id| members.start(id));
    for (name, (marks, unknown)) in (0..).zip(written) {
        let found = first.get(&[b'a', name]).unwrap().unwrap_or_default();
        let expected: String = (0..marks).map(|mark| format!("{mark:06};")).collect();
        let at_most: String = (0..=marks).map(|mark| format!("{mark:06};")).collect();
        let found = String::from_utf8(found).unwrap();
        let is_right = found == expected || (unknown && found == at_most);
        assert!(is_right, "client {name}: {marks} marks acknowledged, seed {seed}, found {found}");
        let put = first.get(&[b'p', name]).unwrap();
        assert_eq!(put, Some(marks.to_le_bytes().to_vec()), "client {name}, seed {seed}");
    }
    let status = Command::new(env!("CARGO_BIN_EXE_kv"))
        .args(["status", "--json", "--cluster", &members.cluster.to_string()])
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let snapshot = &status[0]["status"]["groups"][0]["snapshot_index"];
    assert!(snapshot.as_u64() > Some(0), "no snapshot was restarted from: {snapshot}");
    assert_eq!(kills, KILLS, "too slow: only so many kills in {KILLING_TIME:?}");
}
