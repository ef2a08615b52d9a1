//! Three groups of three processes serve one key/value store. Shards move from group to group while clients append,
//! a whole group is killed and returns, and at last one group leaves: every append is there exactly once.
//!
//! ```sh
//! cargo run --release --example sharded_kv
//! ```

mod load;
#[path = "../sets/mod.rs"]
mod sets;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use load::Load;
use sets::{Sets, picture, run};
use shard::Gid;

/// One for each shard.
const CLIENTS: u64 = 12;

fn main() -> ExitCode {
    run("sharded_kv", tell)
}

fn tell() -> Result<(), String> {
    let mut sets = Sets::start("sharded_kv", &[&[1], &[2], &[3]])?;
    println!(
        "Three groups, {} processes, each with a log in {}. The first three keep the configurations, too.",
        sets.processes(),
        sets.directory().display()
    );
    let mut controller = sets.controller();
    let mut join = |gids: &[Gid]| {
        let groups = gids.iter().map(|gid| (*gid, sets.servers(*gid as usize - 1)));
        controller.join(groups.collect::<Vec<_>>()).map_err(|error| error.to_string())
    };
    join(&[1])?;
    sets.wait_until_settled()?;
    show(&sets, "group 1 serves all shards");

    println!("{CLIENTS} clients append, each to keys of one shard, and do so to the end.");
    let load = Load::start(&sets, CLIENTS);
    load.wait_for(500)?;
    join(&[2, 3])?;
    let spread = sets.wait_until_settled()?;
    let pause = load.longest_pause();
    let moved = sets.map().map_or(0, |map| map.shards.iter().filter(|it| it.owner != 1).count());
    show(&sets, "groups 2 and 3 have joined");
    load.go_on(Duration::from_millis(500));

    sets.kill_set(1)?;
    let (killed, before) = (Instant::now(), load.appended());
    show(&sets, "all processes of group 2 are killed (SIGKILL)");
    thread::sleep(Duration::from_millis(1500));
    let down = load.appended();
    let others: u64 = down.iter().zip(&before).map(|(now, then)| now - then).sum();
    println!("  meanwhile the others' shards took {others} appends");
    sets.start_set(1)?;
    let restarted = Instant::now();
    load.wait_for_all_shards(&down)?;
    let (back, out) = (restarted.elapsed(), killed.elapsed());
    show(&sets, "group 2 is back");

    controller = sets.controller();
    controller.leave([3]).map_err(|error| error.to_string())?;
    let left = sets.wait_until_settled()?;
    show(&sets, "group 3 has left, and may be switched off");
    sets.kill_set(2)?;
    load.go_on(Duration::from_millis(300));
    let report = load.finish(&sets)?;
    println!(
        "Each key was read back: every append is there exactly once, and in its client's order.\n"
    );

    let row = |what: &str, value: String| println!("  {what:<52} {value:>10}");
    row(&format!("{moved} of 12 shards moved, under load, in"), ms(spread));
    row("the longest that an append took meanwhile", ms(pause));
    row("group 2 was out for", ms(out));
    row("its processes started until its shards were served", ms(back));
    row("group 3's shards moved to the others in", ms(left));
    row("appends", report.appends.to_string());
    row("appends per second, all that included", format!("{:.0}", report.per_second));
    row("appends lost or done twice", "0".to_owned());
    sets.clean_up();
    Ok(())
}

fn show(sets: &Sets, what: &str) {
    let picture = sets.map().map_or("the controller does not answer".to_owned(), |it| picture(&it));
    println!("  {picture}  {what}");
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
