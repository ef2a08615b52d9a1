//! What a member does of its own accord while it leads: expire leases, poll, tidy up.

use std::any::Any;

use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::types::Term;

/// What a member does of its own accord while it leads. Only a command changes replicated state: a
/// hook looks at the state machine, and proposes.
///
/// Its member may have been deposed without knowing yet, and proposals may be lost or be applied late:
/// the state machine must judge each command by the state that it finds.
pub trait LeaderHooks<M>: Send + 'static {
    /// This member began to lead in this term, or, with `None`, leads no more.
    fn on_leadership(&mut self, machine: &M, term: Option<Term>) {
        let _ = (machine, term);
    }

    /// Called every [`period_ticks`](Self::period_ticks) while this member leads; what it returns is
    /// proposed. `now_ticks` counts from the start of the host and never goes back: good to measure
    /// how long something has lasted here, and nothing that another member would understand.
    fn on_leader_tick(&mut self, machine: &M, now_ticks: u64) -> Vec<Bytes>;

    /// Ticks between two calls, at least 1.
    fn period_ticks(&self) -> u64 {
        10
    }
}

/// A state machine of any kind that remembers its type.
pub(crate) trait AnyMachine: StateMachine + Send {
    fn as_any(&self) -> &dyn Any;
}

impl<M: StateMachine + Send + 'static> AnyMachine for M {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Hooks of a state machine of any kind.
pub(crate) trait AnyHooks: Send {
    fn on_leadership(&mut self, machine: &dyn AnyMachine, term: Option<Term>);
    fn on_leader_tick(&mut self, machine: &dyn AnyMachine, now_ticks: u64) -> Vec<Bytes>;
    fn period_ticks(&self) -> u64;
}

/// Hooks beside the type of their state machine.
pub(crate) struct Typed<M, H> {
    hooks: H,
    machine: std::marker::PhantomData<fn(&M)>,
}

impl<M, H> Typed<M, H> {
    pub(crate) fn new(hooks: H) -> Self {
        Typed { hooks, machine: std::marker::PhantomData }
    }
}

fn typed<M: 'static>(machine: &dyn AnyMachine) -> &M {
    machine.as_any().downcast_ref().expect("a group is made with hooks for its own state machine")
}

impl<M: 'static, H: LeaderHooks<M>> AnyHooks for Typed<M, H> {
    fn on_leadership(&mut self, machine: &dyn AnyMachine, term: Option<Term>) {
        self.hooks.on_leadership(typed(machine), term);
    }

    fn on_leader_tick(&mut self, machine: &dyn AnyMachine, now_ticks: u64) -> Vec<Bytes> {
        self.hooks.on_leader_tick(typed(machine), now_ticks)
    }

    fn period_ticks(&self) -> u64 {
        self.hooks.period_ticks().max(1)
    }
}
