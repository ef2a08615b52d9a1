//! Moves, step by step.

use kv::lock::{LockCommand, LockReply};

use super::*;

/// Two groups, the first of which serves shard 3.
fn two() -> (Member, Member) {
    let mut a = Member::new(1, Kind::Pushed);
    assert_eq!(a.begin(3, 1), Reply::Installed);
    (a, Member::new(2, Kind::Pushed))
}

fn append_x() -> Kv<'static> {
    Kv::Append { key: b"3k", value: b"x" }
}

fn appended(length: u64) -> End {
    applied(&KvReply::Appended { length, version: length })
}

#[test]
fn a_shard_is_served_where_it_is_and_nowhere_else() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    assert_eq!(clerk.send(&mut a, &append_x()), appended(1));
    assert_eq!((a.get("3k"), b.get("3k"), a.get("4k")), (Some("x".into()), None, None));
    assert_eq!(clerk.again(&mut b), End::WrongGroup);
    move_shard(&mut a, &mut b, 3, 2);
    assert_eq!((a.get("3k"), b.get("3k")), (None, Some("x".into())));
    assert_eq!(clerk.send(&mut b, &append_x()), appended(2));
    assert_eq!(a.group.served().count(), 0);
    assert_eq!(b.group.served().collect::<Vec<_>>(), [3]);
}

/// P42: executed at the old group, the reply lost, the shard moved, sent again to the new one.
#[test]
fn a_command_that_is_sent_again_after_a_move_runs_once() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    let _lost = clerk.send(&mut a, &append_x());
    move_shard(&mut a, &mut b, 3, 2);
    assert_eq!(clerk.again(&mut a), End::WrongGroup);
    assert_eq!(clerk.again(&mut b), appended(1));
    assert_eq!(b.get("3k").unwrap(), "x");
}

/// P43: a write beside a freeze either moves, or is refused.
#[test]
fn what_comes_after_a_freeze_is_refused() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    clerk.send(&mut a, &append_x());
    assert_eq!(a.freeze(3, 2), Reply::Frozen);
    assert_eq!(clerk.send(&mut a, &append_x()), End::WrongGroup);
    assert_eq!(b.fetch(&a, 3, 2, 2), Reply::Installed);
    assert_eq!(clerk.again(&mut b), appended(2));
}

/// P44: an install that comes again after new writes does not erase them.
#[test]
fn an_install_that_comes_again_changes_nothing() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    clerk.send(&mut a, &append_x());
    a.freeze(3, 2);
    let QueryReply::Piece { data, next } = a.piece(3, 2, Cursor::START) else { panic!() };
    b.fetch(&a, 3, 2, 2);
    clerk.send(&mut b, &append_x());
    for next in [next, None] {
        let install = Command::Install { shard: 3, num: 2, from: Cursor::START, data: &data, next };
        assert_eq!(b.tell(&install), Reply::Stale { seen: 2 });
    }
    assert_eq!(b.begin(3, 2), Reply::Stale { seen: 2 });
    assert_eq!(b.get("3k").unwrap(), "xx");
}

/// P45: a freeze that is retried after the delete says that there is nothing, instead of giving nothing.
#[test]
fn a_freeze_after_the_delete_is_answered_gone() {
    let (mut a, mut b) = two();
    assert_eq!(a.freeze(3, 2), Reply::Frozen);
    assert_eq!(a.freeze(3, 2), Reply::Frozen, "again");
    assert_eq!(b.fetch(&a, 3, 2, 2), Reply::Installed);
    assert_eq!(a.delete(3, 2), Reply::Deleted);
    assert_eq!(a.delete(3, 2), Reply::Deleted, "again");
    assert_eq!(a.freeze(3, 2), Reply::Gone);
    assert_eq!(a.piece(3, 2, Cursor::START), QueryReply::NotHere { seen: 2 });
    assert_eq!(a.freeze(3, 3), Reply::Refused(Refusal::NotServed));
}

/// P46: whoever wakes up late, and goes on with an old configuration, changes nothing.
#[test]
fn a_controller_of_the_past_changes_nothing() {
    let (mut a, mut b) = two();
    move_shard(&mut a, &mut b, 3, 2);
    move_shard(&mut b, &mut a, 3, 3);
    let before = (a.snapshot(), b.snapshot());
    for num in [1, 2] {
        assert_eq!(a.freeze(3, num), Reply::Stale { seen: 3 });
        assert_eq!(a.begin(3, num), Reply::Stale { seen: 3 });
        assert_eq!(a.delete(3, num), Reply::Stale { seen: 3 });
        assert_eq!(b.begin(3, num), Reply::Stale { seen: 3 });
    }
    // It came here at 3: whoever freezes it at 3 errs.
    assert_eq!(a.freeze(3, 3), Reply::Stale { seen: 3 });
    assert_eq!(a.delete(3, 3), Reply::Deleted, "nothing had left");
    assert!((a.snapshot(), b.snapshot()) == before);
}

