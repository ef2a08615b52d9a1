//! What nobody sends who means well.

use super::super::txns::BYTES_MAX;
use super::*;

const TAKEN: Reply<'_> = Reply::Refused(Refusal::NameTaken);

/// Writes `y`, beside shard 9.
fn other_part(home: ShardId, value: &[u8], participants: Vec<ShardId>) -> Command<'_> {
    let writes = vec![Write { key: b"y", value: Some(value) }];
    let (txn, kind, reads) = (txn(5), Kind::Optimistic, vec![]);
    Command::Prepare(Prepare { txn, kind, home, participants, reads, writes })
}

impl Shard {
    /// Without the check of each state.
    fn apply(&mut self, command: &Command<'_>) -> LogIndex {
        self.index += 1;
        let data = &command.encode()[..];
        let entry = Entry { id: EntryId::new(self.index, 1), kind: EntryKind::Command, data };
        let mut replies = Replies::default();
        self.store.apply(Batch::of_entries(&[entry]), &mut replies);
        self.replies.extend(replies.drain());
        self.index
    }

    fn ask(&self, query: &Query<'_>) -> QueryReply {
        QueryReply::decode(&self.store.query(&query.encode())).unwrap()
    }

    fn captured_bytes(&self) -> usize {
        let mut bytes = Vec::new();
        self.store.capture().write_to(&mut bytes).unwrap();
        bytes.len()
    }
}

/// A transaction with another one's name: neither is taken for the other. And with the name of one that is decided:
/// the decision stands, as other shards may have it still to hear.
#[test]
fn a_foreign_or_finished_name_is_refused_and_decides_nothing_anew() {
    let mut shard = Shard::new();
    assert_eq!(shard.prepare(5), Reply::Prepared);
    for (home, value, participants) in
        [(3, b"w", vec![3, 9]), (9, b"v", vec![3, 9]), (3, b"v", vec![3, 8, 9]), (3, b"v", vec![3])]
    {
        assert_eq!(shard.tell(&other_part(home, value, participants)), TAKEN);
    }
    assert_eq!(shard.prepare(5), Reply::Prepared, "again");
    assert!(shard.decide(5, true));
    shard.finish(5, true);
    assert_eq!(shard.prepare(5), TAKEN, "it is committed, and not finished everywhere");
    assert_eq!(shard.tell(&other_part(3, b"w", vec![3])), TAKEN);
    assert!(shard.decide(5, false), "shard 9 asks only now");
    assert_eq!(shard.store.kv.get(b"y"), Some(&b"v"[..]));
    assert_eq!(shard.tell(&Command::Forget { txn: txn(5) }), Reply::Finished);
    assert_eq!(shard.store.txns, Txns::default());
    assert_eq!(shard.put("y"), None);
}

#[test]
fn a_list_of_participants_that_makes_no_sense_is_refused() {
    let mut shard = Shard::new();
    for (home, participants) in
        [(3, vec![9, 3]), (3, vec![3, 3]), (3, vec![]), (9, vec![9]), (8, vec![3, 9])]
    {
        let refused = Reply::Refused(Refusal::NoParticipant);
        assert_eq!(shard.tell(&other_part(home, b"v", participants)), refused);
    }
    assert_eq!(shard.store.txns, Txns::default());
}

/// Whoever settles transactions hears of all, however many there are: a page fits into an answer.
#[test]
fn transactions_under_way_are_told_in_pages() {
    let mut shard = Shard::new();
    let everybody: Vec<ShardId> = (0..1000).collect();
    for began in 0..500 {
        let (kind, home, reads, key) = (Kind::Optimistic, 3, vec![], began.to_string());
        let writes = vec![Write { key: key.as_bytes(), value: None }];
        let (txn, participants) = (txn(began), everybody.clone());
        let prepare = Prepare { txn, kind, home, participants, reads, writes };
        shard.apply(&Command::Prepare(prepare));
    }
    let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let answer = shard.store.query(&Query::Doubt { after }.encode());
        assert!(answer.len() < 512 << 10, "{} bytes", answer.len());
        let Ok(QueryReply::Doubt { txns, has_more }) = QueryReply::decode(&answer) else {
            panic!()
        };
        after = txns.last().map(|(txn, _)| *txn);
        (all, pages) = ([all, txns].concat(), pages + 1);
        if !has_more {
            break;
        }
    }
    assert!(pages > 1 && all.len() == 1000, "{pages} pages, {} parts and records", all.len());
    assert!(all.is_sorted_by(|(a, _), (b, _)| a <= b));
}

/// Locks of transactions that do nothing else, with the longest keys: there is an end to it, before a snapshot is too
/// long to be read, or a head to be moved; and when they are gone there is room again.
#[test]
fn what_transactions_have_is_bounded() {
    let mut shard = Shard::new();
    let mut locked = 0;
    let no_room = loop {
        let mut key = format!("{locked}").into_bytes();
        key.resize(kv::KEY_BYTES_MAX, b'.');
        let (txn, mode) = (txn(locked / 1000), Mode::Exclusive);
        let at = shard.apply(&Command::Lock { txn, key: &key, mode });
        if !shard.is_locked(at) {
            break shard.reply(at);
        }
        shard.replies.clear();
        locked += 1;
    };
    assert_eq!(no_room, Some(Reply::Aborted(Aborted::NoRoom)));
    assert!(shard.store.txns.bytes() <= BYTES_MAX && shard.captured_bytes() <= BYTES_MAX + 1000);
    assert!(locked > 7000, "{locked}");
    // More than one more lock.
    let value = vec![0; 9000];
    assert_eq!(shard.tell(&other_part(3, &value, vec![3, 9])), Reply::Aborted(Aborted::NoRoom));
    assert_eq!(shard.put("y"), None, "plain writes go on");
    for began in 0..=locked / 1000 {
        shard.apply(&Command::Finish { txn: txn(began), commit: false });
    }
    assert_eq!(shard.store.txns, Txns::default());
    assert_eq!(shard.tell(&other_part(3, &value, vec![3, 9])), Reply::Prepared);
}

#[test]
fn what_does_not_fit_into_an_answer_is_refused() {
    let mut shard = Shard::new();
    let value = vec![0; 400 << 10];
    for key in [b"a", b"b"] {
        shard.commit(&Command::Plain(&kv::Command::Put { key, value: &value }.encode()));
    }
    let keys = vec![&b"a"[..], b"b", b"c"];
    let bytes = 800 << 10;
    let refused = QueryReply::Refused(Refusal::TooLong { bytes });
    assert_eq!(shard.ask(&Query::Observe { keys: keys.clone() }), refused);
    let revisions = vec![(1, true), (2, true), (0, false)];
    assert_eq!(shard.ask(&Query::Revisions { keys }), QueryReply::Revisions(revisions));
    let keys = vec![&b"a"[..]; 1025];
    let too_many = QueryReply::Refused(Refusal::TooManyParts { parts: 1025 });
    assert_eq!(shard.ask(&Query::Revisions { keys }), too_many);
}
