use super::*;
use kv::{Command, Machine, Query, QueryReply, Reply};
use raft_host::outcome::{NotAppended, Unknown};
use simulator::dice::Dice;

const KEY: &[u8] = b"lock";

fn put(store: &mut Machine, value: &[u8], version: u64) -> Reply {
    store.execute(&Command::CompareAndSet { key: KEY, expect: version, value }.encode())
}

/// What a first attempt that is answered says.
fn definite(reply: &Reply) -> Result<u64, PutError> {
    match *reply {
        Reply::Written { version } => Ok(version),
        Reply::NoKey => Err(PutError::NoKey),
        Reply::WrongVersion { version } => Err(PutError::Version { version }),
        ref other => panic!("{other:?}"),
    }
}

fn get(store: &Machine) -> Option<Versioned> {
    match store.answer(&Query::Get { key: KEY }.encode()) {
        QueryReply::Value(found) => found,
        other => panic!("{other:?}"),
    }
}

/// Takes steps that are all answered, until there is nothing to get or put.
fn settle(turn: &mut Turn, store: &mut Machine) -> Step {
    loop {
        match turn.step() {
            Step::Get => turn.got(get(store)),
            Step::Put { value, version } => {
                turn.put(definite(&put(store, &value, version))).unwrap();
            }
            end => return end,
        }
    }
}

fn acquire(turn: &mut Turn, store: &mut Machine) -> Step {
    turn.begin(Goal::Acquire);
    settle(turn, store)
}

fn release(turn: &mut Turn, store: &mut Machine) -> Step {
    turn.begin(Goal::Release);
    settle(turn, store)
}

fn turns() -> (Turn, Turn, Machine) {
    (Turn::new(b"one".to_vec()), Turn::new(b"two".to_vec()), Machine::default())
}

#[test]
fn the_lock_goes_back_and_forth_and_its_version_grows() {
    let (mut one, mut two, mut store) = turns();
    assert_eq!(acquire(&mut one, &mut store), Step::Acquired(1));
    assert_eq!(acquire(&mut one, &mut store), Step::Acquired(1), "it knows its own");
    assert_eq!(acquire(&mut two, &mut store), Step::Held);
    assert_eq!(release(&mut two, &mut store), Step::Released, "which is not its own");
    assert_eq!(acquire(&mut two, &mut store), Step::Held);
    assert_eq!(release(&mut one, &mut store), Step::Released);
    assert_eq!(acquire(&mut two, &mut store), Step::Acquired(3));
}

/// LABS P8.
#[test]
fn of_two_who_read_a_free_lock_at_once_one_gets_it() {
    let (mut one, mut two, mut store) = turns();
    for turn in [&mut one, &mut two] {
        turn.begin(Goal::Acquire);
        turn.got(get(&store));
        assert_eq!(turn.step(), Step::Put { value: turn.id.clone(), version: 0 });
    }
    assert_eq!(settle(&mut two, &mut store), Step::Acquired(1));
    assert_eq!(settle(&mut one, &mut store), Step::Held);
}

/// LABS P9: executed, and answered `Maybe`.
#[test]
fn a_holder_recognises_itself() {
    let (mut one, mut two, mut store) = turns();
    one.begin(Goal::Acquire);
    one.got(get(&store));
    put(&mut store, b"one", 0);
    one.put(Err(PutError::Maybe { version: 1 })).unwrap();
    assert_eq!(settle(&mut one, &mut store), Step::Acquired(1));
    // And where it was the other one who made that version.
    release(&mut one, &mut store);
    one.begin(Goal::Acquire);
    one.got(get(&store));
    assert_eq!(acquire(&mut two, &mut store), Step::Acquired(3));
    one.put(Err(PutError::Maybe { version: 3 })).unwrap();
    assert_eq!(settle(&mut one, &mut store), Step::Held);
}

/// LABS P9: the reply to a release is lost.
#[test]
fn a_release_that_is_repeated_frees_no_successors_lock() {
    let (mut one, mut two, mut store) = turns();
    acquire(&mut one, &mut store);
    one.begin(Goal::Release);
    one.got(get(&store));
    put(&mut store, FREE, 1);
    assert!(one.put(Err(PutError::Unknown(Unknown::Timeout))).is_err());
    assert_eq!(acquire(&mut two, &mut store), Step::Acquired(3));
    assert_eq!(release(&mut one, &mut store), Step::Released);
    assert_eq!(acquire(&mut two, &mut store), Step::Acquired(3), "still");
}

