// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lock costs: parking_lot's own ("bare") against ours, which is the bare lock with the feature off and the
//! watched one with it on. The group names say which.
//!
//! `cargo bench --bench locks` and `cargo bench --bench locks --features lockdep`. The times are per pair of lock and
//! unlock; what counts is the ratio of `ours` to `bare` within one group of one run.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use lockdep::{LockClass, Stacks, Validator};

mod common;

use common::{
    BareMutex, BareRead, BareReentrant, BareTry, BareWrite, Lock, Nest, OurMutex, OurRead, OurReentrant,
    OurTry, OurWrite, nest_of, new_nest,
};

const MODE: &str = if lockdep::ENABLED { "on" } else { "off" };

fn nested<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, depth: usize) {
    let locks = new_nest::<L>();
    group.throughput(Throughput::Elements(depth as u64));
    group.bench_function(BenchmarkId::new(name, depth), |b| b.iter(|| nest_of(depth, &locks)));
}

/// Lock and unlock at these depths, the bare lock and ours.
fn compare<B: Lock, O: Lock>(c: &mut Criterion, name: &str, depths: &[usize]) {
    let mut group = c.benchmark_group(format!("{name}, validator {MODE}"));
    for &depth in depths {
        nested::<B>(&mut group, "bare", depth);
        nested::<O>(&mut group, "ours", depth);
    }
    group.finish();
}

fn depths(c: &mut Criterion) {
    compare::<BareMutex, OurMutex>(c, "mutex", &[1, 4, 8, 16]);
    compare::<BareTry, OurTry>(c, "mutex try_lock", &[1, 4]);
    compare::<BareRead, OurRead>(c, "rwlock read", &[1, 4]);
    compare::<BareWrite, OurWrite>(c, "rwlock write", &[1, 4]);
    compare::<BareReentrant, OurReentrant>(c, "reentrant mutex", &[1, 4]);
}

/// Two locks, the first released first, as a tuple of guards does.
fn first_released_first(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("pair released in order, validator {MODE}"));
    group.throughput(Throughput::Elements(2));
    let bare = new_nest::<BareMutex>();
    group.bench_function("bare", |b| b.iter(|| drop((bare[0].take(), bare[1].take()))));
    let ours = new_nest::<OurMutex>();
    group.bench_function("ours", |b| b.iter(|| drop((ours[0].take(), ours[1].take()))));
    group.finish();
}

/// The mean time of `work` in so many threads at once.
fn in_threads(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let total: Duration = std::thread::scope(|s| {
        let timed = |thread| {
            let (barrier, work) = (&barrier, &work);
            move || {
                barrier.wait();
                let start = Instant::now();
                work(thread);
                start.elapsed()
            }
        };
        let handles: Vec<_> = (0..threads).map(|thread| s.spawn(timed(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a bench thread")).sum()
    });
    total / u32::try_from(threads).expect("a few threads")
}

/// Nests of four in several threads, each with locks of its own (of the same classes).
fn threads(c: &mut Criterion) {
    fn run<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, threads: usize) {
        let locks: Vec<Nest<L>> = (0..threads).map(|_| new_nest()).collect();
        group.throughput(Throughput::Elements(4));
        group.bench_function(BenchmarkId::new(name, threads), |b| {
            b.iter_custom(|rounds| {
                in_threads(threads, |thread| (0..rounds).for_each(|_| nest_of(4, &locks[thread])))
            });
        });
    }
    let mut group = c.benchmark_group(format!("mutex, nests of 4, threads, validator {MODE}"));
    for n in [1, 4] {
        run::<BareMutex>(&mut group, "bare", n);
        run::<OurMutex>(&mut group, "ours", n);
    }
    group.finish();
}

/// The first use of 1000 classes, each under one other lock: 1000 new classes and dependencies. With the feature off
/// there is nothing to learn.
fn new_dependencies(c: &mut Criterion) {
    const N: usize = 1000;
    if !lockdep::ENABLED {
        return;
    }
    let classes: Vec<&'static LockClass> =
        (0..N).map(|_| &*Box::leak(Box::new(LockClass::new("first use")))).collect();
    let make =
        || -> Vec<_> { classes.iter().map(|class| lockdep::sync::Mutex::with_class(class, ())).collect() };
    let mut group = c.benchmark_group(format!("new dependency, validator {MODE}"));
    group.throughput(Throughput::Elements(N as u64));
    for (name, stacks) in [("with stack", Stacks::NewEdges), ("without", Stacks::Off)] {
        let outer = lockdep::sync::Mutex::new(());
        let setup = || (Validator::builder().stacks(stacks).build(), make());
        group.bench_function(name, |b| {
            b.iter_batched(
                setup,
                |(v, locks)| {
                    v.scope(|| {
                        let _outer = outer.lock();
                        locks.iter().for_each(|inner| drop(inner.lock()));
                    });
                    (v, locks)
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion::criterion_group!(locks, depths, first_released_first, threads, new_dependencies);
criterion::criterion_main!(locks);
