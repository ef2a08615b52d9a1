use raft_core::block::{BlockBuilder, EntryKind};
use raft_core::membership::Membership;
use raft_core::ready::SnapshotRecord;
use raft_core::types::Member;

use super::*;

const IDENTITY: Identity =
    Identity { cluster: 7, group: 1, member: Member { node: 1, incarnation: 9 } };

fn view(first: LogIndex, term: Term, payloads: &[&str]) -> View {
    let mut builder = BlockBuilder::new(IDENTITY.cluster, IDENTITY.group);
    for (index, payload) in (first..).zip(payloads) {
        builder.push(EntryId::new(index, term), EntryKind::Command, payload.as_bytes());
    }
    builder.seal().unwrap()
}

fn entries(sequence: u64, view: View) -> Write {
    let operations = Operations { entries: [view].into_iter().collect(), ..Default::default() };
    Write::detached(sequence, operations)
}

fn meta(last: EntryId, size: u64) -> Arc<SnapshotMeta> {
    Arc::new(SnapshotMeta { last, membership: Membership::trusted([1, 2, 3]).unwrap(), size })
}

fn snapshot(sequence: u64, meta: Arc<SnapshotMeta>, keep_log: bool) -> Write {
    let snapshot = Some(SnapshotRecord { meta, keep_log });
    Write::detached(sequence, Operations { snapshot, ..Default::default() })
}

fn payloads(data: &LogReadData) -> Vec<String> {
    let LogReadData::Entries(views) = data else { panic!("no entries: {data:?}") };
    views.iter().flat_map(View::entries).map(|e| String::from_utf8_lossy(e.data).into()).collect()
}

fn read(store: &mut MemoryStorage, wanted: Wanted) -> Result<LogReadData, LogReadError> {
    store.read(LogRead { id: 1, wanted });
    let mut completions = Vec::new();
    store.poll(&mut completions);
    match completions.pop() {
        Some(Completion::Read(answer)) => answer.result,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn entries_replace_the_log_from_their_first_on() {
    let mut store = MemoryStorage::new(IDENTITY);
    store.submit(entries(1, view(1, 1, &["a", "b", "c"])));
    store.submit(entries(2, view(3, 2, &["d", "e"])));
    store.submit(entries(3, view(4, 3, &["f"])));
    let found = store.recovered();
    assert_eq!(found.spans, [(1, 1), (3, 2), (4, 3)]);
    assert_eq!(found.last_index, 4);
    let all = Wanted::Entries { first: 2, last: 9, bytes_max: 1000 };
    assert_eq!(payloads(&read(&mut store, all).unwrap()), ["b", "d", "f"]);
    let one = Wanted::Entries { first: 2, last: 9, bytes_max: 0 };
    assert_eq!(payloads(&read(&mut store, one).unwrap()), ["b"]);
}

#[test]
fn a_restart_forgets_what_was_held() {
    let mut store = MemoryStorage::new(IDENTITY);
    store.hold();
    let hard_state = HardState { term: 2, voted_for: Some(3) };
    let vote = Operations { hard_state: Some(hard_state), ..Default::default() };
    store.submit(Write::detached(1, vote));
    store.submit(entries(2, view(1, 2, &["lost"])));
    store.release(1);
    let mut completions = Vec::new();
    store.poll(&mut completions);
    assert!(matches!(&completions[..], [Completion::Written(receipt)] if receipt.sequence() == 1));
    assert_eq!(store.waiting(), 1);
    let (_, found) = store.restart();
    assert_eq!(found, Recovered { hard_state, ..Recovered::fresh(IDENTITY) });
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let mut store = MemoryStorage::new(IDENTITY);
    store.submit(entries(1, view(1, 1, &["a", "b", "c", "d"])));
    let first = EntryId::new(3, 1);
    store.stage(SnapshotChunk::new(first, 0, Bytes::from_static(b"sta")));
    store.stage(SnapshotChunk::new(first, 3, Bytes::from_static(b"te")));
    store.seal(meta(first, 5));
    store.submit(snapshot(2, meta(first, 5), true));
    let mut reader = store.open_snapshot(first).unwrap();
    store.compact(4);
    assert_eq!((store.recovered().compacted, store.recovered().last_index), (first, 4));
    let gone = Wanted::Entries { first: 3, last: 4, bytes_max: 1 };
    assert_eq!(read_error(&mut store, gone), LogReadError::Compacted);

    let second = EntryId::new(9, 2);
    store.seal(meta(second, 0));
    store.submit(snapshot(3, meta(second, 0), false));
    let found = store.recovered();
    assert_eq!((found.compacted, found.last_index, found.tail.len()), (second, 9, 0));
    assert_eq!(reader.read_all(100).unwrap(), b"state", "a reader outlives its snapshot");
    assert!(store.open_snapshot(first).is_err());
    let chunk = Wanted::Chunk { snapshot: first, offset: 0, bytes_max: 10 };
    assert_eq!(read_error(&mut store, chunk), LogReadError::Compacted);
}

fn read_error(store: &mut MemoryStorage, wanted: Wanted) -> LogReadError {
    let mut completions = Vec::new();
    store.poll(&mut completions);
    read(store, wanted).unwrap_err()
}

#[test]
fn a_snapshot_with_a_hole_is_not_sealed() {
    let mut store = MemoryStorage::new(IDENTITY);
    let id = EntryId::new(3, 1);
    store.stage(SnapshotChunk::new(id, 0, Bytes::from_static(b"sta")));
    store.stage(SnapshotChunk::new(id, 4, Bytes::from_static(b"e")));
    store.seal(meta(id, 5));
    let mut completions = Vec::new();
    store.poll(&mut completions);
    assert!(matches!(&completions[..], [Completion::SealFailed(failed, _)] if *failed == id));
}

#[test]
fn after_a_failure_every_write_fails() {
    let mut store = MemoryStorage::new(IDENTITY);
    store.hold();
    store.submit(entries(1, view(1, 1, &["a"])));
    store.fail(WriteError("the disk is full".into()));
    store.release_all();
    store.submit(entries(2, view(1, 1, &["a"])));
    let mut completions = Vec::new();
    store.poll(&mut completions);
    for completion in &completions {
        let Completion::Written(receipt) = completion else { panic!("{completion:?}") };
        assert_eq!(receipt.error(), Some(&WriteError("the disk is full".into())));
    }
    assert_eq!((completions.len(), store.recovered().last_index), (2, 0));
}
