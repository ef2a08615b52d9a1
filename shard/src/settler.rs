//! Ends transactions whose clients are gone. Runs beside each member, and works while the member leads.
//!
//! All that it does anybody may do, at any time: ask a home what stands there, which decides what is undecided;
//! tell a shard what its transaction's home has decided; forget what is finished everywhere. It waits a while
//! only because a client that lives should do it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_host::session::{Answer, without_session};

use crate::configs::Configs;
use crate::group::{SlotState, Stand};
use crate::net::{Net, all};
use crate::partition::{Partition, ShardId};
use crate::router::Router;
use crate::store::{Command, Doubt, Query, QueryReply, Reply, TxnId};

/// The wait between two looks.
const POLL: Duration = Duration::from_millis(200);

/// How long one step may take; it is tried again at the next look.
const STEP_PATIENCE: Duration = Duration::from_secs(1);

/// How patient a settler is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Patience {
    /// How long a prepared part, or a record, may stand unchanged.
    pub prepared: Duration,
    /// How long a transaction may have locks and do nothing.
    pub idle: Duration,
}

/// One second, and five.
impl Default for Patience {
    fn default() -> Self {
        Patience { prepared: Duration::from_secs(1), idle: Duration::from_secs(5) }
    }
}

/// Ends transactions whose clients are gone.
#[derive(Debug)]
pub struct Settler<N, L> {
    router: Router<N>,
    look: L,
    patience: Patience,
}

/// What was seen of transactions, and since when it is so. A home has both a part and a record.
type Seen = BTreeMap<(ShardId, TxnId, Doubt), Duration>;

impl<N: Net, L: Fn() -> Option<Arc<Stand>>> Settler<N, L> {
    /// The settler of a member. `look` says how its group stands, as far as it knows, if it leads.
    pub fn new(net: N, partition: Partition, configs: Configs, look: L) -> Self {
        let router = Router::new(net, partition, configs);
        Settler { router, look, patience: Patience::default() }
    }

    /// With another patience.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Settler { patience, ..self }
    }

    /// Does its part, for ever.
    pub async fn run(&self) {
        let mut seen = Seen::new();
        loop {
            self.router.net().sleep(POLL).await;
            match (self.look)() {
                Some(stand) => self.look_at(&stand, &mut seen).await,
                None => seen.clear(),
            }
        }
    }

    /// Looks at all shards once, and settles what has stood for long.
    async fn look_at(&self, stand: &Stand, seen: &mut Seen) {
        let (now, mut stands) = (self.router.net().now(), Seen::new());
        let is_busy = |slot: &SlotState| slot.serving.is_some() && slot.txns > 0;
        let slots = (0..).zip(&stand.slots).filter(|(_, slot)| is_busy(slot));
        let looks = slots.map(|(shard, _)| async move { (shard, self.doubt(shard).await) });
        for (shard, doubts) in all(looks).await {
            // What does not answer once stands as it did.
            let before = seen.keys().filter(|(of, ..)| *of == shard).cloned();
            let names: Vec<_> = match doubts {
                Some(doubts) => doubts.into_iter().map(|(id, doubt)| (shard, id, doubt)).collect(),
                None => before.collect(),
            };
            for name in names {
                let since = seen.get(&name).copied().unwrap_or(now);
                stands.insert(name, since);
            }
        }
        *seen = stands;
        let is_old = |doubt: &Doubt, since: Duration| {
            let is_running = matches!(doubt, Doubt::Running { .. });
            let patience = if is_running { self.patience.idle } else { self.patience.prepared };
            now.saturating_sub(since) >= patience
        };
        let old = seen.iter().filter(|((.., doubt), since)| is_old(doubt, **since));
        all(old.map(|((shard, txn, doubt), _)| self.settle(*shard, *txn, doubt))).await;
    }

    /// The transactions that stand in a shard, unless it does not answer.
    async fn doubt(&self, shard: ShardId) -> Option<Vec<(TxnId, Doubt)>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let query = Query::Doubt { after };
            let answer = self.router.ask(shard, &query, STEP_PATIENCE).await;
            let Ok(QueryReply::Doubt { txns, has_more }) = answer else { return None };
            after = txns.last().map(|(txn, _)| *txn);
            all.extend(txns);
            if !has_more || after.is_none() {
                return Some(all);
            }
        }
    }

    async fn settle(&self, shard: ShardId, txn: TxnId, doubt: &Doubt) {
        match doubt {
            Doubt::Running { since } => {
                self.tell(shard, &Command::Expire { txn, since: *since }).await;
            }
            Doubt::Prepared { home } => {
                // What is undecided does not commit.
                let decide = Command::Decide { txn, commit: false };
                if let Some(Heard::Decided(commit)) = self.tell(*home, &decide).await {
                    self.tell(shard, &Command::Finish { txn, commit }).await;
                }
            }
            Doubt::Home { committed: false, .. } => {
                self.tell(shard, &Command::Decide { txn, commit: false }).await;
            }
            Doubt::Home { committed: true, participants } => {
                let finish = Command::Finish { txn, commit: true };
                let told = all(participants.iter().map(|part| self.tell(*part, &finish))).await;
                if told.iter().all(Option::is_some) {
                    self.tell(shard, &Command::Forget { txn }).await;
                }
            }
        }
    }

    /// Tells a shard something. `None` where it has not heard it, or does not do it.
    async fn tell(&self, shard: ShardId, command: &Command<'_>) -> Option<Heard> {
        let bytes = without_session(&command.encode());
        let mut way = self.router.way(STEP_PATIENCE);
        let Ok(Answer::Applied(reply)) = self.router.send(shard, &bytes, &mut way).await else {
            return None;
        };
        match Reply::decode(&reply) {
            Ok(Reply::Decided { commit }) => Some(Heard::Decided(commit)),
            Ok(Reply::Finished) => Some(Heard::Done),
            _ => None,
        }
    }
}

/// A shard has heard it.
enum Heard {
    /// What stands at a home.
    Decided(bool),
    Done,
}
