//! Money goes from account to account over three groups, by both kinds of transaction, while shards move and leaders are
//! killed. The total is printed each second, and stays the same.
//!
//! ```sh
//! cargo run --release --example bank
//! ```

#[path = "../sets/mod.rs"]
mod sets;
mod tellers;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sets::{Sets, picture, run};
use shard::Gid;
use tellers::{ACCOUNTS, OPENING, Tellers, open_accounts, total};

const GROUPS: [Gid; 3] = [1, 2, 3];
const TELLERS: u64 = 6;
const SECONDS: u64 = 12;

fn main() -> ExitCode {
    run("bank", tell)
}

fn tell() -> Result<(), String> {
    let mut sets = Sets::start("bank", &[&GROUPS])?;
    println!(
        "Three processes are members of three groups each, with a log in {}.",
        sets.directory().display()
    );
    let groups = GROUPS.map(|gid| (gid, sets.servers(0)));
    sets.controller().join(groups).map_err(|error| error.to_string())?;
    sets.wait_until_settled()?;
    open_accounts(&sets)?;
    let sum = ACCOUNTS * OPENING;
    println!(
        "{ACCOUNTS} accounts of {OPENING} each. {TELLERS} tellers transfer, half of them optimistically, half of them \
         with locks.\n"
    );
    println!("   second      total  transfers  not at first  longest  shards");

    let tellers = Tellers::start(&sets, TELLERS);
    let mut waited = Duration::ZERO;
    for second in 1..=SECONDS {
        let began = Instant::now();
        let what = happening(&mut sets, second)?;
        thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        let looked = Instant::now();
        let found = total(&sets, second)?;
        waited = waited.max(looked.elapsed());
        let seen = tellers.take();
        let map = sets.map().map_or("-".to_owned(), |map| picture(&map));
        println!(
            "  {second:>7} {found:>10} {:>10} {:>13} {:>5} ms  {map}  {what}",
            seen.transfers,
            seen.again,
            seen.longest.as_millis()
        );
        if found != sum {
            return Err(format!("the total is {found} and was {sum}; {}", sets.logs()));
        }
    }
    let (optimistic, locking) = tellers.finish()?;
    let found = total(&sets, SECONDS + 1)?;
    println!("\n  transfers, optimistic: {optimistic}; with locks: {locking}");
    println!("  the longest look at all accounts at once: {} ms", waited.as_millis());
    println!("  money made or lost: {}", found.abs_diff(sum));
    sets.clean_up();
    if found == sum { Ok(()) } else { Err("the books do not balance".to_owned()) }
}

/// What goes on besides.
fn happening(sets: &mut Sets, second: u64) -> Result<String, String> {
    let mut controller = sets.controller();
    let done = |end: Result<u64, shard::controller::Error>| end.map_err(|error| error.to_string());
    Ok(match second % 4 {
        1 => {
            let (shard, gid) = ((second as u32 * 5) % 12, GROUPS[second as usize / 4 % 3]);
            done(controller.move_shard(shard, gid))?;
            format!("shard {shard} goes to group {gid}")
        }
        2 => {
            let gid = GROUPS[second as usize / 4 % 3];
            let Some(leader) = sets.leader(0, gid) else { return Ok("nobody leads".to_owned()) };
            sets.kill_one(0, leader)?;
            thread::sleep(Duration::from_millis(400));
            sets.start_one(0, leader)?;
            format!("process {leader}, which led group {gid}, is killed and restarted")
        }
        3 => {
            done(controller.leave([GROUPS[second as usize / 4 % 3]]))?;
            format!("group {} leaves", GROUPS[second as usize / 4 % 3])
        }
        _ => {
            let gid = GROUPS[(second as usize - 1) / 4 % 3];
            done(controller.join([(gid, sets.servers(0))]))?;
            format!("group {gid} joins again")
        }
    })
}
