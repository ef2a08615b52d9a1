//! A result that is on its way: waited for by a thread, or awaited by a task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::patience::deadline;

/// A result that is on its way. It comes exactly once, whatever happens: if whoever owes it goes away,
/// the result says so.
#[derive(Debug)]
#[must_use = "a pending result is waited for, awaited, or dropped on purpose"]
pub struct Pending<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// Whoever owes the result. Dropped unfulfilled, it delivers what `abandoned` says.
#[derive(Debug)]
pub(crate) struct Completer<T> {
    /// `None` once fulfilled.
    slot: Option<Arc<Mutex<Slot<T>>>>,
    abandoned: fn() -> T,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// A promise and the means to keep it.
pub(crate) fn pending<T>(abandoned: fn() -> T) -> (Completer<T>, Pending<T>) {
    let slot = Arc::new(Mutex::new(Slot { value: None, waker: None }));
    (Completer { slot: Some(slot.clone()), abandoned }, Pending { slot })
}

impl<T> Completer<T> {
    /// Delivers the result. Whoever waits is woken by the caller, once it holds no lock and has
    /// delivered what else it has: a thread that waits for many results wakes up once.
    pub(crate) fn complete(mut self, value: T, wakers: &mut Vec<Waker>) {
        let slot = self.slot.take().expect("only this and `drop` take it");
        wakers.extend(deliver(&slot, value));
    }
}

fn deliver<T>(slot: &Mutex<Slot<T>>, value: T) -> Option<Waker> {
    let mut slot = slot.lock();
    assert!(slot.value.is_none(), "a result was delivered twice");
    slot.value = Some(value);
    slot.waker.take()
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take()
            && let Some(waker) = deliver(&slot, (self.abandoned)())
        {
            waker.wake();
        }
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static THIS_THREAD: Waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
}

impl<T> Pending<T> {
    /// A result that is there already.
    pub fn ready(value: T) -> Self {
        Pending { slot: Arc::new(Mutex::new(Slot { value: Some(value), waker: None })) }
    }

    /// Blocks the thread until the result is there.
    pub fn wait(self) -> T {
        loop {
            if let Some(value) = self.poll_with(|| THIS_THREAD.with(Waker::clone)) {
                return value;
            }
            thread::park();
        }
    }

    /// Blocks the thread until the result is there, or so much time has passed.
    ///
    /// # Errors
    /// Itself, if the result is not there yet.
    pub fn wait_timeout(self, timeout: Duration) -> Result<T, Self> {
        let deadline = deadline(timeout);
        loop {
            if let Some(value) = self.poll_with(|| THIS_THREAD.with(Waker::clone)) {
                return Ok(value);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self);
            }
            thread::park_timeout(deadline - now);
        }
    }

    /// The result, if it is there. It is handed out once.
    pub fn try_take(&mut self) -> Option<T> {
        self.slot.lock().value.take()
    }

    fn poll_with(&self, waker: impl FnOnce() -> Waker) -> Option<T> {
        let mut slot = self.slot.lock();
        let value = slot.value.take();
        if value.is_none() {
            slot.waker = Some(waker());
        }
        value
    }
}

impl<T> Future for Pending<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.poll_with(|| context.waker().clone()) {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_waited_for_and_comes_once() {
        let (completer, mut later) = pending(|| 0);
        assert_eq!(later.try_take(), None);
        let later = later.wait_timeout(Duration::from_millis(1)).unwrap_err();
        let waiter = thread::spawn(move || later.wait());
        let mut wakers = Vec::new();
        completer.complete(7, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        assert_eq!(waiter.join().unwrap(), 7);
    }

    #[test]
    fn an_abandoned_result_says_so() {
        let (completer, later) = pending(|| "gone");
        let waiter = thread::spawn(move || later.wait());
        drop(completer);
        assert_eq!(waiter.join().unwrap(), "gone");
    }

    #[test]
    fn a_task_is_woken() {
        let (completer, mut later) = pending(|| 0);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut later).poll(&mut context), Poll::Pending);
        let mut wakers = Vec::new();
        completer.complete(7, &mut wakers);
        assert_eq!(wakers.len(), 1);
        assert_eq!(Pin::new(&mut later).poll(&mut context), Poll::Ready(7));
    }
}
