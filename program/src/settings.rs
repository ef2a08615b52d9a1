//! What programs are told in the same words.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use raft_host::descriptors;
use serde::Deserialize;

/// The shortest log that may be asked for: with less a member would do little but take snapshots.
const LOG_BYTES_MIN: u64 = 64 << 10;

/// With fewer files than this, a member says at its start that clients will be few.
const FILES_ENOUGH: u64 = 1024;

/// How long a log may be, in bytes; `None` takes no snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Limit")]
pub struct LogLimit(pub Option<u64>);

impl LogLimit {
    fn within(bytes: u64) -> Result<Self, String> {
        match bytes {
            LOG_BYTES_MIN.. => Ok(LogLimit(Some(bytes))),
            _ => Err(format!(
                "a log of {bytes} bytes; at least {LOG_BYTES_MIN} are needed, or `none`"
            )),
        }
    }
}

impl fmt::Display for LogLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for LogLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(LogLimit(None));
        }
        let bytes = text.parse().map_err(|_| "neither a number of bytes nor `none`".to_owned())?;
        LogLimit::within(bytes)
    }
}

/// A number of bytes, or a word.
#[derive(Deserialize)]
#[serde(untagged, expecting = "neither a number of bytes nor `none`")]
enum Limit {
    Bytes(u64),
    Word(String),
}

impl TryFrom<Limit> for LogLimit {
    type Error = String;

    fn try_from(limit: Limit) -> Result<Self, String> {
        match limit {
            Limit::Bytes(bytes) => LogLimit::within(bytes),
            Limit::Word(word) => word.parse(),
        }
    }
}

/// A number of seconds, at most a day.
///
/// # Errors
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration > Duration::from_secs(86_400) {
        return Err("at most a day".to_owned());
    }
    Ok(duration)
}

/// Every client is an open file: raises the limit, and tells `say` where it stays low.
pub fn raise_file_limit(say: impl Fn(&str)) {
    // What can't be raised is lived with: a host lets in as many clients as there are files for.
    let limit = descriptors::raise_limit().unwrap_or_else(|_| descriptors::limit());
    if limit < FILES_ENOUGH {
        say(&format!(
            "at most {limit} files may be open, and every client is one: more clients need a higher limit \
             (ulimit -n)"
        ));
    }
}
