// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that forks while its other threads are deep inside the validator. The child has none of these threads;
//! it must find no validator lock taken. A child that hangs is ended by its alarm clock and fails the test.
#![cfg(all(feature = "lockdep", unix))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockdep::sync::Mutex;
use lockdep::{DynamicClass, LockClass, Validator};

mod common;

use common::{part, play, stderr};

/// Takes a lock of a new class under one of another new class: nothing of that is known to anybody.
fn learn() {
    static OUTER: LockClass = LockClass::new("outer");
    let new_class = || -> &'static LockClass { Box::leak(Box::new(LockClass::new("new"))) };
    let (outer, inner) = (Mutex::with_class(&OUTER, ()), Mutex::with_class(new_class(), ()));
    drop((outer.lock(), inner.lock()));
}

/// A class that comes and goes, with a lock of it.
fn come_and_go() {
    static LIKE: LockClass = LockClass::new("like");
    let class = DynamicClass::new("here for a while", &LIKE);
    drop(Mutex::with_dynamic_class(&class, ()).lock());
}

/// Makes a finding, with stacks and names.
fn find() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    let v = Validator::new();
    v.scope(|| {
        drop((a.lock(), b.lock()));
        drop((b.lock(), a.lock()));
    });
    assert_eq!(v.reports().len(), 1);
}

/// Forks; the child does `work` and ends. True if it ended well.
fn fork_and(work: impl FnOnce()) -> bool {
    // SAFETY: the child calls nothing that another thread could have left locked, which is what this tests, and
    // leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(60) };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_forked_child_can_lock_learn_and_report() {
    let stop = Arc::new(AtomicBool::new(false));
    // Their stacks are captured, too, but not resolved: that takes a second each.
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    learn();
                }
            })
        })
        .collect();
    find();
    let held = Mutex::new(());
    for _ in 0..50 {
        let guard = held.lock();
        let child = || {
            learn();
            // What the parent held, the child holds.
            lockdep::assert_held!(held);
            drop(guard);
            drop(held.lock());
        };
        assert!(fork_and(child), "the child failed or hung");
    }
    assert!(fork_and(find), "the child failed or hung");
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(lockdep::global().reports().is_empty());
}

#[test]
fn a_forked_child_can_make_and_drop_classes() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                static LIKE: LockClass = LockClass::new("like");
                let class = DynamicClass::new("here for long", &LIKE);
                while !stop.load(Ordering::Relaxed) {
                    drop(Mutex::with_dynamic_class(&class, ()));
                }
            });
        }
        let well = (0..50).all(|_| fork_and(come_and_go));
        stop.store(true, Ordering::Relaxed);
        assert!(well, "the child failed or hung");
    });
}

#[test]
fn forks_may_overlap() {
    let threads: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..20 {
                    learn();
                    assert!(fork_and(learn), "the child failed or hung");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_callback_may_fork() {
    let v = Validator::new();
    let ended_well = Arc::new(AtomicBool::new(false));
    let result = ended_well.clone();
    v.on_report(move |_| result.store(fork_and(learn), Ordering::Relaxed));
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    v.scope(|| {
        drop((a.lock(), b.lock()));
        drop((b.lock(), a.lock()));
    });
    assert!(ended_well.load(Ordering::Relaxed));
    learn();
}

/// Standard error is a pipe that nobody empties, and what is said of the setting does not fit: so the other thread is in
/// the middle of it at the fork.
#[test]
fn a_process_may_fork_while_another_thread_makes_the_process_wide_validator() {
    let test = "a_process_may_fork_while_another_thread_makes_the_process_wide_validator";
    if part().is_none() {
        let output = play(test, "first use", &[("LOCKDEP", &"?".repeat(100_000))]);
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for both.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::dup2(ends[1], 2) }, 2);
    std::thread::spawn(|| drop(Mutex::new(()).lock()));
    let mut byte = 0_u8;
    // SAFETY: there is room for one byte.
    let read = unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
    assert_eq!(read, 1, "it has begun to speak");
    let well = fork_and(|| {
        // SAFETY: there is no other thread. (What belongs to standard error, the parent's other thread has locked.)
        unsafe { std::env::remove_var("LOCKDEP") };
        learn();
    });
    // SAFETY: ends the process, with the thread that still waits to be heard.
    unsafe { libc::_exit(i32::from(!well)) };
}
