//! The README's program is the one that runs, and as short as it says.

use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The README's first block of Rust.
fn program() -> String {
    let readme = read("../README.md");
    let (_, rest) = readme.split_once("```rust\n").expect("the README shows the program");
    let (program, _) = rest.split_once("```").expect("its block ends");
    program.to_owned()
}

#[test]
fn the_readme_shows_the_counter_as_it_is() {
    assert!(read("counter.rs").contains(&program()), "README.md and examples/counter.rs differ");
}

#[test]
fn the_counter_takes_at_most_40_lines_of_the_users_own() {
    let program = program();
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let lines = program.lines().filter(is_code).count();
    assert!(lines <= 40, "{lines} lines");
}
