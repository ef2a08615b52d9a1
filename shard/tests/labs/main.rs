//! The scenarios of the official tests on sharded stores, MIT's of 2020-23 and those of dslabs, with their
//! thresholds, on whole simulated members in virtual time. Each test names the lab's in its comment.
//! `SEED=42 cargo test -p shard --test labs` runs everything with these dice alone, `SEEDS=100` with more.

#[path = "../balance/mod.rs"]
mod balance;
mod controller_trial;
mod controllers;
mod dslabs;
mod groups;
#[path = "../../../kv/tests/labs/lab.rs"]
#[allow(dead_code, reason = "it has what the labs of the store need, too")]
mod lab;
mod ledger;
mod locks;
mod moved;
mod noted;
mod owners;
mod profiles;
mod pulled;
mod pushed;
mod recorded;
mod refusals;
mod serial;
mod shardctrler;
mod stable;
#[allow(dead_code, reason = "tests of faults are to use the rest")]
mod town;
mod txns;
