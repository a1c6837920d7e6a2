// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program may do that is hard on a validator: panics, forgotten guards, ended threads, callbacks that lock,
//! scopes inside scopes.
#![cfg(feature = "lockdep")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{command, kinds, lenient, message, part, play, severe, stderr};
use lockdep::sync::{Mutex, ReentrantMutex, RwLock};
use lockdep::{LockClass, PanicOn, Validator};

/// Takes two locks in both orders.
fn abba(a: &Mutex<()>, b: &Mutex<()>) {
    drop((a.lock(), b.lock()));
    drop((b.lock(), a.lock()));
}

#[test]
fn a_forgotten_guard_is_reported_when_its_thread_ends() {
    let v = Validator::new();
    let m = Arc::new(Mutex::new(()));
    v.scope(|| {
        let m = m.clone();
        lockdep::thread::spawn(move || std::mem::forget(m.lock())).join().unwrap();
    });
    assert_eq!(kinds(&v), ["exit"]);
    assert!(v.reports()[0].summary().contains("traps.rs"), "{}", v.reports()[0].summary());
}

#[test]
fn a_guard_leaked_in_a_plain_thread_is_reported_when_it_ends() {
    let test = "a_guard_leaked_in_a_plain_thread_is_reported_when_it_ends";
    if part().is_some() {
        static LEAKED: Mutex<()> = Mutex::new(());
        std::thread::spawn(|| std::mem::forget(LEAKED.lock())).join().unwrap();
        return;
    }
    let output = play(test, "leak", &[("LOCKDEP", "warn")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("task ends with locks held [exit]"), "{}", stderr(&output));
}

#[test]
fn unwinding_past_guards_is_no_finding() {
    let v = severe();
    let (a, b) = (Mutex::new(()), RwLock::new(()));
    v.scope(|| {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _guards = (a.lock(), b.read());
            panic!("on purpose");
        }));
        assert_eq!(message(&*unwound.unwrap_err()), "on purpose");
        assert!(lockdep::raw::is_quiet());
        drop((b.write(), a.try_lock().unwrap()));
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
}

#[test]
fn a_thread_that_panics_with_guards_is_no_finding() {
    let v = severe();
    let m = Arc::new(Mutex::new(()));
    let shared = m.clone();
    let thread = v.scope(|| {
        lockdep::thread::spawn(move || {
            let _guard = shared.lock();
            panic!("on purpose");
        })
    });
    assert!(thread.join().is_err());
    assert!(v.reports().is_empty() && !m.is_locked());
}

#[test]
fn a_finding_while_panicking_does_not_panic_again() {
    struct LocksWhenDropped<'a>(&'a Mutex<()>, &'a Mutex<()>);
    impl Drop for LocksWhenDropped<'_> {
        fn drop(&mut self) {
            drop((self.0.lock(), self.1.lock()));
        }
    }
    let v = severe();
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    v.scope(|| {
        drop((a.lock(), b.lock()));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _inverted = LocksWhenDropped(&b, &a);
            panic!("the first one");
        }));
        assert_eq!(message(&*unwound.unwrap_err()), "the first one");
    });
    assert_eq!(kinds(&v), ["circular"]);
}

#[test]
fn the_variable_decides_what_the_global_validator_does() {
    let test = "the_variable_decides_what_the_global_validator_does";
    if part().is_some() {
        let (a, b) = (Mutex::new(()), Mutex::new(()));
        abba(&a, &b);
        assert_eq!(
            lockdep::global().reports().len(),
            usize::from(std::env::var("LOCKDEP").as_deref() == Ok("warn"))
        );
        return;
    }
    let off = play(test, "abba", &[("LOCKDEP", "off")]);
    assert!(off.status.success() && !stderr(&off).contains("WARNING"), "{}", stderr(&off));
    let warn = play(test, "abba", &[("LOCKDEP", "warn")]);
    assert!(warn.status.success(), "{}", stderr(&warn));
    assert_eq!(stderr(&warn).matches("possible circular").count(), 1, "{}", stderr(&warn));
    assert!(stderr(&warn).contains("stack of"), "{}", stderr(&warn));
    for variables in [&[][..], &[("LOCKDEP", "panic")], &[("LOCKDEP", "")]] {
        let panic = play(test, "abba", variables);
        assert!(!panic.status.success());
        let text = stderr(&panic);
        assert!(
            text.contains("[circular") && text.contains("panicked at validator/tests/traps.rs:"),
            "{text}"
        );
    }
    let typo = play(test, "abba", &[("LOCKDEP", "wran")]);
    assert!(!typo.status.success());
    assert!(stderr(&typo).contains("LOCKDEP=wran: not one of panic, warn, off"), "{}", stderr(&typo));
    let no_stacks = play(test, "abba", &[("LOCKDEP", "warn"), ("LOCKDEP_STACKS", "off")]);
    assert!(!stderr(&no_stacks).contains("stack of"), "{}", stderr(&no_stacks));
    let frames = |setting| {
        let text = stderr(&play(test, "abba", &[("LOCKDEP", "warn"), ("LOCKDEP_STACKS", setting)]));
        assert_eq!(text.contains("not one of off, new-edges, full"), setting == "ful", "{text}");
        text.matches("traps::").count()
    };
    assert_eq!(frames("new-edges"), frames("ful"));
    assert!(frames("full") > frames("new-edges"));
}

