//! The labs' GenericTest: clerks ask for some time, on a network that loses or not, while servers are
//! partitioned or not; then all of them lose power or not, and everything is looked at; several times.

use simulator::dice::Dice;
use simulator::world::Served;

use crate::lab::{ELECTION_MAX, Lab, MILLISECOND, SECOND, seeds};
use crate::store::{ANSWER_MAX, Ask, Done, Replicated, Store, trial};

/// What the clerks of a test ask for, and what must come of it.
pub(crate) trait Work {
    /// A clerk of the right kind.
    fn clerk<S: Served>(&mut self, store: &mut Store<S>);
    /// What this clerk asks for next.
    fn next(&mut self, clerk: usize, dice: &mut Dice) -> Ask;
    /// What came of it.
    fn done(&mut self, done: &Done);
    /// Nobody asks for anything now.
    fn check<S: Served>(&mut self, store: &mut Store<S>);
}

/// Which of the faults there are.
#[derive(Clone, Copy)]
pub(crate) struct Generic {
    pub(crate) clerks: usize,
    pub(crate) servers: u64,
    pub(crate) is_unreliable: bool,
    pub(crate) restarts: bool,
    pub(crate) partitions: bool,
    /// The labs' maxraftstate.
    pub(crate) log_bytes_max: Option<u64>,
    /// How long the clerks ask, each of three times.
    pub(crate) duration: u64,
    /// Between two things that a clerk asks for: the labs' clerks don't pause.
    pub(crate) pause: (u64, u64),
}

/// Five servers and nothing goes wrong.
pub(crate) const CALM: Generic = Generic {
    clerks: 1,
    servers: 5,
    is_unreliable: false,
    restarts: false,
    partitions: false,
    log_bytes_max: None,
    duration: SECOND,
    pause: (1, 10 * MILLISECOND),
};

impl Generic {
    /// Runs it with several seeds; answers how many things were asked and done.
    pub(crate) fn run<W: Work>(&self, work: impl Fn(u64) -> W) {
        let mut done = 0;
        for seed in seeds(3) {
            println!("SEED={seed}");
            done += self.run_seed(seed, &mut work(seed));
        }
        println!("{done} operations");
    }

    fn run_seed(&self, seed: u64, work: &mut impl Work) -> u64 {
        let trial = trial();
        let mut store = Store::new(Lab::new(&trial, self.servers, seed, self.log_bytes_max));
        (0..self.clerks).for_each(|_| work.clerk(&mut store));
        if self.is_unreliable {
            store.lab.unreliable();
        }
        let mut done = 0;
        for _ in 0..3 {
            done += self.ask(&mut store, work);
            if self.restarts {
                store.lab.crash_all();
                store.lab.run_for(SECOND);
                store.lab.start_all();
            }
            work.check(&mut store);
            self.check_sizes(&store);
        }
        store.finish();
        done
    }

    /// All clerks ask, for the given time and until everything has ended.
    fn ask(&self, store: &mut Replicated<'_>, work: &mut impl Work) -> u64 {
        let mut done = 0;
        let mut dice = Dice::new(store.lab.dice.number(), "clerks");
        for clerk in 0..self.clerks {
            store.begin(
                clerk,
                work.next(clerk, &mut dice),
                dice.between(self.pause.0, self.pause.1),
            );
        }
        let end = store.lab.stage.now() + self.duration;
        let mut cut_at = if self.partitions { store.lab.stage.now() } else { u64::MAX };
        while store.lab.stage.now() < end {
            if store.lab.stage.now() >= cut_at {
                store.lab.partition_somehow();
                cut_at += SECOND + store.lab.dice.below(200 * MILLISECOND);
            }
            let within = cut_at.min(end) - store.lab.stage.now();
            if let Some(over) = store.next(within) {
                done += 1;
                work.done(&over);
                let pause = dice.between(self.pause.0, self.pause.1);
                store.begin(over.clerk, work.next(over.clerk, &mut dice), pause);
            }
        }
        store.lab.act("heal");
        if self.partitions {
            store.lab.run_for(ELECTION_MAX);
        }
        while !store.is_idle() {
            work.done(&store.next(ANSWER_MAX).expect("all is healed, so every clerk is answered"));
            done += 1;
        }
        assert!(done > self.clerks as u64, "vacuous: {done} operations");
        done
    }

    fn check_sizes(&self, store: &Replicated<'_>) {
        let (state, snapshot) = (store.lab.state_bytes(), store.lab.snapshot_bytes());
        match self.log_bytes_max {
            Some(limit) => {
                assert!(state <= 8 * limit, "{state} B of state, with a limit of {limit} B");
                assert!(snapshot > 0, "no snapshot was taken");
            }
            None => assert_eq!(snapshot, 0, "bytes of a snapshot"),
        }
    }
}

/// All clerks ask one thing after the other for so long, and until everything has ended. Answers how many were done.
pub(crate) fn ask_for<S: Served>(
    store: &mut Store<S>,
    work: &mut impl Work,
    clerks: usize,
    duration: u64,
) -> u64 {
    let mut dice = Dice::new(store.lab.dice.number(), "clerks");
    for clerk in 0..clerks {
        store.begin(clerk, work.next(clerk, &mut dice), 1);
    }
    let end = store.lab.stage.now() + duration;
    let mut done = 0;
    while !store.is_idle() {
        let over = store.next(ANSWER_MAX).expect("every clerk is answered");
        work.done(&over);
        done += 1;
        if store.lab.stage.now() < end {
            store.begin(over.clerk, work.next(over.clerk, &mut dice), MILLISECOND);
        }
    }
    done
}