/// P48: a frozen shard answers no reads either, because the next one may serve writes already.
#[test]
fn a_frozen_shard_answers_nothing() {
    let (mut a, _) = two();
    assert_eq!(a.get("3k").unwrap(), "");
    a.freeze(3, 2);
    assert_eq!(a.get("3k"), None);
}

/// P49: a command that came to the wrong group has not used up its number.
#[test]
fn the_wrong_group_does_not_count_a_command() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    a.freeze(3, 2);
    for _ in 0..3 {
        assert_eq!(clerk.send(&mut a, &append_x()), End::WrongGroup);
        clerk.again(&mut b);
    }
    b.fetch(&a, 3, 2, 2);
    assert_eq!(clerk.again(&mut b), appended(1));
}

#[test]
fn locks_and_those_who_wait_for_them_move_too() {
    let (mut a, mut b) = two();
    let acquire = |holder| {
        let (name, owner) = (&b"3lock"[..], &b"me"[..]);
        Kv::Lock(LockCommand::Acquire { name, holder, owner, lease_ms: 1000, wait: true })
    };
    let granted = |token| applied(&KvReply::Lock(LockReply::Granted { token }));
    let mut clerks = [1, 2, 3].map(|client| Clerk::new(client, 3, &mut a));
    assert_eq!(clerks[0].send(&mut a, &acquire(1)), granted(4));
    assert_eq!(clerks[1].send(&mut a, &acquire(2)), End::Parked);
    let waits_at = a.index;
    assert_eq!(clerks[2].send(&mut a, &acquire(3)), End::Parked);

    move_shard(&mut a, &mut b, 3, 2);
    assert_eq!(end(a.replies.get(&waits_at)), End::WrongGroup);
    assert_eq!(clerks[1].again(&mut b), End::Parked, "it keeps its place");
    let waits_at = b.index;
    let mut stranger = Clerk::new(9, 3, &mut b);
    assert_eq!(stranger.send(&mut b, &acquire(9)), End::Parked);
    let release = Kv::Lock(LockCommand::Release { name: b"3lock", holder: 1, token: 0 });
    clerks[0].send(&mut b, &release);
    // The log of the new group is shorter than that of the old one; the tokens grow all the same.
    let End::Answer(Answer::Applied(reply)) = end(b.replies.get(&waits_at)) else { panic!() };
    let Ok(store::Reply::Plain(reply)) = store::Reply::decode(&reply) else { panic!("{reply:?}") };
    let KvReply::Lock(LockReply::Granted { token }) = KvReply::decode(reply).unwrap() else {
        panic!("the first in the queue has it")
    };
    assert!(token > 4, "{token}");
    // The third one has not asked here yet, and its place is before the stranger's.
    let release = Kv::Lock(LockCommand::Release { name: b"3lock", holder: 2, token });
    clerks[1].send(&mut b, &release);
    let End::Answer(Answer::Applied(_)) = clerks[2].again(&mut b) else { panic!("it is its turn") };
}

#[test]
fn a_large_shard_goes_in_pieces_and_another_hand_goes_on() {
    let (mut a, mut b) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    for number in 0..3000 {
        let (key, value) = (format!("3-{number}"), vec![number as u8; 1000]);
        clerk.send(&mut a, &Kv::Put { key: key.as_bytes(), value: &value });
    }
    a.freeze(3, 2);
    let (mut pieces, mut at) = (0, Cursor::START);
    loop {
        let QueryReply::Piece { data, next } = a.piece(3, 2, at.clone()) else { panic!("it left") };
        assert!(data.len() < 400 << 10, "{} bytes", data.len());
        let from = at.clone();
        let is_last = next.is_none();
        let install = Command::Install { shard: 3, num: 2, from, data: &data, next: next.clone() };
        if pieces == 5 {
            // Another controller begins anew, and is told where it stands.
            let from = Cursor::START;
            let again = Command::Install { shard: 3, num: 2, from, data: &[], next: None };
            assert_eq!(b.tell(&again), Reply::Next(at.clone()));
            b.group = b.restored().unwrap();
        }
        match b.tell(&install) {
            Reply::Installed => assert!(is_last),
            Reply::Next(cursor) => assert_eq!(Some(&cursor), next.as_ref()),
            other => panic!("{other:?}"),
        }
        pieces += 1;
        let Some(next) = next else { break };
        at = next;
    }
    assert!(pieces >= 3_000_000 / (256 << 10), "{pieces}");
    assert_eq!(b.slot(3).serving, Some(3000));
    assert_eq!(b.get("3-77").unwrap().as_bytes(), [77; 1000]);
    assert_eq!(clerk.send(&mut b, &append_x()), appended(1));
}

