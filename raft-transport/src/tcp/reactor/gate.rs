//! A listener that lets in only so many.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::config::{AcceptLimits, ReactorError};

/// Connections accepted in one turn, so that a rush of them does not starve those that are open.
const ACCEPTS_PER_TURN: usize = 64;

/// How long a listener rests when the process has no file descriptors left.
const REST_TICKS: u64 = 100;

#[derive(Debug)]
pub(super) struct Gate {
    listener: TcpListener,
    limits: AcceptLimits,
    open: BTreeMap<IpAddr, usize>,
    total: usize,
    /// When to go on accepting, although no readiness is reported.
    pub(super) accept_at: Option<u64>,
    pub(super) turned_away: u64,
    /// Why nobody was let in last, since somebody was.
    pub(super) failure: Option<String>,
}

impl Gate {
    pub(super) fn open(
        address: SocketAddr,
        limits: AcceptLimits,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, ReactorError> {
        let listen = || {
            let mut listener = TcpListener::bind(address)?;
            listener.register(registry, token, Interest::READABLE)?;
            Ok(listener)
        };
        let listener = listen().map_err(|source| ReactorError::Listen { address, source })?;
        Ok(Gate {
            listener,
            limits,
            open: BTreeMap::new(),
            total: 0,
            accept_at: None,
            turned_away: 0,
            failure: None,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Adds the connections that may come in.
    pub(super) fn accept(&mut self, now: u64, accepted: &mut Vec<(TcpStream, SocketAddr)>) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, address)) if self.enter(address.ip()) => {
                    self.failure = None;
                    accepted.push((stream, address));
                }
                // Dropping the stream closes it.
                Ok(_) => self.turned_away += 1,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.failure = Some(error.to_string());
                        self.accept_at = Some(now + REST_TICKS);
                        return;
                    }
                },
            }
        }
        self.accept_at = Some(now);
    }

    fn enter(&mut self, address: IpAddr) -> bool {
        let AcceptLimits { total_max, per_address_max } = self.limits;
        let same = self.open.get(&address).copied().unwrap_or(0);
        if self.total >= total_max || same >= per_address_max {
            return false;
        }
        self.total += 1;
        self.open.insert(address, same + 1);
        true
    }

    /// A connection that came in is closed.
    pub(super) fn leave(&mut self, address: IpAddr) {
        let same = self.open.get_mut(&address).expect("whoever leaves has entered");
        *same -= 1;
        self.total -= 1;
        if *same == 0 {
            self.open.remove(&address);
        }
    }
}
