//! What a guarded resource does about holders who come late.

use kv::lock::Token;

/// Remembers the highest token that it has seen, and refuses lower ones.
///
/// It belongs to where the work is done, beside what it protects, and is as durable: a disk that keeps
/// what was written keeps the token as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    newest: Token,
}

/// The holder of this token has lost the lock: a later one has been here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token {token} is stale: {newest} has been here")]
pub struct StaleToken {
    /// The token that came.
    pub token: Token,
    /// The highest that has been seen.
    pub newest: Token,
}

impl Fence {
    /// A fence that has seen this token.
    pub fn at(newest: Token) -> Self {
        Fence { newest }
    }

    /// Lets the holder of this token in, and from then on none of an earlier one.
    ///
    /// # Errors
    /// [`StaleToken`], if a later holder has been let in.
    pub fn admit(&mut self, token: Token) -> Result<(), StaleToken> {
        let newest = self.newest;
        if token < newest {
            return Err(StaleToken { token, newest });
        }
        self.newest = token;
        Ok(())
    }

    /// The highest token that it has let in; 0 before the first one.
    pub fn newest(&self) -> Token {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_token_is_refused_from_the_first_higher_one_on() {
        let mut fence = Fence::default();
        for token in [3, 3, 7, 7] {
            assert_eq!(fence.admit(token), Ok(()));
        }
        assert_eq!(fence.admit(3), Err(StaleToken { token: 3, newest: 7 }));
        assert_eq!(fence.newest(), 7);
        assert!(Fence::at(9).admit(8).is_err());
    }
}
