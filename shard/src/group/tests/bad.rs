//! What nobody sends who means well, as raw bytes.

use raft_host::session::without_session;
use simulator::dice::Dice;

use super::*;
use crate::store::{Mode, Prepare, TxnId, Write};

/// A group that serves shard 3, with keys, a session, a lock, a prepared part and a lock of a transaction.
fn busy() -> Member {
    let mut member = Member::new(1, Kind::Pushed);
    member.begin(3, 1);
    let mut clerk = Clerk::new(7, 3, &mut member);
    clerk.send(&mut member, &Kv::Put { key: b"3k", value: b"v" });
    commands().iter().for_each(|command| _ = member.commit(&Command::decode(command).unwrap()));
    member
}

fn to_shard(command: &store::Command<'_>) -> Vec<u8> {
    let command = without_session(&command.encode());
    Command::Client { shard: 3, command: &command }.encode()
}

fn prepare(participants: Vec<ShardId>) -> store::Command<'static> {
    let writes = vec![Write { key: b"3y", value: Some(b"w") }];
    let (kind, home, reads) = (store::Kind::Optimistic, 3, vec![]);
    store::Command::Prepare(Prepare { txn: txn(5), kind, home, participants, reads, writes })
}

fn txn(began: u64) -> TxnId {
    TxnId { began, client: 9, attempt: 1 }
}

/// Commands of clients, all of which may come again.
fn commands() -> Vec<Vec<u8>> {
    let acquire = |holder| {
        let (name, owner) = (&b"3lock"[..], &b"me"[..]);
        let acquire =
            kv::lock::LockCommand::Acquire { name, holder, owner, lease_ms: 1000, wait: true };
        to_shard(&store::Command::Plain(&Kv::Lock(acquire).encode()))
    };
    let lock = |began, mode| to_shard(&store::Command::Lock { txn: txn(began), key: b"3z", mode });
    let put = Kv::Put { key: b"3k", value: b"w" }.encode();
    vec![
        acquire(1),
        acquire(2),
        to_shard(&prepare(vec![3, 4])),
        lock(6, Mode::Exclusive),
        lock(7, Mode::Shared),
        to_shard(&store::Command::Plain(&put)),
        to_shard(&store::Command::Decide { txn: txn(8), commit: false }),
    ]
}

/// Somebody would be asked for ever who is not there: nobody else could have the key.
#[test]
fn a_transaction_with_shards_that_are_not_there_is_refused() {
    let mut member = Member::new(1, Kind::Pushed);
    member.begin(3, 1);
    let before = member.snapshot();
    let command = to_shard(&prepare(vec![3, 10]));
    let reply = member.tell(&Command::decode(&command).unwrap());
    assert_eq!(reply, Reply::Refused(Refusal::NoShard { shard: 10, shards: 10 }));
    assert!(member.snapshot() == before);
}

/// What a piece says of the next one is kept, and asked for: it must be what follows.
#[test]
fn a_piece_that_names_a_wrong_next_one_is_refused() {
    let mut a = busy();
    a.freeze(3, 2);
    let QueryReply::Piece { data, next } = a.piece(3, 2, Cursor::START) else { panic!() };
    let head = data.len() as u64;
    let mut b = Member::new(2, Kind::Pushed);
    let long = Cursor::Keys(vec![b'k'; 1 << 20]);
    for wrong in [Cursor::Head(head + 1), Cursor::Head(u64::MAX), Cursor::START, long.clone()] {
        let (from, next) = (Cursor::START, Some(wrong));
        let install = Command::Install { shard: 3, num: 2, from, data: &data, next };
        assert_eq!(b.tell(&install), Reply::Refused(Refusal::ForeignPiece { shard: 3 }));
    }
    let keys = next.clone().expect("there are keys");
    let install = Command::Install { shard: 3, num: 2, from: Cursor::START, data: &data, next };
    assert_eq!(b.tell(&install), Reply::Next(keys.clone()));
    let QueryReply::Piece { data, .. } = a.piece(3, 2, keys.clone()) else { panic!() };
    for wrong in [Cursor::START, keys.clone(), long] {
        let (from, next) = (keys.clone(), Some(wrong));
        let install = Command::Install { shard: 3, num: 2, from, data: &data, next };
        assert_eq!(b.tell(&install), Reply::Refused(Refusal::ForeignPiece { shard: 3 }));
    }
    assert_eq!(b.fetch(&a, 3, 2, 2), Reply::Installed);
    assert_eq!(b.get("3k").unwrap(), "w");
    // Beyond the end there is nothing, and that is said.
    let beyond = a.piece(3, 2, Cursor::Head(u64::MAX));
    assert_eq!(beyond, QueryReply::Piece { data: vec![], next: Some(keys) });
}

