//! Durable appends: one batch, one flush, on a real disk.

#![allow(missing_docs, reason = "criterion's macros write a function without")]

use benches::{Scratch, machine};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft_core::block::{BlockBuilder, EntryKind, View, Views};
use raft_core::ready::{Operations, Write};
use raft_core::types::{EntryId, Identity, Member};
use raft_storage::{FileDisk, Wal, WalOptions};

const ENTRY_BYTES: usize = 256;

/// `count` entries in one block, as a leader would have sealed them.
fn block(first: u64, count: usize) -> View {
    let mut builder = BlockBuilder::new(1, 1);
    for index in (first..).take(count) {
        builder.push(EntryId::new(index, 1), EntryKind::Command, &[7; ENTRY_BYTES]);
    }
    builder.seal().expect("at least one entry")
}

fn appends(criterion: &mut Criterion) {
    println!("machine: {}; {ENTRY_BYTES} B an entry; segments of 64 MiB, pre-zeroed", machine());
    let mut group = criterion.benchmark_group("WAL append and flush, 1 thread");
    for batch in [1, 64, 1024] {
        let scratch = Scratch::new("wal");
        let disk = FileDisk::open(scratch.path()).expect("a directory");
        let mut wal = Wal::open(disk, WalOptions::default()).expect("an empty directory");
        let member = Member { node: 1, incarnation: 0 };
        wal.open_group(Identity { cluster: 1, group: 1, member }).expect("a new group");
        while wal.spare().step() {}
        let (mut next, mut sequence, mut completed) = (1, 0, Vec::new());
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch {batch}"), |bencher| {
            bencher.iter(|| {
                let entries = Views::One(block(next, batch));
                next += batch as u64;
                sequence += 1;
                let operations = Operations { entries, ..Operations::default() };
                wal.submit(1, Write::detached(sequence, operations));
                wal.write_batch();
                wal.sync_batch();
                wal.poll(&mut completed);
                assert_eq!(completed.len(), 1, "it is durable");
                completed.clear();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = appends
}
criterion_main!(benches);
