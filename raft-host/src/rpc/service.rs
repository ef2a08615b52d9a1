//! Requests of clients that come over the network: taken apart, counted, answered in batches.
//!
//! Thread-free: frames in, frames out, and who is to be read no more for now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft_transport::tcp::reactor::ClientId;

use super::codec::{self, BadFrame, RESPONSE_HEAD_BYTES, RequestRecord};
use crate::core::{Readable, Reply};
use crate::outcome::{ProposeError, QueryError, Unknown};
use crate::status::Gauge;

/// A frame of responses that has this many bytes is closed, and the next one begins.
const FRAME_BYTES: usize = 256 << 10;

/// What a request costs besides its own bytes, while it waits.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// Limits on one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceLimits {
    /// With more bytes of requests open than this, a client is read no more.
    pub(crate) open_bytes_max: usize,
    /// The largest response.
    pub(crate) response_bytes_max: usize,
}

/// Names one request of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: ClientId,
    pub(crate) id: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ClientState {
    /// Requests that have been read and that no group has seen. Reading stops while there are any, so
    /// they are no more than one turn of reading brings.
    held: VecDeque<RequestRecord>,
    /// Queries that may be asked, once the answers before them are on their way.
    readable: VecDeque<(Call, Readable)>,
    open_bytes: usize,
    /// Frames of responses, all but the last one full.
    frames: Vec<Vec<u8>>,
}

/// The clients of the network, as far as the host knows them.
#[derive(Debug)]
pub(crate) struct Service {
    limits: ServiceLimits,
    clients: BTreeMap<ClientId, ClientState>,
    /// Those with responses to be sent.
    answered: BTreeSet<ClientId>,
    /// Those with queries that may be asked.
    reading: BTreeSet<ClientId>,
    /// Those that are read no more for now.
    paused: BTreeSet<ClientId>,
    open_bytes: usize,
}

impl Service {
    pub(crate) fn new(limits: ServiceLimits) -> Self {
        Service {
            limits,
            clients: BTreeMap::new(),
            answered: BTreeSet::new(),
            reading: BTreeSet::new(),
            paused: BTreeSet::new(),
            open_bytes: 0,
        }
    }

    pub(crate) fn opened(&mut self, client: ClientId) {
        self.clients.insert(client, ClientState::default());
    }

    /// A client is gone. Its requests go on; their responses find nobody.
    pub(crate) fn closed(&mut self, client: ClientId) {
        if let Some(state) = self.clients.remove(&client) {
            self.open_bytes -= state.open_bytes;
        }
        self.answered.remove(&client);
        self.reading.remove(&client);
        self.paused.remove(&client);
    }

    /// A frame came. Whoever sends what is none is to be closed; the requests before it are good.
    pub(crate) fn on_frame(&mut self, client: ClientId, body: Bytes) -> Result<(), BadFrame> {
        let Some(state) = self.clients.get_mut(&client) else { return Ok(()) };
        let mut records = codec::records(body)?;
        while let Some(request) = codec::next_request(&mut records)? {
            state.held.push_back(request);
        }
        Ok(())
    }

    /// The client's next request, unless it has too much open, or everybody has.
    pub(crate) fn next(
        &mut self,
        client: ClientId,
        crowded: bool,
    ) -> Option<(Call, RequestRecord)> {
        let state = self.clients.get_mut(&client)?;
        if crowded || state.open_bytes > self.limits.open_bytes_max {
            return None;
        }
        let request = state.held.pop_front()?;
        let bytes = request.payload.len() + REQUEST_OVERHEAD_BYTES;
        state.open_bytes += bytes;
        self.open_bytes += bytes;
        Some((Call { client, id: request.id, bytes }, request))
    }

    /// Whether to read no more from a client now, because its requests wait here.
    pub(crate) fn pauses(&mut self, client: ClientId) -> bool {
        let waits = self.clients.get(&client).is_some_and(|state| !state.held.is_empty());
        waits && self.paused.insert(client)
    }

