// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's test of wound/wait mutexes, `test-ww_mutex`: no driver takes part.
//!
//! The rest of the row, the locking self-test with its cases for wound/wait mutexes and for reclaim, is
//! [`crate::selftest`].
//!
//! # Locking
//!
//! Two classes of its own, one for each algorithm:
//!
//! * `ww_class_acquire` → `ww_class_mutex`: wound/wait
//! * `wd_class_acquire` → `wd_class_mutex`: wait/die
#![forbid(unsafe_code)]

use std::sync::{Arc, Barrier};

use super::world::{Failure, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::locking::{WwAcquireCtx, WwAlgorithm, WwClass, WwMutex, sleep_class};
use lockdep::LockClass;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    id: "K10",
    name: "test-ww_mutex",
    about: "a lock twice under one context; two and more tasks that want each other's locks",
    expects: Expects::Clean,
    program,
}];

static MUTEX: LockClass = sleep_class("wd_class_mutex");
static ACQUIRE: LockClass = sleep_class("wd_class_acquire");
static WOUND_MUTEX: LockClass = sleep_class("ww_class_mutex");
static WOUND_ACQUIRE: LockClass = sleep_class("ww_class_acquire");
static CLASSES: [WwClass; 2] = [
    WwClass::new(&MUTEX, &ACQUIRE, WwAlgorithm::WaitDie),
    WwClass::new(&WOUND_MUTEX, &WOUND_ACQUIRE, WwAlgorithm::WoundWait),
];

fn program(world: &World) -> Outcome {
    for class in &CLASSES {
        twice(class)?;
        for tasks in 2..=4 {
            let back_offs = ring(world, class, tasks)?;
            expect_eq("somebody had to back off", back_offs > 0, true)?;
        }
    }
    Ok(())
}

/// `test_aa`.
fn twice(class: &'static WwClass) -> Outcome {
    let mutex = WwMutex::new(class);
    let ctx = WwAcquireCtx::init(class);
    let first = mutex.lock(Some(&ctx));
    let second = (mutex.lock(Some(&ctx)), mutex.trylock(Some(&ctx)));
    if first.is_ok() {
        mutex.unlock();
    }
    ctx.fini();
    first?;
    expect_error("again", second.0, Errno::EALREADY)?;
    expect_eq("tried again", second.1, false)
}

/// `test_abba` (two tasks), `test_cycle`: each has its own lock and wants that of the next. How many backed off.
fn ring(world: &World, class: &'static WwClass, tasks: usize) -> Outcome<usize> {
    let locks: Arc<Vec<WwMutex>> = Arc::new((0..tasks).map(|_| WwMutex::new(class)).collect());
    let all_hold_one = Arc::new(Barrier::new(tasks));
    let others: Vec<_> = (1..tasks)
        .map(|own| {
            let (locks, all_hold_one) = (locks.clone(), all_hold_one.clone());
            world.init.spawn(move |_| one_of_the_ring(class, &locks, own, &all_hold_one))
        })
        .collect();
    let mine = one_of_the_ring(class, &locks, 0, &all_hold_one);
    let results = others.into_iter().map(|task| task.and_then(|task| task.wait()));
    let all: Result<Vec<bool>> = core::iter::once(mine).chain(results).collect();
    if locks.iter().any(WwMutex::is_locked) {
        return Err(Failure::new("a lock is still held"));
    }
    Ok(all?.into_iter().filter(|backed_off| *backed_off).count())
}

/// Takes both, whatever it takes; true if it had to back off.
fn one_of_the_ring(
    class: &'static WwClass,
    locks: &[WwMutex],
    own: usize,
    all_hold_one: &Barrier,
) -> Result<bool> {
    let (own, next) = (&locks[own], &locks[(own + 1) % locks.len()]);
    let ctx = WwAcquireCtx::init(class);
    let first = own.lock(Some(&ctx));
    all_hold_one.wait();
    let both = first.and_then(|()| match next.lock(Some(&ctx)) {
        Ok(()) => Ok(false),
        Err(Errno::EDEADLK) => {
            own.unlock();
            next.lock_slow(&ctx);
            take_back(own, next, &ctx).map(|()| true)
        }
        Err(error) => Err(error),
    });
    if both.is_ok() {
        next.unlock();
        own.unlock();
    }
    ctx.fini();
    both
}

/// Takes a further lock; each -EDEADLK means: give up the other one and begin with this.
fn take_back(wanted: &WwMutex, held: &WwMutex, ctx: &WwAcquireCtx) -> Result {
    let (mut wanted, mut held) = (wanted, held);
    while let Err(error) = wanted.lock(Some(ctx)) {
        if error != Errno::EDEADLK {
            held.unlock();
            return Err(error);
        }
        held.unlock();
        wanted.lock_slow(ctx);
        core::mem::swap(&mut wanted, &mut held);
    }
    Ok(())
}
