//! The model once more, on hashed values: what the search carries out a million times a second.

use super::text::Text;
use crate::history::{Action, Operation, Outcome};

/// What a key has; version 0 and an empty text if it is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) version: u64,
    text: Text,
}

impl State {
    pub(super) const ABSENT: State = State { version: 0, text: Text::EMPTY };

    /// The value, `None` if the key is absent.
    pub(super) fn content(self) -> Option<Text> {
        (self.version > 0).then_some(self.text)
    }

    /// Numbers that stand for the state.
    pub(super) fn words(self) -> [u64; 3] {
        let [bytes, hash] = self.text.words();
        [self.version, bytes, hash]
    }

    /// The same for somebody who sees no versions, but for the one of an absent key.
    pub(super) fn without_version(self) -> Self {
        State { version: self.version.min(1), ..self }
    }

    fn write(self, text: Text) -> Self {
        State { version: self.version + 1, text }
    }
}

/// An operation and what its answer said, `None` where it said nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Get { content: Option<Text>, version: Option<u64> },
    Put { text: Text, version: Option<u64> },
    Append { text: Text, whole: Option<Text>, version: Option<u64> },
    Delete { version: Option<u64> },
    Cas { expect: u64, text: Text, version: Option<u64> },
    Refused { expect: u64, version: u64 },
}

impl Step {
    /// `None` if the operation constrains nothing: a failed one that says nothing, a get that nobody
    /// knows the answer of.
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        let version = operation.result.version;
        let answer = operation.result.value.as_deref().map(Text::of);
        let step = match (operation.outcome, &operation.action) {
            (Outcome::Failed, Action::Cas { expect, .. }) => {
                return version.map(|version| Step::Refused { expect: *expect, version });
            }
            (Outcome::Failed, _) | (Outcome::Unknown, Action::Get) => return None,
            (_, Action::Get) => Step::Get { content: answer, version },
            (_, Action::Put { value }) => Step::Put { text: Text::of(value), version },
            (_, Action::Append { value }) => {
                Step::Append { text: Text::of(value), whole: answer, version }
            }
            (_, Action::Delete) => Step::Delete { version },
            (_, Action::Cas { expect, value }) => {
                Step::Cas { expect: *expect, text: Text::of(value), version }
            }
        };
        Some(step)
    }

    /// The same for a written value that is no part of any value that was read.
    pub(super) fn unseen(self) -> Self {
        match self {
            Step::Put { version, .. } => Step::Put { text: Text::UNSEEN, version },
            Step::Append { whole, version, .. } => {
                Step::Append { text: Text::UNSEEN, whole, version }
            }
            other => other,
        }
    }

    /// The state after it, `None` if it would have been answered differently.
    pub(super) fn apply(self, state: State) -> Option<State> {
        let (after, fits, said) = match self {
            Step::Get { content, version } => {
                return (content == state.content() && version.is_none_or(|v| v == state.version))
                    .then_some(state);
            }
            Step::Refused { expect, version } => {
                return (state.version == version && version != expect).then_some(state);
            }
            Step::Delete { version } => {
                return version.is_none_or(|v| v == state.version).then_some(State::ABSENT);
            }
            Step::Put { text, version } => (state.write(text), true, version),
            Step::Append { text, whole, version } => {
                let after = state.write(state.text.then(text));
                (after, whole.is_none_or(|whole| whole == after.text), version)
            }
            Step::Cas { expect, text, version } => {
                (state.write(text), state.version == expect, version)
            }
        };
        (fits && said.is_none_or(|version| version == after.version)).then_some(after)
    }

    /// Whether it changes nothing in any state that it fits.
    pub(super) fn only_reads(self) -> bool {
        match self {
            Step::Get { .. } | Step::Refused { .. } | Step::Delete { version: Some(0) } => true,
            Step::Put { .. } | Step::Append { .. } | Step::Delete { .. } | Step::Cas { .. } => {
                false
            }
        }
    }

    /// The version that it must find; `None` if it fits any, or none was said.
    pub(super) fn needs_version(self) -> Option<u64> {
        match self {
            Step::Get { version, .. } | Step::Delete { version } => version,
            Step::Cas { expect, .. } => Some(expect),
            Step::Refused { version, .. } => Some(version),
            // Nobody writes version 0: then it needs one that no key ever has.
            Step::Put { version, .. } | Step::Append { version, .. } => {
                version.map(|version| version.checked_sub(1).unwrap_or(u64::MAX))
            }
        }
    }
}
