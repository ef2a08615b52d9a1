//! The black-box checker: against brute force, against wrong histories of every kind, and its speed.

#[path = "linearizability/brute.rs"]
mod brute;
#[path = "linearizability/planted.rs"]
mod planted;
#[path = "linearizability/speed.rs"]
mod speed;
