// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The locks exclude, block, and tell the validator what they do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use lockdep::{LockClass, Validator};

use super::{
    Mutex, RwLock, RwSem, SpinLock, WwAcquireCtx, WwAlgorithm, WwClass, WwMutex, sleep_class, spin_class,
    watched,
};
use crate::kernel::errno::Errno;
use crate::kernel::fault::{Plan, inject};
use crate::kernel::irq::softirq;

static MUTEX: LockClass = sleep_class("test mutex");
static RWSEM: LockClass = sleep_class("test rwsem");
static SPIN: LockClass = spin_class("test spinlock");
static RWLOCK: LockClass = spin_class("test rwlock");
static DIE_MUTEX: LockClass = sleep_class("die_mutex");
static DIE_ACQUIRE: LockClass = sleep_class("die_acquire");
static DIE: WwClass = WwClass::new(&DIE_MUTEX, &DIE_ACQUIRE, WwAlgorithm::WaitDie);
static WOUND_MUTEX: LockClass = sleep_class("wound_mutex");
static WOUND_ACQUIRE: LockClass = sleep_class("wound_acquire");
static WOUND: WwClass = WwClass::new(&WOUND_MUTEX, &WOUND_ACQUIRE, WwAlgorithm::WoundWait);

fn clean(f: impl FnOnce()) {
    let validator = Validator::new();
    validator.scope(f);
    let reports: Vec<String> = validator.reports().iter().map(ToString::to_string).collect();
    assert_eq!(reports, Vec::<String>::new());
}

