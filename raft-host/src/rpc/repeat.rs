//! Sends a command that may be applied twice, until its end is known.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::types::GroupId;

use super::RpcClient;
use crate::outcome::{NotAppended, ProposeError, Unknown};

/// How long to wait before a command is sent again.
const PAUSE: Duration = Duration::from_millis(5);

/// What the copies of one command came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repeated {
    /// What one copy was replied; `None` if time ran out, or no server would ever take the command.
    pub reply: Option<Bytes>,
    /// A moment before that copy was sent.
    pub sent_at: Instant,
    /// The newest end that left it open whether another copy was applied, or may yet be. What a server said counts for
    /// more than that none said anything.
    pub doubt: Option<Unknown>,
    /// The newest refusal. Such a copy surely is not applied, now or later.
    pub refused: Option<NotAppended>,
}

impl Repeated {
    /// Why there is no reply.
    pub fn error(self) -> ProposeError {
        match (self.doubt, self.refused) {
            (Some(why), _) => ProposeError::Unknown(why),
            (None, Some(why)) => ProposeError::NotAppended(why),
            // Other entries took the place of every copy.
            (None, None) => ProposeError::Superseded,
        }
    }

    fn doubted(&mut self, why: Unknown) {
        let was_said = |why: Unknown| !matches!(why, Unknown::Timeout | Unknown::Disconnected);
        if was_said(why) || !self.doubt.is_some_and(was_said) {
            self.doubt = Some(why);
        }
    }
}

impl RpcClient {
    /// Sends the same command until a copy is answered, or it is this late: for commands that do no harm
    /// if they are applied more than once. Where a server keeps silent, another one is asked.
    pub fn propose_until(&self, group: GroupId, command: &[u8], deadline: Instant) -> Repeated {
        let mut silence = self.silence();
        let mut seen =
            Repeated { reply: None, sent_at: Instant::now(), doubt: None, refused: None };
        loop {
            seen.sent_at = Instant::now();
            match self.propose_within(group, command, silence.within(deadline)) {
                Ok(reply) => return Repeated { reply: Some(reply), ..seen },
                Err(ProposeError::Superseded) => {}
                Err(ProposeError::Unknown(why)) => {
                    if why == Unknown::Timeout {
                        silence.was_too_short();
                    }
                    seen.doubted(why);
                }
                Err(ProposeError::NotAppended(why)) => {
                    let is_final = why.is_final();
                    seen.refused = Some(why);
                    if is_final {
                        return seen;
                    }
                }
            }
            if Instant::now() >= deadline {
                return seen;
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_said_is_told_although_the_last_copy_was_not_answered() {
        let mut seen =
            Repeated { reply: None, sent_at: Instant::now(), doubt: None, refused: None };
        let doubts = [Unknown::Timeout, Unknown::Disconnected, Unknown::Fenced, Unknown::Timeout];
        let told = doubts.map(|why| {
            seen.doubted(why);
            seen.clone().error()
        });
        let expected = [Unknown::Timeout, Unknown::Disconnected, Unknown::Fenced, Unknown::Fenced];
        assert_eq!(told, expected.map(ProposeError::Unknown));
        seen.doubted(Unknown::Patience);
        assert_eq!(seen.error(), ProposeError::Unknown(Unknown::Patience), "the newest one");
    }
}
