// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Wound/wait mutexes: the rules of their interface, as a state machine without threads.
//!
//! Such mutexes may be taken in any order under an *acquire context*, which resolves the deadlocks: a task that is told
//! to back off (-EDEADLK) releases everything, takes the contended lock by the slow path, and starts again.
//! That works only if callers keep to the protocol. A [`WwCtxState`] is what is known of a context, a [`WwLockState`] of a
//! mutex; each call of the interface is a method that answers with the [`WwMisuse`] it is, if it is one. The state
//! moves on all the same, as the program does.
//!
//! | # | when | asserted | misuse |
//! |---|---|---|---|
//! | 1 | lock taken with a context | the mutex belongs to no context | [`StaleContext`](WwMisuse::StaleContext) |
//! | 2 | " | the context is not done | [`AfterDone`](WwMisuse::AfterDone) |
//! | 3 | " after a back-off | this is the contended lock | [`WrongLock`](WwMisuse::WrongLock) |
//! | 4 | " after a back-off | all others were released | [`StillHolding`](WwMisuse::StillHolding) |
//! | 5 | " | context and mutex are of one class | [`WrongClass`](WwMisuse::WrongClass) |
//! | 6 | told to back off | the last back-off was heeded | [`IgnoredBackOff`](WwMisuse::IgnoredBackOff) |
//! | 7 | slow path | there was a back-off | [`UnneededSlow`](WwMisuse::UnneededSlow) |
//! | 8 | unlock | the context counts a lock | [`Unbalanced`](WwMisuse::Unbalanced) |
//! | 9 | done | not done before (and held: `assert-held`) | [`DoneTwice`](WwMisuse::DoneTwice) |
//! | 10 | fini | no lock is left (and held: `balance`) | [`FiniHolding`](WwMisuse::FiniHolding) |
//! | 11 | any use, destroy | not destroyed; not locked | [`Destroyed`](WwMisuse::Destroyed), [`DestroyedLocked`](WwMisuse::DestroyedLocked) |
//!
//! Kernel counterpart: the `DEBUG_LOCKS_WARN_ON`s of `ww_mutex.h` and `mutex-debug.c`; [`BackOffDrill`] is
//! `CONFIG_DEBUG_WW_MUTEX_SLOWPATH`. The kernel's sanity check of the waiter list has no counterpart: the list of a
//! Rust lock is not open to its users.
//!
//! Cannot see: a context used by two tasks at the same time.

use core::fmt;

use crate::ids::Instance;

/// A broken rule of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WwMisuse {
    /// A context takes a mutex that still belongs to one.
    StaleContext,
    /// A lock is taken with a context that was declared done.
    AfterDone,
    /// After a back-off another lock is taken before the contended one.
    WrongLock,
    /// After a back-off the contended lock is taken while others are still held.
    StillHolding,
    /// The mutex is of another class than the context.
    WrongClass,
    /// A second back-off although the first was not heeded.
    IgnoredBackOff,
    /// The slow path is for after a back-off only.
    UnneededSlow,
    /// A mutex of a context is released, and the context counts none.
    Unbalanced,
    /// Declared done twice.
    DoneTwice,
    /// The context ends while mutexes are held with it.
    FiniHolding,
    /// The mutex is used after it was destroyed.
    Destroyed,
    /// The mutex is destroyed while it is locked.
    DestroyedLocked,
}

impl WwMisuse {
    /// Every misuse.
    pub const ALL: [WwMisuse; 12] = [
        WwMisuse::StaleContext,
        WwMisuse::AfterDone,
        WwMisuse::WrongLock,
        WwMisuse::StillHolding,
        WwMisuse::WrongClass,
        WwMisuse::IgnoredBackOff,
        WwMisuse::UnneededSlow,
        WwMisuse::Unbalanced,
        WwMisuse::DoneTwice,
        WwMisuse::FiniHolding,
        WwMisuse::Destroyed,
        WwMisuse::DestroyedLocked,
    ];

