//! Who works: when each was heard of, what it asked for last, and what it was given.

use std::collections::BTreeMap;

use raft_core::types::LogIndex;

use crate::codec::{SchemaRead, SchemaWrite};
use crate::command::{AttemptId, WorkerId};
use crate::query::WorkerView;

/// After so many failures in a row a worker is given nothing while there is another one.
const FAILURES_IN_A_ROW_MAX: u32 = 3;

/// A worker that has been heard of lately.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Worker {
    pub(crate) token: u128,
    pub(crate) name: String,
    /// Whether it waits for further jobs when all have ended.
    pub(crate) stays: bool,
    /// How often it has been heard.
    pub(crate) heard: u64,
    /// Its last ask.
    pub(crate) asked: u64,
    /// Where that waits for its reply.
    pub(crate) parked: Option<LogIndex>,
    /// What it was given, until it has reported, or asks for something else.
    pub(crate) given: Option<AttemptId>,
    /// Since its last success.
    failures_in_a_row: u32,
    pub(crate) is_set_aside: bool,
    accepted: u64,
    failures: u64,
}

impl Worker {
    pub(crate) fn view(&self, worker: WorkerId) -> WorkerView {
        WorkerView {
            worker,
            name: self.name.clone(),
            attempt: self.given,
            accepted: self.accepted,
            failures: self.failures,
            is_set_aside: self.is_set_aside,
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workers {
    workers: BTreeMap<WorkerId, Worker>,
    /// Asks that wait, the oldest first.
    parked: BTreeMap<LogIndex, WorkerId>,
}

impl Workers {
    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (*id, worker))
    }

    pub(crate) fn with_token(&self, token: u128) -> Option<WorkerId> {
        self.iter().find(|(_, worker)| worker.token == token).map(|(id, _)| id)
    }

    pub(crate) fn welcome(&mut self, id: WorkerId, token: u128, name: String, stays: bool) {
        let worker = Worker {
            token,
            name,
            stays,
            heard: 0,
            asked: 0,
            parked: None,
            given: None,
            failures_in_a_row: 0,
            is_set_aside: false,
            accepted: 0,
            failures: 0,
        };
        self.workers.insert(id, worker);
    }

    /// It was heard of. `None` if nobody knows it.
    pub(crate) fn hear(&mut self, id: WorkerId) -> Option<&mut Worker> {
        let worker = self.workers.get_mut(&id)?;
        worker.heard += 1;
        Some(worker)
    }

    pub(crate) fn heard(&self, id: WorkerId) -> Option<u64> {
        self.workers.get(&id).map(|worker| worker.heard)
    }

    /// It is gone. Answers what it had.
    pub(crate) fn forget(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        worker.parked.map(|index| self.parked.remove(&index));
        Some(worker)
    }

    /// Its ask waits from now on.
    pub(crate) fn park(&mut self, id: WorkerId, index: LogIndex) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.parked = Some(index);
            self.parked.insert(index, id);
        }
    }

    /// Its ask waits no more. Answers where it waited.
    pub(crate) fn unpark(&mut self, id: WorkerId) -> Option<LogIndex> {
        let index = self.workers.get_mut(&id)?.parked.take()?;
        self.parked.remove(&index);
        Some(index)
    }

    /// Those whose asks wait, the oldest first.
    pub(crate) fn waiting(&self) -> Vec<(LogIndex, WorkerId)> {
        self.parked.iter().map(|(index, id)| (*index, *id)).collect()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Those of them who leave when all jobs have ended.
    pub(crate) fn leaving(&self) -> Vec<(LogIndex, WorkerId)> {
        let leaves = |id: &WorkerId| self.workers.get(id).is_some_and(|worker| !worker.stays);
        let parked = self.parked.iter().filter(|(_, id)| leaves(id));
        parked.map(|(index, id)| (*index, *id)).collect()
    }

    pub(crate) fn give(&mut self, id: WorkerId, attempt: AttemptId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.given = Some(attempt);
        }
    }

    /// One of its attempts was accepted.
    pub(crate) fn succeeded(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.accepted += 1;
            (worker.failures_in_a_row, worker.is_set_aside) = (0, false);
        }
    }

    /// Whether all its last attempts have failed.
    pub(crate) fn is_set_aside(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.is_set_aside)
    }

    /// Whether nobody else is there who could be given a task. Others may be dead without anybody knowing yet: so whoever
    /// is set aside stays, and is given tasks once they are known to be.
    pub(crate) fn is_only(&self, id: WorkerId) -> bool {
        self.iter().all(|(other, worker)| other == id || worker.is_set_aside)
    }

    /// One of its attempts has failed. It is set aside for the last of many, until one succeeds.
    pub(crate) fn failed(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.failures += 1;
            worker.failures_in_a_row += 1;
            worker.is_set_aside = worker.failures_in_a_row >= FAILURES_IN_A_ROW_MAX;
        }
    }

    pub(crate) fn to_snapshot(&self) -> Vec<(WorkerId, Worker)> {
        self.iter().map(|(id, worker)| (id, worker.clone())).collect()
    }

    pub(crate) fn of_snapshot(workers: Vec<(WorkerId, Worker)>) -> Self {
        let parked = workers.iter().filter_map(|(id, worker)| Some((worker.parked?, *id)));
        Workers { parked: parked.collect(), workers: workers.into_iter().collect() }
    }
}
