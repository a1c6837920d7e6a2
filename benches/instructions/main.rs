// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lock costs, counted instead of timed: instructions for a pair of lock and unlock of a known order; and
//! what drivers do ([`drivers`]).
//!
//! `cargo bench --bench instructions` and the same with `--features lockdep`. It is exact, so it is checked: with the
//! feature off, ours is the bare lock to the instruction; with it on, a pair costs no more than its [`Row::budget`], however
//! deep the nest. Exit status 1 if that is not so.
//!
//! How: this program starts itself once more for each row, as a child that it lets run one instruction at a time
//! (ptrace) between two signals that the child sends itself. What the same rounds cost without a lock is subtracted. Only
//! for Linux, and where a process may trace its child; elsewhere it says so and counts nothing. Unoptimised code is
//! counted, but not checked.

#[path = "../common/mod.rs"]
mod common;
mod drivers;
#[cfg_attr(not(target_os = "linux"), path = "untraced.rs")]
mod traced;

use common::{
    BareMutex, BareRead, BareReentrant, BareTry, BareWrite, Lock, OurMutex, OurRead, OurReentrant, OurTry,
    OurWrite, nest_of, new_nest,
};

/// One lock type of both makers.
struct Row {
    name: &'static str,
    bare: fn(usize, usize),
    ours: fn(usize, usize),
    depths: &'static [usize],
    /// What a pair may cost more than the bare one with the feature on: what was counted with rustc 1.95 for x86-64, and
    /// four to spare for other compilers. The aim for a mutex is 60.
    budget: u32,
}

const ROWS: [Row; 5] = [
    row::<BareMutex, OurMutex>("Mutex", &[1, 4, 8, 16], 62),
    row::<BareTry, OurTry>("Mutex, try_lock", &[1, 4], 63),
    row::<BareRead, OurRead>("RwLock, read", &[1, 4], 72),
    row::<BareWrite, OurWrite>("RwLock, write", &[1, 4], 62),
    row::<BareReentrant, OurReentrant>("ReentrantMutex", &[1, 4], 101),
];

const fn row<B: Lock, O: Lock>(name: &'static str, depths: &'static [usize], budget: u32) -> Row {
    Row { name, bare: rounds::<B>, ours: rounds::<O>, depths, budget }
}

/// So many nests of this depth; only they are between the signals.
fn rounds<L: Lock>(depth: usize, rounds: usize) {
    let locks = new_nest::<L>();
    // The first times are for learning.
    for _ in 0..3 {
        nest_of(depth, &locks);
    }
    traced::mark();
    for _ in 0..rounds {
        nest_of(depth, &locks);
    }
    traced::mark();
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, what, row, depth, times] = &args[..]
        && role == traced::ROLE
    {
        let [row, depth, times] = [row, depth, times].map(|text| text.parse::<usize>().expect("we wrote it"));
        match what.as_str() {
            "bare" => (ROWS[row].bare)(depth, times),
            "ours" => (ROWS[row].ours)(depth, times),
            _ => (drivers::ROWS[row].run)(times),
        }
        return std::process::ExitCode::SUCCESS;
    }
    match lock_table().and_then(|good| Ok(good & driver_table()?)) {
        // Nothing is known about unoptimised code.
        Ok(good) if good || cfg!(debug_assertions) => std::process::ExitCode::SUCCESS,
        Ok(_) => {
            println!("something does not cost the instructions that it should");
            std::process::ExitCode::FAILURE
        }
        Err(reason) => {
            println!("nothing was counted: {reason}");
            std::process::ExitCode::SUCCESS
        }
    }
}

const MODE: &str = if lockdep::ENABLED { "on" } else { "off" };

/// Prints a table of the locks; false if a pair costs more than it may.
fn lock_table() -> Result<bool, traced::Unavailable> {
    println!("Instructions for a pair of lock and unlock, validator {MODE}:\n");
    println!("| lock | depth | bare | ours | more | at most |\n|---|---|---|---|---|---|");
    let mut good = true;
    for (number, Row { name, depths, budget, .. }) in ROWS.iter().enumerate() {
        let budget = if lockdep::ENABLED { *budget } else { 0 };
        for &depth in *depths {
            let bare = per_pair(number, "bare", depth)?;
            let ours = per_pair(number, "ours", depth)?;
            let more = ours - bare;
            println!("| {name} | {depth} | {bare:.1} | {ours:.1} | {more:.1} | {budget} |");
            good &= more <= f64::from(budget);
        }
    }
    println!();
    Ok(good)
}

/// Prints a table of what drivers do; false if something costs more or less than it should.
fn driver_table() -> Result<bool, traced::Unavailable> {
    println!("Instructions of what drivers do, validator {MODE}:\n");
    println!("| what | off | {MODE}, counted | times | should be |\n|---|---|---|---|---|");
    let mut good = true;
    for (number, row) in drivers::ROWS.iter().enumerate() {
        let count = |times| count(number, "driver", 0, times);
        let each = (count(drivers::MOST)? - count(0)?) as f64 / drivers::MOST as f64;
        let drivers::Row { name, off, .. } = row;
        let [least, most] = row.bounds();
        println!("| {name} | {off} | {each:.1} | {:.2} | {least:.0} to {most:.0} |", each / f64::from(*off));
        good &= (least..=most).contains(&each);
    }
    println!();
    Ok(good)
}

/// Instructions for one lock and unlock.
fn per_pair(row: usize, maker: &str, depth: usize) -> Result<f64, traced::Unavailable> {
    const ROUNDS: usize = 40;
    let difference = count(row, maker, depth, ROUNDS)? - count(row, maker, 0, ROUNDS)?;
    Ok(difference as f64 / (ROUNDS * depth) as f64)
}

/// Instructions between the marks of a child that does this.
fn count(row: usize, what: &str, depth: usize, times: usize) -> Result<i64, traced::Unavailable> {
    traced::instructions(&[what, &row.to_string(), &depth.to_string(), &times.to_string()])
}
