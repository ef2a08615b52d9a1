//! The thread that has the sockets and an engine, mostly all groups of a member: waits, hands in what came,
//! turns, hands out.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::types::{ClusterId, NodeId};
use raft_transport::tcp::reactor::{ClientId, Event, Reactor, ReactorError};

use crate::core::{Output, Reply};
use crate::engine::Engine;
use crate::error::HostError;
use crate::mailbox::{Mail, Mailbox, Request};
use crate::outcome::{NotAppended, ProposeError, ProposeResult, QueryError, QueryResult};
use crate::peers::{self, Peers};
use crate::pending::Completer;
use crate::rpc::codec::{Kind, RequestRecord};
use crate::rpc::service::{Call, Place, Service};
use crate::status::{Gauge, HostStatus};
use crate::store::DiskThreads;

/// Who asked.
pub(crate) enum Origin {
    Propose(Completer<ProposeResult>),
    Query(Completer<QueryResult>),
    Call(Call),
    /// Nobody: it is the will of a client that is gone.
    Will,
}

/// How long the last responses may take to be written.
const FAREWELL: Duration = Duration::from_millis(5);

/// A client's queries are asked as long as fewer bytes of answers wait for it.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub(crate) struct Runner<E> {
    cluster: ClusterId,
    node: NodeId,
    core: E,
    reactor: Reactor,
    service: Service,
    mailbox: Arc<Mailbox>,
    peers: Peers,
    disk: Option<DiskThreads>,
    tick: Duration,
    clock: Clock,
    out: Output<Origin>,
    mail: Mail,
    events: Vec<Event>,
    /// Whether there is something to do before anything else happens.
    again: bool,
    wakers: Vec<Waker>,
}

/// Turns time into ticks.
struct Clock {
    started: Instant,
    ticks: u64,
}

/// What a runner is made of.
pub(crate) struct Parts<E> {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) core: E,
    pub(crate) reactor: Reactor,
    pub(crate) service: Service,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) peers: Peers,
    /// `None` where everything is in memory.
    pub(crate) disk: Option<DiskThreads>,
    pub(crate) tick: Duration,
}

impl<E> Drop for Runner<E> {
    fn drop(&mut self) {
        // Also where its thread panics, or the readiness loop fails: nobody waits for ever.
        drop(self.mailbox.close());
    }
}

impl<E: Engine> Runner<E> {
    pub(crate) fn new(parts: Parts<E>) -> Self {
        let Parts { cluster, node, core, reactor, service, mailbox, peers, disk, tick } = parts;
        Runner {
            cluster,
            node,
            core,
            reactor,
            service,
            mailbox,
            peers,
            disk,
            tick,
            clock: Clock { started: Instant::now(), ticks: 0 },
            out: Output::default(),
            mail: Mail::default(),
            events: Vec::new(),
            again: false,
            wakers: Vec::new(),
        }
    }

    /// Runs until it is told to stop, or can't go on.
    pub(crate) fn run(&mut self) -> Result<(), HostError> {
        let result = self.run_loop().map_err(|error| HostError::Stopped(error.to_string()));
        match self.mailbox.failure() {
            Some(what) => Err(HostError::Stopped(what)),
            None => result,
        }
    }

    fn run_loop(&mut self) -> Result<(), ReactorError> {
        loop {
            // The first turn comes before the first wait: new groups have something to say.
            self.turn();
            let again = std::mem::take(&mut self.again);
            let timeout = if again { Some(Duration::ZERO) } else { self.timeout() };
            let mut events = std::mem::take(&mut self.events);
            self.reactor.poll(timeout, &mut events)?;
            self.pass_time();
            events.drain(..).for_each(|event| self.on_event(event));
            self.events = events;
            if self.take_mail() {
                return self.shut_down();
            }
        }
    }

    /// Until a group has something to do.
    fn timeout(&self) -> Option<Duration> {
        let ticks = u32::try_from(self.core.ticks_until_due()?).unwrap_or(u32::MAX);
        let due = self.tick.checked_mul(ticks)? + self.tick_started();
        // Rounded up to the clock of the readiness loop, which counts in milliseconds.
        Some(due.saturating_sub(self.clock.started.elapsed()) + Duration::from_micros(500))
    }

