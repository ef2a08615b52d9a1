//! Lab 3C: a network that loses, delays and reorders.

use raft_core::types::LogIndex;

use crate::lab::{Accepted, Lab, MILLISECOND, SECOND};

/// TestUnreliableAgree3C.
#[test]
fn five_commands_at_a_time_are_agreed_on_over_a_lossy_network() {
    let mut lab = Lab::new(5);
    lab.unreliable();
    for _ in 0..49 {
        agree_on_five(&mut lab);
    }
    lab.reliable();
    lab.agree_all();
}

/// Five clients, each of which retries after 2 s; all must be done after 10 s.
fn agree_on_five(lab: &mut Lab) {
    let end = lab.cluster.now() + 10 * SECOND;
    let mut clients: [Option<(u64, Accepted)>; 5] = Default::default();
    loop {
        let mut is_done = true;
        for client in &mut clients {
            let now = lab.cluster.now();
            if client.as_ref().is_some_and(|(_, accepted)| lab.holding(accepted) > 0) {
                continue;
            }
            is_done = false;
            if client.as_ref().is_none_or(|(since, _)| now >= since + 2 * SECOND) {
                *client = lab.propose_somewhere(&mut Lab::command).map(|accepted| (now, accepted));
            }
        }
        if is_done {
            return;
        }
        assert!(lab.cluster.now() < end, "no agreement in 10 s\n{}", lab.cluster.summary());
        lab.run_for(MILLISECOND);
    }
}

/// TestFigure8Unreliable3C: 1000 times a command for everybody, and the leader may be cut off.
#[test]
fn replies_seconds_late_undo_nothing_and_stop_nothing() {
    for mut lab in [Lab::new(5), Lab::without_noop(5)] {
        figure_8(&mut lab);
    }
}

fn figure_8(lab: &mut Lab) {
    lab.unreliable();
    lab.agree(1);
    let mut cuts = 0;
    for iteration in 0..1000 {
        if iteration == 200 {
            lab.long_reordering();
        }
        let mut leader = None;
        for node in lab.nodes() {
            if lab.propose(node).is_some() && lab.is_connected(node) {
                leader = Some(node);
            }
        }
        let longest = if lab.dice.permille(100) { 500 } else { 13 };
        let pause = lab.dice.below(longest) * MILLISECOND;
        lab.run_for(pause);
        if let Some(leader) = leader
            && lab.dice.coin()
        {
            lab.disconnect(leader);
            cuts += 1;
        }
        let connected = lab.nodes().into_iter().filter(|node| lab.is_connected(*node)).count();
        if connected < 3 {
            let node = lab.anybody();
            lab.connect(node);
        }
    }
    assert!(cuts > 5, "vacuous: {cuts} cuts");
    for node in lab.nodes() {
        lab.connect(node);
    }
    lab.agree_all();
}

/// TestReliableChurn3C.
#[test]
fn what_clients_saw_committed_survives_churn() {
    for mut lab in [Lab::new(5), Lab::without_noop(5)] {
        churn(&mut lab);
    }
}

/// TestUnreliableChurn3C.
#[test]
fn what_clients_saw_committed_survives_churn_over_a_lossy_network() {
    for mut lab in [Lab::new(5), Lab::without_noop(5)] {
        lab.unreliable();
        churn(&mut lab);
    }
}

/// A client that proposes everywhere, and waits a while for the last one accepted.
#[derive(Default)]
struct Client {
    number: u64,
    next_at: u64,
    waits_for: Option<Accepted>,
    patience: usize,
    saw: Vec<Accepted>,
}

impl Client {
    fn act(&mut self, lab: &mut Lab) {
        const PATIENCE: [u64; 5] = [10, 20, 50, 100, 200];
        if lab.cluster.now() < self.next_at {
            return;
        }
        if let Some(accepted) = &self.waits_for {
            if lab.committed(accepted.ticket.index) > 0 {
                let is_mine = lab.holding(accepted) > 0;
                self.saw.extend(self.waits_for.take().filter(|_| is_mine));
            } else if let Some(pause) = PATIENCE.get(self.patience) {
                self.patience += 1;
                self.next_at = lab.cluster.now() + pause * MILLISECOND;
                return;
            }
        }
        self.patience = 0;
        let nodes = lab.nodes().into_iter();
        self.waits_for = nodes.filter_map(|node| lab.propose(node)).last();
        let pause = if self.waits_for.is_some() { 0 } else { 79 + 17 * self.number };
        self.next_at = lab.cluster.now() + pause * MILLISECOND;
    }
}

fn run_clients(lab: &mut Lab, clients: &mut [Client], milliseconds: u64) {
    for _ in 0..milliseconds {
        for client in &mut *clients {
            client.act(lab);
        }
        lab.run_for(MILLISECOND);
    }
}

fn churn(lab: &mut Lab) {
    let mut clients = [0, 1, 2].map(|number| Client { number, ..Client::default() });
    for _ in 0..20 {
        if lab.dice.permille(200) {
            let node = lab.anybody();
            lab.disconnect(node);
        }
        if lab.dice.permille(500) {
            let node = lab.anybody();
            lab.start(node);
        }
        if lab.dice.permille(200) {
            let node = lab.anybody();
            lab.crash(node);
        }
        run_clients(lab, &mut clients, 700);
    }
    run_clients(lab, &mut clients, 1000);
    lab.reliable();
    for node in lab.nodes() {
        lab.start(node);
    }
    lab.run_for(SECOND);
    let last: LogIndex = lab.agree_all();
    let saw: Vec<_> = clients.iter().flat_map(|client| &client.saw).collect();
    assert!(saw.len() > 100, "vacuous: {} commands", saw.len());
    for accepted in saw {
        assert!(accepted.ticket.index <= last, "{} is after the last", accepted.ticket);
        assert_eq!(lab.holding(accepted), 5, "{} is not everywhere", accepted.ticket);
    }
}
