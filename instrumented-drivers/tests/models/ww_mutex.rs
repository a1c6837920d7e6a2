// SPDX-License-Identifier: GPL-2.0-only
//! Wound/wait mutexes under threads: exclusion, -EALREADY, back-offs in rings and in crowds, for both algorithms, and
//! the reports on misuse. Kernel counterpart: `kernel/locking/test-ww_mutex.c`.
//!
//! Nothing is timed. Where the kernel waits for a while to see that a lock is *not* obtained, a flag is looked at that the
//! holder sets just before it lets go.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use instrumented_drivers::kernel::errno::Errno;
use instrumented_drivers::kernel::fault::drill_back_offs;
use instrumented_drivers::kernel::locking::{WwAcquireCtx, WwAlgorithm, WwClass, WwMutex, sleep_class};
use lockdep::ww::WwMisuse;
use lockdep::{LockClass, ReportKind, Validator};

static DIE_MUTEX: LockClass = sleep_class("die_mutex");
static DIE_ACQUIRE: LockClass = LockClass::new("die_acquire").strict();
static DIE: WwClass = WwClass::new(&DIE_MUTEX, &DIE_ACQUIRE, WwAlgorithm::WaitDie);
static WOUND_MUTEX: LockClass = sleep_class("wound_mutex");
static WOUND_ACQUIRE: LockClass = LockClass::new("wound_acquire").strict();
static WOUND: WwClass = WwClass::new(&WOUND_MUTEX, &WOUND_ACQUIRE, WwAlgorithm::WoundWait);

