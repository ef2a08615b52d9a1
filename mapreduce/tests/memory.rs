//! An input of ten times the memory that a worker may take.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{folder, run_well};
use simulator::dice::Dice;

const MEMORY_MIB: u64 = 16;

#[test]
fn ten_times_the_memory_is_sorted_within_it() {
    let folder = folder("memory");
    let mut dice = Dice::new(1, "memory");
    let mut lines = Vec::new();
    let mut bytes = 0;
    while bytes < (10 * MEMORY_MIB) << 20 {
        let line = format!("{:016x}{}", dice.number(), "-".repeat(dice.below(60) as usize));
        bytes += line.len() as u64 + 1;
        lines.push(line);
    }
    fs::write(folder.join("in/lines"), lines.join("\n") + "\n").unwrap();
    let memory = format!("{MEMORY_MIB}M");
    let job = ["run", "sort", "--input", "in", "--output", "out", "--reducers", "1", "--json"];
    let report = run_well(&folder, &[&job[..], &["--memory", &memory]].concat());
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let peak = |kind: &str| report[kind]["peak_bytes"].as_u64().unwrap();
    let (peak, spills) = (peak("map").max(peak("reduce")), report["map"]["spills"].as_u64());
    println!("{bytes} bytes sorted; a worker took {peak} bytes, and was allowed {MEMORY_MIB} MiB");
    assert!(spills.unwrap() >= 10, "it was spilled: {report}");
    assert!((1..=MEMORY_MIB << 20).contains(&peak), "{peak} bytes");
    lines.sort_unstable();
    let sorted = fs::read_to_string(folder.join("out/mr-out-0")).unwrap();
    assert!(sorted.lines().eq(lines.iter().map(String::as_str)), "the lines are in order");
    fs::remove_dir_all(&folder).unwrap();
}