/// A head that counts fewer entries than its sessions and locks know of, or so many that there is no next one.
#[test]
fn a_head_whose_numbers_are_yet_to_come_is_refused() {
    let mut a = busy();
    a.freeze(3, 2);
    let QueryReply::Piece { data, next } = a.piece(3, 2, Cursor::START) else { panic!() };
    let QueryReply::Piece { data: keys, .. } = a.piece(3, 2, next.clone().unwrap()) else {
        panic!()
    };
    // The version, the shard, and then the count.
    let applied = u64::from_le_bytes(data[5..13].try_into().unwrap());
    for forged in [u64::MAX, 1 << 61, applied - 6, 0] {
        let mut b = Member::new(2, Kind::Pushed);
        let mut data = data.clone();
        data[5..13].copy_from_slice(&forged.to_le_bytes());
        let from = Cursor::START;
        b.tell(&Command::Install { shard: 3, num: 2, from, data: &data, next: next.clone() });
        let from = next.clone().unwrap();
        let last = Command::Install { shard: 3, num: 2, from, data: &keys, next: None };
        assert_eq!(b.tell(&last), Reply::Refused(Refusal::ForeignPiece { shard: 3 }));
        // The right pieces do all the same.
        assert_eq!(b.fetch(&a, 3, 2, 2), Reply::Installed);
    }
}

fn garble(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(6) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.push(dice.below(256) as u8),
            2 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
            3 => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0),
            _ => bytes[at] = dice.below(256) as u8,
        }
    }
}

/// Whatever the bytes, each command is answered or parked, each query answered, the state can be written and read,
/// and what comes afterwards is served.
#[test]
fn garbled_commands_and_queries_end_nobody() {
    let (mut read, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice::new(seed, "garbled");
        let mut source = busy();
        source.freeze(3, 2);
        let mut commands = commands();
        let mut at = Some(Cursor::START);
        while let Some(from) = at {
            let QueryReply::Piece { data, next } = source.piece(3, 2, from.clone()) else {
                panic!()
            };
            let install =
                Command::Install { shard: 3, num: 2, from, data: &data, next: next.clone() };
            // Most of what can be garbled is here.
            commands.extend(vec![install.encode(); 4]);
            at = next;
        }
        commands.push(Command::Freeze { shard: 3, num: 2 }.encode());
        commands.push(Command::Delete { shard: 3, num: 2 }.encode());
        let mut member = if dice.coin() { busy() } else { Member::new(1, Kind::Pushed) };
        for _ in 0..200 {
            let mut bytes = commands[dice.below(commands.len() as u64) as usize].clone();
            // Some of them as they are, so that what is garbled meets something.
            if dice.permille(900) {
                garble(&mut dice, &mut bytes);
            }
            member.index += 1;
            let id = EntryId::new(member.index, 1);
            let entry = Entry { id, kind: EntryKind::Command, data: &bytes };
            let mut replies = Replies::default();
            member.group.apply(Batch::of_entries(&[entry]), &mut replies);
            let mut given = replies.drain().map(|(index, _)| index).collect::<Vec<_>>();
            given.extend(replies.drain_parked());
            assert!(given.contains(&member.index), "seed {seed}: {bytes:?} has no end");
            (read, refused) = match Command::decode(&bytes) {
                Ok(_) => (read + 1, refused),
                Err(_) => (read, refused + 1),
            };
            let mut query = Query::Piece { shard: 3, num: 2, from: Cursor::START }.encode();
            garble(&mut dice, &mut query);
            assert!(QueryReply::decode(&member.group.query(&query)).is_ok());
        }
        let mut again = Member::new(1, Kind::Pushed);
        again.group = member.restored().unwrap();
        assert!(again.snapshot() == member.snapshot(), "seed {seed}");
        // A shard that nobody has touched is served.
        member.begin(8, 1);
        let mut clerk = Clerk::new(7, 8, &mut member);
        let put = Kv::Put { key: b"8k", value: b"v" };
        assert_eq!(clerk.send(&mut member, &put), applied(&KvReply::Written { version: 1 }));
    }
    assert!(read > 3000 && refused > 1000, "vacuous: {read} read, {refused} refused");
}