    fn tick_started(&self) -> Duration {
        let nanos = self.tick.as_nanos() * u128::from(self.clock.ticks);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn pass_time(&mut self) {
        let elapsed = self.clock.started.elapsed();
        self.service.pass_time(elapsed.as_millis() as u64);
        let elapsed = elapsed.as_nanos() / self.tick.as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        if elapsed > self.clock.ticks {
            self.core.tick(elapsed - self.clock.ticks);
            self.clock.ticks = elapsed;
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Delivered(envelope) => {
                let disk = self.disk.as_ref();
                if disk.is_none_or(|disk| disk.has_room_for(&envelope.message)) {
                    self.core.deliver(envelope);
                }
            }
            Event::PeerLost(node) => {
                self.peers.lost(node);
                self.core.peer_lost(node);
            }
            Event::Unreachable(node) => self.core.unreachable(node),
            Event::ClientOpened(client, address) => self.make_place(client, address.ip()),
            Event::ClientClosed(client, _) => self.service.closed(client),
            Event::ClientFrame(client, body) => {
                let taken = self.service.on_frame(client, body);
                self.take_calls(client);
                if taken.is_err() {
                    self.service.closed(client);
                    self.reactor.close_client(client);
                } else if self.service.pauses(client) {
                    self.reactor.pause_client(client);
                }
            }
            Event::PeerUp(member) => self.peers.up(member),
            Event::Refused { node, address, reason } => {
                self.peers.refused(node, format!("{address}: {reason}"));
            }
            // The enum may grow; what we don't know of is for nobody here.
            _ => {}
        }
    }

    /// Lets a client in, in the place of another one where all are taken.
    fn make_place(&mut self, client: ClientId, address: IpAddr) {
        let reactor = &self.reactor;
        let place =
            self.service.opened(client, address, |other| reactor.client_held_bytes(other) == 0);
        match place {
            Place::Free => {}
            Place::Of(idle) => self.reactor.close_client(idle),
            Place::None => self.reactor.close_client(client),
        }
    }

    fn take_calls(&mut self, client: ClientId) {
        while let Some((call, request)) = self.service.next(client, self.is_crowded()) {
            self.on_call(call, request);
        }
    }

    fn on_call(&mut self, call: Call, request: RequestRecord) {
        let RequestRecord { kind, group, payload, .. } = request;
        match kind {
            Kind::Propose => {
                self.core.propose(group, &payload, Origin::Call(call), &mut self.out);
            }
            Kind::Query => self.core.query(group, payload, Origin::Call(call), &mut self.out),
            Kind::Status => {
                let json = serde_json::to_vec(&self.status()).expect("plain numbers and words");
                self.service.answer_status(call, &json);
            }
            Kind::Will => {
                let end = if self.core.has_group(group) {
                    self.service.leave_will(call.client, group, &payload)
                } else {
                    Err(NotAppended::NoSuchGroup { group })
                };
                let end = end.map(|()| Bytes::new()).map_err(ProposeError::NotAppended);
                self.service.answer(call, &Reply::Proposed(end));
            }
        }
    }

    /// Whether the groups' requests fill more than three quarters of what is allowed: then clients
    /// keep their further ones.
    fn is_crowded(&self) -> bool {
        let (used, limit) = self.core.request_bytes();
        used > limit / 4 * 3
    }

    /// Takes what other threads have handed in; answers whether to stop.
    fn take_mail(&mut self) -> bool {
        let mut mail = std::mem::take(&mut self.mail);
        let stop = self.mailbox.take(&mut mail);
        for (group, completion) in mail.completions.drain(..) {
            self.core.completed(group, completion);
        }
        for (group, result) in mail.snapshots.drain(..) {
            self.core.end_snapshot(group, result);
        }
        for request in mail.requests.drain(..) {
            self.on_request(request);
        }
        self.mail = mail;
        stop
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Propose { group, command, completer } => {
                self.core.propose(group, &command, Origin::Propose(completer), &mut self.out);
            }
            Request::Query { group, query, completer } => {
                self.core.query(group, query, Origin::Query(completer), &mut self.out);
            }
            Request::Status { completer } => {
                completer.complete(Some(self.status()), &mut self.wakers);
            }
            Request::Campaign { group } => self.core.campaign(group),
        }
    }

    /// Turns the groups and carries out what they want.
    fn turn(&mut self) {
        self.core.turn(&mut self.out);
        while let Some((group, job)) = self.out.snapshots.pop() {
            match &self.disk {
                Some(disk) => disk.write_snapshot(group, job),
                None => {
                    self.core.run_snapshot(group, job);
                    self.core.turn(&mut self.out);
                }
            }
        }
        // The disk begins first: what the network is given now travels while it works.
        if let Some(disk) = &self.disk {
            disk.notify();
        }
        self.hand_out();
        // Wills wait for room, like clients' further requests, and were there before them. Both are new work for the
        // groups. Each round ends some, or hands in none.
        let executed = self.execute_wills();
        if self.serve_waiting_clients() || executed {
            self.again = true;
        }
    }

    /// Proposes the wills of clients that are gone, as far as there is room. Answers whether there were any.
    fn execute_wills(&mut self) -> bool {
        let (core, out) = (&mut self.core, &mut self.out);
        self.service.execute_wills(|group, command| {
            core.propose(group, command, Origin::Will, out);
            // A group without room says so at once. Room comes of a turn, after which this is asked again. Whatever
            // else is said of a will, nobody wants to know.
            out.replies.pop_if(|(origin, reply)| is_busy_for_will(origin, reply)).is_none()
        })
    }

