//! Requests of clients that come over the network: taken apart, counted, answered in batches.
//!
//! Thread-free: frames in, frames out, and who is to be read no more for now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;
use raft_core::types::GroupId;
use raft_transport::tcp::reactor::{AcceptLimits, ClientId};

use super::codec::{self, BadFrame, Kind, RESPONSE_HEAD_BYTES, RequestRecord};
use super::will::Wills;
use crate::core::{Readable, Reply};
use crate::outcome::{NotAppended, ProposeError, QueryError, Unknown};
use crate::status::Gauge;

/// A frame of responses that has this many bytes is closed, and the next one begins.
const FRAME_BYTES: usize = 256 << 10;

/// What a request costs besides its own bytes, while it waits.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// A client that has had nothing under way for so long may have to go when another one comes and all places are
/// taken.
const IDLE_MS: u64 = 1000;

/// Limits on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceLimits {
    /// With more bytes of requests open than this, a client is read no more.
    pub(crate) open_bytes_max: usize,
    /// The largest response.
    pub(crate) response_bytes_max: usize,
    /// How many there may be.
    pub(crate) places: AcceptLimits,
}

/// Names one request of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: ClientId,
    pub(crate) id: u64,
    bytes: usize,
}

/// Whether there is a place for a new client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    /// That of a client that was idle for longest, and is to be closed.
    Of(ClientId),
    /// There is none: the new one is to be closed.
    None,
}

#[derive(Debug)]
struct ClientState {
    address: IpAddr,
    /// When it asked or was answered last, or came, in milliseconds.
    active_at: u64,
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
    wills: Wills,
    open_bytes: usize,
    /// Milliseconds.
    now: u64,
    /// How many had to go for others, and how many found no place.
    pub(crate) displaced: u64,
    pub(crate) refused: u64,
}

impl Service {
    pub(crate) fn new(limits: ServiceLimits) -> Self {
        Service {
            limits,
            clients: BTreeMap::new(),
            answered: BTreeSet::new(),
            reading: BTreeSet::new(),
            paused: BTreeSet::new(),
            wills: Wills::default(),
            open_bytes: 0,
            now: 0,
            displaced: 0,
            refused: 0,
        }
    }

    /// Tells what time it is, in milliseconds.
    pub(crate) fn pass_time(&mut self, now: u64) {
        self.now = now;
    }

    /// A client has come. Where all places are taken, that of the longest idle one is the newcomer's: who has asked
    /// for nothing loses nothing by it, and connects again with its next request. Those with a will, which is executed
    /// then, are the last to go. `holds_nothing` says of a client that none of its bytes are on the way, in either
    /// direction.
    pub(crate) fn opened(
        &mut self,
        client: ClientId,
        address: IpAddr,
        holds_nothing: impl Fn(ClientId) -> bool,
    ) -> Place {
        let AcceptLimits { total_max, per_address_max } = self.limits.places;
        let neighbours = || self.clients.values().filter(|state| state.address == address).count();
        let neighbours_only =
            self.clients.len() >= per_address_max && neighbours() >= per_address_max;
        let mut place = Place::Free;
        if neighbours_only || self.clients.len() >= total_max {
            let idle = self.longest_idle(neighbours_only.then_some(address), holds_nothing);
            let Some(idle) = idle else {
                self.refused += 1;
                return Place::None;
            };
            self.displaced += 1;
            self.closed(idle);
            place = Place::Of(idle);
        }
        self.clients.insert(client, ClientState::new(address, self.now));
        place
    }

    fn longest_idle(
        &self,
        of: Option<IpAddr>,
        holds_nothing: impl Fn(ClientId) -> bool,
    ) -> Option<ClientId> {
        let may_go = |(client, state): &(&ClientId, &ClientState)| {
            of.is_none_or(|address| address == state.address)
                && state.is_idle(self.now)
                && holds_nothing(**client)
        };
        let idle = self.clients.iter().filter(may_go);
        idle.min_by_key(|(client, state)| (self.wills.has_any(**client), state.active_at))
            .map(|(client, _)| *client)
    }

    /// A client is gone. Its requests go on; their responses find nobody. Its wills are due, those included that it
    /// has changed in requests that were not looked at yet.
    pub(crate) fn closed(&mut self, client: ClientId) {
        if let Some(state) = self.clients.remove(&client) {
            self.open_bytes -= state.open_bytes;
            for request in state.held.iter().filter(|request| request.kind == Kind::Will) {
                // Nobody hears of a refusal any more.
                let _ = self.wills.leave(client, request.group, &request.payload);
            }
        }
        self.wills.closed(client);
        self.answered.remove(&client);
        self.reading.remove(&client);
        self.paused.remove(&client);
    }