#[test]
fn panic_on_decides_which_finding_panics() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    let rw = RwLock::new(());
    for (when, circular_panics) in
        [(PanicOn::Never, false), (PanicOn::Certain, false), (PanicOn::Finding, true)]
    {
        let v = Validator::builder().panic_on(when).build();
        let unwound = v.scope(|| catch_unwind(AssertUnwindSafe(|| abba(&a, &b))));
        assert_eq!(unwound.is_err(), circular_panics, "{when:?}");
        assert_eq!(kinds(&v), ["circular"]);
        // Two reads of one lock hang only if a writer comes in between.
        let v = Validator::builder().panic_on(when).build();
        let unwound = v.scope(|| catch_unwind(AssertUnwindSafe(|| drop((rw.read(), rw.read())))));
        assert_eq!(unwound.is_err(), circular_panics, "{when:?}");
    }
    for when in [PanicOn::Certain, PanicOn::Finding] {
        let v = Validator::builder().panic_on(when).build();
        v.scope(|| catch_unwind(AssertUnwindSafe(|| drop((a.lock(), a.lock()))))).unwrap_err();
        assert_eq!(kinds(&v), ["recursive"]);
    }
}

#[test]
fn a_certain_deadlock_panics_each_time_and_is_reported_once() {
    let m = Mutex::new(());
    let v = Validator::new();
    for _ in 0..3 {
        let unwound = v.scope(|| catch_unwind(AssertUnwindSafe(|| drop((m.lock(), m.lock())))));
        assert!(message(&*unwound.unwrap_err()).starts_with("lockdep: recursive: "));
    }
    assert_eq!(kinds(&v), ["recursive"]);
}

#[test]
fn several_findings_of_one_run_are_all_reported_once() {
    let locks: [Mutex<()>; 4] = [Mutex::new(()), Mutex::new(()), Mutex::new(()), Mutex::new(())];
    let rw = RwLock::new(());
    let v = lenient();
    v.scope(|| {
        for _ in 0..5 {
            abba(&locks[0], &locks[1]);
            abba(&locks[2], &locks[3]);
            drop((rw.read(), rw.read()));
            lockdep::assert_held!(locks[0]);
        }
    });
    assert_eq!(kinds(&v), ["circular", "circular", "recursive", "assert-held"]);
    let signatures: std::collections::BTreeSet<_> =
        v.reports().iter().map(|report| report.signature().to_owned()).collect();
    assert_eq!(signatures.len(), 4);
}

#[test]
fn a_new_lock_at_an_old_address_is_another_lock() {
    let a = Mutex::new(());
    let mut slot = Box::new(Mutex::new(()));
    let v = severe();
    v.scope(|| {
        drop((a.lock(), slot.lock()));
        let old = &raw const *slot;
        *slot = Mutex::new(());
        assert_eq!(old, &raw const *slot);
        // The other order, but the class is that of the line above.
        drop((slot.lock(), a.lock()));
    });
    assert!(v.reports().is_empty(), "{:?}", v.reports());
}

