//! The lock of Get and Put in virtual time, as lab 2 of 2025 tests it: one or ten clients take it in turn for two seconds,
//! and hold it for 10 ms, over a network that loses requests and replies or does not. The store is one server without Raft,
//! which the labs ask for, or three members; the test knows neither. `SEED=42 cargo test -p lock --test virtual_time` runs
//! it with these dice alone, `SEEDS=100` with more.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use kv::versioned::Attempts;
use kv::{Command, Machine, PutError, Query, QueryReply};
use lock::Token;
use lock::versioned::{Goal, Step, Turn};
use raft_host::outcome::ProposeError;
use simulator::dice::Dice;
use simulator::network::NetworkFaults;
use simulator::world::{Asked, End, Ended, Served, Setup, StageClient, Trial};

const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// How long the clients take the lock, and for how long each time.
const LASTS: u64 = 2 * SECOND;
const HOLD: u64 = 10 * MILLISECOND;

/// How long a clerk waits before it sends a put again, as `VersionedClient` does.
const RETRY_PAUSE: u64 = 5 * MILLISECOND;

/// How long it waits for an answer, up to twice of it: a little longer than one server takes for one that is not lost.
const PATIENCE: u64 = 55 * MILLISECOND;

/// Whoever finds the lock held looks again so much later.
const POLL: (u64, u64) = (2 * MILLISECOND, 20 * MILLISECOND);

const KEY: &[u8] = b"l";

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let read = |name: &str| std::env::var(name).ok()?.parse().ok();
    let (seed, seeds): (Option<u64>, Option<u64>) = (read("SEED"), read("SEEDS"));
    let first = seed.unwrap_or(1);
    first..first + seed.map_or(seeds.unwrap_or(count), |_| 1)
}

/// One client of the lock, with a clerk of its own.
struct Player {
    client: StageClient,
    turn: Turn,
    attempts: Attempts,
}

/// The room that one may be in at a time.
#[derive(Default)]
struct Room {
    /// Who is inside, until when: whoever leaves begins to release the lock only then.
    inside: Option<(StageClient, u64)>,
    last: Token,
    visits: u64,
}

impl Room {
    fn enter(&mut self, player: StageClient, token: Token, now: u64) {
        let is_empty = self.inside.is_none_or(|(_, until)| until <= now);
        assert!(is_empty, "{player:?} has the lock, as has {:?}", self.inside);
        assert!(token > self.last, "token {token} comes after {}", self.last);
        self.inside = Some((player, now + HOLD));
        self.last = token;
        self.visits += 1;
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    visits: u64,
    /// Attempts of puts whose replies did not come.
    lost: u64,
    /// Puts that were perhaps done.
    maybe: u64,
}

struct Game<'a> {
    served: &'a mut dyn Served,
    players: BTreeMap<StageClient, Player>,
    room: Room,
    dice: Dice,
    counts: Counts,
}