    /// A frame came. Whoever sends what is none is to be closed; the requests before it are good.
    pub(crate) fn on_frame(&mut self, client: ClientId, body: Bytes) -> Result<(), BadFrame> {
        let Some(state) = self.clients.get_mut(&client) else { return Ok(()) };
        state.active_at = self.now;
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
        state.active_at = self.now;
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

    /// A client leaves a will for a group that is here, or takes it back with an empty one.
    pub(crate) fn leave_will(
        &mut self,
        client: ClientId,
        group: GroupId,
        command: &[u8],
    ) -> Result<(), NotAppended> {
        self.wills.leave(client, group, command)
    }

    /// Proposes the wills of clients that are gone; what `propose` has no room for waits. Answers whether there were
    /// any that are proposed now.
    pub(crate) fn execute_wills(&mut self, propose: impl FnMut(GroupId, &[u8]) -> bool) -> bool {
        self.wills.execute(propose)
    }

    /// Bytes of requests of all clients that wait for their end.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// The same, and what wills weigh, beside what is allowed.
    pub(crate) fn gauges(&self) -> [Gauge; 2] {
        let bytes_max = Some((self.limits.open_bytes_max * self.clients.len()) as u64);
        let calls = Gauge { name: "calls", bytes: self.open_bytes as u64, bytes_max };
        [calls, self.wills.gauge()]
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How many there may be.
    pub(crate) fn clients_max(&self) -> usize {
        self.limits.places.total_max
    }
}

impl ClientState {
    fn new(address: IpAddr, now: u64) -> Self {
        ClientState {
            address,
            active_at: now,
            held: VecDeque::new(),
            readable: VecDeque::new(),
            open_bytes: 0,
            frames: Vec::new(),
        }
    }

    /// Whether it has had nothing under way for a while.
    fn is_idle(&self, now: u64) -> bool {
        let waits = self.open_bytes > 0 || !self.held.is_empty() || !self.frames.is_empty();
        !waits && now.saturating_sub(self.active_at) >= IDLE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn service(total_max: usize, per_address_max: usize) -> Service {
        let places = AcceptLimits { total_max, per_address_max };
        Service::new(ServiceLimits { open_bytes_max: 1000, response_bytes_max: 1000, places })
    }

    fn send(service: &mut Service, client: ClientId, kind: Kind, payload: &[u8]) {
        let mut body = vec![codec::VERSION];
        codec::put_request(kind, 1, 1, payload, &mut body);
        service.on_frame(client, body.into()).unwrap();
    }

    fn ask(service: &mut Service, client: ClientId) -> Call {
        send(service, client, Kind::Status, b"");
        service.next(client, false).unwrap().0
    }

    fn executed(service: &mut Service) -> Vec<String> {
        let mut commands = Vec::new();
        service.execute_wills(|_, command| {
            commands.push(String::from_utf8(command.to_vec()).unwrap());
            true
        });
        commands
    }

    #[test]
    fn the_longest_idle_client_makes_room_and_who_waits_does_not() {
        let (mut service, [a, b, c, d, e]) = (service(3, 3), [1, 2, 3, 4, 5].map(ClientId::of));
        assert_eq!(service.opened(a, HERE, |_| true), Place::Free);
        assert_eq!(service.opened(b, HERE, |_| true), Place::Free);
        assert_eq!(service.opened(c, HERE, |_| true), Place::Free);
        // Nobody has been idle for long, and `a` has been waiting since.
        let waits = ask(&mut service, a);
        assert_eq!(service.opened(d, HERE, |_| true), Place::None);
        service.pass_time(500);
        let asked = ask(&mut service, b);
        service.answer_status(asked, b"");
        service.take_frames(|_, _| {});
        service.pass_time(1000);
        assert_eq!(service.opened(d, HERE, |_| true), Place::Of(c));
        assert_eq!(service.opened(e, HERE, |_| true), Place::None);
        service.pass_time(1500);
        assert_eq!(
            service.opened(e, HERE, |client| client != b),
            Place::None,
            "it is being sent to"
        );
        assert_eq!(service.opened(e, HERE, |_| true), Place::Of(b));
        assert_eq!((service.clients(), service.displaced, service.refused), (3, 2, 3));
        service.answer_status(waits, b"");
    }

    #[test]
    fn one_address_makes_room_among_its_own() {
        let (mut service, [a, b, c, d]) = (service(4, 2), [1, 2, 3, 4].map(ClientId::of));
        assert_eq!(service.opened(a, THERE, |_| true), Place::Free);
        assert_eq!(service.opened(b, HERE, |_| true), Place::Free);
        assert_eq!(service.opened(c, HERE, |_| true), Place::Free);
        service.pass_time(IDLE_MS);
        assert_eq!(service.opened(d, HERE, |_| true), Place::Of(b));
    }

    #[test]
    fn who_has_to_go_has_its_will_executed_and_is_the_last_to_go() {
        let (mut service, [a, b, c, d, e]) = (service(3, 3), [1, 2, 3, 4, 5].map(ClientId::of));
        for client in [a, b, c] {
            assert_eq!(service.opened(client, HERE, |_| true), Place::Free);
        }
        service.leave_will(a, 1, b"of a").unwrap();
        service.leave_will(b, 1, b"of b").unwrap();
        service.pass_time(IDLE_MS);
        assert_eq!(service.opened(d, HERE, |_| true), Place::Of(c), "it has none");
        assert_eq!(executed(&mut service), [""; 0]);
        assert_eq!(service.opened(e, HERE, |_| true), Place::Of(a));
        assert_eq!(executed(&mut service), ["of a"]);
    }

    #[test]
    fn a_will_counts_that_was_read_and_had_to_wait_until_the_client_was_gone() {
        let (mut service, [a, b]) = (service(2, 2), [1, 2].map(ClientId::of));
        for client in [a, b] {
            assert_eq!(service.opened(client, HERE, |_| true), Place::Free);
            service.leave_will(client, 1, b"first").unwrap();
            send(&mut service, client, Kind::Propose, b"what nobody has seen is dropped");
            assert!(service.next(client, true).is_none(), "all have too much open");
        }
        send(&mut service, a, Kind::Will, b"second");
        send(&mut service, b, Kind::Will, b"");
        service.closed(a);
        service.closed(b);
        assert_eq!(executed(&mut service), ["second"]);
    }
}
