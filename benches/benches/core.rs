//! Commits of the bare core: three nodes in one thread, no I/O, from proposal to apply on each.

#![allow(missing_docs, reason = "criterion's macros write a function without")]

use std::hint::black_box;

use benches::{Trio, machine};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn commits(criterion: &mut Criterion) {
    println!("machine: {}; seeds 1, 2, 3; 1 MiB of payloads kept a node", machine());
    let mut group = criterion.benchmark_group("core commits, 3 nodes");
    for (batch, bytes) in [(1, 16), (1, 256), (64, 16), (64, 256), (64, 4096)] {
        let mut trio = Trio::new(1 << 20);
        let command = vec![7; bytes];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch {batch}, {bytes} B"), |bencher| {
            bencher.iter(|| trio.commit(black_box(batch), black_box(&command)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = commits
}
criterion_main!(benches);
