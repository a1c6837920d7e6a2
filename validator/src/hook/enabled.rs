// SPDX-License-Identifier: MIT OR Apache-2.0
//! The on twin: what a lock carries, and the first two hops of each hook. A known acquisition is done when
//! [`Thread::acquire_known`](crate::runtime) says so; everything else is [`crate::runtime::slow`].

use core::ops::Deref;
use core::panic::Location;
use std::time::Instant;

use super::{Acquire, Held, LockClass};
use crate::engine::ClassDef;
use crate::event::{Context, Event, HeldAs, Mode, Place};
use crate::ids::{Instance, LockId};
use crate::limits::SUBCLASSES;
use crate::report::model::Acquired;
use crate::runtime::{Thread, Verdict, contention, slow};
use crate::ww::WwMisuse;

#[path = "dynamic.rs"]
mod dynamic;
#[path = "holds.rs"]
mod holds;
#[path = "tag.rs"]
mod tag;

/// What a tag is made of.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

use atomic::{AtomicU32, AtomicU64, Ordering};
use tag::Tag;

pub(super) use dynamic::Dynamic;
pub use dynamic::DynamicClass;
pub(crate) use dynamic::{ClassRef, Holding};
pub use holds::{PinCookie, assert_any_held, complete, pin, reclass, repin, unpin, wait};

/// What a lock carries for the validator: its class, what the validator that used it last knows of that class, and
/// the lock's number for as long as it exists.
#[derive(Debug)]
pub struct LockMap {
    /// The word is what [`Bits::of_class`](crate::engine::task::Bits) says of the class.
    tag: Tag,
    key: Key,
}

impl Drop for LockMap {
    fn drop(&mut self) {
        let lock = self.lock_id();
        if lock != LockId::UNKNOWN {
            slow::dropped(lock);
        }
        if let Key::Class(class) = self.key
            && class.is_dynamic()
        {
            dynamic::give_back(class.address());
        }
    }
}

impl LockClass {
    /// A copy of this class that is on the heap.
    fn with_dynamic(&self, dynamic: Dynamic) -> Self {
        let LockClass { name, strict, check, track, pseudo, kind, inner, outer, dynamic: _ } = *self;
        LockClass { name, strict, check, track, pseudo, kind, inner, outer, dynamic: Some(dynamic) }
    }

    fn dynamic(&self) -> Option<&Dynamic> {
        self.dynamic.as_ref()
    }

    fn is_dynamic(&self) -> bool {
        self.dynamic.is_some()
    }
}

/// What makes two locks one class. Two words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// A `LockClass`: a static, or one on the heap that lives as long as a lock bears it.
    Class(ClassRef),
    /// The place of construction, and what is constructed there.
    Site(&'static Location<'static>, &'static &'static str),
}

impl Key {
    /// The key of a class in a static.
    pub(crate) const fn of_class(class: &'static LockClass) -> Self {
        Key::Class(ClassRef::to(class))
    }

    /// Equal addresses mean equal keys (not the other way round: see [`site`](Self::site)).
    pub(crate) fn address(self) -> usize {
        match self {
            Key::Class(class) => class.address(),
            Key::Site(at, _) => core::ptr::from_ref(at).addr(),
        }
    }

    /// What identifies a construction site: the compiler may place one `Location` at several addresses.
    pub(crate) fn site(self, subclass: u8) -> Option<(&'static str, u32, u32, &'static str, u8)> {
        match self {
            Key::Class(_) => None,
            Key::Site(at, kind) => Some((at.file(), at.line(), at.column(), *kind, subclass)),
        }
    }

    /// Subject to the ordering rules.
    pub(crate) fn is_checked(self) -> bool {
        match self {
            Key::Class(class) => class.is_checked(),
            Key::Site(..) => true,
        }
    }

    /// The class as the engine registers it.
    pub(crate) fn definition(self) -> ClassDef {
        match self {
            Key::Class(class) => ClassDef {
                strict: class.is_strict(),
                waits: class.wait_types(),
                kind: class.lock_kind(),
                excludes: !class.is_pseudo(),
                ..ClassDef::named(class.name())
            },
            Key::Site(at, kind) => ClassDef {
                strict: false,
                ..ClassDef::named(&format!("{kind} at {}:{}:{}", at.file(), at.line(), at.column()))
            },
        }
    }
}

