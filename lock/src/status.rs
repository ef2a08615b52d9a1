//! Who holds what: for people, or as JSON.

use std::fmt::Write;

use lock::{Claimant, LockClient, LockState};
use serde_json::{Value, json};

use crate::args::Status;
use crate::{Failure, not_read, print};

/// Locks asked for at a time.
const PAGE: u64 = 1000;

pub(crate) fn show(locks: &LockClient, arguments: &Status) -> Result<u8, Failure> {
    match &arguments.name {
        Some(name) => show_one(locks, name, arguments.json),
        None => list(locks, arguments.json),
    }
}

fn show_one(locks: &LockClient, name: &str, is_json: bool) -> Result<u8, Failure> {
    let state = locks.look(name.as_bytes()).map_err(|error| not_read(name, &error))?;
    match (state, is_json) {
        (Some(state), true) => print(&format!("{}\n", as_json(name, &state)))?,
        (None, true) => print(&format!("{}\n", json!({ "name": name, "token": null })))?,
        (None, false) => print(&format!("`{name}` is free\n"))?,
        (Some(state), false) => {
            let LockState { token, holder, waiters } = &state;
            let mut lines = format!("`{name}` is held with token {token} by {}\n", person(holder));
            for (at, waiter) in (1..).zip(waiters) {
                lines += &format!("  {at}. waits: {}\n", person(waiter));
            }
            print(&lines)?;
        }
    }
    Ok(0)
}

fn list(locks: &LockClient, is_json: bool) -> Result<u8, Failure> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = locks.list(b"", after.as_deref(), PAGE);
        let page = page.map_err(|error| not_read("", &error))?;
        let mut lines = String::new();
        for lock in &page.locks {
            let (name, owner) = (text(&lock.name), text(&lock.owner));
            let (token, waiters) = (lock.token, lock.waiters);
            if is_json {
                let record =
                    json!({ "name": name, "token": token, "owner": owner, "waiters": waiters });
                lines += &format!("{record}\n");
            } else {
                lines += &format!("{name}\ttoken {token}\t{owner}\t{waiters} waiting\n");
            }
        }
        print(&lines)?;
        after = page.locks.into_iter().next_back().map(|lock| lock.name).or(after);
        if !page.has_more {
            return Ok(0);
        }
    }
}

fn as_json(name: &str, state: &LockState) -> Value {
    let claimant = |claimant: &Claimant| {
        json!({
            "owner": text(&claimant.owner),
            "lease_ms": claimant.lease_ms,
            "holder": format!("{:032x}", claimant.id),
        })
    };
    let waiters: Vec<Value> = state.waiters.iter().map(claimant).collect();
    json!({
        "name": name,
        "token": state.token,
        "holder": claimant(&state.holder),
        "waiters": waiters,
    })
}

fn person(claimant: &Claimant) -> String {
    format!("{} (lease of {} ms)", text(&claimant.owner), claimant.lease_ms)
}

/// One line, whatever the bytes.
fn text(bytes: &[u8]) -> String {
    let mut line = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                _ if character.is_control() => line.extend(character.escape_default()),
                _ => line.push(character),
            }
        }
        for byte in chunk.invalid() {
            write!(line, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_every_byte() {
        assert_eq!(text(b"a\tb\xff\n"), r"a\tb\xff\n");
    }
}