    /// Those that are read no more.
    pub(crate) fn paused(&self) -> Vec<ClientId> {
        self.paused.iter().copied().collect()
    }

    /// Whether to read from a paused client again: half of what it may have open is free.
    pub(crate) fn resumes(&mut self, client: ClientId) -> bool {
        let Some(state) = self.clients.get(&client) else { return false };
        let has_room = state.held.is_empty() && state.open_bytes <= self.limits.open_bytes_max / 2;
        has_room && self.paused.remove(&client)
    }

    /// A query may be asked. That of a client that is gone is dropped.
    pub(crate) fn readable(&mut self, call: Call, readable: Readable) {
        if let Some(state) = self.clients.get_mut(&call.client) {
            state.readable.push_back((call, readable));
            self.reading.insert(call.client);
        }
    }

    /// Clients with queries that may be asked.
    pub(crate) fn reading(&self) -> Vec<ClientId> {
        self.reading.iter().copied().collect()
    }

    /// The next of them.
    pub(crate) fn next_readable(&mut self, client: ClientId) -> Option<(Call, Readable)> {
        let next = self.clients.get_mut(&client).and_then(|state| state.readable.pop_front());
        if next.is_none() {
            self.reading.remove(&client);
        }
        next
    }

    /// Bytes of responses to a client that have not been taken.
    pub(crate) fn response_bytes(&self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |state| state.frames.iter().map(Vec::len).sum())
    }

    /// A request has ended.
    pub(crate) fn answer(&mut self, call: Call, reply: &Reply) {
        let (code, payload) = match reply {
            Reply::Proposed(end) => codec::encode_proposed(end),
            Reply::Queried(end) => codec::encode_queried(end),
        };
        let too_large = RESPONSE_HEAD_BYTES + payload.len() > self.limits.response_bytes_max;
        let (code, payload) = match (too_large, reply) {
            (false, _) => (code, payload),
            (true, Reply::Proposed(_)) => {
                codec::encode_proposed(&Err(ProposeError::Unknown(Unknown::ReplyTooLarge)))
            }
            (true, Reply::Queried(_)) => codec::encode_queried(&Err(QueryError::AnswerTooLarge)),
        };
        self.respond(call, code, &payload);
    }

    /// The host's status, as JSON.
    pub(crate) fn answer_status(&mut self, call: Call, json: &[u8]) {
        self.respond(call, codec::OK, json);
    }

    fn respond(&mut self, call: Call, code: u8, payload: &[u8]) {
        // A client that is gone has no place for responses.
        let Some(state) = self.clients.get_mut(&call.client) else { return };
        state.open_bytes -= call.bytes;
        self.open_bytes -= call.bytes;
        let needed = RESPONSE_HEAD_BYTES + payload.len();
        let fits = |frame: &Vec<u8>| frame.len() + needed <= FRAME_BYTES;
        if !state.frames.last().is_some_and(fits) {
            state.frames.push(vec![codec::VERSION]);
        }
        let frame = state.frames.last_mut().expect("there is one now");
        codec::put_response(call.id, code, payload, frame);
        self.answered.insert(call.client);
    }

    /// Takes the frames to be sent.
    pub(crate) fn take_frames(&mut self, mut send: impl FnMut(ClientId, &[u8])) {
        for client in std::mem::take(&mut self.answered) {
            let Some(state) = self.clients.get_mut(&client) else { continue };
            for frame in state.frames.drain(..) {
                send(client, &frame);
            }
        }
    }

    /// Bytes of requests of all clients that wait for their end.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// The same, beside what is allowed.
    pub(crate) fn gauge(&self) -> Gauge {
        let bytes_max = self.limits.open_bytes_max * self.clients.len();
        Gauge { name: "calls", bytes: self.open_bytes as u64, bytes_max: Some(bytes_max as u64) }
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }
}