#[test]
fn pieces_of_another_shard_are_refused() {
    let (mut a, mut b) = two();
    a.begin(4, 1);
    let mut clerk = Clerk::new(7, 4, &mut a);
    clerk.send(&mut a, &Kv::Put { key: b"4k", value: b"v" });
    a.freeze(4, 2);
    a.freeze(3, 2);
    let QueryReply::Piece { data: head, next: Some(keys) } = a.piece(4, 2, Cursor::START) else {
        panic!("a head, and keys")
    };
    let QueryReply::Piece { data, next: None } = a.piece(4, 2, keys.clone()) else { panic!() };
    let foreign = || Reply::Refused(Refusal::ForeignPiece { shard: 3 });
    let install =
        |from: Cursor, data, next| Command::Install { shard: 3, num: 2, from, data, next };
    // Its head, and nothing else; its keys behind it; and bytes that are nothing.
    assert_eq!(b.tell(&install(Cursor::START, &head, None)), foreign());
    assert_eq!(
        b.tell(&install(Cursor::START, &head, Some(keys.clone()))),
        Reply::Next(keys.clone())
    );
    assert_eq!(b.tell(&install(keys.clone(), &data, None)), foreign());
    assert_eq!(b.tell(&install(keys.clone(), b"no keys", None)), foreign());
    assert_eq!(b.slot(3).serving, None);
    // The right pieces do all the same, in a later configuration.
    assert_eq!(b.fetch(&a, 4, 2, 2), Reply::Installed);
    assert_eq!(b.get("4k").unwrap(), "v");
}

#[test]
fn bad_commands_are_answered_and_change_nothing() {
    let (mut a, _) = two();
    let mut clerk = Clerk::new(7, 3, &mut a);
    clerk.send(&mut a, &append_x());
    let before = a.snapshot();
    let no_shard = || Reply::Refused(Refusal::NoShard { shard: 10, shards: 10 });
    assert_eq!(a.freeze(10, 5), no_shard());
    assert_eq!(a.begin(10, 5), no_shard());
    assert_eq!(a.delete(10, 5), no_shard());
    assert_eq!(a.tell(&Command::Client { shard: 10, command: &clerk.last }), no_shard());
    let put = clerk.session.clone().next(&plain(&Kv::Put { key: b"4k", value: b"v" })).unwrap();
    let foreign = Refusal::ForeignKey { shard: 3, belongs: 4 };
    assert_eq!(
        a.tell(&Command::Client { shard: 3, command: &put }),
        Reply::Refused(foreign.clone())
    );
    let get = kv::Query::Get { key: b"4k" }.encode();
    let get = store::Query::Plain(&get).encode();
    let asked = a.ask(&Query::Client { shard: 3, query: &get });
    assert_eq!(asked, QueryReply::Refused(foreign));
    assert_eq!(
        QueryReply::decode(&a.group.query(b"no query")).unwrap(),
        QueryReply::Refused(Refusal::Malformed)
    );
    let configure = Command::Configure { config: crate::Config::new(&TEN), sources: vec![] };
    assert_eq!(a.tell(&configure), Reply::Refused(Refusal::NotAwaited));
    assert!(a.snapshot() == before);
}

#[test]
fn a_group_is_restored_whatever_is_under_way() {
    let (mut a, mut b) = two();
    for shard in 4..8 {
        a.begin(shard, 1);
        let mut clerk = Clerk::new(shard.into(), shard, &mut a);
        for number in 0..400 {
            let key = format!("{shard}-{number}");
            clerk.send(&mut a, &Kv::Put { key: key.as_bytes(), value: &[1; 1000] });
        }
    }
    a.freeze(4, 2);
    a.freeze(5, 2);
    let QueryReply::Piece { data, next } = a.piece(4, 2, Cursor::START) else { panic!() };
    b.tell(&Command::Install { shard: 4, num: 2, from: Cursor::START, data: &data, next });
    b.fetch(&a, 5, 2, 2);
    for member in [&a, &b] {
        let mut again = Member::new(member.group.gid, Kind::Pushed);
        again.group = member.restored().unwrap();
        assert!(again.snapshot() == member.snapshot());
        assert_eq!(again.ask(&Query::Slots), member.ask(&Query::Slots));
        assert_eq!(again.piece(4, 2, Cursor::START), member.piece(4, 2, Cursor::START));
    }
    // Another group's, and one that is cut anywhere, are refused.
    assert!(Group::new(2, TEN, Kind::Pushed).restore(&mut &a.snapshot()[..]).is_err());
    assert!(Group::new(1, TEN, Kind::Pulled).restore(&mut &a.snapshot()[..]).is_err());
    let whole = b.snapshot();
    for length in (0..whole.len()).step_by(97) {
        let cut = Group::new(2, TEN, Kind::Pushed).restore(&mut &whole[..length]);
        assert!(cut.is_err(), "{length} of {} bytes", whole.len());
    }
}
