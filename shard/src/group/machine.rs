//! The machine of a group: who may do what to which shard, decided when it is applied.

use raft_core::block::Entry;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSource};
use raft_core::state_machine::{Batch, Replies, StateMachine};
use raft_host::session::command_in;

use super::command::{Command, Query, QueryReply, Refusal, Reply, Source, Stand};
use super::slot::{Piece, Place, Slot};
use super::snapshot;
use crate::codec::{SchemaRead, SchemaWrite};
use crate::config::{Config, Gid, Num};
use crate::partition::{Partition, ShardId};
use crate::store;

/// Who moves a group's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Kind {
    /// A controller from outside, step by step (MIT 6.5840 of 2025).
    Pushed,
    /// The group itself, configuration by configuration (MIT 6.824 of 2020-23).
    Pulled,
}

/// The state machine of a group: see the module [`group`](super), and `docs/shard.md`.
#[derive(Debug)]
pub struct Group {
    pub(super) gid: Gid,
    pub(super) partition: Partition,
    pub(super) kind: Kind,
    /// The configuration that is served, or waited for; of a group that pulls.
    pub(super) config: Option<Config>,
    pub(super) slots: Vec<Slot>,
    /// Grows with every entry, and tells what is restored from what was there before; kept by this process alone.
    pub(super) changes: u64,
}

impl Group {
    /// A group that serves nothing yet. All its members, and each of their restarts, must say the same.
    ///
    /// # Panics
    /// If the partition has no shards, or the group is 0, which stands for nobody.
    pub fn new(gid: Gid, partition: Partition, kind: Kind) -> Self {
        assert!(gid != 0, "group 0 stands for nobody");
        assert!(partition.shards > 0, "there is at least one shard");
        let slots = (0..partition.shards).map(|_| Slot::default()).collect();
        let config = (kind == Kind::Pulled).then(|| Config::new(&partition));
        Group { gid, partition, kind, config, slots, changes: 0 }
    }

    /// Which group this is.
    pub fn gid(&self) -> Gid {
        self.gid
    }

