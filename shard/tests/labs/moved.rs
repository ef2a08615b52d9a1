//! P58: a shard moves between prepare and commit, with its locks, its parts and its records. Both kinds of group, both
//! kinds of transaction; the home moves, or another part, or both.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use shard::clerk::Clerk;
use shard::mover::Changed;
use shard::settler::Patience;
use shard::store::Kind as TxnKind;
use shard::{Config, Gid, KeyHash, Kind, Partition, ShardId};

use crate::groups::{Groups, name};
use crate::lab::{MILLISECOND, SECOND, seed};
use crate::town::{Link, Loss, TaskId};

const PARTITION: Partition = Partition { shards: 4, hash: KeyHash::FirstDigit };

/// The keys of the transaction, in its home and in another shard; and the shards that move.
const KEYS: [&[u8]; 2] = [b"0 home", b"2 part"];
const MOVES: [&[ShardId]; 3] = [&[0], &[2], &[0, 2]];

/// Where everything is, and where shards move.
const FROM: Gid = 1;
const TO: Gid = 2;

/// Settlers leave those alone who live.
const PREPARED: Duration = Duration::from_secs(8);

struct Case {
    groups: Groups,
    kind: Kind,
    client: Link,
    task: TaskId,
    /// Whether the client was told that it has committed.
    is_told: Rc<Cell<bool>>,
}

/// Every case: a client at its commit, after both of its keys have the value `old`.
fn cases() -> impl Iterator<Item = (Case, &'static [ShardId])> {
    let kinds = [Kind::Pulled, Kind::Pushed].into_iter();
    let both = |kind| [TxnKind::Optimistic, TxnKind::Locking].map(|txn| (kind, txn));
    let all = kinds.flat_map(both).flat_map(|(kind, txn)| MOVES.map(|moves| (kind, txn, moves)));
    all.map(|(kind, txn, moves)| (Case::new(kind, txn), moves))
}

impl Case {
    fn new(kind: Kind, txn: TxnKind) -> Self {
        let mut patience = Patience::default();
        patience.prepared = PREPARED;
        let groups = Groups::new(kind, PARTITION, seed(), Some(300)).with_patience(patience);
        [FROM, TO].iter().for_each(|gid| _ = groups.start(*gid));
        let (all, mut clerk) = (groups.clone(), groups.clerk());
        groups.town.run(async move {
            match kind {
                Kind::Pulled => {
                    let operator = all.operator();
                    operator.join(&[FROM]).await;
                    // So that it is there, and gets nothing yet.
                    operator.join(&[TO]).await;
                    for shard in 0..PARTITION.shards {
                        operator.move_shard(shard, FROM).await;
                    }
                }
                Kind::Pushed => {
                    let both = all.joined(&Config::new(&PARTITION), &[FROM, TO]);
                    let shards = both.shards.iter().map(|_| FROM).collect();
                    let end = all.mover().0.init(&Config { shards, ..both }).await;
                    assert_eq!(end, Ok(Changed::Done));
                }
            }
            for key in KEYS {
                clerk.put(key, b"old").await.expect("nothing is wrong");
            }
        });
        groups.town.run_for(SECOND);
        let (mut clerk, is_told) = (groups.clerk(), Rc::new(Cell::new(false)));
        let (client, told) = (clerk.net().clone(), is_told.clone());
        let task = groups.town.spawn(async move {
            let mut it = clerk.begin(txn);
            for key in KEYS {
                let found = it.get(key).await.expect("nobody else is there");
                assert_eq!(found.as_deref(), Some(&b"old"[..]));
                it.put(key, b"new").await.expect("nobody else is there");
            }
            it.commit().await.expect("nobody has decided otherwise");
            told.set(true);
        });
        Case { groups, kind, client, task, is_told }
    }

    /// Comes to the moment at which this holds, and there the client hears no more.
    fn cut_when(&self, holds: impl Fn(&Groups) -> bool) {
        let town = &self.groups.town;
        let end = town.now() + SECOND;
        while !holds(&self.groups) {
            assert!(town.now() < end && !self.is_told.get(), "it never came to that");
            town.run_for(100);
        }
        self.set_cut(Some(Loss::Both));
    }

