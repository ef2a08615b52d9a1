//! Requests and responses of clients <-> bytes. All numbers are little-endian.
//!
//! ```text
//! frame of requests:   version u8, then any number of: kind u8, group u64, id u64, length u32, bytes
//! frame of responses:  version u8, then any number of: id u64, code u8, length u32, bytes
//! ```
//! A client chooses the ids; a response carries the id of its request.

use bytes::{Buf, Bytes};

use crate::outcome::{
    Leader, NotAppended, ProposeError, ProposeResult, QueryError, QueryResult, Unknown,
};

/// The layout that this version reads and writes.
pub(crate) const VERSION: u8 = 1;

/// Bytes of a request besides its payload.
pub(crate) const REQUEST_HEAD_BYTES: usize = 21;

/// Bytes of a response besides its payload.
pub(crate) const RESPONSE_HEAD_BYTES: usize = 13;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Propose,
    Query,
    Status,
    /// Leaves a command that is to be proposed when the connection closes.
    Will,
}

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestRecord {
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) id: u64,
    pub(crate) payload: Bytes,
}

/// One response, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseRecord {
    pub(crate) id: u64,
    pub(crate) code: u8,
    pub(crate) payload: Bytes,
}

/// Bytes that are no frame of requests or responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("version {0} of the protocol is not known")]
    Version(u8),
    #[error("a request of kind {0} is not known")]
    Kind(u8),
    #[error("a record reaches beyond its frame")]
    Cut,
}

pub(crate) fn put_request(kind: Kind, group: u64, id: u64, payload: &[u8], out: &mut Vec<u8>) {
    let kind = match kind {
        Kind::Propose => 1,
        Kind::Query => 2,
        Kind::Status => 3,
        Kind::Will => 4,
    };
    out.push(kind);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    put_payload(payload, out);
}

pub(crate) fn put_response(id: u64, code: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&id.to_le_bytes());
    out.push(code);
    put_payload(payload, out);
}

