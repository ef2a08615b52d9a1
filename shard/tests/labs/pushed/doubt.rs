//! Pitfalls of what is perhaps done: requests that are lost, and replies.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kv::PutError;
use raft_host::outcome::{ProposeError, ProposeResult, QueryResult, Unknown};
use raft_host::session::Answer;
use shard::clerk::Clerk;
use shard::configs::Configs;
use shard::controller::Command;
use shard::mover::{Changed, OrderError, Ordered};
use shard::net::{Net, Target};
use shard::store::Kind as TxnKind;
use shard::{Config, Mover, TxnError};

use super::play::{FIRST, Play};
use crate::lab::{MILLISECOND, SECOND, seed};
use crate::town::Link;

/// What becomes of a command that changes something.
#[derive(Clone, Copy)]
enum Lost {
    Request,
    Reply,
    /// The reply comes, and nobody can read it.
    Meaning,
}

/// A way on which the next commands are lost, or their replies, as somebody says.
#[derive(Clone)]
struct Forgetful {
    link: Link,
    lost: Rc<RefCell<VecDeque<Lost>>>,
    /// How long the next queries wait.
    late: Rc<RefCell<VecDeque<Duration>>>,
}

/// How long nothing is heard of what was lost.
const SILENCE: Duration = Duration::from_millis(1500);

impl Forgetful {
    fn new(play: &Play) -> Self {
        Forgetful { link: play.town.link(), lost: Rc::default(), late: Rc::default() }
    }

    fn lose(&self, lost: Lost) {
        self.lost.borrow_mut().push_back(lost);
    }

    fn mover(&self, play: &Play) -> Mover<Forgetful> {
        Mover::new(self.clone(), play.groups.partition, play.groups.head.clone())
    }

    fn clerk(&self, play: &Play) -> Clerk<Forgetful> {
        let configs = Configs::Store(play.groups.head.clone());
        Clerk::new(self.clone(), play.groups.partition, configs, 99)
    }
}

impl Net for Forgetful {
    async fn propose(&self, to: &Target, command: Vec<u8>) -> ProposeResult {
        let lost = self.lost.borrow_mut().pop_front();
        let Some(lost) = lost else { return self.link.propose(to, command).await };
        if let Lost::Reply | Lost::Meaning = lost {
            self.link.propose(to, command).await.expect("nothing else goes wrong");
        }
        if let Lost::Meaning = lost {
            return Ok(Answer::Applied(Bytes::from_static(b"\xff?")).to_bytes().into());
        }
        self.link.sleep(SILENCE).await;
        Err(ProposeError::Unknown(Unknown::Timeout))
    }

    async fn query(&self, to: &Target, query: Vec<u8>) -> QueryResult {
        let late = self.late.borrow_mut().pop_front();
        self.link.sleep(late.unwrap_or_default()).await;
        self.link.query(to, query).await
    }

    async fn sleep(&self, time: Duration) {
        self.link.sleep(time).await;
    }

    fn now(&self) -> Duration {
        self.link.now()
    }

    fn clock(&self) -> Duration {
        self.link.clock()
    }
}

/// The first group leaves in favour of the second one.
fn hand_over(play: &Play) {
    play.join_all([2]);
    play.leave_all([FIRST]);
}

/// P42: a change whose reply was lost is not done again where the shard is now.
#[test]
fn an_append_at_the_old_group_is_not_done_again_at_the_new_one() {
    let play = Play::new(seed());
    let way = Forgetful::new(&play);
    let (mut clerk, end) = (way.clerk(&play), Rc::new(RefCell::new(None)));
    let (lost, result) = (way.clone(), end.clone());
    play.town.spawn(async move {
        clerk.append(b"k", b"a").await.unwrap();
        lost.lose(Lost::Reply);
        let appended = clerk.append(b"k", b"b").await;
        *result.borrow_mut() = Some((appended, clerk.get(b"k").await));
    });
    play.town.run_for(100 * MILLISECOND);
    hand_over(&play);
    assert!(end.borrow().is_none(), "vacuous: the reply was not lost");
    play.groups.stop(FIRST);
    play.town.run_for(3 * SECOND);
    let (appended, found) = end.take().expect("the second group has answered");
    assert_eq!(appended.unwrap().version, 2);
    assert_eq!(found.unwrap().unwrap().value, b"ab");
    play.groups.restart(FIRST);
    play.finish();
}

