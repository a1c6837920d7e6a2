// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Some threads count the words of a text in as many little databases, which they borrow from a pool of r2d2 for each
//! line. Prints the nanoseconds of CPU time that a line takes, the median of several texts.
//!
//!     pool THREADS

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use r2d2::{ManageConnection, Pool};

const LINES: u64 = 20_000;
const TEXTS: u64 = 15;
/// Words of a line.
const WORDS: u64 = 12;

/// How often each word was seen.
type Database = HashMap<u64, u64>;

struct Manager;

impl ManageConnection for Manager {
    type Connection = Database;
    type Error = Infallible;

    fn connect(&self) -> Result<Database, Infallible> {
        Ok(Database::new())
    }

    fn is_valid(&self, _: &mut Database) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Database) -> bool {
        false
    }
}

/// CPU time of all threads.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().expect("positive"), time.tv_nsec.try_into().expect("below 10^9"))
}

/// Counts the words of some lines.
fn count(pool: &Pool<Manager>, thread: u32) {
    let mut word = u64::from(thread);
    for _ in 0..LINES {
        let mut database = pool.get().expect("there is one for each thread");
        for _ in 0..WORDS {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *database.entry(word >> 54).or_default() += 1;
        }
    }
}

fn main() {
    let threads: u32 =
        std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("the number of threads");
    let pool = Pool::builder().max_size(threads).build(Manager).expect("nothing can fail");
    let mut texts: Vec<Duration> = (0..TEXTS)
        .map(|_| {
            let start = now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let pool = &pool;
                    scope.spawn(move || count(pool, thread));
                }
            });
            now() - start
        })
        .collect();
    let connections: Vec<_> = (0..threads).map(|_| pool.get().expect("nobody else is left")).collect();
    let counted: u64 = connections.iter().flat_map(|database| database.values()).sum();
    assert_eq!(counted, LINES * TEXTS * WORDS * u64::from(threads), "each word was counted once");
    #[cfg(feature = "lockdep")]
    assert!(lockdep::global().stats().classes > 0, "the locks are ours");
    texts.sort_unstable();
    println!("{}", texts[texts.len() / 2].as_nanos() as f64 / (u64::from(threads) * LINES) as f64);
}