#[test]
fn dropping_a_lock_that_this_thread_holds_is_a_finding_and_forgets_it() {
    let v = lenient();
    v.scope(|| {
        let mut slot = Box::new(Mutex::new(()));
        for _ in 0..2 {
            std::mem::forget(slot.lock());
            *slot = Mutex::new(());
        }
        assert!(lockdep::raw::is_quiet());
        drop(slot.lock());
        {
            let rw = RwLock::new(());
            std::mem::forget((rw.read(), rw.read_recursive()));
            let re = ReentrantMutex::new(());
            std::mem::forget(re.lock());
        }
        assert!(lockdep::raw::is_quiet());
        let moved = Mutex::new(1);
        std::mem::forget(moved.lock());
        assert_eq!(moved.into_inner(), 1);
        assert!(lockdep::raw::is_quiet());
    });
    assert_eq!(kinds(&v), ["freed"; 5]);
}

#[test]
fn scopes_nest_and_each_sees_its_own_order() {
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    let (outer, inner) = (lenient(), lenient());
    outer.scope(|| {
        let _a = a.lock();
        inner.scope(|| {
            assert!(lockdep::raw::is_quiet(), "a fresh stack");
            drop(b.lock());
        });
        assert!(!lockdep::raw::is_quiet(), "the stack from before");
        drop(b.lock());
    });
    inner.scope(|| drop((b.lock(), a.lock())));
    assert!(outer.reports().is_empty() && inner.reports().is_empty());
    assert_eq!(outer.dependencies().len(), 1);
    outer.scope(|| drop((b.lock(), a.lock())));
    assert_eq!((kinds(&outer), kinds(&inner)), (vec!["circular"], vec![]));
}

#[test]
fn a_scope_that_panics_is_left() {
    let (outer, inner) = (lenient(), severe());
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    outer.scope(|| {
        let unwound = catch_unwind(AssertUnwindSafe(|| inner.scope(|| abba(&a, &b))));
        assert!(unwound.is_err());
        abba(&a, &b);
    });
    assert_eq!((kinds(&outer), kinds(&inner)), (vec!["circular"], vec!["circular"]));
}

#[test]
fn guards_cross_the_border_of_a_scope() {
    let (a, b, c) = (Mutex::new(()), Mutex::new(()), Mutex::new(()));
    let (outer, inner) = (severe(), severe());
    outer.scope(|| {
        let guard = a.lock();
        let kept = c.lock();
        let escaped = inner.scope(|| {
            lockdep::assert_held!(a);
            drop(guard);
            lockdep::assert_not_held!(a);
            b.lock()
        });
        drop(escaped);
        lockdep::assert_not_held!(b);
        lockdep::assert_held!(c);
        drop(kept);
        assert!(lockdep::raw::is_quiet());
    });
    assert!(outer.reports().is_empty() && inner.reports().is_empty());
}

#[test]
fn an_assertion_sees_locks_of_the_outer_scope() {
    let a = Mutex::new(());
    let (outer, inner) = (lenient(), lenient());
    outer.scope(|| {
        let _a = a.lock();
        inner.scope(|| lockdep::assert_not_held!(a));
    });
    let found = [kinds(&outer), kinds(&inner)].concat();
    assert_eq!(found, ["assert-not-held"]);
}

#[test]
fn threads_inherit_the_validator() {
    let v = lenient();
    let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    v.scope(|| {
        let (a, b) = (a.clone(), b.clone());
        let thread = lockdep::thread::spawn(move || {
            drop((a.lock(), b.lock()));
            let builder = std::thread::Builder::new().name("grandchild".into());
            lockdep::thread::spawn_with(builder, move || drop((b.lock(), a.lock()))).unwrap()
        });
        thread.join().unwrap().join().unwrap();
    });
    assert_eq!(kinds(&v), ["circular"]);
    assert_eq!(&*v.reports()[0].task, "grandchild");
}

#[test]
fn scoped_threads_inherit_the_validator_and_borrow() {
    let v = lenient();
    let (a, b) = (Mutex::new(0), Mutex::new(0));
    v.scope(|| {
        lockdep::thread::scope(|s| {
            s.spawn(|| drop((a.lock(), b.lock()))).join().unwrap();
            let other = s.spawn(|| {
                drop((b.lock(), a.lock()));
                std::mem::forget(a.lock());
                7
            });
            assert_eq!(other.join().unwrap(), 7);
        });
    });
    assert_eq!(kinds(&v), ["circular", "exit"]);
}