/// P42: what was answered by something unreadable was perhaps done, and in a session it is asked for again.
#[test]
fn an_append_whose_reply_makes_no_sense_is_done_once() {
    let play = Play::new(seed());
    let way = Forgetful::new(&play);
    let mut clerk = way.clerk(&play);
    let found = play.town.run(async move {
        clerk.append(b"k", b"a").await.unwrap();
        way.lose(Lost::Meaning);
        clerk.append(b"k", b"b").await.unwrap();
        clerk.get(b"k").await.unwrap().unwrap()
    });
    assert_eq!((found.value, found.version), (b"ab".to_vec(), 2));
    play.finish();
}

/// P42: so was a transaction of one part. It is not told as surely not done.
#[test]
fn a_commit_whose_reply_makes_no_sense_was_perhaps_done() {
    for kind in [TxnKind::Optimistic, TxnKind::Locking] {
        let play = Play::new(seed());
        let way = Forgetful::new(&play);
        let mut clerk = way.clerk(&play).with_patience(Duration::from_millis(300));
        let (end, found) = play.town.run(async move {
            clerk.put(b"k", b"before").await.unwrap();
            let mut txn = clerk.begin(kind);
            txn.put(b"k", b"after").await.unwrap();
            // Each of its attempts.
            (0..100).for_each(|_| way.lose(Lost::Meaning));
            let end = txn.commit().await;
            way.lost.borrow_mut().clear();
            (end, clerk.get(b"k").await.unwrap().unwrap().value)
        });
        assert!(matches!(end, Err(TxnError::Unknown(_))), "{end:?}");
        assert_eq!(found, b"after");
        play.finish();
    }
}

/// P42, of a clerk without sessions: that it perhaps was done surfaces, at whatever group.
#[test]
fn a_put_whose_reply_was_lost_before_the_move_was_perhaps_done() {
    for (lost, expected) in
        [(Lost::Reply, Err(PutError::Maybe { version: 1 })), (Lost::Request, Ok(1))]
    {
        let play = Play::new(seed());
        let way = Forgetful::new(&play);
        way.lose(lost);
        let (mut clerk, end) = (way.clerk(&play), Rc::new(RefCell::new(None)));
        let result = end.clone();
        play.town.spawn(async move {
            *result.borrow_mut() = Some(clerk.put_at(b"k", b"v", 0).await);
        });
        play.town.run_for(100 * MILLISECOND);
        hand_over(&play);
        assert!(end.borrow().is_none(), "vacuous: nothing was lost");
        play.town.run_for(3 * SECOND);
        assert_eq!(end.take(), Some(expected));
        play.finish();
    }
}

/// P47: the reply that a configuration is next is lost.
struct Doubt {
    play: Play,
    config: Config,
    end: Rc<RefCell<Option<Changed>>>,
}

/// A controller has group 2 join, and what it posts as next is lost, or the reply is.
fn doubt(lost: Lost) -> Doubt {
    let play = Play::new(seed());
    play.put_keys();
    [2, 3].iter().for_each(|gid| play.start(*gid));
    let config = play.groups.joined(&play.query(), &[2]);
    let way = Forgetful::new(&play);
    way.lose(lost);
    let (mover, end) = (way.mover(&play), Rc::new(RefCell::new(None)));
    let (result, mine) = (end.clone(), config.clone());
    play.town.spawn(async move {
        let changed = mover.change(&mine).await.expect("it makes sense");
        *result.borrow_mut() = Some(changed);
    });
    play.town.run_for(200 * MILLISECOND);
    assert_eq!(*end.borrow(), None, "vacuous: nothing was lost");
    Doubt { play, config, end }
}

impl Doubt {
    fn check(self, changed: Changed, config: &Config) {
        self.play.town.run_for(3 * SECOND);
        assert_eq!(*self.end.borrow(), Some(changed));
        assert_eq!(self.play.check_slots(1..=3), *config);
        self.play.check_keys();
        self.play.finish();
    }
}

/// P47: it was posted, so it is carried out.
#[test]
fn a_configuration_that_was_perhaps_posted_and_was_is_carried_out() {
    let doubt = doubt(Lost::Reply);
    let config = doubt.config.clone();
    doubt.check(Changed::Done, &config);
}