/// A release that nobody answered may come true after this one has the lock again.
#[test]
fn what_is_in_doubt_is_settled_before_anything_else() {
    let (mut one, _, mut store) = turns();
    acquire(&mut one, &mut store);
    one.begin(Goal::Release);
    one.got(get(&store));
    assert!(one.put(Err(PutError::Unknown(Unknown::Timeout))).is_err());
    // That nobody takes it now says nothing about the earlier attempt.
    one.begin(Goal::Acquire);
    assert!(one.put(Err(PutError::NotDone(NotAppended::Busy))).is_err());
    assert_eq!(acquire(&mut one, &mut store), Step::Acquired(3), "released first, then taken");
    assert_eq!(put(&mut store, FREE, 1), Reply::WrongVersion { version: 3 }, "and not again");
}

/// Somebody who takes and releases the lock, over and over.
struct Player {
    turn: Turn,
    holds: Option<u64>,
}

/// One step of one player, whose put may be lost, be done twice, or be done late.
fn play(player: &mut Player, store: &mut Machine, late: &mut Vec<(Vec<u8>, u64)>, dice: &mut Dice) {
    let Player { turn, holds } = player;
    match turn.step() {
        Step::Get if dice.permille(50) => {}
        Step::Get => turn.got(get(store)),
        Step::Put { value, version } => {
            let end = match dice.below(10) {
                0..5 => definite(&put(store, &value, version)),
                5..7 => {
                    // The first attempt's answer is lost, or it was lost itself.
                    if dice.coin() {
                        put(store, &value, version);
                    }
                    match definite(&put(store, &value, version)) {
                        Err(PutError::Version { version }) => Err(PutError::Maybe { version }),
                        Err(PutError::NoKey) => Err(PutError::Maybe { version: 0 }),
                        done => done,
                    }
                }
                7 => Err(PutError::NotDone(NotAppended::Busy)),
                _ => {
                    late.push((value, version));
                    Err(PutError::Unknown(Unknown::Timeout))
                }
            };
            if turn.put(end).is_err() {
                // Whatever it wanted, it may want something else now.
                turn.begin(*dice.pick(&[Goal::Release, Goal::Acquire, turn.goal, turn.goal]));
            }
        }
        Step::Acquired(version) if holds.is_none() => *holds = Some(version),
        Step::Acquired(_) if dice.permille(300) => {
            *holds = None;
            turn.begin(Goal::Release);
        }
        Step::Acquired(_) => {}
        Step::Held | Step::Released => turn.begin(Goal::Acquire),
    }
}

#[test]
fn there_is_one_holder_whatever_becomes_of_the_puts() {
    let (mut acquired, mut came_late) = (0, 0);
    for seed in 0..200 {
        let mut dice = Dice::new(seed, "versioned lock");
        let (mut store, mut late) = (Machine::default(), Vec::<(Vec<u8>, u64)>::new());
        let player = |id: u8| Player { turn: Turn::new(vec![id]), holds: None };
        let mut players: Vec<Player> = (1..=4).map(player).collect();
        let mut newest = (0, 0);
        for _ in 0..600 {
            if !late.is_empty() && dice.permille(150) {
                let (value, version) = late.swap_remove(dice.below(late.len() as u64) as usize);
                came_late +=
                    u64::from(matches!(put(&mut store, &value, version), Reply::Written { .. }));
            }
            let at = dice.below(4) as usize;
            let held_before = players[at].holds;
            play(&mut players[at], &mut store, &mut late, &mut dice);
            if let (None, Some(version)) = (held_before, players[at].holds) {
                acquired += 1;
                // Who could not release it, and wants it again, has never lost it.
                let is_newer = version > newest.0 || newest == (version, at);
                assert!(is_newer, "seed {seed}: {at} has {version} after {newest:?}");
                newest = (version, at);
            }
            let holders: Vec<_> = players.iter().filter(|player| player.holds.is_some()).collect();
            assert!(holders.len() <= 1, "seed {seed}: {} holders", holders.len());
            if let [holder] = holders[..] {
                let (value, version) = (holder.turn.id.clone(), holder.holds.unwrap());
                let expected = Some(Versioned { value, version });
                assert_eq!(get(&store), expected, "seed {seed}: taken away");
            }
        }
    }
    println!("acquired {acquired} times, {came_late} puts came late and were done");
    assert!(acquired > 2000 && came_late > 300, "vacuous: {acquired}, {came_late}");
}
