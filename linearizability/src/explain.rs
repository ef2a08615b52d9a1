//! Where a search got stuck, for people.

use super::part::Part;
use super::state::State;
use super::waiting::{Lost, Waiting};
use super::{Stuck, Violation};
use crate::history::model::KeyState;

/// Goes along the order that went furthest, and asks of each operation that is due why it can't be next.
pub(super) fn violation(key: &str, part: &Part<'_>, order: &[usize]) -> Violation {
    let mut waiting = Waiting::new(part);
    let mut hashed = State::ABSENT;
    let mut state = KeyState::default();
    for &op in order {
        let after = part.apply(op, hashed).expect("the search has come along here");
        waiting.place(op, hashed, after);
        hashed = after;
        state.apply(part.ops[op].operation).expect("the search has come along here");
    }
    let stuck = match part.orphan() {
        Some((op, why)) => vec![Stuck { index: op.index, operation: op.operation.clone(), why }],
        None => {
            let due: Vec<usize> = waiting.due().collect();
            due.into_iter().map(|op| explain(&mut waiting, part, op, hashed, &state)).collect()
        }
    };
    Violation {
        key: key.to_owned(),
        state,
        order: order.iter().map(|&op| part.ops[op].index).collect(),
        placed: order.iter().filter(|&&op| part.ops[op].definite).count(),
        needed: part.needed(),
        stuck,
    }
}

fn explain(
    waiting: &mut Waiting<'_, '_>,
    part: &Part<'_>,
    op: usize,
    hashed: State,
    state: &KeyState,
) -> Stuck {
    let this = &part.ops[op];
    let why = match (state.clone().apply(this.operation), part.apply(op, hashed)) {
        (Err(why), _) => why,
        (Ok(()), None) => "it can't be next".to_owned(),
        (Ok(()), Some(after)) => {
            let lost = waiting.place(op, hashed, after);
            let in_need = lost.as_ref().and_then(|lost| waiting.in_need_of(lost));
            waiting.take_back(op);
            match (lost, in_need.map(|op| part.ops[op].index + 1)) {
                (Some(Lost::Value(_)), Some(number)) => {
                    format!("then #{number} could not find its value any more")
                }
                (Some(Lost::Version(version)), Some(number)) => {
                    format!("then #{number} could not find version {version} any more")
                }
                _ => "it fits, but all that may follow leads nowhere".to_owned(),
            }
        }
    };
    Stuck { index: this.index, operation: this.operation.clone(), why }
}