    /// The configuration of a group that pulls.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The shards that are served now.
    pub fn served(&self) -> impl Iterator<Item = ShardId> + '_ {
        let slots = (0..).zip(&self.slots);
        slots.filter(|(_, slot)| slot.serving.is_some()).map(|(shard, _)| shard)
    }

    /// How the group stands: what [`Query::Slots`] answers.
    pub fn stand(&self) -> Stand {
        let slots = self.slots.iter().map(Slot::state).collect();
        Stand { config: self.config.clone(), slots }
    }

    /// As long as this is the same, it stands as it did.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn execute(&mut self, entry: Entry<'_>, replies: &mut Replies) {
        let command = match Command::decode(entry.data) {
            Ok(command) => command,
            Err(_) => return replies.push(entry.id.index, refused(Refusal::Malformed)),
        };
        let reply = match command {
            Command::Client { shard, command } => {
                match self.client(entry, shard, command, replies) {
                    Some(reply) => reply,
                    None => return,
                }
            }
            Command::Configure { config, sources } => self.configure(config, sources, replies),
            Command::Freeze { shard, num } => {
                let refusal = (self.kind == Kind::Pulled).then_some(Refusal::NotAwaited);
                self.step(shard, refusal, |slot, place| slot.freeze(place, num, replies))
            }
            Command::Install { shard, num, ref from, data, ref next } => {
                let is_pulled = self.kind == Kind::Pulled;
                let piece = Piece { from, data, next: next.as_ref() };
                self.step(shard, None, |slot, place| slot.install(place, num, piece, is_pulled))
            }
            Command::Delete { shard, num } => self.step(shard, None, |slot, _| slot.delete(num)),
        };
        replies.push(entry.id.index, reply.encode());
    }

    /// A step of a move.
    fn step(
        &mut self,
        shard: ShardId,
        refusal: Option<Refusal>,
        step: impl FnOnce(&mut Slot, Place<'_>) -> Reply<'static>,
    ) -> Reply<'static> {
        let place = Place { partition: &self.partition, id: shard };
        match (self.slots.get_mut(shard as usize), refusal) {
            (None, _) => Reply::Refused(self.no_shard(shard)),
            (_, Some(refusal)) => Reply::Refused(refusal),
            (Some(slot), None) => step(slot, place),
        }
    }

    fn no_shard(&self, shard: ShardId) -> Refusal {
        Refusal::NoShard { shard, shards: self.partition.shards }
    }

    /// Whether a command is about keys of its shard, and shards that there are: whoever ends the transaction of one
    /// that is not would ask for ever.
    fn check_command(&self, shard: ShardId, command: &store::Command<'_>) -> Result<(), Refusal> {
        match command.shards().iter().find(|shard| **shard >= self.partition.shards) {
            Some(unknown) => Err(self.no_shard(*unknown)),
            None => self.check_keys(shard, command.names()),
        }
    }

    fn check_keys<'k>(
        &self,
        shard: ShardId,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<(), Refusal> {
        let mut belongs = keys.into_iter().map(|key| self.partition.shard_of(key));
        match belongs.find(|belongs| *belongs != shard) {
            Some(belongs) => Err(Refusal::ForeignKey { shard, belongs }),
            None => Ok(()),
        }
    }

    /// Hands a client's command to its shard, unless there is something else to be answered.
    fn client(
        &mut self,
        entry: Entry<'_>,
        id: ShardId,
        command: &[u8],
        replies: &mut Replies,
    ) -> Option<Reply<'static>> {
        if id >= self.partition.shards {
            return Some(Reply::Refused(self.no_shard(id)));
        }
        // What can't be read is answered by the shard.
        let known = command_in(command).and_then(|inner| store::Command::decode(inner).ok());
        if let Some(known) = &known
            && let Err(refusal) = self.check_command(id, known)
        {
            return Some(Reply::Refused(refusal));
        }
        let slot = &mut self.slots[id as usize];
        let Some(shard) = &mut slot.serving else { return Some(Reply::WrongGroup) };
        if let Some(txn) = known.and_then(|known| shard.blocked(&known)) {
            return Some(Reply::Locked { txn });
        }
        shard.apply(entry, command, replies);
        None
    }

    /// Takes the next configuration: shards leave at once, others are awaited.
    fn configure(
        &mut self,
        config: Config,
        sources: Vec<Source>,
        replies: &mut Replies,
    ) -> Reply<'static> {
        match self.check_next(&config, &sources) {
            Ok(None) => {}
            Ok(Some(seen)) => return Reply::Stale { seen },
            Err(refusal) => return Reply::Refused(refusal),
        }
        let num = config.num;
        for (id, slot) in (0..).zip(&mut self.slots) {
            let place = Place { partition: &self.partition, id };
            let source = sources.iter().find(|source| source.shard == id);
            match (config.group_of(id) == self.gid, slot.serving.is_some(), source) {
                (false, true, _) => _ = slot.freeze(place, num, replies),
                (true, false, None) => slot.begin(id, num),
                (true, false, Some(source)) if source.gid == self.gid => {
                    assert!(slot.take_back(num, source.num), "it was looked for before");
                }
                (true, false, Some(source)) => slot.await_from(num, source.clone()),
                (false, false, _) | (true, true, _) => {}
            }
        }
        self.config = Some(config);
        Reply::Configured
    }

    /// Whether a configuration is the next one, or `Some` of the number that stands, where it is an older one.
    fn check_next(&self, config: &Config, sources: &[Source]) -> Result<Option<Num>, Refusal> {
        let now = self.config.as_ref().ok_or(Refusal::NotAwaited)?;
        config.check(&self.partition).map_err(Refusal::Config)?;
        if config.num <= now.num {
            return Ok(Some(now.num));
        }
        if config.num > now.num + 1 {
            return Err(Refusal::Hole { expected: now.num + 1 });
        }
        if self.slots.iter().any(|slot| slot.source.is_some()) {
            return Err(Refusal::Unfinished);
        }
        for shard in config.shards_of(self.gid) {
            let slot = &self.slots[shard as usize];
            let source = sources.iter().find(|source| source.shard == shard);
            let has_left = |num| slot.leaving.as_ref().is_some_and(|leaving| leaving.num == num);
            let is_known = match source {
                Some(source) if source.gid == self.gid => has_left(source.num),
                // Whoever says that nobody has it must not be the one who forgot that this group does.
                None => now.group_of(shard) == 0 && slot.leaving.is_none(),
                Some(_) => true,
            };
            if slot.serving.is_none() && !is_known {
                return Err(Refusal::NoSource { shard });
            }
        }
        Ok(None)
    }

    fn answer(&self, query: &[u8]) -> QueryReply {
        let Ok(query) = Query::decode(query) else {
            return QueryReply::Refused(Refusal::Malformed);
        };
        let slot = |shard: ShardId| self.slots.get(shard as usize).ok_or(self.no_shard(shard));
        let answer = match query {
            Query::Slots => Ok(QueryReply::Slots(self.stand())),
            Query::Client { shard, query } => slot(shard).and_then(|slot| {
                if let Ok(query) = store::Query::decode(query) {
                    self.check_keys(shard, query.names())?;
                }
                let served = slot.serving.as_ref();
                Ok(served.map_or(QueryReply::WrongGroup, |it| QueryReply::Client(it.query(query))))
            }),
            Query::Piece { shard, num, from } => slot(shard).map(|slot| {
                match slot.leaving.as_ref().filter(|leaving| leaving.num == num) {
                    Some(leaving) => {
                        let (data, next) = leaving.piece(&from);
                        QueryReply::Piece { data, next }
                    }
                    None => QueryReply::NotHere { seen: slot.seen },
                }
            }),
        };
        answer.unwrap_or_else(QueryReply::Refused)
    }
}

fn refused(refusal: Refusal) -> Vec<u8> {
    Reply::Refused(refusal).encode()
}

impl StateMachine for Group {
    fn apply(&mut self, batch: Batch<'_>, replies: &mut Replies) {
        batch.for_each(|entry| {
            self.changes += 1;
            self.execute(entry, replies);
        });
    }

    fn query(&self, request: &[u8]) -> Vec<u8> {
        self.answer(request).encode()
    }

    fn capture(&self) -> Box<dyn Capture> {
        snapshot::capture(self)
    }

    fn restore(&mut self, source: &mut dyn SnapshotSource) -> Result<(), SnapshotError> {
        *self = snapshot::read(self, source)?;
        Ok(())
    }
}
