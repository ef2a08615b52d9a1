//! Transactions in one shard, by the steps that shards are told.

mod bad;

use bytes::Bytes;
use raft_core::block::{Entry, EntryKind};
use raft_core::types::{EntryId, LogIndex};

use super::*;

/// Shard 3, and its log's replies.
struct Shard {
    store: Store,
    index: LogIndex,
    replies: std::collections::BTreeMap<LogIndex, Bytes>,
}

fn txn(began: u64) -> TxnId {
    TxnId { began, client: 1, attempt: 0 }
}

impl Shard {
    fn new() -> Self {
        Shard { store: Store::new(3), index: 0, replies: Default::default() }
    }

    fn commit(&mut self, command: &Command<'_>) -> LogIndex {
        self.index += 1;
        let data = &command.encode()[..];
        let entry = Entry { id: EntryId::new(self.index, 1), kind: EntryKind::Command, data };
        let mut replies = Replies::default();
        self.store.apply(Batch::of_entries(&[entry]), &mut replies);
        self.replies.extend(replies.drain());
        // Each state can be moved.
        let mut bytes = Vec::new();
        self.store.capture().write_to(&mut bytes).unwrap();
        let mut again = Store::new(3);
        again.restore(&mut &bytes[..]).unwrap();
        assert_eq!((&again.txns, &again.kv), (&self.store.txns, &self.store.kv));
        self.index
    }

    fn tell(&mut self, command: &Command<'_>) -> Reply<'_> {
        let index = self.commit(command);
        self.reply(index).expect("it is answered at once")
    }

    fn reply(&self, index: LogIndex) -> Option<Reply<'_>> {
        Some(Reply::decode(self.replies.get(&index)?).unwrap())
    }

    fn lock(&mut self, began: u64, key: &str, mode: Mode) -> LogIndex {
        self.commit(&Command::Lock { txn: txn(began), key: key.as_bytes(), mode })
    }

    fn is_locked(&self, index: LogIndex) -> bool {
        matches!(self.reply(index), Some(Reply::Locked(_)))
    }

    /// Reads `x`, which is not there, and writes `y`; its home is here, and shard 9 takes part.
    fn prepare(&mut self, began: u64) -> Reply<'_> {
        self.prepare_as(began, Kind::Optimistic)
    }

    fn prepare_as(&mut self, began: u64, kind: Kind) -> Reply<'_> {
        let reads = vec![Read { key: b"x", revision: None }];
        let writes = vec![Write { key: b"y", value: Some(b"v") }];
        let participants = vec![3, 9];
        let txn = txn(began);
        self.tell(&Command::Prepare(Prepare { txn, kind, home: 3, participants, reads, writes }))
    }

    fn decide(&mut self, began: u64, commit: bool) -> bool {
        match self.tell(&Command::Decide { txn: txn(began), commit }) {
            Reply::Decided { commit } => commit,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, began: u64, commit: bool) -> Reply<'_> {
        self.tell(&Command::Finish { txn: txn(began), commit })
    }

    fn put(&mut self, key: &str) -> Option<TxnId> {
        let put = kv::Command::Put { key: key.as_bytes(), value: b"p" }.encode();
        let put = Command::Plain(&put);
        let blocked = self.store.blocked(&put);
        if blocked.is_none() {
            self.commit(&put);
        }
        blocked
    }

    fn observe(&self, key: &str) -> QueryReply {
        let query = Query::Observe { keys: vec![key.as_bytes()] };
        QueryReply::decode(&self.store.query(&query.encode())).unwrap()
    }
}

const LATE: Reply<'_> = Reply::Aborted(Aborted::Late);

