//! What the reactor does for clients: frames in and out by connection.

use raft_core::wire::Segments;

use super::socket::{Machine, Socket};
use super::{ClientId, Reactor};
use crate::tcp::CloseReason;
use crate::tcp::link::FrameNotSent;

impl Reactor {
    /// Queues a frame for a client, with the body that `fill` appends.
    ///
    /// # Errors
    /// Why not. With a full queue, pausing the client or closing it is the caller's choice; its
    /// requests are not read as long as half of the queue is full.
    pub fn send_to_client(
        &mut self,
        client: ClientId,
        fill: impl FnOnce(&mut Segments),
    ) -> Result<(), FrameNotSent> {
        let id = client.0 as usize;
        let machine = self.sockets.get_mut(&id).map(|socket| &mut socket.machine);
        let Some(Machine::Client { link, .. }) = machine else {
            return Err(FrameNotSent::Closed);
        };
        link.send(self.now, fill)?;
        self.flush_later(id);
        self.budget(id);
        Ok(())
    }

    /// Bytes that wait to be sent to a client; 0 for one that is gone.
    pub fn client_queued_bytes(&self, client: ClientId) -> usize {
        self.sockets.get(&(client.0 as usize)).map_or(0, Socket::queued_bytes)
    }

    /// Bytes of memory that a client's connection holds, in a frame that comes in or those that wait to go out: 0
    /// for one that is idle, or gone.
    pub fn client_held_bytes(&self, client: ClientId) -> usize {
        self.sockets.get(&(client.0 as usize)).map_or(0, |socket| socket.held_bytes)
    }

    /// Counts what this client holds now. Beyond the budget closes those that hold most: what one
    /// connection may hold is bounded, but there may be thousands.
    pub(super) fn budget(&mut self, id: usize) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Machine::Client { link, .. } = &socket.machine else { return };
        let held = link.held_bytes();
        self.client_bytes = self.client_bytes + held - socket.held_bytes;
        socket.held_bytes = held;
        while self.client_bytes > self.config.client_bytes_max {
            let most = self.sockets.iter().max_by_key(|(_, socket)| socket.held_bytes);
            let (id, _) = most.expect("somebody holds what is too much");
            self.close(*id, CloseReason::OverBudget);
        }
    }

    /// Reads no more from a client, so that its requests stay with it. What was read already (at
    /// most a buffer) may still come as events.
    pub fn pause_client(&mut self, client: ClientId) {
        self.set_paused(client, true);
    }

    /// Reads from a client again.
    pub fn resume_client(&mut self, client: ClientId) {
        self.set_paused(client, false);
    }

    fn set_paused(&mut self, client: ClientId, pause: bool) {
        let id = client.0 as usize;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Machine::Client { link, paused } = &mut socket.machine else { return };
        *paused = pause;
        if !pause {
            link.resumed(self.now);
            self.unread.push(id);
        }
    }

    /// Closes a client's connection, after one attempt to write what waits.
    pub fn close_client(&mut self, client: ClientId) {
        let id = client.0 as usize;
        let events = self.events.len();
        if matches!(self.sockets.get(&id), Some(Socket { machine: Machine::Client { .. }, .. })) {
            self.close(id, CloseReason::Closed);
        }
        self.events.truncate(events);
    }
}
