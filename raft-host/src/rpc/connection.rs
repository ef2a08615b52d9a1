//! A client's connection with one server. It has no thread: whoever waits for a response reads, for
//! itself and for the others, and hands the reading on when its own response is there.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use raft_core::types::GroupId;
use raft_core::wire::Segments;
use raft_transport::tcp::frame::{self, FRAME_BYTES_MAX, FrameKind, FrameReader};

use super::codec::{self, Kind, ResponseRecord};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// The most calls that one connection has open; a further one first waits for a response.
const OPEN_CALLS_MAX: usize = 4096;

/// The id of requests whose responses nobody waits for. Calls have higher ones.
const POSTED_ID: u64 = 0;

/// The largest payload of a call: more does not fit into a frame.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 1 - codec::REQUEST_HEAD_BYTES;

/// What a call is, besides its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) kind: Kind,
    pub(super) group: GroupId,
    pub(super) payload: &'a [u8],
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoResponse {
    /// The connection broke.
    Broken(String),
    /// It did not come in time.
    Timeout,
}

#[derive(Debug)]
enum Open {
    /// Nobody waits for it yet, or this thread does.
    Waiting(Option<Thread>),
    Done(ResponseRecord),
}

#[derive(Debug, Default)]
struct Calls {
    next_id: u64,
    open: HashMap<u64, Open>,
    /// Whether a thread is reading.
    reading: bool,
    broken: Option<String>,
    /// What the server said last about a request that nobody waits for, if that was a refusal.
    refused: Option<ResponseRecord>,
}

#[derive(Debug)]
struct Reading {
    stream: TcpStream,
    frames: FrameReader,
    scratch: Vec<u8>,
    responses: Vec<ResponseRecord>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    writing: Mutex<TcpStream>,
    reading: Mutex<Reading>,
    calls: Mutex<Calls>,
}

