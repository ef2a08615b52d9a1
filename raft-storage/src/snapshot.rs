//! Snapshots as files, beside the log.
//!
//! A file is a header of 64 bytes, then blocks of at most 64 KiB, each with a CRC32C that covers the
//! snapshot's name and the block's number as well. It is filled under a temporary name; sealing syncs
//! it, renames it and syncs the directory. It counts only once a record in the log names it, and what
//! no record names is removed when the log is opened.
//!
//! Who has the log need not fill it: a [`SnapshotWriter`] fills and syncs a file of its own on any thread, and
//! sealing then only renames it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use raft_core::checksum::Crc;
use raft_core::ready::LogReadError;
use raft_core::snapshot::{SnapshotChunk, SnapshotError, SnapshotMeta, SnapshotSource};
use raft_core::types::{EntryId, GroupId, LogIndex};

use crate::directory::Directory;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::WalError;
use crate::trash::{self, Reading, Trash};

const MAGIC: &[u8; 8] = b"RAFTSNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 64;
/// Bytes of contents in a block.
const BLOCK_BYTES: usize = 64 * 1024;
const CRC_BYTES: usize = 4;
/// A snapshot in the making is synced in steps of so many bytes: in one go at its end, a large one would
/// keep the log waiting for seconds, whichever thread it has; 4 MiB, for some 10 to 30 ms.
const SYNC_STEP_BYTES: usize = 512 << 10;

/// The name of a snapshot's file.
fn file_name(group: GroupId, last: EntryId) -> String {
    format!("snapshot-{group:016x}-{:016x}-{:016x}", last.index, last.term)
}

fn staged_name(group: GroupId, last: EntryId) -> String {
    format!("staged-{group:016x}-{:016x}-{:016x}", last.index, last.term)
}

/// The name of one that is filled by a [`SnapshotWriter`]: of the same snapshot one may be received as well.
fn beside_name(group: GroupId, last: EntryId) -> String {
    format!("beside-{group:016x}-{:016x}-{:016x}", last.index, last.term)
}

/// The group and last entry in a file's name.
fn parse_name(name: &str) -> Option<(GroupId, EntryId)> {
    let mut numbers = name.strip_prefix("snapshot-")?.split('-').map(|digits| {
        let whole = digits.len() == 16;
        u64::from_str_radix(digits, 16).ok().filter(|_| whole)
    });
    let (group, index, term) = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some((group, EntryId::new(index, term)))
}

fn header(group: GroupId, last: EntryId) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(16, &group.to_le_bytes());
    put(24, &last.index.to_le_bytes());
    put(32, &last.term.to_le_bytes());
    bytes
}

fn block_crc(group: GroupId, last: EntryId, number: u64, data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    for part in [group, last.index, last.term, number] {
        crc.update(&part.to_le_bytes());
    }
    crc.update(data);
    crc.finish()
}

fn block_offset(number: u64) -> u64 {
    HEADER_BYTES + number * (BLOCK_BYTES + CRC_BYTES) as u64
}

/// Bytes of the file of a snapshot of this size.
fn file_bytes(size: u64) -> u64 {
    HEADER_BYTES + size + size.div_ceil(BLOCK_BYTES as u64) * CRC_BYTES as u64
}

/// Bytes of contents in a file of so many bytes.
fn contents_bytes(file_bytes: u64) -> u64 {
    let body = file_bytes.saturating_sub(HEADER_BYTES);
    body.saturating_sub(body.div_ceil((BLOCK_BYTES + CRC_BYTES) as u64) * CRC_BYTES as u64)
}

fn of_size(meta: &SnapshotMeta, found: u64) -> SnapshotError {
    let SnapshotMeta { last, size, .. } = meta;
    SnapshotError::new(format_args!(
        "{found} bytes were staged for snapshot {last} of {size} bytes"
    ))
}

fn failed(what: impl Display) -> impl FnOnce(io::Error) -> SnapshotError {
    move |error| SnapshotError::new(format_args!("can't {what}: {error}"))
}

/// A snapshot in the making, or why it can't be.
type Making<F> = Result<Staged<F>, SnapshotError>;

/// One step of it. What has failed once is not gone on with.
fn go_on<F>(
    making: &mut Making<F>,
    step: impl FnOnce(&mut Staged<F>) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let done = step(making.as_mut().map_err(|error| error.clone())?);
    done.inspect_err(|error| *making = Err(error.clone()))
}

