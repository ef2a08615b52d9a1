//! Deadlines of a connection, in ticks: nobody may hold a connection, or memory, by being slow.

use super::Limits;

/// What was not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Deadline {
    /// The handshake, or a client's first frame.
    #[error("the handshake took too long")]
    Handshake,
    /// A frame that had begun came in too slowly.
    #[error("a frame came in too slowly")]
    Frame,
    /// Nothing came in.
    #[error("nothing came in for too long")]
    Idle,
    /// What we had to say was not taken.
    #[error("nothing went out for too long")]
    Write,
}

/// Watches one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    opened: u64,
    handshake_done: bool,
    received_at: u64,
    received_bytes: u64,
    /// While a frame is coming in: since when we look, and how many bytes had come by then.
    frame_window: Option<(u64, u64)>,
    /// Since when bytes wait to be written without any being taken.
    blocked_since: Option<u64>,
}

impl Watch {
    pub(crate) fn new(now: u64) -> Self {
        Watch {
            opened: now,
            handshake_done: false,
            received_at: now,
            received_bytes: 0,
            frame_window: None,
            blocked_since: None,
        }
    }

    pub(crate) fn handshake_done(&mut self) {
        self.handshake_done = true;
    }

    /// Bytes came in, and the last frame is now whole or not.
    pub(crate) fn received(&mut self, bytes: usize, in_frame: bool, now: u64) {
        self.received_at = now;
        self.received_bytes += bytes as u64;
        match in_frame {
            true => _ = self.frame_window.get_or_insert((now, self.received_bytes)),
            false => self.frame_window = None,
        }
    }

    /// We did not read for a while: what did not come in is not the other side's fault.
    pub(crate) fn resumed(&mut self, now: u64) {
        self.received_at = now;
        self.frame_window = self.frame_window.map(|_| (now, self.received_bytes));
    }

    /// Bytes were taken, or there are first bytes to be taken, or none are left.
    pub(crate) fn writing(&mut self, bytes_left: bool, now: u64) {
        self.blocked_since = bytes_left.then_some(now);
    }

    /// Whether bytes wait to be written.
    pub(crate) fn is_writing(&self) -> bool {
        self.blocked_since.is_some()
    }

    pub(crate) fn check(&mut self, limits: &Limits, now: u64) -> Result<(), Deadline> {
        if !self.handshake_done && now - self.opened >= limits.handshake_ticks {
            return Err(Deadline::Handshake);
        }
        if now - self.received_at >= limits.idle_ticks {
            return Err(Deadline::Idle);
        }
        if self.blocked_since.is_some_and(|since| now - since >= limits.write_stall_ticks) {
            return Err(Deadline::Write);
        }
        if let Some((since, bytes)) = self.frame_window
            && now - since >= limits.frame_ticks
        {
            if self.received_bytes - bytes < limits.frame_progress_bytes {
                return Err(Deadline::Frame);
            }
            self.frame_window = Some((now, self.received_bytes));
        }
        Ok(())
    }
}