impl Connection {
    /// `connect_timeout` is for the connection to stand, `write_timeout` for the server to take a
    /// request: it reads late when it is busy.
    pub(super) fn open(
        address: &str,
        connect_timeout: Duration,
        write_timeout: Duration,
    ) -> io::Result<Self> {
        let shortest = Duration::from_millis(1);
        let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, connect_timeout.max(shortest)) {
                Ok(stream) => return Connection::new(stream, write_timeout.max(shortest)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn new(stream: TcpStream, write_timeout: Duration) -> io::Result<Self> {
        // Frames are whole when they are written: waiting for more would only delay them.
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(write_timeout))?;
        let reading = Reading {
            stream: stream.try_clone()?,
            frames: FrameReader::new(FRAME_BYTES_MAX),
            scratch: vec![0; READ_BYTES],
            responses: Vec::new(),
        };
        Ok(Connection {
            writing: Mutex::new(stream),
            reading: Mutex::new(reading),
            calls: Mutex::default(),
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        self.calls.lock().broken.is_some()
    }

    /// Sends a call and returns its id. With an error the server may have got it all the same.
    pub(super) fn send(
        &self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<u64, NoResponse> {
        self.wait_until(deadline, None, |calls| (calls.open.len() < OPEN_CALLS_MAX).then_some(()))?;
        let id = {
            let mut calls = self.calls.lock();
            calls.next_id += 1;
            let id = calls.next_id;
            calls.open.insert(id, Open::Waiting(None));
            id
        };
        match self.write(&request_frame([question], id)) {
            Ok(()) => Ok(id),
            Err(error) => Err(NoResponse::Broken(error.to_string())),
        }
    }

    /// Sends requests, if there are any, in one frame, for whose responses nobody waits.
    pub(super) fn post<'a>(
        &self,
        questions: impl IntoIterator<Item = Question<'a>>,
    ) -> io::Result<()> {
        let mut questions = questions.into_iter().peekable();
        if questions.peek().is_none() {
            return Ok(());
        }
        self.write(&request_frame(questions, POSTED_ID))
    }

    /// The newest refusal of a request that nobody waits for, among the responses that have been read.
    pub(super) fn refused(&self) -> Option<ResponseRecord> {
        self.calls.lock().refused.clone()
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        let result = self.writing.lock().write_all(frame);
        if let Err(error) = &result {
            // A part of the frame may be out: nothing after it would be understood.
            self.fail(error.to_string());
        }
        result
    }

    /// The response to a call, which is then forgotten, whatever the outcome.
    pub(super) fn receive(&self, id: u64, deadline: Instant) -> Result<ResponseRecord, NoResponse> {
        let result = self.receive_until(id, deadline);
        if result.is_err() {
            self.forget(id);
        }
        result
    }

    /// The same, but a call that is not answered by then is not forgotten.
    pub(super) fn receive_until(
        &self,
        id: u64,
        until: Instant,
    ) -> Result<ResponseRecord, NoResponse> {
        self.wait_until(until, Some(id), |calls| match calls.open.get(&id) {
            Some(Open::Done(_)) => match calls.open.remove(&id) {
                Some(Open::Done(response)) => Some(response),
                _ => None,
            },
            _ => None,
        })
    }

    /// Nobody waits for this call any more.
    pub(super) fn forget(&self, id: u64) {
        self.calls.lock().open.remove(&id);
    }

    /// Reads until `look` finds what it looks for, unless another thread reads already.
    fn wait_until<T>(
        &self,
        deadline: Instant,
        id: Option<u64>,
        mut look: impl FnMut(&mut Calls) -> Option<T>,
    ) -> Result<T, NoResponse> {
        loop {
            let now = Instant::now();
            let mut calls = self.calls.lock();
            if let Some(found) = look(&mut calls) {
                calls.hand_on();
                return Ok(found);
            }
            if let Some(broken) = &calls.broken {
                return Err(NoResponse::Broken(broken.clone()));
            }
            if now >= deadline {
                calls.hand_on();
                return Err(NoResponse::Timeout);
            }
            if calls.reading {
                // A caller without a call of its own looks again soon.
                let patience = match id.and_then(|id| calls.open.get_mut(&id)) {
                    Some(Open::Waiting(thread)) => {
                        *thread = Some(thread::current());
                        deadline - now
                    }
                    _ => Duration::from_millis(1),
                };
                drop(calls);
                thread::park_timeout(patience);
            } else {
                calls.reading = true;
                drop(calls);
                self.read(deadline - now);
            }
        }
    }

    /// Reads once, and delivers what came.
    fn read(&self, patience: Duration) {
        let mut reading = self.reading.lock();
        let result = reading.read(patience);
        let mut responses = std::mem::take(&mut reading.responses);
        let mut calls = self.calls.lock();
        calls.reading = false;
        for response in responses.drain(..) {
            calls.deliver(response);
        }
        reading.responses = responses;
        if let Err(error) = result {
            calls.fail(error);
        }
    }

    fn fail(&self, error: String) {
        self.calls.lock().fail(error);
    }
}

impl Calls {
    fn deliver(&mut self, response: ResponseRecord) {
        if response.id == POSTED_ID {
            if response.code != codec::OK {
                self.refused = Some(response);
            }
            return;
        }
        // A response that nobody waits for any more came too late.
        if let Some(open) = self.open.get_mut(&response.id)
            && let Open::Waiting(Some(thread)) = std::mem::replace(open, Open::Done(response))
        {
            thread.unpark();
        }
    }

    fn fail(&mut self, error: String) {
        self.broken.get_or_insert(error);
        self.open.values().for_each(Open::wake);
    }

    /// Whoever has what it wanted lets another one read.
    fn hand_on(&mut self) {
        let waits = |open: &&Open| matches!(open, Open::Waiting(Some(_)));
        if !self.reading
            && let Some(open) = self.open.values().find(waits)
        {
            open.wake();
        }
    }
}

impl Open {
    fn wake(&self) {
        if let Open::Waiting(Some(thread)) = self {
            thread.unpark();
        }
    }
}

impl Reading {
    fn read(&mut self, patience: Duration) -> Result<(), String> {
        let patience = patience.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        let length = match self.stream.read(&mut self.scratch) {
            Ok(0) => return Err("the server closed the connection".to_owned()),
            Ok(length) => length,
            Err(error) if is_patience(error.kind()) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = &self.scratch[..length];
        while let Some(frame) = self.frames.read(&mut bytes).map_err(|error| error.to_string())? {
            if frame.kind != FrameKind::Opaque {
                return Err(format!("a frame of kind {:?} is no response", frame.kind));
            }
            take_responses(frame.body, &mut self.responses).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn is_patience(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn take_responses(body: Bytes, out: &mut Vec<ResponseRecord>) -> Result<(), codec::BadFrame> {
    let mut records = codec::records(body)?;
    while let Some(response) = codec::next_response(&mut records)? {
        out.push(response);
    }
    Ok(())
}

fn request_frame<'a>(questions: impl IntoIterator<Item = Question<'a>>, id: u64) -> Bytes {
    let mut body = vec![codec::VERSION];
    for Question { kind, group, payload } in questions {
        codec::put_request(kind, group, id, payload, &mut body);
    }
    let mut segments = Segments::new();
    frame::begin(&mut segments);
    segments.share(&body.into());
    frame::seal(FrameKind::Opaque, &mut segments);
    segments.to_bytes()
}
