// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock types do what parking_lot's do, with the validator on or off.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lockdep::LockClass;
use lockdep::sync::{
    ArcMutexGuard, ArcReentrantMutexGuard, ArcRwLockReadGuard, ArcRwLockUpgradableReadGuard,
    ArcRwLockWriteGuard, Condvar, MappedMutexGuard, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard,
    RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
};

/// Asserts that our type and parking_lot's have an auto trait for the same parameters.
mod auto_traits {
    use super::*;
    use std::cell::Cell;
    use std::panic::{RefUnwindSafe, UnwindSafe};

    /// 1 if the type has the trait, else 0, decided when compiling.
    macro_rules! has {
        ($trait:ident, $type:ty) => {{
            struct Wrap<T: ?Sized>(std::marker::PhantomData<T>);
            #[allow(dead_code, reason = "which of the two is used depends on the type")]
            trait No {
                const HAS: bool = false;
            }
            impl<T: ?Sized> No for Wrap<T> {}
            #[allow(dead_code, reason = "which of the two is used depends on the type")]
            impl<T: ?Sized + $trait> Wrap<T> {
                const HAS: bool = true;
            }
            Wrap::<$type>::HAS
        }};
    }

    macro_rules! same {
        ($($trait:ident)*: $ours:ty, $theirs:ty) => {
            $(assert!(
                has!($trait, $ours) == has!($trait, $theirs),
                concat!(stringify!($trait), " of ", stringify!($ours))
            );)*
        };
    }

    macro_rules! same_for_all {
        ($($parameter:ty),*) => {
            $(
                same!(Send Sync Unpin RefUnwindSafe UnwindSafe: Mutex<$parameter>, parking_lot::Mutex<$parameter>);
                same!(Send Sync Unpin RefUnwindSafe UnwindSafe: RwLock<$parameter>, parking_lot::RwLock<$parameter>);
                same!(
                    Send Sync Unpin RefUnwindSafe UnwindSafe:
                    ReentrantMutex<$parameter>, parking_lot::ReentrantMutex<$parameter>
                );
                same!(Send Sync: MutexGuard<'_, $parameter>, parking_lot::MutexGuard<'_, $parameter>);
                same!(Send Sync: MappedMutexGuard<'_, $parameter>, parking_lot::MappedMutexGuard<'_, $parameter>);
                same!(Send Sync: RwLockReadGuard<'_, $parameter>, parking_lot::RwLockReadGuard<'_, $parameter>);
                same!(Send Sync: RwLockWriteGuard<'_, $parameter>, parking_lot::RwLockWriteGuard<'_, $parameter>);
                same!(
                    Send Sync:
                    RwLockUpgradableReadGuard<'_, $parameter>, parking_lot::RwLockUpgradableReadGuard<'_, $parameter>
                );
                same!(
                    Send Sync:
                    ReentrantMutexGuard<'_, $parameter>, parking_lot::ReentrantMutexGuard<'_, $parameter>
                );
            )*
        };
    }

