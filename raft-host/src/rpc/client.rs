//! A client of a cluster over the network: finds the leader, follows it, tries the next server.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raft_core::types::GroupId;

use super::codec::{self, Kind, ResponseRecord};
use super::connection::{Connection, NoResponse, PAYLOAD_BYTES_MAX, Question};
use super::search::{Learned, Search, Unreached};
use super::silence::Silence;
use super::will;
use crate::outcome::{
    Leader, NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown,
};
use crate::patience::deadline;

/// How patient a client is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RpcOptions {
    /// How long a request may take, redirects and attempts at other servers included.
    pub request_timeout: Duration,
    /// How long one server may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a server may keep silent before what may be asked twice is asked of another one: far longer than
    /// a healthy cluster takes, and not much longer than a new leader does. Each time that it was too short for a
    /// request it doubles, up to eight times as long.
    pub silence: Duration,
    /// The first wait before trying again where nobody could help; it doubles up to
    /// [`backoff_max`](Self::backoff_max).
    pub backoff_min: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
}

impl Default for RpcOptions {
    fn default() -> Self {
        RpcOptions {
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_millis(500),
            silence: Duration::from_millis(500),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
        }
    }
}

/// A client of a cluster. Cheap to clone and usable from any thread; clones share one connection, over
/// which their requests are pipelined.
#[derive(Clone, Debug)]
pub struct RpcClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<String>,
    options: RpcOptions,
    place: Mutex<Place>,
}

/// Where requests go at present.
#[derive(Debug)]
struct Place {
    address: String,
    /// Position among the servers of the last one that was not a leader's hint.
    turn: usize,
    connection: Option<Arc<Connection>>,
    /// The first thing that is said on each connection.
    wills: BTreeMap<GroupId, Box<[u8]>>,
}

/// A proposal whose response is on its way.
#[derive(Debug)]
#[must_use = "the end of a proposal is waited for"]
pub struct PendingProposal {
    client: RpcClient,
    /// `None` once waited for.
    sent: Option<Result<(Arc<Connection>, u64), ProposeError>>,
    deadline: Instant,
}

impl Drop for PendingProposal {
    fn drop(&mut self) {
        if let Some(Ok((connection, id))) = self.sent.take() {
            connection.forget(id);
        }
    }
}

impl PendingProposal {
    /// Waits for the end of the proposal. Redirects are not followed: it has been sent to one server,
    /// and what that server says is its end there.
    pub fn wait(mut self) -> ProposeResult {
        let (connection, id) = self.sent.take().expect("only what ends it takes it")?;
        let response = connection.receive(id, self.deadline);
        self.end(&connection, response)
    }

    /// Waits until this moment. `None` if the end is not known by then; the proposal goes on, and can be
    /// waited for again, however long it takes. For commands that the state machine parks.
    ///
    /// # Panics
    /// If it has answered the end before.
    pub fn wait_until(&mut self, until: Instant) -> Option<ProposeResult> {
        let (connection, id) = match self.sent.take().expect("it has not ended before") {
            Ok(sent) => sent,
            Err(error) => return Some(Err(error)),
        };
        match connection.receive_until(id, until) {
            Err(NoResponse::Timeout) => {
                self.sent = Some(Ok((connection, id)));
                None
            }
            response => Some(self.end(&connection, response)),
        }
    }

    /// What a response says, also about where to go with the next request.
    fn end(
        &self,
        connection: &Arc<Connection>,
        response: Result<ResponseRecord, NoResponse>,
    ) -> ProposeResult {
        match response {
            Ok(ResponseRecord { code, payload, .. }) => {
                let end = codec::decode_proposed(code, payload);
                if let Err(ProposeError::NotAppended(why)) = &end {
                    self.client.learn(connection, why);
                }
                end
            }
            Err(no_response) => {
                self.client.leave(connection);
                Err(ProposeError::Unknown(unknown(&no_response)))
            }
        }
    }
}

/// What came of asking one server.
enum Attempt {
    Response(Arc<Connection>, ResponseRecord),
    /// The server has surely not seen the request.
    NotSent(Unreached),
    /// Whether it has is not known.
    Lost(NoResponse),
}

