//! One socket and the step machine behind it.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use mio::net::TcpStream;
use raft_core::message::Envelope;
use raft_core::types::NodeId;

use crate::tcp::connection::Connection;
use crate::tcp::link::FrameLink;
use crate::tcp::stream::Stream;
use crate::tcp::{CloseReason, Stats};

/// Bytes read from one socket in one turn, before the others get theirs.
const READ_BYTES_PER_TURN: usize = 1 << 20;

/// Slices of one vectored write.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
pub(super) enum Machine {
    /// With a member; `node` is known from the start where we dialled.
    Peer { connection: Connection, node: Option<NodeId>, dialled: bool },
    /// With a client.
    Client { link: FrameLink, paused: bool },
}

/// What reading brought.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) messages: Vec<Envelope>,
    pub(super) bodies: Vec<Bytes>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) machine: Machine,
    /// We dialled and don't know yet whether anybody is there.
    pub(super) connecting: bool,
    /// On the list of those with something to write.
    pub(super) unflushed: bool,
    /// There is more to read, but it is not its turn, or it is paused.
    pub(super) unread: bool,
    /// What it last held of the clients' budget.
    pub(super) held_bytes: usize,
    /// The other side has closed its half, so what is left can be read to the end.
    pub(super) read_closed: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, machine: Machine) -> Self {
        Socket {
            stream,
            address,
            machine,
            connecting: false,
            unflushed: false,
            unread: false,
            held_bytes: 0,
            read_closed: false,
        }
    }

    fn stream(&self) -> &Stream {
        match &self.machine {
            Machine::Peer { connection, .. } => connection.stream(),
            Machine::Client { link, .. } => link.stream(),
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        self.stream().stats()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        match &self.machine {
            Machine::Peer { connection, .. } => connection.queued_bytes(),
            Machine::Client { link, .. } => link.queued_bytes(),
        }
    }

    /// Whether we leave unread what comes: on request, or because answers are not taken.
    pub(super) fn is_paused(&self) -> bool {
        match &self.machine {
            Machine::Peer { .. } => false,
            Machine::Client { link, paused } => *paused || link.is_congested(),
        }
    }

    pub(super) fn tick(&mut self, now: u64) -> Result<(), CloseReason> {
        let paused = self.is_paused();
        match &mut self.machine {
            Machine::Peer { connection, .. } => connection.tick(now),
            Machine::Client { link, .. } => link.tick(now, paused),
        }
    }

    /// Whether a dialled connection stands; an error if it never will.
    pub(super) fn connected(&mut self) -> Result<bool, CloseReason> {
        if let Some(error) = self.stream.take_error().map_err(io_reason)? {
            return Err(io_reason(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.connecting = false;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(io_reason(error)),
        }
    }

    /// Reads what is there, within this turn's limit; `unread` then says that there is more.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        now: u64,
        inbox: &mut Inbox,
    ) -> Result<(), CloseReason> {
        let mut budget = READ_BYTES_PER_TURN;
        loop {
            self.unread = self.is_paused() || budget == 0;
            if self.unread {
                return Ok(());
            }
            let length = match self.stream.read(scratch) {
                Ok(0) => return Err(CloseReason::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(io_reason(error)),
            };
            match &mut self.machine {
                Machine::Peer { connection, .. } => {
                    connection.receive(&scratch[..length], now, &mut inbox.messages)?;
                }
                Machine::Client { link, .. } => {
                    link.receive(&scratch[..length], now, &mut inbox.bodies)?;
                }
            }
            // A short read has emptied the socket, and what comes later is a new event (epoll(7));
            // it saves the read that would only say so. An end that came before needs that read.
            if cfg!(unix) && length < scratch.len() && !self.read_closed {
                return Ok(());
            }
            budget = budget.saturating_sub(length);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn write(&mut self, now: u64) -> Result<(), CloseReason> {
        if self.connecting {
            return Ok(());
        }
        loop {
            if let Machine::Peer { connection, .. } = &mut self.machine {
                connection.prepare(now);
            }
            let (offered, result) = self.write_once();
            let written = match result {
                _ if offered == 0 => return Ok(()),
                Ok(0) => return Err(io_reason(ErrorKind::WriteZero.into())),
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(io_reason(error)),
            };
            match &mut self.machine {
                Machine::Peer { connection, .. } => connection.sent(written, now),
                Machine::Client { link, .. } => link.sent(written, now),
            }
            // As for reads: a short write has filled the socket, and its room is a new event.
            if cfg!(unix) && written < offered {
                return Ok(());
            }
        }
    }

    fn write_once(&self) -> (usize, io::Result<usize>) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut offered) = (0, 0);
        for (slot, slice) in slices.iter_mut().zip(self.stream().slices()) {
            *slot = IoSlice::new(slice);
            count += 1;
            offered += slice.len();
        }
        let result =
            if offered == 0 { Ok(0) } else { (&self.stream).write_vectored(&slices[..count]) };
        (offered, result)
    }
}

pub(super) fn io_reason(error: io::Error) -> CloseReason {
    CloseReason::Io(error.to_string())
}