    #[test]
    fn auto_traits_are_parking_lots() {
        same_for_all!(u32, Cell<u32>, *const u32, std::sync::MutexGuard<'static, u32>, [u8], dyn Send, str);
        same!(Send Sync Unpin RefUnwindSafe UnwindSafe: Condvar, parking_lot::Condvar);
        assert!(!has!(Send, MutexGuard<'static, u32>), "a guard must not leave its thread");
        assert!(has!(Send, Mutex<u32>) && has!(Sync, Mutex<u32>), "the check itself works");
    }
}

#[test]
fn sizes_are_the_bare_locks_when_off_and_small_when_on() {
    macro_rules! grows_by {
        ($ours:ident, $($parameter:ty),*) => {
            $(
                let grown = size_of::<$ours<$parameter>>() - size_of::<parking_lot::$ours<$parameter>>();
                if lockdep::ENABLED {
                    assert!((1..=48).contains(&grown), "{}: {grown}", stringify!($ours<$parameter>));
                } else {
                    assert_eq!(grown, 0, "{}", stringify!($ours<$parameter>));
                    assert_eq!(align_of::<$ours<$parameter>>(), align_of::<parking_lot::$ours<$parameter>>());
                }
            )*
        };
    }
    grows_by!(Mutex, (), u8, u64, [u8; 3], String);
    grows_by!(RwLock, (), u8, u64, [u8; 3], String);
    grows_by!(ReentrantMutex, (), u8, u64, [u8; 3], String);
    assert_eq!(size_of::<Condvar>(), size_of::<parking_lot::Condvar>());
    assert_eq!(size_of::<MutexGuard<'_, u8>>(), size_of::<parking_lot::MutexGuard<'_, u8>>());
    assert_eq!(size_of::<RwLockReadGuard<'_, u8>>(), size_of::<parking_lot::RwLockReadGuard<'_, u8>>());
}

static CLASS: LockClass = LockClass::new("in a static");
static MUTEX: Mutex<u32> = Mutex::new(1);
static MUTEX_OF_CLASS: Mutex<u32> = Mutex::with_class(&CLASS, 2);
static RWLOCK: RwLock<u32> = RwLock::new(3);
static REENTRANT: ReentrantMutex<u32> = ReentrantMutex::new(4);
static CONDVAR: Condvar = Condvar::new();

#[test]
fn locks_can_be_made_in_statics_and_consts() {
    assert_eq!(*MUTEX.lock(), 1);
    assert_eq!(*MUTEX_OF_CLASS.lock(), 2);
    assert_eq!(*RWLOCK.read(), 3);
    assert_eq!(*REENTRANT.lock(), 4);
    assert_eq!(CONDVAR.notify_all(), 0);
    assert_eq!(const { Mutex::new(5) }.into_inner(), 5);
}

#[test]
fn a_mutex_excludes() {
    const EACH: u32 = if cfg!(miri) { 20 } else { 1000 };
    let count = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let count = count.clone();
            lockdep::thread::spawn(move || (0..EACH).for_each(|_| *count.lock() += 1))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*count.lock(), 4 * EACH);
}

#[test]
fn a_mutex_has_the_whole_interface() {
    let mut mutex = Mutex::from(1);
    *mutex.get_mut() = 2;
    assert_eq!(Mutex::<u32>::default().into_inner(), 0);
    assert_eq!(format!("{mutex:?}"), "Mutex { data: 2 }");
    let guard = mutex.lock();
    assert!(mutex.is_locked());
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked> }");
    assert!(mutex.try_lock().is_none());
    assert!(mutex.try_lock_for(Duration::ZERO).is_none());
    assert!(mutex.try_lock_until(Instant::now()).is_none());
    MutexGuard::unlock_fair(guard);
    assert!(!mutex.is_locked());
    std::mem::forget(mutex.lock_nested(1));
    // SAFETY: locked in the line before.
    unsafe { mutex.force_unlock() };
    std::mem::forget(mutex.try_lock_for(Duration::ZERO).unwrap());
    // SAFETY: locked in the line before, and the guard is forgotten.
    let mut guard = unsafe { mutex.make_guard_unchecked() };
    MutexGuard::bump(&mut guard);
    assert!(MutexGuard::unlocked(&mut guard, || mutex.try_lock().is_some()));
    assert!(mutex.is_locked());
    assert!(std::ptr::eq(&raw const *guard, mutex.data_ptr()));
    MutexGuard::unlock_fair(guard);
    std::mem::forget(mutex.lock());
    // SAFETY: locked in the line before.
    unsafe { mutex.force_unlock_fair() };
    assert!(mutex.try_lock_until(Instant::now()).is_some());
}

#[test]
fn guards_can_be_mapped() {
    let pair = Mutex::new((1, "two".to_owned()));
    let mut text = MutexGuard::map(pair.lock(), |pair| &mut pair.1);
    text.push('!');
    let Err(text) = MappedMutexGuard::try_map(text, |_| None::<&mut u8>) else { panic!("mapped") };
    assert_eq!(*text, "two!");
    drop(text);
    assert!(!pair.is_locked());
    let lock = RwLock::new([1, 2]);
    assert_eq!(*RwLockReadGuard::map(lock.read(), |array| &array[1]), 2);
    *RwLockWriteGuard::map(lock.write(), |array| &mut array[1]) = 3;
    assert_eq!(lock.into_inner(), [1, 3]);
}

#[test]
fn locks_of_unsized_values_work() {
    let slice: Arc<Mutex<[u8]>> = Arc::new(Mutex::new([1, 2, 3]));
    assert_eq!(slice.lock_arc().len(), 3);
    let object: Arc<RwLock<dyn Fn(u32) -> u32 + Send + Sync>> = Arc::new(RwLock::new(|x| x + 1));
    assert_eq!((object.read_arc())(1), 2);
    assert_eq!((object.write())(2), 3);
    let text: Arc<ReentrantMutex<str>> = Arc::new(ReentrantMutex::new(*b"abc")).map_to_str();
    assert_eq!(&*text.lock_arc(), "abc");
}

/// There is no stable unsizing to `str`; a slice does as well.
trait MapToStr {
    fn map_to_str(self) -> Arc<ReentrantMutex<str>>;
}

impl MapToStr for Arc<ReentrantMutex<[u8; 3]>> {
    fn map_to_str(self) -> Arc<ReentrantMutex<str>> {
        let slice: Arc<ReentrantMutex<[u8]>> = self;
        // SAFETY: a `str` has the layout of its bytes, and these are valid UTF-8.
        unsafe { Arc::from_raw(Arc::into_raw(slice) as *const ReentrantMutex<str>) }
    }
}

#[test]
fn owned_guards_keep_the_lock_alive() {
    let mutex = Arc::new(Mutex::new(String::from("kept")));
    let weak = Arc::downgrade(&mutex);
    let guard: ArcMutexGuard<String> = mutex.lock_arc();
    assert!(mutex.try_lock_arc().is_none());
    assert!(mutex.try_lock_arc_for(Duration::ZERO).is_none());
    assert!(mutex.try_lock_arc_until(Instant::now()).is_none());
    drop(mutex);
    assert_eq!(*guard, "kept");
    assert_eq!(weak.strong_count(), 1);
    let arc = ArcMutexGuard::into_arc(guard);
    assert!(!arc.is_locked());
    drop(arc);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn a_rwlock_shares_and_excludes() {
    let lock = RwLock::new(1);
    let first = lock.read();
    assert!(lock.try_read().is_some() && lock.try_read_recursive().is_some());
    assert!(lock.try_upgradable_read().is_some());
    assert!(lock.try_write().is_none() && lock.try_write_for(Duration::ZERO).is_none());
    assert!(lock.try_write_until(Instant::now()).is_none());
    assert!(lock.is_locked() && !lock.is_locked_exclusive());
    drop(first);
    let writer = lock.write();
    assert!(lock.is_locked_exclusive());
    assert!(lock.try_read().is_none() && lock.try_read_recursive().is_none());
    assert!(lock.try_read_for(Duration::ZERO).is_none() && lock.try_read_until(Instant::now()).is_none());
    assert!(lock.try_read_recursive_for(Duration::ZERO).is_none());
    assert!(lock.try_read_recursive_until(Instant::now()).is_none());
    assert!(lock.try_upgradable_read_for(Duration::ZERO).is_none());
    assert!(lock.try_upgradable_read_until(Instant::now()).is_none());
    let reader = RwLockWriteGuard::downgrade(writer);
    assert!(lock.try_read().is_some() && lock.try_write().is_none());
    drop(reader);
    drop((lock.read_nested(1), lock.try_read_for(Duration::ZERO).unwrap()));
    drop(lock.write_nested(1));
    for (take, release) in [(true, true), (true, false), (false, true), (false, false)] {
        if take {
            std::mem::forget(lock.read());
        } else {
            std::mem::forget(lock.write());
        }
        assert!(lock.is_locked());
        match (take, release) {
            // SAFETY: a read lock was just forgotten.
            (true, true) => unsafe { lock.force_unlock_read() },
            // SAFETY: a read lock was just forgotten.
            (true, false) => unsafe { lock.force_unlock_read_fair() },
            // SAFETY: a write lock was just forgotten.
            (false, true) => unsafe { lock.force_unlock_write() },
            // SAFETY: a write lock was just forgotten.
            (false, false) => unsafe { lock.force_unlock_write_fair() },
        }
        assert!(!lock.is_locked());
    }
    assert_eq!(format!("{lock:?}"), "RwLock { data: 1 }");
}

#[test]
fn an_upgradable_read_upgrades_and_downgrades() {
    let lock = RwLock::new(1);
    let upgradable = lock.upgradable_read();
    assert!(lock.try_read().is_some(), "shares with readers");
    assert!(lock.try_upgradable_read().is_none(), "excludes its own kind");
    let mut writer = RwLockUpgradableReadGuard::upgrade(upgradable);
    *writer = 2;
    assert!(lock.is_locked_exclusive());
    let mut upgradable = RwLockWriteGuard::downgrade_to_upgradable(writer);
    upgradable.with_upgraded(|value| *value = 3);
    RwLockUpgradableReadGuard::bump(&mut upgradable);
    let reader = lock.try_read_recursive().unwrap();
    let Err(upgradable) = RwLockUpgradableReadGuard::try_upgrade(upgradable) else {
        panic!("upgraded past a reader")
    };
    let Err(upgradable) = RwLockUpgradableReadGuard::try_upgrade_for(upgradable, Duration::ZERO) else {
        panic!("upgraded past a reader")
    };
    drop(reader);
    let Ok(writer) = RwLockUpgradableReadGuard::try_upgrade_until(upgradable, Instant::now()) else {
        panic!("nobody reads")
    };
    let reader = RwLockUpgradableReadGuard::downgrade(RwLockWriteGuard::downgrade_to_upgradable(writer));
    assert!(lock.try_upgradable_read().is_some());
    assert_eq!(*reader, 3);
}

#[test]
fn owned_rwlock_guards_work() {
    let lock = Arc::new(RwLock::new(1));
    let reader: ArcRwLockReadGuard<u32> = lock.read_arc();
    assert!(lock.try_write_arc().is_none());
    assert!(lock.try_write_arc_for(Duration::ZERO).is_none());
    assert!(lock.try_write_arc_until(Instant::now()).is_none());
    drop((reader, lock.read_arc_recursive()));
    let upgradable: ArcRwLockUpgradableReadGuard<u32> = lock.upgradable_read_arc();
    assert!(lock.try_upgradable_read_arc().is_none());
    assert!(lock.try_upgradable_read_arc_for(Duration::ZERO).is_none());
    assert!(lock.try_upgradable_read_arc_until(Instant::now()).is_none());
    let mut writer: ArcRwLockWriteGuard<u32> = ArcRwLockUpgradableReadGuard::upgrade(upgradable);
    *writer = 2;
    assert!(lock.try_read_arc().is_none() && lock.try_read_recursive_arc().is_none());
    assert!(lock.try_read_arc_for(Duration::ZERO).is_none());
    assert!(lock.try_read_arc_until(Instant::now()).is_none());
    assert!(lock.try_read_arc_recursive_for(Duration::ZERO).is_none());
    assert!(lock.try_read_arc_recursive_until(Instant::now()).is_none());
    drop(writer);
    assert_eq!(*lock.write_arc(), 2);
}

#[test]
fn a_reentrant_mutex_counts() {
    let mutex = Arc::new(ReentrantMutex::new(1));
    let outer = mutex.lock();
    let inner = mutex.try_lock().unwrap();
    let owned: ArcReentrantMutexGuard<u32> = mutex.lock_arc();
    drop((inner, outer));
    assert!(mutex.is_owned_by_current_thread());
    let other = mutex.clone();
    let thread = lockdep::thread::spawn(move || {
        let free = other.try_lock().is_some()
            || other.try_lock_for(Duration::ZERO).is_some()
            || other.try_lock_until(Instant::now()).is_some()
            || other.try_lock_arc().is_some()
            || other.try_lock_arc_for(Duration::ZERO).is_some()
            || other.try_lock_arc_until(Instant::now()).is_some();
        (free, format!("{other:?}"))
    });
    assert_eq!(thread.join().unwrap(), (false, "ReentrantMutex { data: <locked> }".to_owned()));
    drop(owned);
    assert!(!mutex.is_locked());
    let mut guard = mutex.lock_nested(1);
    ReentrantMutexGuard::bump(&mut guard);
    ReentrantMutexGuard::unlocked(&mut guard, || assert!(!mutex.is_locked()));
    assert!(mutex.is_locked());
    assert_eq!(*ReentrantMutexGuard::map(guard, |value| value), 1);
    assert_eq!(format!("{mutex:?}"), "ReentrantMutex { data: 1 }");
}

#[test]
fn a_condvar_passes_a_token_to_and_fro() {
    const ROUNDS: u32 = if cfg!(miri) { 5 } else { 100 };
    let shared = Arc::new((Mutex::new(0u32), Condvar::new()));
    let other = shared.clone();
    let play = |shared: &(Mutex<u32>, Condvar), parity: u32| {
        for _ in 0..ROUNDS {
            let mut token = shared.0.lock();
            shared.1.wait_while(&mut token, |token| *token % 2 != parity);
            *token += 1;
            shared.1.notify_one();
        }
    };
    let thread = lockdep::thread::spawn(move || play(&other, 1));
    play(&shared, 0);
    thread.join().unwrap();
    assert_eq!(*shared.0.lock(), 2 * ROUNDS);
}

#[test]
fn a_timed_wait_ends() {
    let mutex = Mutex::new(false);
    let condvar = Condvar::new();
    let mut guard = mutex.lock();
    assert!(condvar.wait_for(&mut guard, Duration::from_millis(1)).timed_out());
    assert!(condvar.wait_until(&mut guard, Instant::now()).timed_out());
    assert!(condvar.wait_while_for(&mut guard, |ready| !*ready, Duration::from_millis(1)).timed_out());
    assert!(condvar.wait_while_until(&mut guard, |ready| !*ready, Instant::now()).timed_out());
    assert!(!condvar.wait_while_for(&mut guard, |_| false, Duration::MAX).timed_out());
    assert!(!condvar.wait_while_until(&mut guard, |_| false, Instant::now()).timed_out());
    assert!(mutex.is_locked(), "the guard holds it after a wait");
    assert_eq!(format!("{condvar:?}"), "Condvar { .. }");
}

#[test]
fn one_condvar_with_two_mutexes_panics_and_the_second_stays_locked() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let (waiting, is_waiting) = mpsc::channel();
    let waiter = {
        let shared = shared.clone();
        lockdep::thread::spawn(move || {
            let mut done = shared.0.lock();
            waiting.send(()).unwrap();
            shared.1.wait_while(&mut done, |done| !*done);
        })
    };
    is_waiting.recv().unwrap();
    // The waiter gives up the mutex only by waiting.
    drop(shared.0.lock());
    let second = Mutex::new(());
    let mut guard = second.lock();
    let wait = std::panic::AssertUnwindSafe(|| shared.1.wait_for(&mut guard, Duration::from_secs(60)));
    assert!(std::panic::catch_unwind(wait).is_err());
    assert!(second.is_locked());
    drop(guard);
    assert!(!second.is_locked());
    *shared.0.lock() = true;
    shared.1.notify_all();
    waiter.join().unwrap();
}