impl RpcClient {
    /// A client of the cluster whose members listen for clients at these addresses (`HOST:PORT`).
    /// Connects when it is first asked.
    ///
    /// # Panics
    /// If there is no address.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        RpcClient::with_options(servers, RpcOptions::default())
    }

    /// The same with another patience.
    ///
    /// # Panics
    /// If there is no address.
    pub fn with_options(
        servers: impl IntoIterator<Item = impl Into<String>>,
        options: RpcOptions,
    ) -> Self {
        let servers: Vec<String> = servers.into_iter().map(Into::into).collect();
        assert!(!servers.is_empty(), "a cluster has at least one server");
        let address = servers[0].clone();
        let place = Place { address, turn: 0, connection: None, wills: BTreeMap::new() };
        RpcClient { shared: Arc::new(Shared { servers, options, place: Mutex::new(place) }) }
    }

    /// Has a command applied, on whichever server leads. `Unknown` is the end if a connection broke,
    /// or time ran out, while a server may have had it.
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn propose(&self, group: GroupId, command: &[u8]) -> ProposeResult {
        self.propose_within(group, command, self.shared.options.request_timeout)
    }

    /// [`propose`](Self::propose) with a patience of its own.
    ///
    /// # Errors
    /// Why there is no reply.
    pub fn propose_within(
        &self,
        group: GroupId,
        command: &[u8],
        patience: Duration,
    ) -> ProposeResult {
        check_length(command)?;
        let question = Question { kind: Kind::Propose, group, payload: command };
        let mut search = self.search(patience);
        loop {
            match self.ask(question, search.deadline) {
                Attempt::Response(connection, response) => {
                    match codec::decode_proposed(response.code, response.payload) {
                        Err(ProposeError::NotAppended(why)) if !why.is_final() => {
                            let learned = self.learn(&connection, &why);
                            search.answered(why);
                            search.rest_after(learned);
                        }
                        end => return end,
                    }
                }
                Attempt::NotSent(what) => {
                    search.unreached(what);
                    search.rest_after(Learned::Nothing);
                }
                Attempt::Lost(no_response) => {
                    return Err(ProposeError::Unknown(unknown(&no_response)));
                }
            }
            if search.is_over() {
                return Err(ProposeError::NotAppended(search.end(NotAppended::Unreachable)));
            }
        }
    }

    /// Sends a proposal to the server at hand, and returns without waiting for its response: for
    /// callers with many proposals at once.
    pub fn begin_propose(&self, group: GroupId, command: &[u8]) -> PendingProposal {
        let deadline = deadline(self.shared.options.request_timeout);
        let question = Question { kind: Kind::Propose, group, payload: command };
        let sent = check_length(command).and_then(|()| {
            self.send(question, deadline).map_err(|attempt| match attempt {
                Attempt::Lost(why) => ProposeError::Unknown(unknown(&why)),
                Attempt::NotSent(what) => {
                    ProposeError::NotAppended(NotAppended::Unreachable(what.to_string()))
                }
                Attempt::Response(..) => unreachable!("nobody has been waited for"),
            })
        });
        PendingProposal { client: self.clone(), sent: Some(sent), deadline }
    }

    /// Asks the state machine, linearizably. Tries other servers until one answers: also where one keeps
    /// silent, after half a second at first.
    ///
    /// # Errors
    /// Why there is no answer. Asking again does no harm.
    pub fn query(&self, group: GroupId, query: &[u8]) -> QueryResult {
        self.query_within(group, query, self.shared.options.request_timeout)
    }

    /// [`query`](Self::query) with a patience of its own.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn query_within(&self, group: GroupId, query: &[u8], patience: Duration) -> QueryResult {
        if query.len() > PAYLOAD_BYTES_MAX {
            let bytes = query.len();
            let what = format!("a query of {bytes} bytes; at most {PAYLOAD_BYTES_MAX} can be sent");
            return Err(QueryError::Unreachable(what));
        }
        let question = Question { kind: Kind::Query, group, payload: query };
        let mut search = self.search(patience);
        let mut silence = self.silence();
        loop {
            let until = Instant::now() + silence.within(search.deadline);
            match self.ask(question, until) {
                Attempt::Response(connection, response) => {
                    match codec::decode_queried(response.code, response.payload) {
                        Ok(answer) => return Ok(answer),
                        Err(
                            why @ (QueryError::NoSuchGroup { .. } | QueryError::AnswerTooLarge),
                        ) => return Err(why),
                        Err(why) => {
                            if why != QueryError::Busy {
                                self.leave(&connection);
                            }
                            search.answered(why);
                        }
                    }
                }
                Attempt::Lost(NoResponse::Timeout) => {
                    silence.was_too_short();
                    search.answered(QueryError::Timeout);
                }
                Attempt::NotSent(what) => search.unreached(what),
                Attempt::Lost(NoResponse::Broken(why)) => search.unreached(Unreached::broken(why)),
            }
            search.rest_after(Learned::Nothing);
            if search.is_over() {
                return Err(search.end(QueryError::Unreachable));
            }
        }
    }

    /// One server's own account of itself, as JSON.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub fn status(&self, server: &str) -> Result<String, QueryError> {
        let RpcOptions { request_timeout, connect_timeout, .. } = self.shared.options;
        let deadline = deadline(request_timeout);
        let unreachable = |what: String| QueryError::Unreachable(format!("{server}: {what}"));
        let connection = Connection::open(server, connect_timeout, request_timeout)
            .map_err(|error| unreachable(error.to_string()))?;
        let question = Question { kind: Kind::Status, group: 0, payload: &[] };
        let response = connection.send(question, deadline);
        let response = response.and_then(|id| connection.receive(id, deadline));
        match response {
            Ok(response) => Ok(String::from_utf8_lossy(&response.payload).into_owned()),
            Err(NoResponse::Timeout) => Err(QueryError::Timeout),
            Err(NoResponse::Broken(what)) => Err(unreachable(what)),
        }
    }

    /// Leaves a last [will]: when the connection with the server at hand closes, for whatever reason, that
    /// server proposes this command to the group, if it leads it. It takes the place of the one before for the same
    /// group. It is sent at once where there is a connection, and first thing on each one that is opened later, without
    /// waiting for an answer; [`will_refusal`](Self::will_refusal) tells of a server that did not take it.
    ///
    /// The connection closes also when the last clone of this client is dropped: who leaves in peace calls
    /// [`clear_will`](Self::clear_will) first. A client that goes on to another server of its own accord takes its
    /// wills back where it was. But a will may be executed although its client is well, as a connection can break: a
    /// command that says too early that somebody is gone must do no harm.
    ///
    /// # Errors
    /// `TooLarge` beyond [`WILL_BYTES_MAX`](will::WILL_BYTES_MAX), `TooManyWills` for more groups than
    /// [`WILLS_MAX`](will::WILLS_MAX). Nothing is changed then.
    ///
    /// # Panics
    /// If the command is empty: to a server that means that a will is taken back.
    pub fn set_will(&self, group: GroupId, command: &[u8]) -> Result<(), NotAppended> {
        assert!(!command.is_empty(), "an empty command is no will");
        // The lock is held until it is sent: what the server has last is what is remembered here.
        let mut place = self.shared.place.lock();
        will::check(command, place.wills.keys().filter(|other| **other != group).count())?;
        place.wills.insert(group, command.into());
        if let Some(connection) = &place.connection {
            // One that breaks is left by the next request, and the one after it begins with the wills.
            let _ = connection.post([will_question(group, command)]);
        }
        Ok(())
    }

    /// Takes back the will for a group, and returns when the server at hand has said that it did. Nothing is sent where
    /// there was none, or where there is no connection.
    ///
    /// # Errors
    /// The connection broke, or the server kept silent: the will may have been executed, or will be. No later
    /// connection has it.
    pub fn clear_will(&self, group: GroupId) -> Result<(), Unknown> {
        let deadline = deadline(self.shared.options.request_timeout);
        let mut place = self.shared.place.lock();
        let had_one = place.wills.remove(&group).is_some();
        let Some(connection) = place.connection.clone().filter(|_| had_one) else { return Ok(()) };
        let sent = connection.send(will_question(group, &[]), deadline);
        drop(place);
        let answered = sent.and_then(|id| connection.receive(id, deadline));
        answered.map(drop).map_err(|no_response| {
            self.leave(&connection);
            unknown(&no_response)
        })
    }

    /// Why the server at hand did not take a will, the newest one that it did not. Its answers are read along with
    /// those to requests, so this is `None` before the first request on the connection has ended.
    pub fn will_refusal(&self) -> Option<ProposeError> {
        let ResponseRecord { code, payload, .. } =
            self.shared.place.lock().connection.as_ref()?.refused()?;
        codec::decode_proposed(code, payload).err()
    }

    fn search<E>(&self, patience: Duration) -> Search<E> {
        let RpcOptions { backoff_min, backoff_max, .. } = self.shared.options;
        Search::new(patience, (backoff_min, backoff_max), self.shared.servers.len())
    }

    pub(crate) fn silence(&self) -> Silence {
        Silence::new(self.shared.options.silence)
    }

    /// The servers it was made with.
    pub fn servers(&self) -> &[String] {
        &self.shared.servers
    }

    fn ask(&self, question: Question<'_>, deadline: Instant) -> Attempt {
        let (connection, id) = match self.send(question, deadline) {
            Ok(sent) => sent,
            Err(attempt) => return attempt,
        };
        match connection.receive(id, deadline) {
            Ok(response) => Attempt::Response(connection, response),
            Err(no_response) => {
                self.leave(&connection);
                Attempt::Lost(no_response)
            }
        }
    }

    fn send(
        &self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<(Arc<Connection>, u64), Attempt> {
        let connection = self.connection(deadline).map_err(Attempt::NotSent)?;
        match connection.send(question, deadline) {
            Ok(id) => Ok((connection, id)),
            Err(no_response) => {
                self.leave(&connection);
                Err(Attempt::Lost(no_response))
            }
        }
    }

    /// The connection at hand, or a new one. After a failure the next one goes to the next server.
    fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, Unreached> {
        let mut place = self.shared.place.lock();
        if let Some(connection) = place.connection.as_ref().filter(|c| !c.is_broken()) {
            return Ok(connection.clone());
        }
        let RpcOptions { request_timeout, connect_timeout, .. } = self.shared.options;
        let left = deadline.saturating_duration_since(Instant::now());
        match place.connect(connect_timeout.min(left), request_timeout) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                place.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let what = Unreached { address: place.address.clone(), why: error.to_string() };
                place.advance(&self.shared.servers);
                Err(what)
            }
        }
    }

    /// Goes on to the next server, unless another thread has done so already.
    fn leave(&self, connection: &Arc<Connection>) {
        self.shared.place.lock().leave(connection, |place| place.advance(&self.shared.servers));
    }

    /// What a refusal says about where to go.
    fn learn(&self, connection: &Arc<Connection>, why: &NotAppended) -> Learned {
        let mut place = self.shared.place.lock();
        match why {
            NotAppended::Busy => Learned::Nothing,
            NotAppended::NotLeader {
                leader: Some(Leader { client_address: Some(address), .. }),
            } => {
                place.leave(connection, |place| place.address.clone_from(address));
                Learned::Leader
            }
            _ => {
                place.leave(connection, |place| place.advance(&self.shared.servers));
                Learned::Nothing
            }
        }
    }
}