/// Runs `f` for both algorithms and asserts that nothing is found.
fn clean(f: impl Fn(&'static WwClass)) {
    for class in [&DIE, &WOUND] {
        let validator = Validator::new();
        validator.scope(|| f(class));
        let reports: Vec<String> = validator.reports().iter().map(ToString::to_string).collect();
        assert_eq!(reports, Vec::<String>::new());
    }
}

/// The misuses that `f` is reported for.
fn misuses(f: impl FnOnce()) -> Vec<WwMisuse> {
    let validator = Validator::new();
    validator.scope(f);
    let reports = validator.reports();
    reports.iter().filter(|report| report.kind() == ReportKind::WwApi).filter_map(|r| r.misuse).collect()
}

fn with<R>(class: &'static WwClass, f: impl FnOnce(&WwAcquireCtx) -> R) -> R {
    let ctx = WwAcquireCtx::init(class);
    let result = f(&ctx);
    ctx.fini();
    result
}

#[test]
fn a_peer_gets_the_lock_only_when_the_holder_lets_go() {
    clean(|class| {
        for holder_has_ctx in [false, true] {
            for peer_tries in [false, true] {
                let (lock, ready) = (WwMutex::new(class), Barrier::new(2));
                let released = AtomicBool::new(false);
                lockdep::thread::scope(|s| {
                    s.spawn(|| {
                        ready.wait();
                        if peer_tries {
                            while !lock.trylock(None) {
                                std::thread::yield_now();
                            }
                        } else {
                            lock.lock(None).expect("a plain lock");
                        }
                        assert!(released.load(Ordering::Relaxed));
                        lock.unlock();
                    });
                    let ctx = holder_has_ctx.then(|| WwAcquireCtx::init(class));
                    lock.lock(ctx.as_ref()).expect("it is free");
                    ready.wait();
                    assert!(!lock.trylock(None));
                    // The peer has all the time it takes to try or to queue.
                    (0..100).for_each(|_| std::thread::yield_now());
                    released.store(true, Ordering::Relaxed);
                    lock.unlock();
                    if let Some(ctx) = ctx {
                        ctx.fini();
                    }
                });
            }
        }
    });
}

#[test]
fn a_context_cannot_take_a_lock_twice() {
    clean(|class| {
        for by_trylock in [false, true] {
            let lock = WwMutex::new(class);
            with(class, |ctx| {
                if by_trylock {
                    assert!(lock.trylock(Some(ctx)));
                } else {
                    lock.lock(Some(ctx)).expect("it is free");
                }
                assert_eq!(lock.lock(Some(ctx)), Err(Errno::EALREADY));
                assert!(!lock.trylock(Some(ctx)) && !lock.trylock(None));
                assert_eq!(ctx.acquired(), 1);
                lock.unlock();
                assert_eq!(ctx.acquired(), 0);
            });
        }
    });
}

/// One side of two opposite orders. True if it was told to back off.
fn one_side(
    class: &'static WwClass,
    own: &WwMutex,
    other: &WwMutex,
    [by_try, resolve]: [bool; 2],
    both: &Barrier,
) -> bool {
    with(class, |ctx| {
        if by_try {
            assert!(own.trylock(Some(ctx)));
        } else {
            own.lock(Some(ctx)).expect("nobody else wants it yet");
        }
        both.wait();
        let mut result = other.lock(Some(ctx));
        let backed_off = result == Err(Errno::EDEADLK);
        if backed_off && resolve {
            own.unlock();
            other.lock_slow(ctx);
            // The other side had to be done with both before it let go of `other`.
            own.lock(Some(ctx)).expect("it is free");
            result = Ok(());
        }
        assert!(matches!(result, Ok(()) | Err(Errno::EDEADLK)), "{result:?}");
        if result.is_ok() {
            other.unlock();
        }
        own.unlock();
        backed_off
    })
}

#[test]
fn of_two_opposite_orders_one_side_backs_off() {
    clean(|class| {
        for by_try in [false, true] {
            for resolve in [false, true] {
                let (a, b, both) = (WwMutex::new(class), WwMutex::new(class), Barrier::new(2));
                let how = [by_try, resolve];
                let backed_off = lockdep::thread::scope(|s| {
                    let peer = s.spawn(|| one_side(class, &a, &b, how, &both));
                    let me = one_side(class, &b, &a, how, &both);
                    peer.join().expect("the peer") || me
                });
                assert!(backed_off, "both hold one and want the other's");
                assert!(!a.is_locked() && !b.is_locked());
            }
        }
    });
}

/// Takes these locks in this order, however often it is told to back off, and gives them back. Returns how often.
fn take_all(class: &'static WwClass, locks: &[&WwMutex], work: impl FnOnce()) -> usize {
    with(class, |ctx| {
        let mut back_offs = 0;
        let mut slow = None;
        'again: loop {
            for (i, lock) in locks.iter().enumerate() {
                if slow == Some(i) {
                    continue;
                }
                match lock.lock(Some(ctx)) {
                    Ok(()) => {}
                    Err(Errno::EDEADLK) => {
                        back_offs += 1;
                        let held = (0..i).rev().chain(slow.filter(|slow| *slow > i));
                        held.for_each(|held| locks[held].unlock());
                        lock.lock_slow(ctx);
                        slow = Some(i);
                        continue 'again;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            break;
        }
        ctx.done();
        work();
        locks.iter().rev().for_each(|lock| lock.unlock());
        back_offs
    })
}

/// The same, but the contended lock moves to the front and those before it stay where they are.
fn take_all_reordering(class: &'static WwClass, locks: &mut [&WwMutex], work: impl FnOnce()) {
    with(class, |ctx| {
        let mut held = 0;
        while held < locks.len() {
            match locks[held].lock(Some(ctx)) {
                Ok(()) => held += 1,
                Err(Errno::EDEADLK) => {
                    locks[..held].iter().rev().for_each(|lock| lock.unlock());
                    locks[..=held].rotate_right(1);
                    locks[0].lock_slow(ctx);
                    held = 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        work();
        locks.iter().rev().for_each(|lock| lock.unlock());
    });
}

#[test]
fn a_ring_of_tasks_is_resolved() {
    clean(|class| {
        for tasks in 2..=5 {
            let locks: Vec<_> = (0..tasks).map(|_| WwMutex::new(class)).collect();
            let all_hold_one = Barrier::new(tasks);
            let back_offs: usize = lockdep::thread::scope(|s| {
                let ring: Vec<_> = (0..tasks)
                    .map(|i| {
                        let (own, next) = (&locks[i], &locks[(i + 1) % tasks]);
                        let all_hold_one = &all_hold_one;
                        s.spawn(move || {
                            let first = with(class, |ctx| {
                                own.lock(Some(ctx)).expect("nobody else wants it yet");
                                all_hold_one.wait();
                                let result = next.lock(Some(ctx));
                                if result.is_ok() {
                                    next.unlock();
                                }
                                own.unlock();
                                usize::from(result == Err(Errno::EDEADLK))
                            });
                            first + take_all(class, &[next, own], || {})
                        })
                    })
                    .collect();
                ring.into_iter().map(|task| task.join().expect("a task of the ring")).sum()
            });
            assert!(back_offs > 0, "a ring of {tasks} cannot go round without a back-off");
        }
    });
}

/// A task of a crowd: its work, how often.
type Worker = (fn(&Crowd, usize, usize), usize);

/// Locks with a counter each that only the lock protects.
struct Crowd {
    class: &'static WwClass,
    locks: Vec<WwMutex>,
    counters: Vec<AtomicUsize>,
}

impl Crowd {
    fn new(class: &'static WwClass, size: usize) -> Self {
        let locks = (0..size).map(|_| WwMutex::new(class)).collect();
        Crowd { class, locks, counters: (0..size).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Every lock once, in an order of its own for each `worker`.
    fn order(&self, worker: usize) -> Vec<usize> {
        // Any step that shares no factor with the size; 5 and 17 share none with 16 and 2047.
        let step = [5, self.locks.len() - 1, 17, 1][worker % 4];
        (0..self.locks.len()).map(|i| (i * step + worker * 7) % self.locks.len()).collect()
    }

    /// Adds one without an atomic operation: two at the same time would lose one.
    fn count(&self, which: &[usize]) {
        for counter in which.iter().map(|i| &self.counters[*i]) {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    fn in_order(&self, worker: usize, rounds: usize) {
        let order = self.order(worker);
        let locks: Vec<_> = order.iter().map(|i| &self.locks[*i]).collect();
        for _ in 0..rounds {
            take_all(self.class, &locks, || self.count(&order));
        }
    }

    fn reordering(&self, worker: usize, rounds: usize) {
        let order = self.order(worker);
        let mut locks: Vec<_> = order.iter().map(|i| &self.locks[*i]).collect();
        for _ in 0..rounds {
            take_all_reordering(self.class, &mut locks, || self.count(&order));
        }
    }

    fn one(&self, worker: usize, rounds: usize) {
        for i in self.order(worker).into_iter().cycle().take(rounds * self.locks.len()) {
            self.locks[i].lock(None).expect("a plain lock");
            self.count(&[i]);
            self.locks[i].unlock();
        }
    }

    /// Runs the workers and asserts that none of their increments was lost.
    fn run(&self, workers: &[Worker], drill: bool) {
        lockdep::thread::scope(|s| {
            for (number, (work, rounds)) in workers.iter().enumerate() {
                s.spawn(move || {
                    if drill {
                        drill_back_offs(|| work(self, number, *rounds));
                    } else {
                        work(self, number, *rounds);
                    }
                });
            }
        });
        let rounds: usize = workers.iter().map(|(_, rounds)| rounds).sum();
        for (lock, counter) in self.locks.iter().zip(&self.counters) {
            assert!(!lock.is_locked());
            assert_eq!(counter.load(Ordering::Relaxed), rounds);
        }
    }
}

#[test]
fn many_orders_of_few_locks_come_through() {
    clean(|class| {
        for drill in [false, true] {
            for work in [Crowd::in_order, Crowd::reordering] {
                let workers: [Worker; 4] = [(work, 40); 4];
                Crowd::new(class, 16).run(&workers, drill);
            }
        }
    });
}

#[test]
fn many_locks_come_through() {
    clean(|class| {
        let workers: [Worker; 6] = [
            (Crowd::in_order, 2),
            (Crowd::reordering, 2),
            (Crowd::one, 2),
            (Crowd::in_order, 2),
            (Crowd::reordering, 2),
            (Crowd::one, 2),
        ];
        Crowd::new(class, 2047).run(&workers, false);
    });
}

#[test]
fn a_drill_makes_callers_back_off_without_anybody_else() {
    clean(|class| {
        let locks: Vec<_> = (0..8).map(|_| WwMutex::new(class)).collect();
        let locks: Vec<_> = locks.iter().collect();
        assert_eq!((0..20).map(|_| take_all(class, &locks, || {})).sum::<usize>(), 0);
        // When a drill begins depends on the stamp, which other tests draw from, too.
        let drilled = drill_back_offs(|| (0..10_000).any(|_| take_all(class, &locks, || {}) > 0));
        assert!(drilled);
    });
}

#[test]
fn a_caller_that_ignores_a_back_off_is_found_by_a_drill() {
    let found = misuses(|| {
        drill_back_offs(|| {
            let ignored = (0..10_000).any(|_| {
                let (a, b) = (WwMutex::new(&DIE), WwMutex::new(&DIE));
                with(&DIE, |ctx| {
                    a.lock(Some(ctx)).expect("it is free");
                    let told = b.lock(Some(ctx)).is_err();
                    if told {
                        // Wrong: `a` is still held.
                        b.lock_slow(ctx);
                    }
                    b.unlock();
                    a.unlock();
                    told
                })
            });
            assert!(ignored);
        });
    });
    if lockdep::ENABLED {
        assert_eq!(found, [WwMisuse::StillHolding]);
    }
}

#[test]
fn a_mutex_is_not_destroyed_while_another_task_holds_it() {
    let found = misuses(|| {
        let lock = WwMutex::new(&DIE);
        lock.lock(None).expect("it is free");
        lockdep::thread::scope(|s| {
            s.spawn(|| lock.destroy());
        });
        lock.unlock();
    });
    assert_eq!(found, if lockdep::ENABLED { vec![WwMisuse::DestroyedLocked] } else { vec![] });
}

#[test]
fn a_mutex_is_not_used_after_it_was_destroyed() {
    let found = misuses(|| {
        let lock = WwMutex::new(&DIE);
        lock.destroy();
        lock.lock(None).expect("it is free");
        lock.unlock();
    });
    assert_eq!(found, if lockdep::ENABLED { vec![WwMisuse::Destroyed] } else { vec![] });
}
