//! The black-box checker: against brute force, against wrong histories of every kind, its speed, and files.

#[path = "checker/brute.rs"]
mod brute;
#[path = "checker/files.rs"]
mod files;
#[path = "checker/generate.rs"]
mod generate;
#[path = "checker/planted.rs"]
mod planted;
#[path = "checker/speed.rs"]
mod speed;