/// P56 and P59: half of a transaction is never seen; and what is told again changes nothing.
#[test]
fn a_prepared_part_waits_for_its_home() {
    let mut shard = Shard::new();
    assert_eq!(shard.prepare(5), Reply::Prepared);
    assert_eq!(shard.prepare(5), Reply::Prepared, "again");
    assert_eq!(shard.observe("y"), QueryReply::Locked { txn: txn(5) });
    assert_eq!((shard.put("y"), shard.put("x")), (Some(txn(5)), Some(txn(5))));
    assert!(matches!(shard.observe("x"), QueryReply::Observed(_)), "it was only read");
    assert_eq!(shard.put("z"), None);
    assert!(shard.decide(5, true) && shard.decide(5, true) && shard.decide(5, false));
    for _ in 0..2 {
        assert_eq!(shard.finish(5, true), Reply::Finished);
        assert_eq!(shard.store.kv.version(b"y"), 1);
    }
    assert_eq!(shard.put("y"), None);
    assert_eq!(shard.tell(&Command::Forget { txn: txn(5) }), Reply::Finished);
    assert_eq!(shard.store.txns(), 0);
}

/// P54, and W3 of the faults: whoever finds a part that waits has its home decide, and the first one who asks
/// decides.
#[test]
fn the_first_decision_stands() {
    let mut shard = Shard::new();
    shard.prepare(5);
    assert!(!shard.decide(5, false));
    assert!(!shard.decide(5, true), "the client comes late");
    assert_eq!(shard.finish(5, false), Reply::Finished);
    assert_eq!((shard.store.kv.version(b"y"), shard.store.txns()), (0, 0));
    assert_eq!(shard.tell(&Command::Forget { txn: txn(5) }), Reply::Finished, "there is none");
    shard.prepare(6);
    let forget = Command::Forget { txn: txn(6) };
    assert_eq!(shard.tell(&forget), Reply::Refused(Refusal::Undecided));
}

/// Somebody asks a home that has not heard of the transaction: the part that comes later is refused.
#[test]
fn a_part_that_comes_after_its_end_is_refused() {
    let mut shard = Shard::new();
    assert!(!shard.decide(5, false));
    assert_eq!(shard.prepare(5), LATE);
    assert_eq!(shard.prepare(6), Reply::Prepared, "another one does not suffer");
    shard.finish(6, false);
    // Thousands of such ends are remembered one by one; then it is age that counts.
    for began in 100..100 + 4096 {
        assert!(!shard.store_decide(began));
    }
    assert_eq!(shard.prepare(5), LATE);
    assert_eq!(shard.prepare(4), LATE, "as old as what was forgotten");
    assert_eq!(shard.prepare(50), Reply::Prepared);
}

impl Shard {
    /// Without the check of each state, which takes its time.
    fn store_decide(&mut self, began: u64) -> bool {
        self.store.txns.decide(txn(began), false) == Reply::Decided { commit: true }
    }
}

#[test]
fn what_was_read_must_be_so_still() {
    let mut shard = Shard::new();
    shard.put("x");
    assert_eq!(shard.prepare(5), Reply::Aborted(Aborted::Changed));
    assert_eq!(shard.store.txns(), 0, "nothing is left");
    let mut shard = Shard::new();
    shard.prepare(5);
    assert_eq!(shard.prepare(6), Reply::Aborted(Aborted::Busy));
    assert_eq!(shard.store.txns(), 2, "a part, and a record");
}

/// The older one wounds, the younger one waits; those who wait get it by age; readers share.
#[test]
fn locks_go_by_age() {
    let mut shard = Shard::new();
    let first = shard.lock(5, "x", Mode::Shared);
    let second = shard.lock(7, "x", Mode::Shared);
    assert!(shard.is_locked(first) && shard.is_locked(second));
    let third = shard.lock(6, "x", Mode::Exclusive);
    assert!(!shard.is_locked(third), "5 is older, and 7 was wounded");
    assert_eq!(
        shard.tell(&Command::Lock { txn: txn(7), key: b"z", mode: Mode::Shared }),
        Reply::Aborted(Aborted::Wounded)
    );
    let fourth = shard.lock(8, "x", Mode::Shared);
    assert!(!shard.is_locked(fourth), "it does not pass by 6, which waits");
    shard.finish(5, false);
    assert!(shard.is_locked(third) && !shard.is_locked(fourth));
    shard.finish(6, false);
    assert!(shard.is_locked(fourth));
    shard.finish(8, false);
    assert_eq!(shard.store.txns, Txns::default());
}

