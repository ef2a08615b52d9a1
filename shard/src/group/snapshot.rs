//! The state of a group as bytes: a version, then a length and as many bytes of everything that is small, in
//! the format of `codec.rs`; then for each shard what is large, as frames.

use std::collections::BTreeMap;

use kv::Machine;
use raft_core::snapshot::{Capture, SnapshotError, SnapshotSink, SnapshotSource};
use raft_core::state_machine::StateMachine;
use raft_core::types::LogIndex;
use raft_host::session::Sessions;

use super::command::{Cursor, Source};
use super::frames::{FrameSink, FrameSource};
use super::machine::{Group, Kind};
use super::moving::{Arriving, Leaving};
use super::shard::Shard;
use super::slot::Slot;
use crate::codec::{self, SchemaRead, SchemaWrite};
use crate::config::{Config, Gid, Num};
use crate::partition::{Partition, ShardId};
use crate::store::Store;

const VERSION: u8 = 1;

/// The longest small part that is read.
const SMALL_BYTES_MAX: u64 = 64 << 20;

#[derive(SchemaWrite, SchemaRead)]
struct Small {
    gid: Gid,
    partition: Partition,
    kind: Kind,
    config: Option<Config>,
    slots: Vec<SmallSlot>,
}

#[derive(SchemaWrite, SchemaRead)]
struct SmallSlot {
    seen: Num,
    /// How far it has come, and who is parked.
    serving: Option<(LogIndex, BTreeMap<LogIndex, LogIndex>)>,
    /// In which configuration, and how far it has come.
    leaving: Option<(Num, LogIndex)>,
    arriving: Option<(Num, Cursor)>,
    source: Option<Source>,
}

/// Something large, to be written later.
enum Large {
    Bytes(Vec<u8>),
    Machine(Box<dyn Capture>),
}

struct Captured {
    small: Vec<u8>,
    large: Vec<Large>,
}

pub(super) fn capture(group: &Group) -> Box<dyn Capture> {
    let slots = group.slots.iter().map(|slot| SmallSlot {
        seen: slot.seen,
        serving: slot.serving.as_ref().map(|shard| (shard.applied, shard.parked.clone())),
        leaving: slot.leaving.as_ref().map(|leaving| (leaving.num, leaving.shard.applied)),
        arriving: slot.arriving.as_ref().map(|it| (it.num, it.expects.clone())),
        source: slot.source.clone(),
    });
    let small = Small {
        gid: group.gid,
        partition: group.partition,
        kind: group.kind,
        config: group.config.clone(),
        slots: slots.collect(),
    };
    let mut large = Vec::new();
    for slot in &group.slots {
        let leaving = slot.leaving.as_ref().map(|leaving| &leaving.shard);
        for shard in slot.serving.iter().chain(leaving) {
            large.push(Large::Machine(shard.machine.inner().capture()));
            large.push(Large::Bytes(shard.machine.capture_table()));
        }
        if let Some(arriving) = &slot.arriving {
            large.push(Large::Bytes(arriving.head.clone()));
            large.push(Large::Machine(arriving.keys.capture()));
        }
    }
    Box::new(Captured { small: codec::encode(&small), large })
}

impl Capture for Captured {
    fn write_to(self: Box<Self>, sink: &mut dyn SnapshotSink) -> Result<(), SnapshotError> {
        sink.write(&[VERSION])?;
        sink.write(&(self.small.len() as u64).to_le_bytes())?;
        sink.write(&self.small)?;
        for large in self.large {
            let mut frames = FrameSink(sink);
            match large {
                Large::Bytes(bytes) => frames.write(&bytes)?,
                Large::Machine(machine) => machine.write_to(&mut frames)?,
            }
            frames.end()?;
        }
        Ok(())
    }
}

/// Reads a whole snapshot, of a group like this one.
pub(super) fn read(group: &Group, source: &mut dyn SnapshotSource) -> Result<Group, SnapshotError> {
    let Small { gid, partition, kind, config, slots } = read_small(source)?;
    let is_known = gid == group.gid && partition == group.partition && kind == group.kind;
    if !is_known || slots.len() != group.slots.len() {
        let Group { gid: own, partition: parts, kind: of, .. } = group;
        return Err(SnapshotError(format!(
            "the snapshot is of group {gid}, {kind:?}, with {partition:?}; this is group {own}, {of:?}, with \
             {parts:?}"
        )));
    }
    let slots = (0..).zip(slots).map(|(id, slot)| read_slot(id, slot, source));
    let slots = slots.collect::<Result<_, _>>()?;
    match source.read(&mut [0])? {
        0 => Ok(Group { gid, partition, kind, config, slots, changes: group.changes + 1 }),
        _ => Err(SnapshotError("bytes follow the last shard of the snapshot".to_owned())),
    }
}

fn read_small(source: &mut dyn SnapshotSource) -> Result<Small, SnapshotError> {
    let (mut version, mut length) = ([0], [0; 8]);
    source.read_exact(&mut version)?;
    if version != [VERSION] {
        let what = format!("a snapshot of a group of version {}; this is {VERSION}", version[0]);
        return Err(SnapshotError(what));
    }
    source.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > SMALL_BYTES_MAX {
        return Err(SnapshotError(format!("{length} bytes about a group's shards")));
    }
    let mut bytes = vec![0; length as usize];
    source.read_exact(&mut bytes)?;
    codec::decode(&bytes).map_err(|error| SnapshotError(error.to_string()))
}

fn read_slot(
    id: ShardId,
    small: SmallSlot,
    source: &mut dyn SnapshotSource,
) -> Result<Slot, SnapshotError> {
    let mut slot = Slot { seen: small.seen, source: small.source, ..Slot::default() };
    if let Some((applied, parked)) = small.serving {
        slot.serving = Some(read_shard(id, applied, parked, source)?);
    }
    if let Some((num, applied)) = small.leaving {
        let shard = read_shard(id, applied, BTreeMap::new(), source)?;
        slot.leaving = Some(Leaving::new(id, num, shard));
    }
    if let Some((num, expects)) = small.arriving {
        let mut head = FrameSource::new(source);
        let bytes = head.read_all(usize::MAX)?;
        let mut keys = Machine::default();
        read_whole(&mut keys, source)?;
        slot.arriving = Some(Arriving { num, expects, head: bytes, keys });
    }
    Ok(slot)
}

fn read_shard(
    id: ShardId,
    applied: LogIndex,
    parked: BTreeMap<LogIndex, LogIndex>,
    source: &mut dyn SnapshotSource,
) -> Result<Shard, SnapshotError> {
    let mut machine = Store::new(id);
    read_whole(&mut machine, source)?;
    let mut table = FrameSource::new(source);
    let machine = Sessions::with_table(machine, &mut table)?;
    table.end()?;
    Ok(Shard { applied, machine, parked })
}

fn read_whole(
    machine: &mut impl StateMachine,
    source: &mut dyn SnapshotSource,
) -> Result<(), SnapshotError> {
    let mut frames = FrameSource::new(source);
    machine.restore(&mut frames)?;
    frames.end()
}