    /// The misuse in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WwMisuse::StaleContext => "stale-context",
            WwMisuse::AfterDone => "after-done",
            WwMisuse::WrongLock => "wrong-lock",
            WwMisuse::StillHolding => "still-holding",
            WwMisuse::WrongClass => "wrong-class",
            WwMisuse::IgnoredBackOff => "ignored-back-off",
            WwMisuse::UnneededSlow => "unneeded-slow",
            WwMisuse::Unbalanced => "unbalanced",
            WwMisuse::DoneTwice => "done-twice",
            WwMisuse::FiniHolding => "fini-holding",
            WwMisuse::Destroyed => "destroyed",
            WwMisuse::DestroyedLocked => "destroyed-locked",
        }
    }

    /// What happened to the lock (or context), after its name.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            WwMisuse::StaleContext => {
                "is taken with a context, but it still belongs to one: it was released as if it were a plain mutex"
            }
            WwMisuse::AfterDone => "is taken with a context that was declared done",
            WwMisuse::WrongLock => {
                "is taken after a back-off, but it is not the contended lock, which must come first"
            }
            WwMisuse::StillHolding => {
                "is the contended lock and is taken after a back-off while the context still holds other locks"
            }
            WwMisuse::WrongClass => "is taken with a context of another class",
            WwMisuse::IgnoredBackOff => {
                "asks the context to back off, but the context has not heeded an earlier request"
            }
            WwMisuse::UnneededSlow => "takes a lock by the slow path although it was not told to back off",
            WwMisuse::Unbalanced => "is released, but its context counts no lock",
            WwMisuse::DoneTwice => "is declared done a second time",
            WwMisuse::FiniHolding => "ends while locks are held with it",
            WwMisuse::Destroyed => "is used after it was destroyed",
            WwMisuse::DestroyedLocked => "is destroyed while somebody holds it",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            WwMisuse::StaleContext | WwMisuse::Unbalanced => {
                "release a wound/wait mutex by its own unlock, once for each lock"
            }
            WwMisuse::AfterDone | WwMisuse::DoneTwice => {
                "declare a context done once, after its last lock was taken"
            }
            WwMisuse::WrongLock
            | WwMisuse::StillHolding
            | WwMisuse::IgnoredBackOff
            | WwMisuse::UnneededSlow => {
                "on -EDEADLK release every lock of the context, take the contended one by the slow path, then the \
                 others again"
            }
            WwMisuse::WrongClass => "use one class for a context and all mutexes that are taken with it",
            WwMisuse::FiniHolding => "release every lock of the context before it ends",
            WwMisuse::Destroyed | WwMisuse::DestroyedLocked => {
                "destroy a mutex when nobody can hold or use it any more"
            }
        }
    }
}

impl fmt::Display for WwMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a mutex is known to be. `class` is any number that tells the ww classes apart.
#[derive(Clone, Copy, Debug)]
pub struct WwLockState {
    class: u64,
    ctx: Option<Instance>,
    destroyed: bool,
}

impl WwLockState {
    /// A fresh mutex.
    #[must_use]
    pub const fn new(class: u64) -> Self {
        WwLockState { class, ctx: None, destroyed: false }
    }

    /// The context it belongs to.
    #[must_use]
    pub const fn ctx(&self) -> Option<Instance> {
        self.ctx
    }

    /// Overwrites the context, as a release that bypasses the interface leaves it.
    pub const fn set_ctx(&mut self, ctx: Option<Instance>) {
        self.ctx = ctx;
    }

    /// Any use of the mutex.
    ///
    /// # Errors
    /// [`WwMisuse::Destroyed`].
    pub const fn used(&self) -> Result<(), WwMisuse> {
        if self.destroyed { Err(WwMisuse::Destroyed) } else { Ok(()) }
    }

    /// The mutex is destroyed; `locked`: somebody holds it.
    ///
    /// # Errors
    /// [`WwMisuse::Destroyed`], [`WwMisuse::DestroyedLocked`].
    pub const fn destroy(&mut self, locked: bool) -> Result<(), WwMisuse> {
        let before = self.used();
        self.destroyed = true;
        match before {
            Ok(()) if locked => Err(WwMisuse::DestroyedLocked),
            before => before,
        }
    }
}

/// What a context is known to be.
#[derive(Clone, Copy, Debug)]
pub struct WwCtxState {
    id: Instance,
    class: u64,
    acquired: u32,
    done: bool,
    contending: Option<Instance>,
}