impl Place {
    /// A new connection, on which the wills are on their way.
    fn connect(
        &self,
        connect_timeout: Duration,
        write_timeout: Duration,
    ) -> io::Result<Connection> {
        let connection = Connection::open(&self.address, connect_timeout, write_timeout)?;
        let wills = self.wills.iter();
        connection.post(wills.map(|(group, command)| will_question(*group, command)))?;
        Ok(connection)
    }

    fn leave(&mut self, connection: &Arc<Connection>, go_on: impl FnOnce(&mut Self)) {
        if self.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            self.connection = None;
            // Whoever goes on to another server is well, and takes its wills along. Where the connection is broken
            // nobody hears of it.
            let _ = connection.post(self.wills.keys().map(|group| will_question(*group, &[])));
            go_on(self);
        }
    }

    fn advance(&mut self, servers: &[String]) {
        self.connection = None;
        self.turn = (self.turn + 1) % servers.len();
        self.address.clone_from(&servers[self.turn]);
    }
}

fn will_question(group: GroupId, command: &[u8]) -> Question<'_> {
    Question { kind: Kind::Will, group, payload: command }
}

/// A command that no frame takes is not sent at all, so it is surely not applied.
fn check_length(command: &[u8]) -> Result<(), ProposeError> {
    let (bytes, bytes_max) = (command.len(), PAYLOAD_BYTES_MAX);
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(ProposeError::NotAppended(NotAppended::TooLarge { bytes, bytes_max }))
}

fn unknown(no_response: &NoResponse) -> Unknown {
    match no_response {
        NoResponse::Broken(_) => Unknown::Disconnected,
        NoResponse::Timeout => Unknown::Timeout,
    }
}