impl LockMap {
    /// A map of this class.
    #[must_use]
    pub const fn new(class: &'static LockClass) -> Self {
        LockMap::of(Key::of_class(class))
    }

    const fn of(key: Key) -> Self {
        LockMap { tag: Tag { word: AtomicU64::new(0), number: AtomicU32::new(0) }, key }
    }

    /// A map whose class is the place of the call; `kind` (for example `&"Mutex"`) becomes part of its name. A
    /// reference to it is one word of each lock, where a string would be two.
    #[must_use]
    #[track_caller]
    pub const fn here(kind: &'static &'static str) -> Self {
        LockMap::of(Key::Site(Location::caller(), kind))
    }

    /// A map of a class that comes and goes.
    #[must_use]
    pub fn dynamic(class: &DynamicClass) -> Self {
        LockMap::of(Key::Class(class.lend()))
    }

    /// Gives a lock that is not held another class (kernel: `lockdep_set_class()`).
    pub fn set_class(&mut self, class: &'static LockClass) {
        *self = LockMap::new(class);
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The word last stored with [`remember`](Self::remember).
    pub(crate) fn cached(&self) -> u64 {
        self.tag.word()
    }

    /// That word if it is one of this epoch: of this validator.
    #[inline]
    pub(crate) fn word_of(&self, epoch: u32) -> Option<u64> {
        self.tag.word_of(epoch)
    }

    /// Gives the lock the word of its class. It must have its number before.
    pub(crate) fn remember(&self, word: u64) {
        self.tag.remember(word);
    }

    /// The lock's number; not known before [`identify`](Self::identify).
    #[inline]
    pub(crate) fn lock_id(&self) -> LockId {
        LockId(self.tag.number())
    }

    /// Gives the lock its number, on first use.
    pub(crate) fn identify(&self) -> LockId {
        self.identify_as(|| LockMap::numbers(1))
    }

    /// The same, with a number that was set aside.
    pub(crate) fn identify_as(&self, number: impl FnOnce() -> u32) -> LockId {
        LockId(self.tag.identify(number))
    }

    /// Sets so many numbers aside, and gives the first.
    pub(crate) fn numbers(count: u32) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn is_checked(&self) -> bool {
        self.key.is_checked()
    }

    pub(crate) fn is_tracked(&self) -> bool {
        match self.key {
            Key::Class(class) => class.is_tracked(),
            Key::Site(..) => true,
        }
    }

    /// True if the class is one that comes and goes: then the lock does not take the fast path.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic_class().is_some()
    }

    /// The class, if it is one that comes and goes.
    fn dynamic_class(&self) -> Option<&LockClass> {
        match &self.key {
            Key::Class(class) if class.is_dynamic() => Some(class),
            _ => None,
        }
    }

    /// False if the class has gone away.
    pub(crate) fn is_registered(&self) -> bool {
        let dynamic = self.dynamic_class().and_then(LockClass::dynamic);
        dynamic.is_none_or(Dynamic::is_registered)
    }

    /// Notes that this thread begins to hold a lock of a class that may go away.
    pub(crate) fn begin_to_hold(&self) -> Option<Holding> {
        Holding::of(self.dynamic_class()?)
    }

    /// The lock's identity while it is held.
    #[inline]
    pub(crate) fn instance(&self) -> Instance {
        Instance(core::ptr::from_ref(self).addr() as u64)
    }
}