impl WwCtxState {
    /// A context that begins. `id` is different for every context in use; `class` is as in [`WwLockState::new`].
    #[must_use]
    pub const fn new(id: Instance, class: u64) -> Self {
        WwCtxState { id, class, acquired: 0, done: false, contending: None }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> Instance {
        self.id
    }

    /// How many locks are held with it.
    #[must_use]
    pub const fn acquired(&self) -> u32 {
        self.acquired
    }

    /// The lock at which it was told to back off and which it has not taken since.
    #[must_use]
    pub const fn contending(&self) -> Option<Instance> {
        self.contending
    }

    /// True after [`done`](Self::done).
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// True if the mutex is held with this context already (-EALREADY: nothing happens).
    #[must_use]
    pub fn owns(&self, lock: &WwLockState) -> bool {
        lock.ctx == Some(self.id)
    }

    /// The mutex `id` was taken with this context.
    ///
    /// # Errors
    /// Assertions 1 to 5, the first that fails.
    pub const fn took(&mut self, lock: &mut WwLockState, id: Instance) -> Result<(), WwMisuse> {
        let verdict = self.may_take(lock, id);
        self.contending = None;
        self.acquired = self.acquired.saturating_add(1);
        lock.ctx = Some(self.id);
        verdict
    }

    const fn may_take(&self, lock: &WwLockState, id: Instance) -> Result<(), WwMisuse> {
        if lock.ctx.is_some() {
            return Err(WwMisuse::StaleContext);
        }
        if self.done {
            return Err(WwMisuse::AfterDone);
        }
        if let Some(contended) = self.contending {
            if contended.0 != id.0 {
                return Err(WwMisuse::WrongLock);
            }
            if self.acquired > 0 {
                return Err(WwMisuse::StillHolding);
            }
        }
        if self.class != lock.class {
            return Err(WwMisuse::WrongClass);
        }
        Ok(())
    }

    /// This context was told to back off at the mutex `id`.
    ///
    /// # Errors
    /// [`WwMisuse::IgnoredBackOff`].
    pub const fn backed_off(&mut self, id: Instance) -> Result<(), WwMisuse> {
        let heeded = self.contending.is_none();
        self.contending = Some(id);
        if heeded { Ok(()) } else { Err(WwMisuse::IgnoredBackOff) }
    }

    /// The slow path is about to be taken.
    ///
    /// # Errors
    /// [`WwMisuse::UnneededSlow`].
    pub const fn slow(&self) -> Result<(), WwMisuse> {
        if self.contending.is_some() { Ok(()) } else { Err(WwMisuse::UnneededSlow) }
    }

    /// A mutex of this context is released.
    ///
    /// # Errors
    /// [`WwMisuse::Unbalanced`].
    pub const fn dropped(&mut self, lock: &mut WwLockState) -> Result<(), WwMisuse> {
        lock.ctx = None;
        match self.acquired.checked_sub(1) {
            Some(left) => {
                self.acquired = left;
                Ok(())
            }
            None => Err(WwMisuse::Unbalanced),
        }
    }

    /// No further lock will be taken.
    ///
    /// # Errors
    /// [`WwMisuse::DoneTwice`].
    pub const fn done(&mut self) -> Result<(), WwMisuse> {
        let before = core::mem::replace(&mut self.done, true);
        if before { Err(WwMisuse::DoneTwice) } else { Ok(()) }
    }

    /// The context ends.
    ///
    /// # Errors
    /// [`WwMisuse::FiniHolding`].
    pub const fn fini(&self) -> Result<(), WwMisuse> {
        if self.acquired == 0 { Ok(()) } else { Err(WwMisuse::FiniHolding) }
    }

    /// Overwrites the count, as a program does that writes where it should not.
    pub const fn set_acquired(&mut self, acquired: u32) {
        self.acquired = acquired;
    }
}

/// Made-up back-offs, so that the paths that handle one are run in tests without contention.
///
/// Due after some successful locks of a context that holds two or more: the first time after a few (the stamp
/// decides), then ever more seldom, so that every attempt ends at last.
#[derive(Clone, Copy, Debug)]
pub struct BackOffDrill {
    countdown: u32,
    interval: u32,
}

impl BackOffDrill {
    /// A drill for the context with this stamp.
    #[must_use]
    pub const fn new(stamp: u64) -> Self {
        BackOffDrill { countdown: (stamp & 0xf) as u32, interval: 1 }
    }