fn put_payload(payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("no frame has 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Checks the version of a frame, and leaves its records.
pub(crate) fn records(mut body: Bytes) -> Result<Bytes, BadFrame> {
    match body.try_get_u8() {
        Ok(VERSION) => Ok(body),
        Ok(version) => Err(BadFrame::Version(version)),
        Err(_) => Err(BadFrame::Cut),
    }
}

/// Takes the next request off the records of a frame.
pub(crate) fn next_request(records: &mut Bytes) -> Result<Option<RequestRecord>, BadFrame> {
    if records.is_empty() {
        return Ok(None);
    }
    if records.len() < REQUEST_HEAD_BYTES {
        return Err(BadFrame::Cut);
    }
    let kind = match records.get_u8() {
        1 => Kind::Propose,
        2 => Kind::Query,
        3 => Kind::Status,
        4 => Kind::Will,
        other => return Err(BadFrame::Kind(other)),
    };
    let (group, id) = (records.get_u64_le(), records.get_u64_le());
    let payload = take_payload(records)?;
    Ok(Some(RequestRecord { kind, group, id, payload }))
}

/// Takes the next response off the records of a frame.
pub(crate) fn next_response(records: &mut Bytes) -> Result<Option<ResponseRecord>, BadFrame> {
    if records.is_empty() {
        return Ok(None);
    }
    if records.len() < RESPONSE_HEAD_BYTES {
        return Err(BadFrame::Cut);
    }
    let (id, code) = (records.get_u64_le(), records.get_u8());
    let payload = take_payload(records)?;
    Ok(Some(ResponseRecord { id, code, payload }))
}

fn take_payload(records: &mut Bytes) -> Result<Bytes, BadFrame> {
    let length = records.get_u32_le() as usize;
    if length > records.len() {
        return Err(BadFrame::Cut);
    }
    Ok(records.split_to(length))
}

/// The code of a response that has what was asked for.
pub(crate) const OK: u8 = 0;
const NOT_LEADER: u8 = 1;
const BUSY: u8 = 2;
const TOO_LARGE: u8 = 3;
const LOG_FULL: u8 = 4;
const FENCED: u8 = 5;
const BUG: u8 = 6;
const SHUTDOWN: u8 = 7;
const NO_SUCH_GROUP: u8 = 8;
const TOO_MANY_WILLS: u8 = 9;
const SUPERSEDED: u8 = 16;
const UNKNOWN_SNAPSHOT: u8 = 32;
const UNKNOWN_FENCED: u8 = 33;
const UNKNOWN_SHUTDOWN: u8 = 34;
const UNKNOWN_PATIENCE: u8 = 35;
const UNKNOWN_BUG: u8 = 36;
const UNKNOWN_REPLY_TOO_LARGE: u8 = 37;
const NO_LEADER: u8 = 48;
const LEADER_CHANGED: u8 = 49;
const READ_PATIENCE: u8 = 50;
const ANSWER_TOO_LARGE: u8 = 51;

/// A proposal's end, or that of leaving a will, as a response's code and payload.
pub(crate) fn encode_proposed(end: &ProposeResult) -> (u8, Bytes) {
    let plain = |code| (code, Bytes::new());
    match end {
        Ok(reply) => (OK, reply.clone()),
        Err(ProposeError::Superseded) => plain(SUPERSEDED),
        Err(ProposeError::Unknown(why)) => plain(match why {
            Unknown::Snapshot => UNKNOWN_SNAPSHOT,
            Unknown::Fenced => UNKNOWN_FENCED,
            Unknown::Shutdown => UNKNOWN_SHUTDOWN,
            Unknown::Bug => UNKNOWN_BUG,
            Unknown::ReplyTooLarge => UNKNOWN_REPLY_TOO_LARGE,
            // A server has no other reasons.
            Unknown::Patience | Unknown::Disconnected | Unknown::Timeout => UNKNOWN_PATIENCE,
        }),
        Err(ProposeError::NotAppended(why)) => match why {
            NotAppended::NotLeader { leader } => (NOT_LEADER, leader_bytes(leader.as_ref())),
            NotAppended::Busy => plain(BUSY),
            NotAppended::TooLarge { bytes, bytes_max } => (TOO_LARGE, two(*bytes, *bytes_max)),
            NotAppended::LogFull => plain(LOG_FULL),
            NotAppended::Fenced => plain(FENCED),
            NotAppended::Bug => plain(BUG),
            NotAppended::Shutdown | NotAppended::Unreachable(_) => plain(SHUTDOWN),
            NotAppended::NoSuchGroup { group } => (NO_SUCH_GROUP, one(*group)),
            NotAppended::TooManyWills { wills_max } => (TOO_MANY_WILLS, one(*wills_max as u64)),
        },
    }
}

/// A query's end as a response's code and payload.
pub(crate) fn encode_queried(end: &QueryResult) -> (u8, Bytes) {
    let code = match end {
        Ok(answer) => return (OK, answer.clone()),
        Err(QueryError::NoSuchGroup { group }) => return (NO_SUCH_GROUP, one(*group)),
        Err(QueryError::NoLeader) => NO_LEADER,
        Err(QueryError::LeaderChanged) => LEADER_CHANGED,
        Err(QueryError::Busy) => BUSY,
        Err(QueryError::Fenced) => FENCED,
        Err(QueryError::Bug) => BUG,
        Err(QueryError::Shutdown | QueryError::Unreachable(_)) => SHUTDOWN,
        Err(QueryError::AnswerTooLarge) => ANSWER_TOO_LARGE,
        Err(QueryError::Patience | QueryError::Timeout) => READ_PATIENCE,
    };
    (code, Bytes::new())
}

/// What a response says about a proposal, or a will that was left. A code that we don't know says nothing for sure.
pub(crate) fn decode_proposed(code: u8, mut payload: Bytes) -> ProposeResult {
    let unknown = |why| Err(ProposeError::Unknown(why));
    let not = |why| Err(ProposeError::NotAppended(why));
    match code {
        OK => Ok(payload),
        SUPERSEDED => Err(ProposeError::Superseded),
        NOT_LEADER => not(NotAppended::NotLeader { leader: leader_of(payload) }),
        BUSY => not(NotAppended::Busy),
        TOO_LARGE => {
            let bytes = payload.try_get_u64_le().unwrap_or(0) as usize;
            let bytes_max = payload.try_get_u64_le().unwrap_or(0) as usize;
            not(NotAppended::TooLarge { bytes, bytes_max })
        }
        LOG_FULL => not(NotAppended::LogFull),
        FENCED => not(NotAppended::Fenced),
        BUG => not(NotAppended::Bug),
        SHUTDOWN => not(NotAppended::Shutdown),
        NO_SUCH_GROUP => {
            not(NotAppended::NoSuchGroup { group: payload.try_get_u64_le().unwrap_or(0) })
        }
        TOO_MANY_WILLS => {
            let wills_max = payload.try_get_u64_le().unwrap_or(0) as usize;
            not(NotAppended::TooManyWills { wills_max })
        }
        UNKNOWN_SNAPSHOT => unknown(Unknown::Snapshot),
        UNKNOWN_FENCED => unknown(Unknown::Fenced),
        UNKNOWN_SHUTDOWN => unknown(Unknown::Shutdown),
        UNKNOWN_BUG => unknown(Unknown::Bug),
        UNKNOWN_REPLY_TOO_LARGE => unknown(Unknown::ReplyTooLarge),
        _ => unknown(Unknown::Patience),
    }
}

/// What a response says about a query.
pub(crate) fn decode_queried(code: u8, mut payload: Bytes) -> QueryResult {
    Err(match code {
        OK => return Ok(payload),
        NO_LEADER | NOT_LEADER => QueryError::NoLeader,
        LEADER_CHANGED => QueryError::LeaderChanged,
        BUSY => QueryError::Busy,
        FENCED => QueryError::Fenced,
        BUG => QueryError::Bug,
        SHUTDOWN => QueryError::Shutdown,
        NO_SUCH_GROUP => QueryError::NoSuchGroup { group: payload.try_get_u64_le().unwrap_or(0) },
        ANSWER_TOO_LARGE => QueryError::AnswerTooLarge,
        _ => QueryError::Patience,
    })
}

fn one(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

fn two(a: usize, b: usize) -> Bytes {
    [a as u64, b as u64].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The leader's node, 0 for none, then its address for clients, empty for none.
fn leader_bytes(leader: Option<&Leader>) -> Bytes {
    let Some(Leader { node, client_address }) = leader else { return Bytes::new() };
    let address = client_address.as_deref().unwrap_or_default();
    node.to_le_bytes().into_iter().chain(address.bytes()).collect()
}

fn leader_of(mut payload: Bytes) -> Option<Leader> {
    let node = payload.try_get_u64_le().ok().filter(|node| *node != 0)?;
    let address = String::from_utf8(payload.to_vec()).ok().filter(|address| !address.is_empty());
    Some(Leader { node, client_address: address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_come_back() {
        let mut out = vec![VERSION];
        put_request(Kind::Propose, 7, 1, b"one", &mut out);
        put_request(Kind::Query, 8, u64::MAX, b"", &mut out);
        put_request(Kind::Status, 0, 3, b"x", &mut out);
        put_request(Kind::Will, 9, 4, b"last", &mut out);
        let mut rest = records(out.into()).unwrap();
        let mut next = || next_request(&mut rest).unwrap();
        let first = next().unwrap();
        assert_eq!(
            (first.kind, first.group, first.id, &first.payload[..]),
            (Kind::Propose, 7, 1, &b"one"[..])
        );
        let second = next().unwrap();
        assert_eq!((second.kind, second.group, second.id), (Kind::Query, 8, u64::MAX));
        assert_eq!(next().unwrap().kind, Kind::Status);
        let last = next().unwrap();
        assert_eq!((last.kind, last.group, &last.payload[..]), (Kind::Will, 9, &b"last"[..]));
        assert_eq!(next(), None);

        let mut out = vec![VERSION];
        put_response(9, OK, b"reply", &mut out);
        let mut rest = records(out.into()).unwrap();
        let response = next_response(&mut rest).unwrap().unwrap();
        assert_eq!((response.id, response.code, &response.payload[..]), (9, OK, &b"reply"[..]));
        assert_eq!(next_response(&mut rest).unwrap(), None);
    }

    #[test]
    fn frames_cut_anywhere_are_refused() {
        let mut out = vec![VERSION];
        put_request(Kind::Propose, 7, 1, b"one", &mut out);
        for length in 2..out.len() {
            let mut rest = records(Bytes::copy_from_slice(&out[..length])).unwrap();
            assert_eq!(next_request(&mut rest), Err(BadFrame::Cut), "cut at {length}");
        }
        let mut out = vec![VERSION];
        put_response(9, OK, b"reply", &mut out);
        for length in 2..out.len() {
            let mut rest = records(Bytes::copy_from_slice(&out[..length])).unwrap();
            assert_eq!(next_response(&mut rest), Err(BadFrame::Cut), "cut at {length}");
        }
        assert_eq!(records(Bytes::new()), Err(BadFrame::Cut));
        assert_eq!(records(Bytes::from_static(&[9])), Err(BadFrame::Version(9)));
    }

    #[test]
    fn every_end_comes_back() {
        let leader = Leader { node: 3, client_address: Some("127.0.0.1:80".into()) };
        let not = |why| Err(ProposeError::NotAppended(why));
        let unknown = |why| Err(ProposeError::Unknown(why));
        let ends: Vec<ProposeResult> = vec![
            Ok(Bytes::from_static(b"reply")),
            not(NotAppended::NotLeader { leader: Some(leader) }),
            not(NotAppended::NotLeader { leader: Some(Leader { node: 3, client_address: None }) }),
            not(NotAppended::NotLeader { leader: None }),
            not(NotAppended::Busy),
            not(NotAppended::TooLarge { bytes: 9, bytes_max: 5 }),
            not(NotAppended::LogFull),
            not(NotAppended::Fenced),
            not(NotAppended::Bug),
            not(NotAppended::Shutdown),
            not(NotAppended::NoSuchGroup { group: 4 }),
            not(NotAppended::TooManyWills { wills_max: 4 }),
            Err(ProposeError::Superseded),
            unknown(Unknown::Snapshot),
            unknown(Unknown::Fenced),
            unknown(Unknown::Shutdown),
            unknown(Unknown::Patience),
            unknown(Unknown::Bug),
            unknown(Unknown::ReplyTooLarge),
        ];
        for end in ends {
            let (code, payload) = encode_proposed(&end);
            assert_eq!(decode_proposed(code, payload), end);
        }
        let ends: Vec<QueryResult> = vec![
            Ok(Bytes::from_static(b"answer")),
            Err(QueryError::NoLeader),
            Err(QueryError::LeaderChanged),
            Err(QueryError::Patience),
            Err(QueryError::Busy),
            Err(QueryError::Fenced),
            Err(QueryError::Bug),
            Err(QueryError::Shutdown),
            Err(QueryError::NoSuchGroup { group: 4 }),
            Err(QueryError::AnswerTooLarge),
        ];
        for end in ends {
            let (code, payload) = encode_queried(&end);
            assert_eq!(decode_queried(code, payload), end);
        }
    }
}