/// Says that this thread is about to wait for the lock, or, for a trylock, has just got it.
///
/// # Panics
/// If the acquisition is a finding and the validator is set to panic on it. The lock then counts as not held.
#[inline]
#[track_caller]
pub fn acquire(map: &LockMap, how: Acquire<'_>) {
    if !Thread::acquire_known(map, how, Place::caller()) {
        acquire_slowly(map, how);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn acquire_slowly(map: &LockMap, how: Acquire<'_>) {
    if Thread::acquire_nearly_known(map, how, Place::caller()) {
        return;
    }
    if how.subclass >= SUBCLASSES {
        let subclass = how.subclass;
        raise(slow::event(map, Place::caller(), |instance, class, place| Event::BadSubclass {
            instance,
            class,
            subclass,
            place,
        }));
    }
    if let Some(panic) = slow::acquire(map, how, Place::caller()) {
        if !how.sync {
            slow::take_back(map);
        }
        panic.raise();
    }
}

/// [`acquire`], and then the wait itself. Where waits are timed, the lock is first tried.
// A call of its own would cost as much as a quarter of what the hook does.
#[inline(always)]
#[track_caller]
pub(crate) fn acquire_with(
    map: &LockMap,
    how: Acquire<'_>,
    attempt: impl FnOnce() -> bool,
    wait: impl FnOnce(),
) {
    if Thread::acquire_known(map, how, Place::caller()) {
        wait();
    } else {
        wait_slowly(map, how, attempt, wait);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn wait_slowly(map: &LockMap, how: Acquire<'_>, attempt: impl FnOnce() -> bool, wait: impl FnOnce()) {
    acquire_slowly(map, how);
    if !Thread::measures() {
        return wait();
    }
    let contended = !attempt();
    let start = Instant::now();
    if contended {
        wait();
    }
    contention::acquired(map, contended.then(|| start.elapsed()), Place::caller());
}

/// [`acquire`] for a lock that is taken again under a guard that lives on: it must not unwind, for the guard
/// would release a lock that is not held. A finding is reported, and then the thread goes on. Does nothing if the
/// lock counts as held already.
#[inline]
#[track_caller]
pub(crate) fn acquire_again(map: &LockMap, how: Acquire<'_>) {
    if !Thread::holds_on_top(map.instance()) {
        acquire_unless_held(map, how);
    }
}

#[inline(never)]
#[track_caller]
fn acquire_unless_held(map: &LockMap, how: Acquire<'_>) {
    if held(map) != Held::Yes {
        drop(slow::acquire(map, how, Place::caller()));
    }
}

/// Says that this thread is about to release the lock.
///
/// # Panics
/// If the thread does not hold it (`balance`) and the validator is set to panic on that.
#[inline]
#[track_caller]
pub fn release(map: &LockMap) {
    if !Thread::release_top(map.instance()) {
        raise(slow::release(map, Place::caller(), true));
    }
}

/// [`release`] for guards: it does not unwind, and because guards may have been sent, forgotten, or made while
/// nobody watched, a lock that is not on this thread's stack is no finding.
#[inline]
#[track_caller]
pub(crate) fn release_quietly(map: &LockMap) {
    if !Thread::release_top(map.instance()) {
        drop(slow::release(map, Place::caller(), false));
    }
}

/// [`release_quietly`] for an upgradable hold, which may lie below recursive reads of the same lock.
#[inline]
#[track_caller]
pub(crate) fn release_upgradable(map: &LockMap) {
    if !Thread::release_top_upgradable(map.instance()) {
        convert(map, Mode::Upgradable, Mode::RecursiveRead);
        release_quietly(map);
    }
}

/// Says that a write hold has become a read hold.
#[track_caller]
pub fn downgrade(map: &LockMap) {
    raise(slow::event(map, Place::caller(), |instance, _, place| Event::Downgrade { instance, place }));
}

/// Says that an upgradable hold waits for the readers to leave, to become a write hold.
///
/// # Panics
/// If that is a finding and the validator is set to panic on it. The hold is then still an upgradable one.
#[track_caller]
pub(crate) fn upgrade(map: &LockMap) {
    let (from, to) = (Mode::Upgradable, Mode::Write);
    let upgraded = slow::event(map, Place::caller(), |instance, _, place| Event::Convert {
        instance,
        from,
        to,
        waits: true,
        place,
    });
    if let Some(panic) = upgraded {
        convert(map, to, from);
        panic.raise();
    }
}

/// Says that a hold has changed its mode without a wait. Does not unwind.
#[track_caller]
pub(crate) fn convert(map: &LockMap, from: Mode, to: Mode) {
    drop(slow::event(map, Place::caller(), |instance, _, place| Event::Convert {
        instance,
        from,
        to,
        waits: false,
        place,
    }));
}

#[inline]
#[track_caller]
fn raise(verdict: Option<Verdict>) {
    if let Some(panic) = verdict {
        panic.raise();
    }
}

/// Says that the lock may be taken here, on some path: checked as an acquisition that is released at once.
#[track_caller]
pub fn might_lock(map: &LockMap, how: Acquire<'_>) {
    acquire(map, how);
    release(map);
}

/// The map of a lock that says itself when it goes away. A lock that this thread holds is then reported as freed,
/// and no longer counts as held: a new lock at its address is another one.
#[derive(Debug)]
pub(crate) struct OwnedMap(LockMap);

impl OwnedMap {
    pub(crate) const fn new(map: LockMap) -> Self {
        OwnedMap(map)
    }
}

impl Deref for OwnedMap {
    type Target = LockMap;

    #[inline]
    fn deref(&self) -> &LockMap {
        &self.0
    }
}

impl Drop for OwnedMap {
    #[inline]
    fn drop(&mut self) {
        let lock = self.0.lock_id();
        if lock != LockId::UNKNOWN && !Thread::holds_nothing() {
            // A destructor does not unwind.
            drop(slow::dropped_while_held(lock));
        }
    }
}

/// Whether this thread holds the lock.
#[must_use]
pub fn held(map: &LockMap) -> Held {
    if !map.is_tracked() {
        return Held::Unknown;
    }
    slow::held(map.instance())
}

/// The subclass at which this thread holds the lock; 0 if it does not.
pub(crate) fn held_subclass(map: &LockMap) -> u8 {
    slow::held_subclass(map)
}

/// Reports `assert-held` if this thread does not hold the lock in that way.
#[track_caller]
pub fn assert_held(map: &LockMap, how: HeldAs) {
    if Thread::holds_as(map.instance(), how) {
        return;
    }
    raise(slow::event(map, Place::caller(), |instance, class, place| Event::AssertHeld {
        instance,
        class,
        how,
        place,
    }));
}

/// Reports `assert-not-held` if this thread holds the lock.
#[track_caller]
pub fn assert_not_held(map: &LockMap) {
    raise(slow::event(map, Place::caller(), |instance, class, place| Event::AssertNotHeld {
        instance,
        class,
        place,
    }));
}

/// Reports `ww-api`: the interface of the wound/wait mutex (or context) that this map belongs to was used against
/// its rules. Which rules there are, and the state that knows when one is broken, is in [`crate::ww`].
#[track_caller]
pub fn ww_misuse(map: &LockMap, what: WwMisuse) {
    raise(slow::event(map, Place::caller(), |instance, class, place| Event::WwMisuse {
        instance,
        class,
        what,
        place,
    }));
}

/// An event that says nothing where nothing is held.
#[track_caller]
#[inline]
fn about_what_is_held(event: Event) {
    if !Thread::holds_nothing() {
        raise(slow::task_event(event));
    }
}

/// Says that this memory goes away, or that the locks in it are initialised anew: reports `freed` if one of
/// them is held by this thread.
#[track_caller]
pub fn freed<T: ?Sized>(memory: &T) {
    let start = core::ptr::from_ref(memory).cast::<u8>().addr() as u64;
    let len = size_of_val(memory).max(1) as u64;
    about_what_is_held(Event::Freed { start, len, place: Place::caller() });
}

/// Says that this task ends: reports `exit` if it holds locks.
#[track_caller]
pub fn task_exit() {
    about_what_is_held(Event::Exit { place: Place::caller() });
}

/// Says that this task returns to its user: reports `user-return` if it holds locks.
#[track_caller]
pub fn user_return() {
    about_what_is_held(Event::UserReturn { place: Place::caller() });
}

/// Names this thread in reports.
pub fn set_task_name(name: &str) {
    slow::set_task_name(name);
}

/// Says that an interrupting context begins in this thread.
pub fn context_enter(context: Context, threaded: bool) {
    raise(slow::task_event(Event::Context { context, enter: true, threaded }));
}

/// Says that it ends.
pub fn context_exit(context: Context) {
    raise(slow::task_event(Event::Context { context, enter: false, threaded: false }));
}

/// Says that a context may interrupt this thread from now on.
#[track_caller]
pub fn enable_context(context: Context) {
    enable(context, true);
}

/// Says that a context cannot interrupt this thread from now on.
#[track_caller]
pub fn disable_context(context: Context) {
    enable(context, false);
}

#[track_caller]
fn enable(context: Context, on: bool) {
    if !Thread::enable_known(context, on) {
        raise(slow::task_event(Event::Enable { context, on, place: Place::caller() }));
    }
}

/// How often this thread has left the fast path so far, for tests of what stays on it.
#[doc(hidden)]
#[must_use]
pub fn slow_entries() -> u64 {
    Thread::entries()
}

/// True if this thread holds no lock that the validator knows of.
#[must_use]
pub fn is_quiet() -> bool {
    slow::is_quiet()
}

/// The locks that this thread holds, outermost first (kernel: `debug_show_held_locks()`).
#[must_use]
pub fn held_locks() -> Vec<Acquired> {
    slow::held_locks()
}
