//! Locks under whole simulated members: whoever looks, at whichever member, sees at most one holder of a
//! token, and queues in the order of asking; and tokens grow.
//! `SEED=42 cargo test -p kv --test locks` replays one.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use kv::lock::{HolderId, LockCommand, LockQuery, LockReply, Token};
use kv::{Command, Locks, Machine, Query, Reply};
use raft_core::types::LogIndex;
use simulator::dice::Dice;
use simulator::world::{Asked, Operation, Outcome, Trial};

/// A claim as some member had it at some time.
#[derive(Clone, Debug)]
struct Claim {
    name: Vec<u8>,
    holder: HolderId,
    lease: LogIndex,
    token: Token,
}

/// What has been seen on all members so far.
#[derive(Default)]
struct Seen {
    /// The newest last. Clients ask about these, so that they often speak of claims and leases that are
    /// over, as deposed leaders and late copies do.
    claims: VecDeque<Claim>,
    /// Whose each token is.
    tokens: BTreeMap<Token, (Vec<u8>, HolderId)>,
}

impl Seen {
    /// Looks at one member's locks, and judges them.
    fn look(&mut self, locks: &Locks) -> Result<(), String> {
        let mut before: Option<(&[u8], LogIndex)> = None;
        for claim in locks.iter() {
            let (name, holder) = (claim.name.to_vec(), claim.holder);
            if let Some((name, since)) = before
                && name == claim.name
                && since >= claim.since
            {
                return Err(format!("{claim:?} came at {} and waits longer", claim.since));
            }
            before = Some((claim.name, claim.since));
            if let Some(token) = claim.token {
                let owner = self.tokens.entry(token).or_insert((name.clone(), holder));
                if *owner != (name.clone(), holder) {
                    return Err(format!("token {token} is {owner:?}'s and {claim:?} has it"));
                }
                if token < claim.since {
                    return Err(format!("{claim:?} is older than its holder"));
                }
            }
            let (lease, token) = (claim.lease, claim.token.unwrap_or(0));
            if self.claims.iter().all(|known| (known.lease, known.token) != (lease, token)) {
                self.claims.push_back(Claim { name, holder, lease, token });
            }
        }
        while self.claims.len() > 16 {
            self.claims.pop_front();
        }
        Ok(())
    }

    fn draw(&self, dice: &mut Dice) -> Asked {
        let name = [b'a' + dice.below(3) as u8];
        let command = match dice.below(20) {
            0 => return Asked::Query(Query::Lock(LockQuery::Look { name: &name }).encode()),
            1 => {
                let list = LockQuery::List { prefix: b"", after: None, limit: 2 };
                return Asked::Query(Query::Lock(list).encode());
            }
            what if what > 8 && !self.claims.is_empty() => {
                let Claim { name, holder, lease, token } =
                    &self.claims[dice.below(self.claims.len() as u64) as usize];
                let (holder, token) = (*holder, *token);
                match what {
                    9..14 => LockCommand::Release { name, holder, token },
                    14..17 => LockCommand::Expire { name, lease: *lease },
                    _ => LockCommand::Renew { name, holder, token },
                }
            }
            _ => {
                let holder = u128::from(dice.below(8));
                let wait = dice.permille(700);
                LockCommand::Acquire { name: &name, holder, owner: b"", lease_ms: 1000, wait }
            }
        };
        Asked::Command(Command::Lock(command).encode())
    }
}

fn trial() -> Trial<Machine> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let drawing = seen.clone();
    Trial::new(Machine::default, move |dice| drawing.borrow().draw(dice))
        .checking(move |machine| seen.borrow_mut().look(machine.locks()))
        .steps(200)
}

/// A client was told that a claim holds a lock.
struct Grant {
    name: Vec<u8>,
    holder: HolderId,
    token: Token,
    called: u64,
    returned: u64,
}

/// How often what was replied.
#[derive(Debug, Default)]
struct Counts {
    granted: u64,
    waited: u64,
    left: u64,
    expired: u64,
    late: u64,
    strangers: u64,
}

fn grants(operations: &[Operation], counts: &mut Counts) -> Vec<Grant> {
    let mut grants = Vec::new();
    for seen in operations {
        let (Asked::Command(asked), Outcome::Done(reply)) = (&seen.asked, &seen.outcome) else {
            continue;
        };
        let (Ok(Command::Lock(command)), Ok(Reply::Lock(reply))) =
            (Command::decode(asked), Reply::decode(reply))
        else {
            panic!("{seen:?}");
        };
        match (command, reply) {
            (
                LockCommand::Acquire { name, holder, .. } | LockCommand::Renew { name, holder, .. },
                LockReply::Granted { token },
            ) => {
                counts.granted += 1;
                let (name, called) = (name.to_vec(), seen.called);
                let returned = seen.returned.expect("it is done");
                grants.push(Grant { name, holder, token, called, returned });
            }
            (_, LockReply::Waiting { .. }) => counts.waited += 1,
            (_, LockReply::Left(_)) => counts.left += 1,
            (_, LockReply::Expired) => counts.expired += 1,
            (_, LockReply::Late) => counts.late += 1,
            (_, LockReply::NotHolder { .. }) => counts.strangers += 1,
            _ => {}
        }
    }
    grants
}

/// What clients saw, judged by their own times alone.
fn judge(grants: &[Grant]) -> Result<(), String> {
    for earlier in grants {
        for later in grants.iter().filter(|later| later.name == earlier.name) {
            let (first, second) = (earlier.token, later.token);
            if first == second && earlier.holder != later.holder {
                return Err(format!("{} and {} hold token {first}", earlier.holder, later.holder));
            }
            if earlier.returned < later.called && second < first {
                return Err(format!("token {second} was granted after {first} had been"));
            }
        }
    }
    Ok(())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_lock_has_one_holder_and_tokens_grow_whatever_happens_to_its_members() {
    let seed = from_environment("SEED");
    let first = seed.or_else(|| from_environment("FIRST")).unwrap_or(0);
    let seeds = if seed.is_some() { 1 } else { from_environment("SEEDS").unwrap_or(20) };
    let (mut counts, mut acknowledged) = (Counts::default(), 0);
    for seed in first..first + seeds {
        let report = trial().run(seed);
        assert_eq!(report.violation, None, "SEED={seed}");
        acknowledged += report.counts.acknowledged;
        let grants = grants(&report.operations, &mut counts);
        judge(&grants).unwrap_or_else(|what| panic!("SEED={seed}: {what}"));
    }
    println!("{seeds} seeds: {acknowledged} acknowledged, {counts:?}");
    let Counts { granted, waited, left, expired, late, strangers } = counts;
    assert!(acknowledged > 30 * seeds && granted > 5 * seeds, "vacuous: {granted} grants");
    let fewest = waited.min(left).min(expired).min(late).min(strangers);
    assert!(fewest >= seeds, "vacuous: one of these happened {fewest} times");
}
