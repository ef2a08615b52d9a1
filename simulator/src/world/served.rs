//! Wherever clients ask: one test for all such places.

use raft_core::state_machine::StateMachine;

use super::{Asked, End, Stage, StageClient};
use crate::invariants::Violation;
use crate::network::NetworkFaults;

/// Where clients ask what a test tells them to, in virtual time: of the members on a [`Stage`], or of a server
/// [`Alone`](super::Alone). Times are in microseconds.
pub trait Served {
    /// A new client with a session, which asks until its operation's end is known.
    fn client(&mut self) -> StageClient;

    /// A new client without a session, whose commands are sent once; see [`Stage::client_without_session`].
    fn client_without_session(&mut self) -> StageClient;

    /// A client begins to ask, so much later.
    ///
    /// # Panics
    /// If it still waits for an answer.
    fn ask(&mut self, client: StageClient, asked: Asked, after: u64);

    /// Whether a client was told to ask something whose end it does not know.
    fn is_waiting(&self, client: StageClient) -> bool;

    /// The next end of anything that was asked; `None` where there is none within this time, or a rule is broken.
    fn next_end(&mut self, within: u64) -> Option<End>;

    /// What goes wrong from now on with what clients and servers send each other.
    fn network(&mut self) -> &mut NetworkFaults;

    /// Microseconds since the start.
    fn now(&self) -> u64;

    /// The faults stop, and whatever was asked must end; then every answer must be what the commands, run again, say.
    fn finish(&mut self);

    /// The first rule that was broken.
    fn violation(&self) -> Option<&Violation>;

    /// Where everybody stands, for people.
    fn summary(&self) -> String;
}

impl<M: StateMachine + Send + 'static> Served for Stage<'_, M> {
    fn client(&mut self) -> StageClient {
        self.client()
    }

    fn client_without_session(&mut self) -> StageClient {
        self.client_without_session()
    }

    fn ask(&mut self, client: StageClient, asked: Asked, after: u64) {
        self.ask(client, asked, after);
    }

    fn is_waiting(&self, client: StageClient) -> bool {
        self.is_waiting(client)
    }

    fn next_end(&mut self, within: u64) -> Option<End> {
        self.next_end(within)
    }

    fn network(&mut self) -> &mut NetworkFaults {
        self.network()
    }

    fn now(&self) -> u64 {
        self.now()
    }

    fn finish(&mut self) {
        self.finish();
    }

    fn violation(&self) -> Option<&Violation> {
        self.violation()
    }

    fn summary(&self) -> String {
        self.summary()
    }
}

impl<S: Served + ?Sized> Served for Box<S> {
    fn client(&mut self) -> StageClient {
        (**self).client()
    }

    fn client_without_session(&mut self) -> StageClient {
        (**self).client_without_session()
    }

    fn ask(&mut self, client: StageClient, asked: Asked, after: u64) {
        (**self).ask(client, asked, after);
    }

    fn is_waiting(&self, client: StageClient) -> bool {
        (**self).is_waiting(client)
    }

    fn next_end(&mut self, within: u64) -> Option<End> {
        (**self).next_end(within)
    }

    fn network(&mut self) -> &mut NetworkFaults {
        (**self).network()
    }

    fn now(&self) -> u64 {
        (**self).now()
    }

    fn finish(&mut self) {
        (**self).finish();
    }

    fn violation(&self) -> Option<&Violation> {
        (**self).violation()
    }

    fn summary(&self) -> String {
        (**self).summary()
    }
}