    /// Whether this lock is to be given back: called once for each successful lock of a context that then holds two
    /// or more.
    pub const fn due(&mut self) -> bool {
        if self.countdown > 0 {
            self.countdown -= 1;
            return false;
        }
        // Three and a half times as long.
        self.interval = self.interval.saturating_mul(3).saturating_add(self.interval / 2);
        self.countdown = self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: u64 = 1;
    const O: Instance = Instance(0x100);
    const O2: Instance = Instance(0x200);

    fn setting() -> (WwCtxState, WwLockState, WwLockState) {
        (WwCtxState::new(Instance(1), CLASS), WwLockState::new(CLASS), WwLockState::new(CLASS))
    }

    #[test]
    fn a_protocol_that_is_kept_is_silent() {
        let (mut t, mut o, mut o2) = setting();
        assert_eq!(t.took(&mut o, O), Ok(()));
        assert_eq!(t.backed_off(O2), Ok(()));
        assert_eq!(t.dropped(&mut o), Ok(()));
        assert_eq!(t.slow(), Ok(()));
        assert_eq!(t.took(&mut o2, O2), Ok(()));
        assert_eq!(t.took(&mut o, O), Ok(()));
        assert!(t.owns(&o) && t.acquired() == 2);
        assert_eq!(t.done(), Ok(()));
        assert_eq!(t.dropped(&mut o), Ok(()));
        assert_eq!(t.dropped(&mut o2), Ok(()));
        assert_eq!(t.fini(), Ok(()));
        assert_eq!(o.destroy(false), Ok(()));
    }

    #[test]
    fn assertion_1_the_mutex_was_left_by_its_context() {
        let (mut t, mut o, _) = setting();
        o.set_ctx(Some(Instance(2)));
        assert_eq!(t.took(&mut o, O), Err(WwMisuse::StaleContext));
    }

    #[test]
    fn assertion_2_the_context_is_not_done() {
        let (mut t, mut o, _) = setting();
        t.done().expect("the first time");
        assert_eq!(t.took(&mut o, O), Err(WwMisuse::AfterDone));
    }

    #[test]
    fn assertion_3_the_contended_lock_comes_first() {
        let (mut t, mut o, _) = setting();
        t.backed_off(O2).expect("the first time");
        assert_eq!(t.took(&mut o, O), Err(WwMisuse::WrongLock));
    }

    #[test]
    fn assertion_4_everything_was_released_before_the_contended_lock() {
        let (mut t, mut o, mut o2) = setting();
        t.took(&mut o, O).expect("free");
        t.backed_off(O2).expect("the first time");
        assert_eq!(t.took(&mut o2, O2), Err(WwMisuse::StillHolding));
    }

    #[test]
    fn assertion_5_context_and_mutex_are_of_one_class() {
        let (mut t, ..) = setting();
        assert_eq!(t.took(&mut WwLockState::new(2), O), Err(WwMisuse::WrongClass));
    }

    #[test]
    fn assertion_6_a_back_off_is_heeded() {
        let (mut t, ..) = setting();
        t.backed_off(O).expect("the first time");
        assert_eq!(t.backed_off(O2), Err(WwMisuse::IgnoredBackOff));
    }

    #[test]
    fn assertion_7_the_slow_path_needs_a_back_off() {
        assert_eq!(setting().0.slow(), Err(WwMisuse::UnneededSlow));
    }

    #[test]
    fn assertion_8_a_release_is_counted() {
        let (mut t, mut o, _) = setting();
        t.took(&mut o, O).expect("free");
        t.set_acquired(0);
        assert_eq!(t.dropped(&mut o), Err(WwMisuse::Unbalanced));
    }

    #[test]
    fn assertion_9_done_once() {
        let (mut t, ..) = setting();
        t.done().expect("the first time");
        assert_eq!(t.done(), Err(WwMisuse::DoneTwice));
    }

    #[test]
    fn assertion_10_nothing_is_held_at_the_end() {
        let (mut t, mut o, _) = setting();
        t.took(&mut o, O).expect("free");
        assert_eq!(t.fini(), Err(WwMisuse::FiniHolding));
    }

    #[test]
    fn assertion_11_a_destroyed_mutex_is_free_and_not_used() {
        let (_, mut o, mut o2) = setting();
        assert_eq!(o.destroy(true), Err(WwMisuse::DestroyedLocked));
        o2.destroy(false).expect("free");
        assert_eq!(o2.used(), Err(WwMisuse::Destroyed));
        assert_eq!(o2.destroy(false), Err(WwMisuse::Destroyed));
    }

    #[test]
    fn a_drill_comes_ever_more_seldom() {
        let mut drill = BackOffDrill::new(0x12);
        let due: Vec<_> = (0..60).filter(|_| drill.due()).collect();
        assert_eq!(due, [2, 6, 17, 53]);
    }

    #[test]
    fn names_are_different() {
        let mut names: Vec<_> = WwMisuse::ALL.iter().map(|misuse| misuse.name()).collect();
        names.dedup();
        assert_eq!(names.len(), 12);
    }
}
