//! The common start and end of all clients of a run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The common start and end of all clients of a run.
#[derive(Debug, Default)]
pub struct Start {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many clients are ready.
    ready: usize,
    began: Option<Instant>,
    is_over: bool,
}

impl Start {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client is ready. Answers the moment from which all work.
    pub fn ready(&self) -> Instant {
        let mut state = self.lock();
        state.ready += 1;
        self.changed.notify_all();
        loop {
            if let Some(began) = state.began {
                return began;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many are ready, and lets them work from now on.
    pub fn go(&self, clients: usize) -> Instant {
        let mut state = self.lock();
        while state.ready < clients {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let began = *state.began.insert(Instant::now());
        self.changed.notify_all();
        began
    }

    /// Wakes everybody who rests: the run is over.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Rests until then, or until the run is over.
    pub fn rest_until(&self, then: Instant) {
        let left = |now: Instant| then.saturating_duration_since(now);
        let mut state = self.lock();
        loop {
            let left = left(Instant::now());
            if state.is_over || left == Duration::ZERO {
                return;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
