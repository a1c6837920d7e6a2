// SPDX-License-Identifier: MIT OR Apache-2.0
//! One contender: runs the workloads on its locks and prints the nanoseconds of each, one per line.
//!
//! CPU time of the thread, so that what else the machine does counts as little as it can; the median of many batches.

mod locks;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use locks::{Mutex, RwLock};

/// Locks of as many places, so that each is a class of its own for those who have classes.
#[rustfmt::skip]
fn mutexes() -> [Mutex; 16] {
    [
        Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(),
        Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(), Mutex::new(),
    ]
}

/// Takes these locks one under the other and lets them go in reverse.
macro_rules! take {
    ($locks:expr, $method:ident; $($i:literal)*) => {{
        $(let _guard = black_box(&$locks[$i]).$method();)*
    }};
}

fn nest(depth: usize, locks: &[Mutex; 16]) {
    match depth {
        1 => take!(locks, lock; 0),
        4 => take!(locks, lock; 0 1 2 3),
        8 => take!(locks, lock; 0 1 2 3 4 5 6 7),
        _ => take!(locks, lock; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
    }
}

/// CPU time of this thread.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().expect("positive"), time.tv_nsec.try_into().expect("below 10^9"))
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    now() - start
}

/// Nanoseconds of one round: the median of batches of about two milliseconds.
fn nanoseconds(mut round: impl FnMut()) -> f64 {
    const BATCH: Duration = Duration::from_millis(2);
    const BATCHES: usize = 41;
    let mut rounds = 1_u32;
    while timed(|| (0..rounds).for_each(|_| round())) < BATCH {
        rounds *= 2;
    }
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| timed(|| (0..rounds).for_each(|_| round())).as_nanos() as f64 / f64::from(rounds))
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[BATCHES / 2]
}

/// Locks of one place, each used under another one for the first time, and for the second time.
fn first_and_second_use() -> (f64, f64) {
    const LOCKS: usize = 10_000;
    let parent = Mutex::new();
    let children: Vec<Mutex> = (0..LOCKS).map(|_| Mutex::new()).collect();
    let use_all = || {
        let time = timed(|| {
            let _parent = parent.lock();
            children.iter().for_each(|child| drop(child.lock()));
        });
        time.as_nanos() as f64 / LOCKS as f64
    };
    (use_all(), use_all())
}

/// Does this while another thread takes locks that nobody has seen before, one after the other.
fn beside_a_learner(work: impl FnOnce() -> f64) -> f64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let outer = Mutex::new();
            while !stop.load(Ordering::Relaxed) {
                let _outer = outer.lock();
                drop(Mutex::unheard_of().lock());
            }
        });
        let nanoseconds = work();
        stop.store(true, Ordering::Relaxed);
        nanoseconds
    })
}

/// Nests of four in so many threads, each with locks of its own.
fn in_threads(threads: usize) -> f64 {
    let each = || {
        let locks = mutexes();
        nanoseconds(|| nest(4, &locks)) / 4.0
    };
    let times: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    times.iter().sum::<f64>() / threads as f64
}

fn main() {
    locks::start();
    let locks = mutexes();
    for depth in [1, 4, 8, 16] {
        println!("lock and unlock, depth {depth}\t{}", nanoseconds(|| nest(depth, &locks)) / depth as f64);
    }
    let alike = std::array::from_fn(|_| Mutex::new());
    println!("depth 4, locks of one place\t{}", nanoseconds(|| nest(4, &alike)) / 4.0);
    let readers = [RwLock::new(), RwLock::new(), RwLock::new(), RwLock::new()];
    println!("read, depth 1\t{}", nanoseconds(|| take!(readers, read; 0)));
    println!("read, depth 4\t{}", nanoseconds(|| take!(readers, read; 0 1 2 3)) / 4.0);
    println!("depth 4, 4 threads, locks of their own\t{}", in_threads(4));
    println!("depth 4, another thread meets new locks\t{}", beside_a_learner(|| in_threads(1)));
    println!("depth 4, 7 threads, locks of their own\t{}", in_threads(7));
    println!("depth 4, 7 threads, another one meets new locks\t{}", beside_a_learner(|| in_threads(7)));
    let (first, second) = first_and_second_use();
    println!("10,000 locks of one place, first use\t{first}");
    println!("10,000 locks of one place, second use\t{second}");
}
