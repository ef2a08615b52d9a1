//! What goes on beside each other, on one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

pub(crate) type TaskId = u64;
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks, and which of them can go on.
#[derive(Default)]
pub(super) struct Tasks {
    /// `None` while it is polled.
    tasks: BTreeMap<TaskId, Option<Task>>,
    ready: BTreeSet<TaskId>,
    next: TaskId,
    current: TaskId,
}

impl Tasks {
    pub(super) fn spawn(&mut self, task: Task) -> TaskId {
        self.next += 1;
        self.tasks.insert(self.next, Some(task));
        self.ready.insert(self.next);
        self.next
    }

    pub(super) fn is_alive(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task)
    }

    /// What is left of it is to be dropped by the caller, who holds no lock.
    pub(super) fn kill(&mut self, task: TaskId) -> Option<Task> {
        self.ready.remove(&task);
        self.tasks.remove(&task).flatten()
    }

    pub(super) fn wake(&mut self, task: TaskId) {
        if self.tasks.contains_key(&task) {
            self.ready.insert(task);
        }
    }

    /// The task that is polled.
    pub(super) fn current(&self) -> TaskId {
        self.current
    }

    pub(super) fn next_ready(&mut self) -> Option<(TaskId, Task)> {
        let task = self.ready.pop_first()?;
        self.current = task;
        let future = self.tasks.get_mut(&task).expect("only the living are woken").take();
        Some((task, future.expect("one task is polled at a time")))
    }

    /// A task was polled: what is left of it, unless it has ended, or was killed meanwhile.
    pub(super) fn polled(&mut self, task: TaskId, left: Option<Task>) {
        match (left, self.tasks.get_mut(&task)) {
            (Some(left), Some(place)) => *place = Some(left),
            _ => _ = self.kill(task),
        }
    }
}

/// Answers whether it has ended.
pub(super) fn poll(task: &mut Task) -> bool {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
