//! Puts a state machine of one's own on trial. This bank has a bug; the trial finds it, and says how little
//! it takes:
//! `cargo run --release -p simulator --example bank`.

use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use simulator::world::{Asked, Trial};

/// Four accounts with 100 coins each. Every transfer costs a coin, which goes to the bank.
struct Bank {
    accounts: [u64; 4],
    fees: u64,
}

impl StateMachine for Bank {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        for entry in batch {
            let (from, to) = (entry.data[0] as usize, entry.data[1] as usize);
            let is_covered = self.accounts[from] >= 6;
            if is_covered {
                self.accounts[from] -= 6;
                self.accounts[to] += 5;
                self.fees += 1;
            }
            replies.push(entry.id.index, if is_covered { "done" } else { "not covered" });
        }
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.accounts[request[0] as usize].to_string().into()
    }

    fn capture(&self) -> Box<dyn Capture> {
        // The bug: a snapshot says nothing of the fees.
        Box::new(self.accounts.map(u64::to_le_bytes).concat())
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        for account in &mut self.accounts {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            *account = u64::from_le_bytes(bytes);
        }
        Ok(())
    }
}

fn main() {
    let new_bank = || Bank { accounts: [100; 4], fees: 0 };
    let trial = Trial::new(new_bank, |dice| {
        let (from, to) = (dice.below(4) as u8, dice.below(4) as u8);
        if dice.coin() { Asked::Command(vec![from, to]) } else { Asked::Query(vec![from]) }
    });
    let trial = trial.checking(|bank| match bank.accounts.iter().sum::<u64>() + bank.fees {
        400 => Ok(()),
        coins => Err(format!("there are {coins} coins, and should be 400")),
    });
    for seed in 0..100 {
        let report = trial.run(seed);
        println!("seed {seed}: {} operations", report.counts.acknowledged);
        if let Some(violation) = report.violation {
            println!("the bank is wrong, as seed {seed} shows: {violation}");
            return explain(trial, seed);
        }
    }
    println!("the bank has kept its rule in 100 runs");
    std::process::exit(1);
}

/// Makes the run of a seed small, and tells what happens in it.
fn explain(trial: Trial<Bank>, seed: u64) {
    let shrunk = trial.shrink(seed).expect("what was done breaks the rule again");
    let script = shrunk.script();
    println!("\nit takes no more than this script:\n{script}\nin which this happens:");
    let report = trial.loud(true).replay(&script).expect("it is a script");
    println!("and then: {}", report.violation.expect("the same rule is broken"));
}