    fn set_cut(&self, loss: Option<Loss>) {
        for gid in [FROM, TO] {
            self.groups.town.cut_between(&self.client, &name(gid), loss);
        }
    }

    /// Both parts are prepared, and nothing is decided.
    fn cut_when_prepared(&self) {
        self.cut_when(|groups| groups.ledger.borrow().prepared == 2);
        let ledger = self.groups.ledger.borrow();
        assert_eq!((ledger.committed, ledger.aborted), ([0, 0], 0));
    }

    /// Moves shards, with what is prepared in them.
    fn carry(&self, shards: &'static [ShardId], prepared: u64) {
        let (groups, kind) = (self.groups.clone(), self.kind);
        let (moves, moved) = self.moves();
        self.groups.town.run(async move {
            for shard in shards {
                match kind {
                    Kind::Pulled => groups.operator().move_shard(*shard, TO).await,
                    Kind::Pushed => {
                        let mover = groups.mover().0;
                        let next = mover.query().await.expect("it is there").moved(*shard, TO);
                        assert_eq!(mover.change(&next).await, Ok(Changed::Done));
                    }
                }
            }
        });
        self.groups.town.run_for(SECOND);
        let count = shards.len() as u64;
        assert_eq!(self.moves(), (moves + count, moved + prepared), "{shards:?}");
    }

    fn moves(&self) -> (u64, u64) {
        let ledger = self.groups.ledger.borrow();
        (ledger.moves, ledger.moves_prepared)
    }

    /// Somebody reads a key; the value, once there is one.
    fn read(&self, key: &'static [u8]) -> Rc<Cell<Option<Vec<u8>>>> {
        let (mut clerk, found) = (self.groups.clerk(), Rc::new(Cell::new(None)));
        let out = found.clone();
        self.groups.town.spawn(async move { out.set(Some(value(&mut clerk, key).await)) });
        found
    }

    /// Both keys have this value within the time that settlers need, and can be written again.
    fn end(self, value: &[u8]) {
        self.groups.town.run_for(PREPARED.as_micros() as u64 + 3 * SECOND);
        for key in KEYS {
            let found = self.read(key);
            self.groups.town.run_for(100 * MILLISECOND);
            assert_eq!(found.take().as_deref(), Some(value), "{:?}", key.escape_ascii());
        }
        let mut clerk = self.groups.clerk();
        self.groups.town.run(async move {
            for key in KEYS {
                clerk.put(key, b"newer").await.expect("nobody has locked it");
            }
        });
        self.groups.finish();
    }
}

async fn value(clerk: &mut Clerk<Link>, key: &[u8]) -> Vec<u8> {
    clerk.get(key).await.expect("it is waited for").expect("it was put").value
}

/// The client goes on with the shards where they are now. Meanwhile nobody reads what may be written, at either place.
#[test]
fn a_transaction_whose_shards_move_while_they_are_prepared_commits() {
    for (case, moves) in cases() {
        case.cut_when_prepared();
        case.carry(moves, moves.len() as u64);
        let reads = KEYS.map(|key| case.read(key));
        case.groups.town.run_for(500 * MILLISECOND);
        assert!(reads.iter().all(|read| read.take().is_none()), "half of it can be seen");
        case.set_cut(None);
        case.groups.town.run_for(2 * SECOND + 500 * MILLISECOND);
        assert!(case.is_told.get(), "the client waits");
        assert!(reads.iter().all(|read| read.take().as_deref() == Some(b"new")));
        case.end(b"new");
    }
}

/// Nobody but the settlers of the shards' new places can end it.
#[test]
fn a_transaction_whose_shards_move_and_whose_client_is_gone_has_not_happened() {
    for (case, moves) in cases() {
        case.cut_when_prepared();
        case.groups.town.kill(case.task);
        case.carry(moves, moves.len() as u64);
        case.end(b"old");
    }
}

/// What was decided at the home before it moved is carried out where the parts are now.
#[test]
fn a_transaction_that_is_decided_and_whose_shards_move_happens() {
    for (case, moves) in cases() {
        case.cut_when(|groups| groups.ledger.borrow().committed != [0, 0]);
        case.groups.town.kill(case.task);
        case.carry(moves, moves.len() as u64);
        case.end(b"new");
    }
}
