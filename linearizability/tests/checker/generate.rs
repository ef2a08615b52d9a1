//! Histories that are linearizable because they were made so: each operation takes effect at one moment
//! between its call and its return, in one sequential run of the model.

use std::collections::BTreeMap;

use linearizability::history::model::{KeyState, Reply};
use linearizability::history::{Action, Answer, History, Operation, Outcome};
use simulator::dice::Dice;

/// What a history looks like. Chances are of a thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many operations.
    pub(crate) operations: usize,
    /// How many clients, at least 1. Each has one operation under way, so this bounds what overlaps,
    /// but for operations with an unknown outcome, which may take effect much later.
    pub(crate) clients: u64,
    /// How many keys, at least 1.
    pub(crate) keys: u64,
    /// Reads.
    pub(crate) get_permille: u32,
    /// Of the others: appends.
    pub(crate) append_permille: u32,
    /// Of the others: deletes.
    pub(crate) delete_permille: u32,
    /// Of the others: compare-and-sets. What remains are puts.
    pub(crate) cas_permille: u32,
    /// Operations whose client is not answered. Half of them take effect.
    pub(crate) unknown_permille: u32,
    /// Operations that fail without effect.
    pub(crate) failed_permille: u32,
    /// Whether answers say versions.
    pub(crate) versions: bool,
    /// How many different values there are; 0: no value is written twice.
    pub(crate) values: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            operations: 1000,
            clients: 16,
            keys: 10,
            get_permille: 500,
            append_permille: 200,
            delete_permille: 50,
            cas_permille: 200,
            unknown_permille: 20,
            failed_permille: 20,
            versions: true,
            values: 0,
        }
    }
}

/// The longest time from call to effect, from effect to return, and between two operations of a client.
const DELAY_NS_MAX: u64 = 1000;

/// A client that is not answered takes its operation for effective this long after its call.
const LATE_NS_MAX: u64 = 20 * DELAY_NS_MAX;

/// The same seed and shape give the same history. Its operations are in the order of their calls.
pub(crate) fn generate(seed: u64, shape: &Shape) -> History {
    let mut dice = Dice::new(seed, "history");
    let mut plans = plan(&mut dice, shape);
    plans.sort_by_key(|plan| plan.effect_ns);
    let mut keys: BTreeMap<String, KeyState> = BTreeMap::new();
    for plan in &mut plans {
        let state = keys.entry(plan.operation.key.clone()).or_default();
        take_effect(&mut dice, shape, plan, state);
    }
    let mut operations: Vec<Operation> = plans.into_iter().map(|plan| plan.operation).collect();
    operations.sort_by_key(|operation| operation.call_ns);
    let mut history = History::new();
    for operation in operations {
        history.push(operation).expect("the model gives no impossible answers");
    }
    history
}

/// An operation, and when it takes effect, if it does.
struct Plan {
    operation: Operation,
    effect_ns: u64,
    returns_ns: u64,
}

/// Who calls what, and when.
fn plan(dice: &mut Dice, shape: &Shape) -> Vec<Plan> {
    let mut free_ns = vec![0; shape.clients as usize];
    let mut plans = Vec::with_capacity(shape.operations);
    for number in 0..shape.operations {
        let client = number % free_ns.len();
        let call_ns = free_ns[client] + dice.below(DELAY_NS_MAX);
        let key = format!("k{}", dice.below(shape.keys));
        let action = pick_action(dice, shape, number);
        let mut operation = Operation::new(client as u64, key, action, call_ns);
        let mut effect_ns = call_ns + dice.below(DELAY_NS_MAX);
        let returns_ns = effect_ns + dice.below(DELAY_NS_MAX);
        if dice.permille(shape.failed_permille) {
            operation.outcome = Outcome::Failed;
        } else if dice.permille(shape.unknown_permille) {
            effect_ns = call_ns + dice.below(LATE_NS_MAX);
        } else {
            operation.outcome = Outcome::Ok;
        }
        free_ns[client] = returns_ns + 1;
        plans.push(Plan { operation, effect_ns, returns_ns });
    }
    plans
}

fn pick_action(dice: &mut Dice, shape: &Shape, number: usize) -> Action {
    let value = match shape.values {
        0 => format!("v{number};"),
        values => format!("{}", dice.below(values)),
    };
    if dice.permille(shape.get_permille) {
        Action::Get
    } else if dice.permille(shape.append_permille) {
        Action::append(value)
    } else if dice.permille(shape.delete_permille) {
        Action::Delete
    } else if dice.permille(shape.cas_permille) {
        // Which version is expected is decided when it takes effect; a client guesses less well.
        Action::cas(0, value)
    } else {
        Action::put(value)
    }
}

fn take_effect(dice: &mut Dice, shape: &Shape, plan: &mut Plan, state: &mut KeyState) {
    let operation = &mut plan.operation;
    if let Action::Cas { expect, .. } = &mut operation.action {
        *expect = if dice.coin() { state.version } else { dice.below(state.version + 2) };
    }
    if operation.outcome == Outcome::Unknown {
        if dice.coin() {
            state.execute(&operation.action);
        }
        return;
    }
    operation.return_ns = Some(plan.returns_ns);
    if operation.outcome == Outcome::Failed {
        operation.error = Some("busy".to_owned());
        return;
    }
    match state.execute(&operation.action) {
        Reply::Done(mut answer) => {
            // An append may say what it left; mostly it does not.
            if matches!(operation.action, Action::Append { .. }) && !dice.permille(100) {
                answer.value = None;
            }
            answer.version = answer.version.filter(|_| shape.versions);
            operation.result = answer;
        }
        Reply::Refused { version } => {
            operation.outcome = Outcome::Failed;
            operation.result = Answer::version(version);
            operation.error = Some("version".to_owned());
        }
    }
}