#[test]
fn a_prepared_transaction_is_not_wounded() {
    let mut shard = Shard::new();
    shard.lock(5, "x", Mode::Shared);
    assert_eq!(
        shard.prepare_as(5, Kind::Locking),
        Reply::Aborted(Aborted::Wounded),
        "no lock on y"
    );
    shard.lock(5, "x", Mode::Shared);
    shard.lock(5, "y", Mode::Exclusive);
    assert_eq!(shard.prepare_as(5, Kind::Locking), Reply::Prepared);
    let older = shard.lock(4, "y", Mode::Shared);
    assert_eq!(shard.reply(older), None);
    assert!(shard.decide(5, true));
    shard.finish(5, true);
    let Some(Reply::Locked(observed)) = shard.reply(older) else { panic!("it has it now") };
    assert_eq!(observed.found.unwrap().value, b"v", "what was written before");
}

#[test]
fn who_does_nothing_for_long_loses_its_locks() {
    let mut shard = Shard::new();
    let since = shard.lock(5, "x", Mode::Exclusive);
    let waits = shard.lock(6, "x", Mode::Shared);
    let last = shard.lock(5, "y", Mode::Shared);
    shard.tell(&Command::Expire { txn: txn(5), since });
    assert!(!shard.is_locked(waits), "it has done something since");
    shard.tell(&Command::Expire { txn: txn(5), since: last });
    assert!(shard.is_locked(waits));
    assert_eq!(shard.prepare_as(5, Kind::Locking), Reply::Aborted(Aborted::Wounded));
    // Who waits and is wounded hears of it.
    let waits = shard.lock(9, "x", Mode::Exclusive);
    shard.lock(9, "z", Mode::Shared);
    shard.lock(7, "z", Mode::Exclusive);
    assert_eq!(shard.reply(waits), Some(Reply::Aborted(Aborted::Wounded)));
}

#[test]
fn what_no_shard_does_is_refused() {
    let mut shard = Shard::new();
    let key = vec![b'k'; kv::KEY_BYTES_MAX + 1];
    let long = vec![0; 400 << 10];
    let prepare = |reads: Vec<Read<'static>>, writes, participants| {
        let (txn, kind, home) = (txn(5), Kind::Optimistic, 3);
        Command::Prepare(Prepare { txn, kind, home, participants, reads, writes }).encode()
    };
    let many: Vec<_> = (0..1025).map(|_| Read { key: b"k", revision: None }).collect();
    let write = |key, value| vec![Write { key, value }];
    let cases = [
        prepare(many, vec![], vec![3]),
        prepare(vec![], write(&key, None), vec![3]),
        prepare(vec![], write(b"", Some(b"")), vec![3]),
        prepare(vec![], [write(b"a", Some(&long)), write(b"b", Some(&long))].concat(), vec![3]),
        prepare(vec![], write(b"a", None), vec![9]),
        b"no command".to_vec(),
    ];
    for case in cases {
        let data = &case[..];
        let entry = Entry { id: EntryId::new(1, 1), kind: EntryKind::Command, data };
        let mut replies = Replies::default();
        shard.store.apply(Batch::of_entries(&[entry]), &mut replies);
        let (_, reply) = replies.drain().next().unwrap();
        assert!(matches!(Reply::decode(&reply), Ok(Reply::Refused(_))), "{reply:?}");
    }
    assert_eq!(shard.finish(77, true), Reply::Finished, "there is nothing of it");
    shard.lock(5, "x", Mode::Shared);
    assert_eq!(shard.finish(5, true), Reply::Refused(Refusal::Undecided));
    assert_eq!(shard.prepare_as(5, Kind::Locking), Reply::Aborted(Aborted::Wounded));
    assert_eq!(shard.store.txns, Txns::default());
    assert!(shard.store.kv.is_empty());
}