/// The snapshots of all groups.
#[derive(Debug)]
pub(crate) struct SnapshotStore<D: Disk> {
    disk: Arc<Directory<D>>,
    trash: Trash<D>,
    staged: BTreeMap<(GroupId, EntryId), Making<D::File>>,
    /// Sizes of the sealed ones.
    sealed: BTreeMap<(GroupId, EntryId), u64>,
}

/// A snapshot in the making.
#[derive(Debug)]
struct Staged<F> {
    file: F,
    name: String,
    /// Bytes taken so far.
    size: u64,
    /// The block that is not full yet.
    block: Vec<u8>,
    /// Bytes written since the last sync.
    unsynced: usize,
}

impl<D: Disk> SnapshotStore<D> {
    /// The snapshots that the log names.
    pub(crate) fn open(
        disk: Arc<Directory<D>>,
        trash: Trash<D>,
        latest: impl Iterator<Item = (GroupId, Arc<SnapshotMeta>)>,
    ) -> Result<Self, WalError> {
        let mut sealed = BTreeMap::new();
        for (group, meta) in latest.filter(|(_, meta)| meta.last != EntryId::ZERO) {
            check_file(&**disk, group, &meta)?;
            sealed.insert((group, meta.last), meta.size);
        }
        Ok(SnapshotStore { disk, trash, staged: BTreeMap::new(), sealed })
    }

    /// Whether there are any files of snapshots, whoever needs them.
    pub(crate) fn any_there(disk: &D) -> Result<bool, WalError> {
        let names = disk.list().map_err(WalError::io("list", "the directory"))?;
        Ok(names.iter().any(|name| parse_name(name).is_some()))
    }

    /// Removes all others, from before the log was opened.
    pub(crate) fn remove_unused(&self) -> Result<(), WalError> {
        let names = self.disk.list().map_err(WalError::io("list", "the directory"))?;
        let is_unused = |name: &&String| {
            let named = parse_name(name);
            let is_left =
                ["staged-", "beside-", trash::PREFIX].iter().any(|begin| name.starts_with(begin));
            is_left || named.is_some_and(|id| !self.sealed.contains_key(&id))
        };
        for name in names.iter().filter(is_unused) {
            self.disk.remove(name).map_err(WalError::io("remove", name))?;
        }
        Ok(())
    }

    /// Takes a chunk. An error shows when the snapshot is sealed.
    pub(crate) fn stage(&mut self, group: GroupId, chunk: &SnapshotChunk) {
        let key = (group, chunk.snapshot);
        if chunk.offset == 0 {
            self.staged.remove(&key);
            self.drop_staged_before(group, chunk.snapshot.index);
            let name = staged_name(group, chunk.snapshot);
            self.staged.insert(key, Staged::begin(&**self.disk, name, group, chunk.snapshot));
        }
        if let Some(making) = self.staged.get_mut(&key) {
            // Told when it is sealed.
            let _ = go_on(making, |staged| staged.take(group, chunk));
        }
    }

