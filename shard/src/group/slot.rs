//! What a group knows of one shard, and the steps of a move.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use raft_core::state_machine::Replies;

use super::command::{Cursor, Refusal, Reply, SlotState, Source};
use super::moving::{Arriving, Leaving};
use super::shard::Shard;
use crate::config::Num;
use crate::partition::{Partition, ShardId};

/// What a group knows of one shard.
///
/// A step that names a lower number than the largest one seen comes from the past, and is refused; one that is
/// repeated finds done what it wanted. What has left is only dropped when somebody says that it has arrived:
/// so the state is always in one place at least, and served in one at most.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The largest number of a configuration in which the shard came here or left.
    pub(super) seen: Num,
    pub(super) serving: Option<Shard>,
    pub(super) leaving: Option<Leaving>,
    pub(super) arriving: Option<Arriving>,
    /// For a group that pulls: who has what is to arrive.
    pub(super) source: Option<Source>,
}

/// A shard, and how keys are spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) partition: &'a Partition,
    pub(super) id: ShardId,
}

/// A piece of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) from: &'a Cursor,
    pub(super) data: &'a [u8],
    pub(super) next: Option<&'a Cursor>,
}

impl Slot {
    /// The shard where it is served, and in which configuration it came.
    pub(super) fn served(&self) -> Option<(Num, &Shard)> {
        Some((self.seen, self.serving.as_ref()?))
    }

    /// Serves a shard that nobody has.
    pub(super) fn begin(&mut self, id: ShardId, num: Num) {
        self.serve(num, Shard::empty(id));
    }

    /// Serves what has left and was never fetched.
    pub(super) fn take_back(&mut self, num: Num, left: Num) -> bool {
        match self.leaving.take_if(|leaving| leaving.num == left) {
            Some(leaving) => self.serve(num, leaving.shard),
            None => return false,
        }
        true
    }

    fn serve(&mut self, num: Num, shard: Shard) {
        self.seen = num;
        self.serving = Some(shard);
        // What left before has arrived somewhere: from there it came back.
        free(self.leaving.take());
        (self.arriving, self.source) = (None, None);
    }

    /// Awaits a shard from somebody.
    pub(super) fn await_from(&mut self, num: Num, source: Source) {
        self.arriving = Some(Arriving::new(num));
        self.source = Some(source);
    }

    /// Serves the shard no more. Who waits for something there must go elsewhere.
    pub(super) fn freeze(
        &mut self,
        place: Place<'_>,
        num: Num,
        replies: &mut Replies,
    ) -> Reply<'static> {
        if num < self.seen {
            return Reply::Stale { seen: self.seen };
        }
        if num == self.seen {
            return match &self.leaving {
                Some(leaving) if leaving.num == num => Reply::Frozen,
                // It came here in this configuration: whoever says that it leaves in the same one errs.
                _ if self.serving.is_some() => Reply::Stale { seen: self.seen },
                _ => Reply::Gone,
            };
        }
        let Some(shard) = self.serving.take() else { return Reply::Refused(Refusal::NotServed) };
        for index in shard.parked.values() {
            replies.push(*index, Reply::WrongGroup.encode());
        }
        self.seen = num;
        self.leaving = Some(Leaving::new(place.id, num, shard));
        Reply::Frozen
    }

    /// Adds a piece of what arrives. A group that pulls takes only what it awaits.
    pub(super) fn install(
        &mut self,
        place: Place<'_>,
        num: Num,
        piece: Piece<'_>,
        is_pulled: bool,
    ) -> Reply<'static> {
        if num <= self.seen {
            return Reply::Stale { seen: self.seen };
        }
        let awaited = self.arriving.as_ref().map_or(0, |arriving| arriving.num);
        if is_pulled && num != awaited {
            return Reply::Refused(Refusal::NotAwaited);
        }
        if num < awaited {
            return Reply::Stale { seen: awaited };
        }
        if num > awaited {
            self.arriving = Some(Arriving::new(num));
        }
        let arriving = self.arriving.as_mut().expect("it is there, or was just put there");
        if *piece.from != arriving.expects {
            return Reply::Next(arriving.expects.clone());
        }
        if let Err(refusal) = arriving.add((place.partition, place.id), piece.data, piece.next) {
            return Reply::Refused(refusal);
        }
        if piece.next.is_some() {
            return Reply::Next(arriving.expects.clone());
        }
        self.finish(place, num)
    }

    fn finish(&mut self, place: Place<'_>, num: Num) -> Reply<'static> {
        let arriving = self.arriving.take().expect("its last piece was just added");
        match arriving.finish(place.id) {
            Ok(shard) => {
                self.serve(num, shard);
                Reply::Installed
            }
            Err(refusal) => {
                // From the start, with the right pieces.
                self.arriving = Some(Arriving::new(num));
                Reply::Refused(refusal)
            }
        }
    }

    /// Drops what has left: somebody else has it.
    pub(super) fn delete(&mut self, num: Num) -> Reply<'static> {
        if num < self.seen {
            return Reply::Stale { seen: self.seen };
        }
        free(self.leaving.take_if(|leaving| leaving.num <= num));
        Reply::Deleted
    }

    pub(super) fn state(&self) -> SlotState {
        let leaving = self.leaving.as_ref();
        let arriving = self.arriving.as_ref();
        SlotState {
            seen: self.seen,
            serving: self.serving.as_ref().map(Shard::keys),
            txns: self.serving.as_ref().map_or(0, Shard::txns),
            leaving: leaving.map(|leaving| (leaving.num, leaving.shard.keys())),
            arriving: arriving.map(|it| (it.num, it.expects.clone(), it.keys.len())),
            source: self.source.clone(),
        }
    }
}

/// With more keys than this, a shard is freed by a thread that does nothing else: to free a hundred thousand at once takes as long
/// as many entries, and all groups of the process wait for whoever applies this one.
const FREED_AT_ONCE: u64 = 1000;

/// The thread's rest after each hundredth of a shard or less: others allocate meanwhile.
const REST: Duration = Duration::from_millis(1);

fn free(leaving: Option<Leaving>) {
    static FREEING: OnceLock<Sender<Leaving>> = OnceLock::new();
    if let Some(leaving) = leaving.filter(|leaving| leaving.shard.keys() > FREED_AT_ONCE) {
        // Where there can be no thread, it is freed here after all.
        _ = FREEING.get_or_init(start_freeing).send(leaving);
    }
}

fn start_freeing() -> Sender<Leaving> {
    let (sender, leaving) = mpsc::channel::<Leaving>();
    let free = move || {
        for it in leaving {
            it.shard.machine.into_inner().into_kv().free(|| thread::sleep(REST));
        }
    };
    _ = thread::Builder::new().name("shard-free".to_owned()).spawn(free);
    sender
}
