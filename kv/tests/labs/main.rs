//! The scenarios of the official tests of MIT's labs on stores and replicated state machines, with their
//! thresholds, on whole simulated servers in virtual time. Each test names the lab's in its comment; a judge
//! who knows the log looks at every reply, and a checker that knows nothing but what clients saw at the whole
//! history. `SEED=42 cargo test -p kv --test labs` runs everything with these dice alone, `SEEDS=100` with more.

mod appends;
mod generic;
mod lab;
mod memory;
mod rsm;
mod single;
mod store;
mod versioned;