    /// Makes a staged snapshot durable: first its contents, then its name. If it can't be, its file
    /// goes: the disk may be full of it.
    pub(crate) fn seal(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<(), SnapshotError> {
        let sealed = self.try_seal(group, meta);
        if sealed.is_err() {
            for name in [staged_name(group, meta.last), beside_name(group, meta.last)] {
                let _ = self.disk.remove(&name);
            }
        }
        sealed
    }

    fn try_seal(&mut self, group: GroupId, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
        let last = meta.last;
        let from = match self.staged.remove(&(group, last)) {
            Some(Ok(mut staged)) if staged.size == meta.size => {
                staged.finish(group, last)?;
                staged.name
            }
            // Of the same one a part may have been received, and given up.
            part => match (self.finished_beside(group, meta), part) {
                (Ok(name), _) => name,
                (Err(error), None) => return Err(error),
                (Err(_), Some(making)) => return Err(of_size(meta, making?.size)),
            },
        };
        let to = file_name(group, last);
        self.disk.rename(&from, &to).map_err(failed(format_args!("rename {from}")))?;
        self.disk.sync_dir().map_err(failed(format_args!("sync the directory of {to}")))?;
        self.sealed.insert((group, last), meta.size);
        Ok(())
    }

    /// The file of a snapshot that a [`SnapshotWriter`] has finished.
    fn finished_beside(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<String, SnapshotError> {
        let (name, last) = (beside_name(group, meta.last), meta.last);
        let file =
            self.disk.open(&name, OpenMode::Existing).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    SnapshotError::new(format_args!("nothing was staged for snapshot {last}"))
                }
                _ => failed(format_args!("open {name}"))(error),
            })?;
        let bytes = file.len().map_err(failed(format_args!("ask for the length of {name}")))?;
        match bytes == file_bytes(meta.size) {
            true => Ok(name),
            false => Err(of_size(meta, contents_bytes(bytes))),
        }
    }

    /// Whether a record may name this snapshot.
    pub(crate) fn holds(&self, group: GroupId, meta: &SnapshotMeta) -> bool {
        meta.last == EntryId::ZERO || self.sealed.get(&(group, meta.last)) == Some(&meta.size)
    }

    /// A durable record names this snapshot: earlier ones may go. What can't be removed now is removed
    /// when the log is opened again.
    pub(crate) fn supersede(&mut self, group: GroupId, last: EntryId) {
        self.sealed.retain(|(of, id), _| {
            let stays = *of != group || id.index >= last.index;
            if !stays {
                self.trash.throw_away(&file_name(group, *id));
            }
            stays
        });
        self.drop_staged_before(group, last.index);
    }

    /// What was staged of earlier snapshots is of no use when a later one comes, and whoever began it
    /// may have given it up.
    fn drop_staged_before(&mut self, group: GroupId, index: LogIndex) {
        self.staged.retain(|(of, id), _| {
            let stays = *of != group || id.index >= index;
            if !stays {
                self.trash.throw_away(&staged_name(group, *id));
            }
            stays
        });
    }

    pub(crate) fn read_chunk(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
        offset: u64,
        bytes_max: usize,
    ) -> Result<SnapshotChunk, LogReadError> {
        let mut contents = self.reader().contents(group, meta.last).map_err(io_error)?;
        let start = offset.min(contents.size);
        let length = (contents.size - start).min(bytes_max as u64) as usize;
        contents.position = start;
        let mut data = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match contents.read_on(&mut data[filled..]) {
                Ok(0) => return Err(LogReadError::Io("the snapshot ends early".into())),
                Ok(n) => filled += n,
                Err(error) => return Err(error),
            }
        }
        Ok(SnapshotChunk::new(meta.last, offset, Bytes::from(data)))
    }

    pub(crate) fn writer(&self) -> SnapshotWriter<D> {
        SnapshotWriter { disk: self.disk.clone() }
    }

    pub(crate) fn reader(&self) -> SnapshotReader<D> {
        SnapshotReader { disk: self.disk.disk().clone(), readers: self.trash.readers().clone() }
    }
}

fn io_error(error: SnapshotError) -> LogReadError {
    LogReadError::Io(error.0)
}

/// Whether the file that the log names is there, whole, and of this snapshot. Its contents are
/// verified when they are read.
fn check_file<D: Disk>(disk: &D, group: GroupId, meta: &SnapshotMeta) -> Result<(), WalError> {
    let name = file_name(group, meta.last);
    let file = disk.open(&name, OpenMode::Existing).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let why = format!("the log of group {group} begins with snapshot {}", meta.last);
            WalError::Missing { file: name.clone(), why }
        }
        _ => WalError::io("open", &name)(error),
    })?;
    let damaged = |offset, expected: String, found: String| {
        Err(WalError::Damaged { file: name.clone(), offset, expected, found })
    };
    let (expected, found) =
        (file_bytes(meta.size), file.len().map_err(WalError::io("ask for the length of", &name))?);
    if expected != found {
        return damaged(0, format!("a file of {expected} bytes"), format!("{found} bytes"));
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    file.read_at(&mut bytes, 0).map_err(WalError::io("read", &name))?;
    if bytes != header(group, meta.last) {
        let expected = format!("the header of snapshot {}", meta.last);
        return damaged(0, expected, "something else".into());
    }
    Ok(())
}

impl<F: DiskFile> Staged<F> {
    fn begin<D: Disk<File = F>>(
        disk: &D,
        name: String,
        group: GroupId,
        last: EntryId,
    ) -> Result<Self, SnapshotError> {
        let file = disk.open(&name, OpenMode::Create);
        let file = file.map_err(failed(format_args!("create {name}")))?;
        file.write_at(&header(group, last), 0).map_err(failed(format_args!("write to {name}")))?;
        Ok(Staged { file, name, size: 0, block: Vec::new(), unsynced: 0 })
    }