impl Game<'_> {
    /// Begins a player's next step, so much later.
    fn begin(&mut self, client: StageClient, after: u64) {
        let player = &self.players[&client];
        let asked = match player.turn.step() {
            Step::Get => Asked::Query(Query::Get { key: KEY }.encode()),
            Step::Put { value, version } => {
                let put = Command::CompareAndSet { key: KEY, expect: version, value: &value };
                Asked::Command(put.encode())
            }
            step => unreachable!("{step:?} is nothing to ask for"),
        };
        self.served.ask(client, asked, after);
    }

    /// A player has heard something. It goes on until the time is over and it has not the lock any more.
    fn hear(&mut self, End { client, at, end, .. }: End, is_over: bool) {
        let player = self.players.get_mut(&client).unwrap();
        match end {
            Ended::Done(answer) => match QueryReply::decode(&answer).unwrap() {
                QueryReply::Value(found) => player.turn.got(found),
                other => panic!("a get was answered {other:?}"),
            },
            Ended::Attempted(attempt) => {
                self.counts.lost += u64::from(matches!(attempt, Err(ProposeError::Unknown(_))));
                let Some(end) = player.attempts.judge(attempt) else {
                    return self.begin(client, RETRY_PAUSE);
                };
                self.counts.maybe += u64::from(matches!(end, Err(PutError::Maybe { .. })));
                player.attempts = Attempts::default();
                player.turn.put(end).unwrap();
            }
            Ended::Unknown => unreachable!("there is no session"),
        }
        let pause = match player.turn.step() {
            Step::Get | Step::Put { .. } => 0,
            Step::Acquired(token) => {
                player.turn.begin(Goal::Release);
                self.room.enter(client, token, at);
                HOLD
            }
            Step::Held | Step::Released if is_over => return,
            Step::Held => {
                player.turn.begin(Goal::Acquire);
                self.dice.between(POLL.0, POLL.1)
            }
            Step::Released => {
                player.turn.begin(Goal::Acquire);
                0
            }
        };
        self.begin(client, pause);
    }
}

/// Everybody takes the lock in turn.
fn play(served: &mut dyn Served, clients: u64, seed: u64) -> Counts {
    let (players, room) = (BTreeMap::new(), Room::default());
    let (dice, counts) = (Dice::new(seed, "polls"), Counts::default());
    let mut game = Game { served, players, room, dice, counts };
    for number in 1..=clients {
        let client = game.served.client_without_session();
        let mut turn = Turn::new(number.to_le_bytes().to_vec());
        turn.begin(Goal::Acquire);
        game.players.insert(client, Player { client, turn, attempts: Attempts::default() });
        game.begin(client, 0);
    }
    while game.players.values().any(|player| game.served.is_waiting(player.client)) {
        let end = game.served.next_end(30 * SECOND);
        assert_eq!(game.served.violation(), None, "{}", game.served.summary());
        let is_over = game.served.now() >= LASTS;
        game.hear(end.expect("every request has an end"), is_over);
    }
    game.served.finish();
    assert_eq!(game.served.violation(), None, "{}", game.served.summary());
    Counts { visits: game.room.visits, ..game.counts }
}

/// The same with one server and with three members. There are at least so many visits.
fn everywhere(clients: u64, network: NetworkFaults, fewest: u64) {
    let trial = Trial::scripted(Machine::default);
    let (mut lost, mut maybe) = (0, 0);
    for seed in seeds(20) {
        let mut setup = Setup::default();
        setup.cluster.seed = seed;
        setup.network = network;
        setup.patience = PATIENCE;
        let single = play(&mut trial.alone(setup.clone()), clients, seed);
        let members = play(&mut trial.stage(setup), clients, seed);
        println!("SEED={seed}: one server {single:?}, three members {members:?}");
        for counts in [single, members] {
            assert!(counts.visits >= fewest, "SEED={seed}: {counts:?}");
            (lost, maybe) = (lost + counts.lost, maybe + counts.maybe);
        }
    }
    let is_lossy = network.loss_permille > 0;
    assert_eq!((lost > 0, maybe > 0), (is_lossy, is_lossy), "{lost} lost, {maybe} perhaps done");
}

fn reliable() -> NetworkFaults {
    Setup::default().network
}

/// TestOneClientReliable.
#[test]
fn one_client_takes_the_lock_again_and_again() {
    everywhere(1, reliable(), 50);
}

/// TestManyClientsReliable.
#[test]
fn ten_clients_take_the_lock_in_turn() {
    everywhere(10, reliable(), 50);
}

/// TestOneClientUnreliable.
#[test]
fn one_client_takes_the_lock_although_replies_get_lost() {
    everywhere(1, NetworkFaults::unreliable(), 1);
}

/// TestManyClientsUnreliable.
#[test]
fn never_two_hold_the_lock_although_replies_get_lost() {
    everywhere(10, NetworkFaults::unreliable(), 1);
}
