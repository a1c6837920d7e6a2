// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks for a long time: does what the validator remembers stay bounded?
//!
//! `cargo bench --bench soak --features lockdep -- 1000000000` takes and releases so many locks (a million if nothing
//! is said) on four threads: nests of a known order; now and then a lock that is new, of a known class; more rarely a
//! thread that comes and goes, and a validator that does. Exit status 1 if something was found, or if the memory in use
//! grew after the first tenth.
//!
//! Not in it: [`DynamicClass`](lockdep::DynamicClass), each of which leaves its name behind, as its documentation says.

#[path = "common/counting.rs"]
mod counting;

use std::process::ExitCode;
use std::time::Instant;

use lockdep::sync::{Mutex, RwLock};
use lockdep::{Validator, thread};

const THREADS: u64 = 4;

/// Locks that one round takes: a few more, when something rare is due.
const ROUND: u64 = 8;

/// What may be added by luck, for all threads: a thread's tables grow with the deepest nest, the allocator's users differ in
/// when they give back.
const SLACK: usize = 64 * 1024;

struct Locks {
    outer: Mutex<u64>,
    shared: RwLock<u64>,
    inner: Mutex<u64>,
    innermost: Mutex<u64>,
}

impl Locks {
    fn new() -> Self {
        Locks { outer: Mutex::new(0), shared: RwLock::new(0), inner: Mutex::new(0), innermost: Mutex::new(0) }
    }

    /// Takes four, twice.
    fn round(&self) {
        for _ in 0..2 {
            let mut outer = self.outer.lock();
            let shared = self.shared.read();
            let mut inner = self.inner.lock();
            let mut innermost = self.innermost.try_lock().expect("nobody else has the outer one");
            *outer += *shared;
            *inner += 1;
            *innermost += 1;
        }
    }
}

/// So many rounds of one thread.
fn work(rounds: u64) {
    let locks = Locks::new();
    for round in 0..rounds {
        locks.round();
        if round % 128 == 0 {
            let _outer = locks.outer.lock();
            drop(Mutex::new(0).lock());
        }
        if round % (1 << 14) == 0 {
            thread::spawn(|| Locks::new().round()).join().expect("it does not panic");
        }
        if round % (1 << 16) == 0 {
            Validator::new().scope(|| Locks::new().round());
        }
    }
}

/// All threads together take so many locks.
fn take(locks: u64) {
    let threads: Vec<_> =
        (0..THREADS).map(|_| thread::spawn(move || work(locks / THREADS / ROUND))).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
}

fn main() -> ExitCode {
    let locks: u64 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let start = Instant::now();
    take(locks / 10);
    let before = counting::in_use();
    take(locks - locks / 10);
    let after = counting::in_use();
    let found = lockdep::global().reports().len();
    assert!(lockdep::global().stats().dependencies > 0, "nobody watches");
    println!(
        "{locks} locks in {:.0?}: {before} bytes in use after the first tenth, {after} at the end",
        start.elapsed()
    );
    if found > 0 || after > before + SLACK {
        println!("{found} findings; at most {} bytes were to be in use", before + SLACK);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