/// P47: it was not posted, and nobody else has posted anything.
#[test]
fn a_configuration_that_was_perhaps_posted_and_was_not_is_posted_again() {
    let doubt = doubt(Lost::Request);
    let config = doubt.config.clone();
    doubt.check(Changed::Done, &config);
}

/// P47: somebody else's was posted, so this one is given up.
#[test]
fn a_configuration_that_was_perhaps_posted_gives_way_to_another_one() {
    let doubt = doubt(Lost::Request);
    doubt.play.join_all_again([3]);
    let config = doubt.play.query();
    assert!(config.groups.contains_key(&3));
    doubt.check(Changed::Late, &config);
}

/// P47: it was posted, and somebody else has carried it out and gone on.
#[test]
fn a_configuration_that_was_perhaps_posted_may_be_done_with() {
    let doubt = doubt(Lost::Reply);
    let mover = doubt.play.mover();
    let changed = doubt.play.town.run(async move { mover.recover().await });
    assert_eq!(changed, Ok(Changed::Done));
    assert_eq!(doubt.play.query(), doubt.config);
    doubt.play.join_all_again([3]);
    let config = doubt.play.query();
    assert_eq!(config.num, 3);
    doubt.check(Changed::Late, &config);
}

/// An order whose post was perhaps done, and what comes of it after somebody else has gone on: group 2 is to join;
/// whether it was posted or not, group 3 joins meanwhile, and where `leaves`, group 2 is sent away again.
fn doubtful_order(lost: Lost, leaves: bool) -> Result<Ordered, OrderError> {
    let play = Play::new(seed());
    play.put_keys();
    [2, 3].iter().for_each(|gid| play.start(*gid));
    let joined = play.groups.joined(&play.query(), &[2]);
    let groups = [(2, joined.groups[&2].clone())].into();
    let way = Forgetful::new(&play);
    way.lose(lost);
    let (mover, end) = (way.mover(&play), Rc::new(RefCell::new(None)));
    let result = end.clone();
    play.town.spawn(async move {
        *result.borrow_mut() = Some(mover.order(&Command::Join { groups }).await);
    });
    play.town.run_for(200 * MILLISECOND);
    assert_eq!(*end.borrow(), None, "vacuous: nothing was lost");
    let mover = play.mover();
    let _ = play.town.run(async move { mover.recover().await });
    play.join_all_again([3]);
    if leaves {
        play.leave_all([2]);
    }
    play.town.run_for(3 * SECOND);
    play.check_keys();
    play.finish();
    end.take().expect("time enough has passed")
}

/// What was done is not told as refused because it is so already.
#[test]
fn an_order_that_was_perhaps_done_and_was_is_so_already() {
    assert_eq!(doubtful_order(Lost::Reply, false), Ok(Ordered::Finished(3)));
}

/// Nor as done now, where others have undone it; nor as surely not done.
#[test]
fn an_order_that_was_perhaps_done_and_undone_is_in_doubt() {
    assert_eq!(doubtful_order(Lost::Reply, true), Err(OrderError::Doubt));
}

/// Somebody else's post took the place of one that was lost: it surely was not done, and is done now.
#[test]
fn an_order_whose_post_was_lost_is_done_after_somebody_elses() {
    assert_eq!(doubtful_order(Lost::Request, false), Ok(Ordered::Made(3)));
}

/// A controller reads what is next and what is in force; two changes happen between its reads. It must not make
/// one of them that never was.
#[test]
fn two_changes_between_two_reads_are_not_taken_for_one() {
    let play = Play::new(seed());
    play.put_keys();
    let way = Forgetful::new(&play);
    way.late.borrow_mut().extend([Duration::ZERO, SILENCE]);
    let (mover, end) = (way.mover(&play), Rc::new(RefCell::new(None)));
    let result = end.clone();
    play.town.spawn(async move {
        let changed = mover.recover().await;
        *result.borrow_mut() = Some(changed);
    });
    play.town.run_for(100 * MILLISECOND);
    play.join_all([2, 3]);
    let config = play.query();
    assert!(end.borrow().is_none() && config.num == 3, "vacuous");
    play.town.run_for(3 * SECOND);
    assert_eq!(end.take(), Some(Ok(Changed::Late)));
    assert_eq!(play.check_slots(1..=3), config);
    play.check_keys();
    play.finish();
}