    /// Its contents are durable then.
    fn finish(&mut self, group: GroupId, last: EntryId) -> Result<(), SnapshotError> {
        self.flush(group, last)?;
        self.file.sync_data().map_err(failed(format_args!("sync {}", self.name)))
    }

    fn take(&mut self, group: GroupId, chunk: &SnapshotChunk) -> Result<(), SnapshotError> {
        if chunk.offset != self.size {
            let (found, expected) = (chunk.offset, self.size);
            return Err(SnapshotError::new(format_args!(
                "a chunk at {found} came where {expected} was next"
            )));
        }
        let mut data = &chunk.data[..];
        while !data.is_empty() {
            let room = BLOCK_BYTES - self.block.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.block.extend_from_slice(now);
            self.size += now.len() as u64;
            data = later;
            if self.block.len() == BLOCK_BYTES {
                self.flush(group, chunk.snapshot)?;
            }
        }
        Ok(())
    }

    /// Writes the block in the making.
    fn flush(&mut self, group: GroupId, last: EntryId) -> Result<(), SnapshotError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let number = (self.size - self.block.len() as u64) / BLOCK_BYTES as u64;
        let crc = block_crc(group, last, number, &self.block);
        self.block.extend_from_slice(&crc.to_le_bytes());
        let name = &self.name;
        let written = self.file.write_at(&self.block, block_offset(number));
        written.map_err(failed(format_args!("write to {name}")))?;
        self.unsynced += self.block.len();
        self.block.clear();
        if self.unsynced >= SYNC_STEP_BYTES {
            self.unsynced = 0;
            self.file.sync_data().map_err(failed(format_args!("sync {name}")))?;
        }
        Ok(())
    }
}

/// Fills snapshots beside the log, on any thread, so that no flush of the log waits for theirs. One for each
/// [`Wal`](crate::Wal), which then [seals](crate::Wal::seal) what it has finished.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use raft_core::membership::Membership;
/// use raft_core::snapshot::{SnapshotChunk, SnapshotMeta};
/// use raft_core::storage::Completion;
/// use raft_core::types::EntryId;
/// use raft_storage::{FileDisk, Wal, WalOptions};
///
/// # let directory = std::env::temp_dir().join(format!("raft-snapshot-writer-{}", std::process::id()));
/// let mut wal = Wal::open(FileDisk::open(&directory)?, WalOptions::default())?;
/// let (group, last) = (1, EntryId { index: 9, term: 2 });
/// let mut file = wal.snapshot_writer().begin(group, last)?;
/// file.append(&SnapshotChunk::new(last, 0, Bytes::from_static(b"state")))?;
/// file.finish()?;
///
/// wal.seal(group, Arc::new(SnapshotMeta { last, membership: Membership::trusted([1])?, size: 5 }));
/// let mut completions = Vec::new();
/// wal.poll(&mut completions);
/// assert!(matches!(completions[..], [(1, Completion::Sealed(_))]));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnapshotWriter<D: Disk> {
    disk: Arc<Directory<D>>,
}

impl<D: Disk> SnapshotWriter<D> {
    /// Begins a snapshot, anew if it was begun before: nobody may be at it any more.
    ///
    /// # Errors
    /// If its file can't be created or written.
    pub fn begin(&self, group: GroupId, last: EntryId) -> Result<SnapshotFile<D>, SnapshotError> {
        let making = Staged::begin(&**self.disk, beside_name(group, last), group, last);
        let disk = self.disk.clone();
        let mut file = SnapshotFile { disk, group, last, making, is_finished: false };
        go_on(&mut file.making, |_| Ok(()))?;
        Ok(file)
    }
}

/// A snapshot that a [`SnapshotWriter`] has begun. Its file is removed when this is dropped without having been
/// finished: it would fill the disk that a snapshot is there to relieve.
#[derive(Debug)]
pub struct SnapshotFile<D: Disk> {
    disk: Arc<Directory<D>>,
    group: GroupId,
    last: EntryId,
    making: Making<D::File>,
    is_finished: bool,
}

