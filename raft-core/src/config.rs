//! Limits and patience, in ticks and bytes.

use core::fmt;

/// How a node behaves. The defaults suit a tick of 10 ms: elections after 150 to 300 ms, a heartbeat
/// every 50 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Ticks without word from a leader before a node thinks of an election; the actual wait is drawn
    /// from `election_timeout_ticks..2 * election_timeout_ticks` (Raft §5.2).
    pub election_timeout_ticks: u32,
    /// Ticks between heartbeats. Less than half of `election_timeout_ticks`.
    pub heartbeat_ticks: u32,
    /// Seed of the dice that spread the election timeouts and number the questions to other members.
    /// Different on each member and at each start of it: otherwise a late answer to a question of an
    /// earlier life could pass for the answer to a new one, and a read miss what was acknowledged.
    pub seed: u64,
    /// Ask before an election whether it would be welcome (thesis §9.6).
    pub pre_vote: bool,
    /// A leader that has not heard from a majority for `election_timeout_ticks` resigns (thesis §6.2).
    pub check_quorum: bool,
    /// A new leader appends an empty entry, so that older ones can commit (Raft §8). Without it the
    /// first command has index 1, and older entries wait for the first command or read of the term.
    pub noop: bool,
    /// The largest command, in bytes.
    pub command_bytes_max: usize,
    /// The most bytes of entries in one append message, with what their blocks cost there; one block
    /// may be larger.
    pub append_bytes_max: usize,
    /// The most appends under way to one follower.
    pub inflight_appends_max: usize,
    /// The most bytes of entries under way to one follower; one append may be larger.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in the log that are not yet durable here: beyond it a leader answers
    /// `Busy`, and a follower accepts less.
    pub undurable_bytes_max: usize,
    /// The most bytes of entries that are not yet committed: beyond it a leader answers `Busy`.
    pub uncommitted_bytes_max: usize,
    /// How many bytes of payloads stay in memory, counted by their buffers, once durable and applied.
    pub window_bytes_max: usize,
    /// The most bytes of entries in one `Ready::committed`; one block may be larger.
    pub apply_bytes_max: usize,
    /// Bytes of a snapshot in one message.
    pub chunk_bytes_max: usize,
    /// A leader whose write is unanswered for so long resigns.
    pub write_stall_ticks: u32,
    /// How long a proposal waits for its end after leadership was lost. At least one second.
    pub ticket_patience_ticks: u32,
    /// How long a read waits for its end.
    pub read_patience_ticks: u32,
    /// The most reads that wait.
    pub reads_max: usize,
    /// The index up to which the state machine is durable by itself: entries up to there are taken as
    /// applied and are not handed out again. 0 for state machines that live in memory.
    pub applied_index: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            election_timeout_ticks: 15,
            heartbeat_ticks: 5,
            seed: 0,
            pre_vote: true,
            check_quorum: true,
            noop: true,
            command_bytes_max: 1 << 20,
            append_bytes_max: 1 << 20,
            inflight_appends_max: 256,
            inflight_bytes_max: 8 << 20,
            undurable_bytes_max: 32 << 20,
            uncommitted_bytes_max: 64 << 20,
            window_bytes_max: 16 << 20,
            apply_bytes_max: 4 << 20,
            chunk_bytes_max: 256 << 10,
            write_stall_ticks: 500,
            ticket_patience_ticks: 200,
            read_patience_ticks: 200,
            reads_max: 1 << 16,
            applied_index: 0,
        }
    }
}

/// Why a configuration can't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(pub &'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks that the values work together.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.heartbeat_ticks > 0, "heartbeat_ticks must be at least 1"),
            (
                self.election_timeout_ticks / 2 >= self.heartbeat_ticks,
                "election_timeout_ticks must be at least twice heartbeat_ticks",
            ),
            (self.election_timeout_ticks < 1 << 30, "election_timeout_ticks must be below 2^30"),
            (self.command_bytes_max < 1 << 30, "command_bytes_max must be below 1 GiB"),
            (self.append_bytes_max > 0, "append_bytes_max must be at least 1"),
            (self.inflight_appends_max > 0, "inflight_appends_max must be at least 1"),
            (self.inflight_bytes_max > 0, "inflight_bytes_max must be at least 1"),
            (self.undurable_bytes_max > 0, "undurable_bytes_max must be at least 1"),
            (self.uncommitted_bytes_max > 0, "uncommitted_bytes_max must be at least 1"),
            (self.apply_bytes_max > 0, "apply_bytes_max must be at least 1"),
            (self.chunk_bytes_max > 0, "chunk_bytes_max must be at least 1"),
            (self.write_stall_ticks > 0, "write_stall_ticks must be at least 1"),
            (self.read_patience_ticks > 0, "read_patience_ticks must be at least 1"),
            (self.reads_max > 0, "reads_max must be at least 1"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError(rule)),
            None => Ok(()),
        }
    }
}