#[test]
fn a_mutex_and_a_spinlock_exclude() {
    clean(|| {
        let locks = Arc::new((Mutex::new(&MUTEX), SpinLock::new(&SPIN), AtomicBool::new(false)));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let locks = locks.clone();
                lockdep::thread::spawn(move || {
                    let (mutex, spin, inside) = &*locks;
                    for _ in 0..200 {
                        mutex.lock();
                        spin.lock();
                        assert!(!inside.swap(true, Ordering::Relaxed));
                        inside.store(false, Ordering::Relaxed);
                        spin.unlock();
                        mutex.unlock();
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    clean(|| {
        let sem = RwSem::new(&RWSEM);
        sem.down_read();
        let second_reader = || {
            let got = sem.down_read_trylock();
            sem.up_read();
            got
        };
        assert!(thread::scope(|s| s.spawn(second_reader).join().unwrap()));
        assert!(!sem.down_write_trylock());
        sem.up_read();
        sem.down_write();
        assert!(sem.is_write_held());
        assert!(!sem.down_read_trylock());
        sem.downgrade_write();
        assert!(!sem.is_write_held());
        sem.up_read();
    });
}

#[test]
fn an_interrupted_wait_leaves_nothing_locked() {
    clean(|| {
        let mutex = Mutex::new(&MUTEX);
        let (result, seen) = inject(Plan::interrupt(2), || {
            mutex.lock_interruptible().unwrap();
            mutex.unlock();
            mutex.lock_killable()
        });
        assert_eq!((result, seen.interruptible), (Err(Errno::EINTR), 2));
        assert!(mutex.trylock(), "free, for the lock");
        mutex.unlock();
        assert!(lockdep::raw::is_quiet(), "and for the validator");
    });
}

#[test]
fn a_reader_in_an_interrupt_is_a_recursive_one() {
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let lock = RwLock::new(&RWLOCK);
        lock.read_lock();
        softirq(|| {
            lock.read_lock();
            lock.read_unlock();
        });
        lock.read_unlock();
        lock.write_lock();
        lock.write_unlock();
    });
    let modes: Vec<_> = validator
        .take_recorded()
        .into_iter()
        .filter_map(|event| match event.op {
            lockdep::RecordedOp::Acquire { how } => Some(how.mode),
            _ => None,
        })
        .collect();
    if lockdep::ENABLED {
        use lockdep::Mode::{Read, RecursiveRead, Write};
        assert_eq!(modes, [Read, RecursiveRead, Write]);
    }
}

#[test]
fn a_context_is_told_about_a_lock_it_holds_already() {
    clean(|| {
        let (a, b) = (WwMutex::new(&DIE), WwMutex::new(&DIE));
        let ctx = WwAcquireCtx::init(&DIE);
        a.lock(Some(&ctx)).unwrap();
        b.lock(Some(&ctx)).unwrap();
        assert_eq!(a.lock(Some(&ctx)), Err(Errno::EALREADY));
        assert_eq!(ctx.acquired(), 2);
        ctx.done();
        a.unlock();
        b.unlock();
        ctx.fini();
    });
}

#[test]
fn a_second_ww_lock_without_a_context_is_recursive() {
    let validator = Validator::new();
    validator.scope(|| {
        let (a, b) = (WwMutex::new(&DIE), WwMutex::new(&DIE));
        a.lock(None).unwrap();
        assert!(b.trylock(None), "a trylock is none");
        b.unlock();
        b.lock(None).unwrap();
        b.unlock();
        a.unlock();
    });
    if lockdep::ENABLED {
        assert_eq!(validator.reports().len(), 1);
        assert_eq!(validator.reports()[0].kind().name(), "recursive");
    }
}

/// Two tasks take two locks in opposite order; `class` resolves it. Returns how many gave up.
fn opposite_orders(class: &'static WwClass, rounds: usize) -> usize {
    let locks = Arc::new([WwMutex::new(class), WwMutex::new(class)]);
    let given_up = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = [[0, 1], [1, 0]]
        .into_iter()
        .map(|order| {
            let (locks, given_up) = (locks.clone(), given_up.clone());
            lockdep::thread::spawn(move || {
                for _ in 0..rounds {
                    let mut order = order;
                    let ctx = WwAcquireCtx::init(class);
                    locks[order[0]].lock(Some(&ctx)).unwrap();
                    while let Err(error) = locks[order[1]].lock(Some(&ctx)) {
                        assert_eq!(error, Errno::EDEADLK);
                        given_up.fetch_add(1, Ordering::Relaxed);
                        locks[order[0]].unlock();
                        order.swap(0, 1);
                        locks[order[0]].lock_slow(&ctx);
                    }
                    locks[0].unlock();
                    locks[1].unlock();
                    ctx.fini();
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
    assert!(!locks[0].is_locked() && !locks[1].is_locked());
    given_up.load(Ordering::Relaxed)
}

#[test]
fn opposite_orders_under_contexts_never_hang_and_are_no_finding() {
    clean(|| {
        opposite_orders(&DIE, 500);
        opposite_orders(&WOUND, 500);
    });
}

#[test]
fn the_younger_dies_and_the_older_waits() {
    clean(|| {
        let locks = Arc::new([WwMutex::new(&DIE), WwMutex::new(&DIE)]);
        let older = WwAcquireCtx::init(&DIE);
        locks[0].lock(Some(&older)).unwrap();
        let shared = locks.clone();
        let younger = lockdep::thread::spawn(move || {
            let ctx = WwAcquireCtx::init(&DIE);
            // Without a lock of its own it would wait; with one it has to give up.
            shared[1].lock(Some(&ctx)).unwrap();
            let result = shared[0].lock(Some(&ctx));
            shared[1].unlock();
            ctx.fini();
            result
        });
        assert_eq!(younger.join().unwrap(), Err(Errno::EDEADLK));
        locks[1].lock(Some(&older)).unwrap();
        locks[0].unlock();
        locks[1].unlock();
        older.fini();
    });
}

#[test]
fn the_older_wounds_the_younger_holder_who_gives_up_where_it_would_wait() {
    clean(|| {
        let locks = Arc::new([WwMutex::new(&WOUND), WwMutex::new(&WOUND)]);
        let older = WwAcquireCtx::init(&WOUND);
        locks[0].lock(Some(&older)).unwrap();
        let shared = locks.clone();
        let (locked, is_locked) = mpsc::channel();
        let younger = lockdep::thread::spawn(move || {
            let ctx = WwAcquireCtx::init(&WOUND);
            shared[1].lock(Some(&ctx)).unwrap();
            locked.send(()).unwrap();
            while shared[1].waiters() == 0 {
                thread::yield_now();
            }
            let result = shared[0].lock(Some(&ctx));
            shared[1].unlock();
            ctx.fini();
            result
        });
        is_locked.recv().unwrap();
        locks[1].lock(Some(&older)).unwrap();
        assert_eq!(younger.join().unwrap(), Err(Errno::EDEADLK));
        locks[0].unlock();
        locks[1].unlock();
        older.fini();
    });
}

#[test]
fn waiters_of_a_ww_mutex_go_by_age() {
    clean(|| {
        let lock = Arc::new(WwMutex::new(&DIE));
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        lock.lock(None).unwrap();
        // Draws its context, says so, and waits for the word to queue.
        let waiter = |name: &'static str| {
            let (lock, order) = (lock.clone(), order.clone());
            let (drawn, is_drawn) = mpsc::channel();
            let (go, may_go) = mpsc::channel();
            let task = lockdep::thread::spawn(move || {
                let ctx = WwAcquireCtx::init(&DIE);
                drawn.send(()).unwrap();
                may_go.recv().unwrap();
                lock.lock(Some(&ctx)).unwrap();
                order.lock().push(name);
                lock.unlock();
                ctx.fini();
            });
            is_drawn.recv().unwrap();
            (task, go)
        };
        let (older, older_go) = waiter("older");
        let (younger, younger_go) = waiter("younger");
        for (go, queued) in [(younger_go, 1), (older_go, 2)] {
            go.send(()).unwrap();
            while lock.waiters() < queued {
                thread::yield_now();
            }
        }
        lock.unlock();
        younger.join().unwrap();
        older.join().unwrap();
        assert_eq!(*order.lock(), ["older", "younger"]);
    });
}

/// Somebody panics with the lock; what does who waits for it then say?
fn after_a_panic<L: Send + Sync + 'static>(
    lock: L,
    take: impl Fn(&L) + Send + 'static,
    wait: impl Fn(&L) + Send + 'static,
) -> String {
    let lock = Arc::new(lock);
    let (taken, is_taken) = mpsc::channel();
    let theirs = lock.clone();
    let hold = move || {
        take(&theirs);
        taken.send(()).expect("it listens");
        panic!("in the middle");
    };
    let holder = lockdep::thread::spawn(|| watched::<()>(hold));
    is_taken.recv().expect("it is taken");
    let waiter = lockdep::thread::spawn(move || watched(|| wait(&lock)));
    assert!(holder.join().is_err());
    let message = waiter.join().expect_err("nobody unlocks");
    (*message.downcast_ref::<&str>().expect("a message")).to_owned()
}

#[test]
fn who_waits_for_a_lock_of_a_thread_that_panicked_panics_too() {
    Validator::new().scope(|| {
        let messages = [
            after_a_panic(Mutex::new(&MUTEX), Mutex::lock, Mutex::lock),
            after_a_panic(SpinLock::new(&SPIN), SpinLock::lock, SpinLock::lock),
            after_a_panic(RwSem::new(&RWSEM), RwSem::down_write, RwSem::down_read),
            after_a_panic(RwSem::new(&RWSEM), RwSem::down_read, RwSem::down_write),
            after_a_panic(
                WwMutex::new(&DIE),
                |lock| lock.lock(None).unwrap(),
                |lock| lock.lock(None).unwrap(),
            ),
        ];
        for message in messages {
            assert_eq!(message, "internal error: this waits for a lock of a thread that has panicked");
        }
    });
}
