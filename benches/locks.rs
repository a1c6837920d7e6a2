// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lock costs: parking_lot's own ("bare") against ours, which is the bare lock with the feature off and the
//! watched one with it on. The group names say which.
//!
//! `cargo bench --bench locks` and `cargo bench --bench locks --features lockdep`. The times are per pair of lock and
//! unlock; what counts is the ratio of `ours` to `bare` within one group of one run.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use lockdep::{LockClass, Stacks, Validator};

const MODE: &str = if lockdep::ENABLED { "on" } else { "off" };

/// Eight classes, so that eight locks can be nested in one order.
static CLASSES: [LockClass; 8] = [const { LockClass::new("bench") }; 8];

/// What the two makers' locks have in common.
trait Lock: Sync {
    type Guard<'a>
    where
        Self: 'a;
    fn take(&self) -> Self::Guard<'_>;
    fn eight() -> [Self; 8]
    where
        Self: Sized;
}

macro_rules! lock {
    ($name:ident, $inner:ty, $guard:ty, $method:ident, $make:expr) => {
        struct $name($inner);
        impl Lock for $name {
            type Guard<'a> = $guard;
            #[inline(always)]
            fn take(&self) -> Self::Guard<'_> {
                self.0.$method()
            }
            fn eight() -> [Self; 8] {
                std::array::from_fn($make)
            }
        }
    };
}

lock!(BareMutex, parking_lot::Mutex<u64>, parking_lot::MutexGuard<'a, u64>, lock, |_| {
    BareMutex(parking_lot::Mutex::new(0))
});
lock!(OurMutex, lockdep::sync::Mutex<u64>, lockdep::sync::MutexGuard<'a, u64>, lock, |i| {
    OurMutex(lockdep::sync::Mutex::with_class(&CLASSES[i], 0))
});
lock!(BareRead, parking_lot::RwLock<u64>, parking_lot::RwLockReadGuard<'a, u64>, read, |_| {
    BareRead(parking_lot::RwLock::new(0))
});
lock!(OurRead, lockdep::sync::RwLock<u64>, lockdep::sync::RwLockReadGuard<'a, u64>, read, |i| {
    OurRead(lockdep::sync::RwLock::with_class(&CLASSES[i], 0))
});

/// Takes these locks one under the other and lets them go in reverse.
macro_rules! nest {
    ($locks:expr, $($i:literal)*) => {{
        $(let _guard = black_box(&$locks[$i]).take();)*
    }};
}

fn nest_of<L: Lock>(depth: usize, locks: &[L; 8]) {
    match depth {
        1 => nest!(locks, 0),
        4 => nest!(locks, 0 1 2 3),
        _ => nest!(locks, 0 1 2 3 4 5 6 7),
    }
}

fn nested<L: Lock>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, depth: usize) {
    let locks = L::eight();
    group.throughput(Throughput::Elements(depth as u64));
    group.bench_function(BenchmarkId::new(name, depth), |b| b.iter(|| nest_of(depth, &locks)));
}

/// Lock and unlock at depth 1, 4 and 8.
fn depths(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("mutex, validator {MODE}"));
    for depth in [1, 4, 8] {
        nested::<BareMutex>(&mut group, "bare", depth);
        nested::<OurMutex>(&mut group, "ours", depth);
    }
    group.finish();
    let mut group = c.benchmark_group(format!("rwlock read, validator {MODE}"));
    for depth in [1, 4] {
        nested::<BareRead>(&mut group, "bare", depth);
        nested::<OurRead>(&mut group, "ours", depth);
    }
    group.finish();
}

/// Two locks, the first released first, as a tuple of guards does.
fn first_released_first(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("pair released in order, validator {MODE}"));
    group.throughput(Throughput::Elements(2));
    let bare = BareMutex::eight();
    group.bench_function("bare", |b| b.iter(|| drop((bare[0].take(), bare[1].take()))));
    let ours = OurMutex::eight();
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
        let locks: Vec<[L; 8]> = (0..threads).map(|_| L::eight()).collect();
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