/// The tags of the only finding, of each order in a thread of its own.
fn tags_of(orders: impl FnOnce(&'static Mutex<()>, &'static Mutex<()>)) -> Vec<&'static str> {
    // Kept for the whole run, which is no leak.
    static PAIRS: std::sync::Mutex<Vec<&(Mutex<()>, Mutex<()>)>> = std::sync::Mutex::new(Vec::new());
    let pair: &(Mutex<()>, Mutex<()>) = Box::leak(Box::new((Mutex::new(()), Mutex::new(()))));
    PAIRS.lock().unwrap().push(pair);
    let (a, b) = pair;
    let v = lenient();
    v.scope(|| orders(a, b));
    assert_eq!(kinds(&v), ["circular"]);
    v.reports()[0].tags().to_vec()
}

#[test]
fn orders_that_a_start_or_an_end_of_a_thread_keeps_apart_are_said_to_be_ordered() {
    use lockdep::thread::{scope, spawn};
    let joined = tags_of(|a, b| {
        spawn(move || drop((a.lock(), b.lock()))).join().unwrap();
        spawn(move || drop((b.lock(), a.lock()))).join().unwrap();
    });
    assert_eq!(joined, ["ordered"]);
    let started = tags_of(|a, b| {
        drop((a.lock(), b.lock()));
        spawn(move || drop((b.lock(), a.lock()))).join().unwrap();
    });
    assert_eq!(started, ["ordered"]);
    let scoped = tags_of(|a, b| {
        scope(|s| {
            s.spawn(|| drop((a.lock(), b.lock())));
        });
        spawn(move || drop((b.lock(), a.lock()))).join().unwrap();
    });
    assert_eq!(scoped, ["ordered"]);
    let panicked = tags_of(|a, b| {
        let first = spawn(move || {
            drop((a.lock(), b.lock()));
            std::panic::resume_unwind(Box::new(()));
        });
        first.join().unwrap_err();
        scope(|s| s.spawn(|| drop((b.lock(), a.lock()))).join().unwrap());
    });
    assert_eq!(panicked, ["ordered"]);
}

#[test]
fn orders_that_nothing_keeps_apart_are_not_said_to_be_ordered() {
    use lockdep::thread::spawn;
    let unjoined = tags_of(|a, b| {
        let first = spawn(move || drop((a.lock(), b.lock())));
        while !first.is_finished() {
            std::thread::yield_now();
        }
        spawn(move || drop((b.lock(), a.lock()))).join().unwrap();
        first.join().unwrap();
    });
    assert!(unjoined.is_empty());
    let once_more = tags_of(|a, b| {
        let (sender, receiver) = std::sync::mpsc::channel();
        drop((a.lock(), b.lock()));
        let second = spawn(move || {
            receiver.recv().unwrap();
            drop((b.lock(), a.lock()));
        });
        // A chain that this thread knows well: still noted as done after the start of the other one.
        drop((a.lock(), b.lock()));
        sender.send(()).unwrap();
        second.join().unwrap();
    });
    assert!(once_more.is_empty());
}

#[test]
fn a_callback_may_lock_look_and_open_scopes() {
    static INSIDE: Mutex<usize> = Mutex::new(0);
    static OTHER: Mutex<()> = Mutex::new(());
    let v = lenient();
    let watched = v.clone();
    v.on_report(move |report| {
        // Both orders: a watched program would be reported from inside its own report.
        let mut count = INSIDE.lock();
        drop(OTHER.lock());
        *count += 1;
        drop(count);
        drop((OTHER.lock(), INSIDE.lock()));
        assert_eq!(watched.reports().len(), 1, "the report is collected before");
        assert!(!watched.dependencies().is_empty());
        watched.scope(|| drop((OTHER.lock(), INSIDE.lock())));
        watched.on_report(|_| ());
        lockdep::thread::spawn(|| drop(OTHER.lock())).join().unwrap();
        assert!(format!("{report}").contains("circular"));
    });
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    v.scope(|| abba(&a, &b));
    assert_eq!(*INSIDE.lock(), 1);
    assert_eq!(kinds(&v), ["circular"]);
}