    fn hand_out(&mut self) {
        for envelope in self.out.messages.drain(..) {
            self.reactor.send(envelope);
        }
        for (origin, reply) in self.out.replies.drain(..) {
            match (origin, reply) {
                (Origin::Propose(completer), Reply::Proposed(end)) => {
                    completer.complete(end, &mut self.wakers);
                }
                (Origin::Query(completer), Reply::Queried(end)) => {
                    completer.complete(end, &mut self.wakers);
                }
                (Origin::Call(call), reply) => self.service.answer(call, &reply),
                (Origin::Will, _) => {}
                // The core gives back what came with the request.
                (Origin::Propose(_), Reply::Queried(_))
                | (Origin::Query(_), Reply::Proposed(_)) => {
                    unreachable!("a request ends as what it was")
                }
            }
        }
        self.out.changes.clear();
        self.ask_readable();
        self.send_responses();
        // Nobody is woken before everything is delivered: who waits for many wakes once.
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Asks what may be asked: for threads of this process at once, for clients of the network as long as
    /// they take their answers. What is not asked now waits in few bytes, an answer may have megabytes.
    fn ask_readable(&mut self) {
        for (origin, readable) in self.out.readable.drain(..) {
            match origin {
                Origin::Call(call) => self.service.readable(call, readable),
                Origin::Query(completer) => match self.core.ask(&readable) {
                    Reply::Queried(end) => completer.complete(end, &mut self.wakers),
                    Reply::Proposed(_) => unreachable!("a query ends as one"),
                },
                Origin::Propose(_) | Origin::Will => {
                    unreachable!("the core gives back what came with the request")
                }
            }
        }
        for client in self.service.reading() {
            let queued = self.reactor.client_queued_bytes(client);
            while queued + self.service.response_bytes(client) < UNSENT_BYTES_MAX
                && let Some((call, readable)) = self.service.next_readable(client)
            {
                let reply = self.core.ask(&readable);
                self.service.answer(call, &reply);
            }
        }
    }

    fn send_responses(&mut self) {
        let reactor = &mut self.reactor;
        let mut lost = Vec::new();
        self.service.take_frames(|client, frame| {
            if reactor.send_to_client(client, |out| out.put(frame)).is_err() {
                lost.push(client);
            }
        });
        // Whoever asks for much and takes no answers is served no longer.
        for client in lost {
            self.service.closed(client);
            self.reactor.close_client(client);
        }
    }

    /// Clients that had to wait get their turn, now that something has ended. Answers whether one did.
    fn serve_waiting_clients(&mut self) -> bool {
        let mut served = false;
        for client in self.service.paused() {
            let before = self.service.open_bytes();
            self.take_calls(client);
            served |= self.service.open_bytes() > before;
            if self.service.resumes(client) {
                self.reactor.resume_client(client);
            }
        }
        served
    }

    fn status(&self) -> HostStatus {
        let (used, limit) = self.core.request_bytes();
        let mut queues = vec![
            self.mailbox.gauge(),
            Gauge { name: "requests", bytes: used as u64, bytes_max: Some(limit as u64) },
        ];
        queues.extend(self.service.gauges());
        queues.extend(self.disk.iter().flat_map(DiskThreads::gauges));
        HostStatus {
            cluster: self.cluster,
            node: self.node,
            groups: self.core.groups(),
            core: self.core.stats(),
            peers: self.peers.status(&self.reactor),
            stranger_refused: self.peers.stranger.clone(),
            network: peers::counters(&self.reactor),
            clients: self.service.clients(),
            clients_max: self.service.clients_max(),
            clients_displaced: self.service.displaced,
            // Some were turned away before anybody looked for a place.
            clients_refused: self.service.refused + self.reactor.clients_turned_away(),
            accept_failed: self.reactor.accept_failure().map(str::to_owned),
            log_waits: self.disk.as_ref().and_then(DiskThreads::waits_because),
            queues,
        }
    }

    /// No more requests; every open one ends; what can still be said is said. That connections close with it is no
    /// reason to execute wills: their clients are well.
    fn shut_down(&mut self) -> Result<(), ReactorError> {
        for request in self.mailbox.close().requests {
            refuse(request, &mut self.wakers);
        }
        self.core.shut_down(&mut self.out);
        self.hand_out();
        // Polling writes first, and then waits a little for those whose sockets were full.
        for _ in 0..2 {
            self.reactor.poll(Some(FAREWELL), &mut self.events)?;
            self.events.clear();
        }
        // The threads of the disk finish what they have, and with the last of them its lock goes.
        if let Some(disk) = self.disk.take() {
            disk.join();
        }
        Ok(())
    }
}

/// Whether a will found no room.
fn is_busy_for_will(origin: &Origin, reply: &Reply) -> bool {
    let is_busy =
        matches!(reply, Reply::Proposed(Err(ProposeError::NotAppended(NotAppended::Busy))));
    matches!(origin, Origin::Will) && is_busy
}

/// A request that no group has seen.
fn refuse(request: Request, wakers: &mut Vec<Waker>) {
    match request {
        Request::Propose { completer, .. } => {
            let end = ProposeError::NotAppended(NotAppended::Shutdown);
            completer.complete(Err(end), wakers);
        }
        Request::Query { completer, .. } => {
            completer.complete(Err(QueryError::Shutdown), wakers);
        }
        // Dropped, it says that the host is gone.
        Request::Status { .. } | Request::Campaign { .. } => {}
    }
}
