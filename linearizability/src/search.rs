//! The search for an order of one key's operations: Wing and Gong's, depth first. Whatever is called
//! before the first return that is still to come can be next.
//!
//! Six things keep it from trying what can't matter. If there is an order, there is one left:
//! 1. A set of operations that led to a state is not gone on from twice, nor with more unknown
//!    operations used up for nothing (`tried.rs`).
//! 2. A read that fits is next, with no other try: it changes nothing, and nothing waits for it longer.
//! 3. Of the operations that are due and have the same effect, the one that returns first is tried alone:
//!    in an order that has another one here, the two can change places.
//! 4. A value that is still to be read must not be left, missed or barred for ever (`waiting.rs`).
//! 5. Nor must a version, unless a delete can begin the count again.
//! 6. Unknown operations are tried last, because most of them have done nothing that shows.

use super::part::Part;
use super::state::State;
use super::tried::Tried;
use super::waiting::Waiting;

/// How a search ends.
pub(super) enum End {
    /// With an order that explains every answer: places in `Part::ops`.
    Order(Vec<usize>),
    /// There is none; the order that went furthest.
    Stuck(Vec<usize>),
    /// At its limit.
    OutOfSteps,
}

/// A point of the search: a state, and what can be next there.
struct Node {
    state: State,
    /// What led here; nothing led to the root.
    op: Option<usize>,
    /// Where its tries begin in the common list, and which is the next one.
    start: usize,
    cursor: usize,
}

/// A search, at one node.
pub(super) struct Search<'p, 'a> {
    part: &'p Part<'a>,
    waiting: Waiting<'p, 'a>,
    tried: Tried,
    /// What the nodes on the path can still try; the last node's come last.
    tries: Vec<usize>,
    /// For each effect, the node that met it last, by its number, and where among the tries.
    met: Vec<(u64, usize)>,
    nodes: u64,
    steps: u64,
}

impl<'p, 'a> Search<'p, 'a> {
    pub(super) fn new(part: &'p Part<'a>) -> Self {
        Search {
            part,
            waiting: Waiting::new(part),
            tried: Tried::new(part),
            tries: Vec::new(),
            met: vec![(0, 0); part.effects],
            nodes: 0,
            steps: 0,
        }
    }

    /// How often an operation was looked at.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Searches until there is a decision or the limit is reached.
    pub(super) fn run(&mut self, steps_max: u64) -> End {
        let mut furthest = (usize::MAX, Vec::new());
        let mut path = vec![self.enter(State::ABSENT, None)];
        while self.waiting.definite_count() > 0 {
            if self.steps > steps_max {
                return End::OutOfSteps;
            }
            let Some(node) = path.last_mut() else { return End::Stuck(furthest.1) };
            if let Some(&op) = self.tries.get(node.cursor) {
                node.cursor += 1;
                let before = node.state;
                path.extend(self.attempt(op, before));
                continue;
            }
            if self.waiting.definite_count() < furthest.0 {
                furthest = (self.waiting.definite_count(), order(&path));
            }
            self.leave(path.pop().expect("its last node was there just now"));
        }
        End::Order(order(&path))
    }

    /// Gives an operation the next place, if it fits and leads to something new.
    fn attempt(&mut self, op: usize, before: State) -> Option<Node> {
        self.steps += 1;
        let after = self.part.apply(op, before)?;
        let lost = self.waiting.place(op, before, after);
        self.tried.flip(self.part, op);
        if lost.is_none() && self.tried.is_new(after) {
            return Some(self.enter(after, Some(op)));
        }
        self.take_back(op);
        None
    }

    fn leave(&mut self, node: Node) {
        self.tries.truncate(node.start);
        node.op.into_iter().for_each(|op| self.take_back(op));
    }

    fn take_back(&mut self, op: usize) {
        self.tried.flip(self.part, op);
        self.waiting.take_back(op);
    }

    /// Begins a node: finds what can be next.
    fn enter(&mut self, state: State, op: Option<usize>) -> Node {
        let start = self.tries.len();
        self.nodes += 1;
        let Search { part, waiting, tries, met, steps, .. } = self;
        let mut offer = |op: usize| {
            let this = &part.ops[op];
            let (node, at) = met[this.effect];
            if node < self.nodes {
                met[this.effect] = (self.nodes, tries.len());
                tries.push(op);
            } else if this.return_ns < part.ops[tries[at]].return_ns {
                tries[at] = op;
            }
        };
        let mut only = None;
        let mut first_return_ns = u64::MAX;
        for op in waiting.due() {
            *steps += 1;
            let this = &part.ops[op];
            first_return_ns = first_return_ns.min(this.return_ns);
            if waiting.is_too_late(op, state) {
                only = Some(None);
                break;
            }
            if !this.step.only_reads() {
                offer(op);
            } else if part.apply(op, state).is_some() {
                only = Some(Some(op));
                break;
            }
        }
        if let Some(only) = only {
            tries.truncate(start);
            tries.extend(only);
        } else {
            for op in waiting.unknown(first_return_ns) {
                *steps += 1;
                offer(op);
            }
        }
        Node { state, op, start, cursor: start }
    }
}

fn order(path: &[Node]) -> Vec<usize> {
    path.iter().filter_map(|node| node.op).collect()
}