#[test]
fn a_callback_that_panics_panics_at_the_finding() {
    let v = lenient();
    v.on_report(|report| panic!("my own words: {}", report.kind()));
    let called = Arc::new(AtomicUsize::new(0));
    let counter = called.clone();
    v.on_report(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    v.scope(|| {
        let unwound = catch_unwind(AssertUnwindSafe(|| abba(&a, &b)));
        assert_eq!(message(&*unwound.unwrap_err()), "my own words: circular");
        assert!(lockdep::raw::is_quiet(), "the acquisition was taken back");
        assert!(!a.is_locked() && !b.is_locked());
        drop((a.lock(), b.lock()));
    });
    assert_eq!(kinds(&v), ["circular"], "the report was collected");
    assert_eq!(called.load(Ordering::Relaxed), 1, "the other callback was called");
}

/// Locks when its thread ends.
struct AtThreadEnd(&'static Mutex<usize>);

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

static ENDS: LockClass = LockClass::new("taken at thread end");

#[test]
fn a_lock_in_the_destructor_of_a_thread_local_works() {
    static COUNT: Mutex<usize> = Mutex::with_class(&ENDS, 0);
    static OTHER: Mutex<()> = Mutex::new(());
    thread_local! {
        static BEFORE: AtThreadEnd = const { AtThreadEnd(&COUNT) };
        static AFTER: AtThreadEnd = const { AtThreadEnd(&COUNT) };
    }
    let v = severe();
    v.scope(|| {
        // Set up before the validator's own thread-local.
        std::thread::spawn(|| {
            BEFORE.with(|_| ());
            drop(OTHER.lock());
        })
        .join()
        .unwrap();
        // After it.
        std::thread::spawn(|| {
            drop(OTHER.lock());
            AFTER.with(|_| ());
        })
        .join()
        .unwrap();
        // The destructor is the first to lock in its thread.
        std::thread::spawn(|| BEFORE.with(|_| ())).join().unwrap();
        // Under an inherited validator.
        lockdep::thread::spawn(|| BEFORE.with(|_| AFTER.with(|_| ()))).join().unwrap();
    });
    assert_eq!(*COUNT.lock(), 5);
    assert!(v.reports().is_empty());
}

#[test]
fn locks_in_a_panic_hook_are_watched_and_a_finding_there_does_not_abort() {
    let test = "locks_in_a_panic_hook_are_watched_and_a_finding_there_does_not_abort";
    if part().is_some() {
        static LOG: Mutex<usize> = Mutex::new(0);
        static SINK: Mutex<()> = Mutex::new(());
        std::panic::set_hook(Box::new(|_| {
            // In one order at the first panic, in the other at the second.
            if *LOG.lock() == 0 {
                let (mut log, _sink) = (LOG.lock(), SINK.lock());
                *log += 1;
            } else {
                let (_sink, mut log) = (SINK.lock(), LOG.lock());
                *log += 1;
            }
        }));
        let v = severe();
        v.scope(|| {
            for _ in 0..2 {
                let panic = catch_unwind(|| panic!("the program's own")).unwrap_err();
                assert_eq!(message(&*panic), "the program's own");
            }
            assert_eq!((kinds(&v), *LOG.lock()), (vec!["circular"], 2));
            // The panic of a finding runs the hook too, with the locks of the program held.
            let (a, b) = (Mutex::new(()), Mutex::new(()));
            catch_unwind(AssertUnwindSafe(|| abba(&a, &b))).unwrap_err();
            assert!(lockdep::raw::is_quiet());
        });
        assert_eq!((kinds(&v), *LOG.lock()), (vec!["circular", "circular"], 3));
        return;
    }
    let output = play(test, "hook", &[]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_lock_in_the_destructor_of_a_value_that_unwinding_drops_is_watched() {
    struct Journal<'a>(&'a Mutex<()>);
    impl Drop for Journal<'_> {
        fn drop(&mut self) {
            drop(self.0.lock());
        }
    }
    let (a, b) = (Mutex::new(()), Mutex::new(()));
    let v = severe();
    v.scope(|| {
        drop((b.lock(), a.lock()));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _a = a.lock();
            let _journal = Journal(&b);
            panic!("the program's own");
        }));
        assert_eq!(
            message(&*unwound.unwrap_err()),
            "the program's own",
            "a finding meanwhile does not abort"
        );
    });
    assert_eq!(kinds(&v), ["circular"]);
}

#[test]
fn a_closed_standard_error_does_not_matter() {
    let test = "a_closed_standard_error_does_not_matter";
    if part().is_some() {
        let (a, b) = (Mutex::new(()), Mutex::new(()));
        // Until nobody reads standard error any more.
        std::io::read_to_string(std::io::stdin()).unwrap();
        abba(&a, &b);
        assert_eq!(lockdep::global().reports().len(), 1);
        return;
    }
    let mut command = command(test, "broken pipe", &[("LOCKDEP", "warn")]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