impl<D: Disk> SnapshotFile<D> {
    /// Appends what comes next. What was appended is synced in steps of 512 KiB.
    ///
    /// # Errors
    /// If the chunk is not the next one, or can't be written. All that follows has the same error then.
    pub fn append(&mut self, chunk: &SnapshotChunk) -> Result<(), SnapshotError> {
        go_on(&mut self.making, |staged| staged.take(self.group, chunk))
    }

    /// Makes its contents durable. It may be sealed now.
    ///
    /// # Errors
    /// If they can't be written, or something before could not.
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        go_on(&mut self.making, |staged| staged.finish(self.group, self.last))?;
        self.is_finished = true;
        Ok(())
    }
}

impl<D: Disk> Drop for SnapshotFile<D> {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.disk.remove(&beside_name(self.group, self.last));
        }
    }
}

/// Reads snapshots, on any thread.
#[derive(Debug)]
pub struct SnapshotReader<D: Disk> {
    disk: Arc<D>,
    readers: Arc<AtomicUsize>,
}

impl<D: Disk> Clone for SnapshotReader<D> {
    fn clone(&self) -> Self {
        SnapshotReader { disk: self.disk.clone(), readers: self.readers.clone() }
    }
}

impl<D: Disk> SnapshotReader<D> {
    /// A reader of a snapshot's contents. It stays valid when a newer snapshot takes its place.
    ///
    /// # Errors
    /// If there is no such snapshot, or its file can't be opened.
    pub fn open(
        &self,
        group: GroupId,
        last: EntryId,
    ) -> Result<Box<dyn SnapshotSource + Send>, SnapshotError> {
        Ok(Box::new(self.contents(group, last)?))
    }

    fn contents(&self, group: GroupId, last: EntryId) -> Result<Contents<D>, SnapshotError> {
        let reading = Reading::begin(&self.readers);
        let name = file_name(group, last);
        let open = |what| failed(format!("{what} {name}"));
        let file = self.disk.open(&name, OpenMode::Existing).map_err(open("open"))?;
        let stored = file.len().map_err(open("ask for the length of"))?;
        let size = contents_bytes(stored);
        Ok(Contents { file, _reading: reading, name, group, last, size, position: 0, block: None })
    }
}

/// The contents of an open snapshot file.
struct Contents<D: Disk> {
    file: D::File,
    _reading: Reading,
    name: String,
    group: GroupId,
    last: EntryId,
    size: u64,
    position: u64,
    /// The block that was read last, and its number.
    block: Option<(u64, Vec<u8>)>,
}

impl<D: Disk> Contents<D> {
    /// Damage is told from a disk that does not answer: only the first says that the store is lost.
    fn read_block(&mut self, number: u64) -> Result<(), LogReadError> {
        if self.block.as_ref().is_some_and(|(held, _)| *held == number) {
            return Ok(());
        }
        let start = number * BLOCK_BYTES as u64;
        let length = (self.size - start).min(BLOCK_BYTES as u64) as usize;
        let mut bytes = vec![0; length + CRC_BYTES];
        let offset = block_offset(number);
        let read = self.file.read_at(&mut bytes, offset);
        let read =
            read.map_err(|error| LogReadError::Io(format!("can't read {}: {error}", self.name)))?;
        let (data, crc) = bytes.split_at(length);
        let expected = block_crc(self.group, self.last, number, data).to_le_bytes();
        if read != bytes.len() || crc != expected {
            let name = &self.name;
            return Err(LogReadError::Corrupt(format!(
                "{name} is damaged at byte {offset}: expected a block with checksum {:08x}, found {:08x}",
                u32::from_le_bytes(expected),
                crc.try_into().map_or(0, u32::from_le_bytes),
            )));
        }
        bytes.truncate(length);
        self.block = Some((number, bytes));
        Ok(())
    }

    /// Reads the bytes that come next, as many as lie in one block.
    fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, LogReadError> {
        if self.position >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.position / BLOCK_BYTES as u64;
        self.read_block(number)?;
        let (_, block) = self.block.as_ref().expect("it was just read");
        let rest = &block[(self.position % BLOCK_BYTES as u64) as usize..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl<D: Disk> SnapshotSource for Contents<D> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SnapshotError> {
        self.read_on(buffer).map_err(|error| match error {
            LogReadError::Io(what) | LogReadError::Corrupt(what) => SnapshotError(what),
            other => SnapshotError(other.to_string()),
        })
    }
}
