// SPDX-License-Identifier: MIT OR Apache-2.0
//! The off twin: zero-sized, empty, inline. Same names, same signatures, same const-ness and auto traits as
//! `enabled.rs`.

use core::ops::Deref;

use super::{Acquire, Held, LockClass};
use crate::event::{Context, HeldAs, Mode};
use crate::report::model::Acquired;
use crate::ww::WwMisuse;

/// What a lock carries for the validator: nothing, with the feature off.
#[derive(Debug, Default)]
pub struct LockMap(());

impl LockMap {
    /// A map of this class.
    #[inline(always)]
    #[must_use]
    pub const fn new(_class: &'static LockClass) -> Self {
        LockMap(())
    }

    /// A map whose class is the place of the call.
    #[inline(always)]
    #[must_use]
    pub const fn here(_kind: &'static &'static str) -> Self {
        LockMap(())
    }

    /// A map of a class that comes and goes.
    #[inline(always)]
    #[must_use]
    pub fn dynamic(_class: &DynamicClass) -> Self {
        LockMap(())
    }

    /// Gives a lock that is not held another class (kernel: `lockdep_set_class()`).
    #[inline(always)]
    pub fn set_class(&mut self, _class: &'static LockClass) {}
}

/// Nothing.
#[derive(Debug)]
pub(super) struct Dynamic(());

impl Dynamic {
    pub(super) fn name(&self) -> &'static str {
        ""
    }
}

/// See the on twin.
#[derive(Debug)]
pub struct DynamicClass(());

impl DynamicClass {
    /// A class that nobody knows.
    #[inline(always)]
    #[must_use]
    pub fn new(_name: &str, _like: &LockClass) -> Self {
        DynamicClass(())
    }

    /// Nobody forgets it.
    #[inline(always)]
    pub fn unregister(self) {}
}

/// See the on twin.
#[inline(always)]
pub fn acquire(_map: &LockMap, _how: Acquire<'_>) {}

/// Waits.
#[inline(always)]
pub(crate) fn acquire_with(
    _map: &LockMap,
    _how: Acquire<'_>,
    _attempt: impl FnOnce() -> bool,
    wait: impl FnOnce(),
) {
    wait();
}

/// See the on twin.
#[inline(always)]
pub fn release(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub(crate) fn acquire_again(_map: &LockMap, _how: Acquire<'_>) {}

/// See the on twin.
#[inline(always)]
pub(crate) fn release_quietly(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub(crate) fn release_upgradable(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub(crate) fn upgrade(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub(crate) fn convert(_map: &LockMap, _from: Mode, _to: Mode) {}

/// See the on twin.
#[inline(always)]
pub fn downgrade(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub fn might_lock(_map: &LockMap, _how: Acquire<'_>) {}

/// See the on twin.
#[inline(always)]
pub fn reclass(_map: &LockMap, _class: Option<&'static LockClass>, _subclass: u8) {}

/// See the on twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PinCookie(());

/// See the on twin.
#[inline(always)]
pub fn pin(_map: &LockMap) -> PinCookie {
    PinCookie(())
}

/// See the on twin.
#[inline(always)]
pub fn repin(_map: &LockMap, _cookie: PinCookie) {}

/// See the on twin.
#[inline(always)]
pub fn unpin(_map: &LockMap, _cookie: PinCookie) {}

/// See the on twin.
#[inline(always)]
pub fn assert_any_held(_maps: &[&LockMap]) {}

/// See the on twin.
#[inline(always)]
pub fn wait(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub fn complete(_map: &LockMap) {}

/// See the on twin; without a destructor.
#[derive(Debug)]
pub(crate) struct OwnedMap(LockMap);

impl OwnedMap {
    pub(crate) const fn new(map: LockMap) -> Self {
        OwnedMap(map)
    }
}

impl Deref for OwnedMap {
    type Target = LockMap;

    #[inline(always)]
    fn deref(&self) -> &LockMap {
        &self.0
    }
}

/// See the on twin.
#[inline(always)]
#[must_use]
pub fn held(_map: &LockMap) -> Held {
    Held::Unknown
}

/// See the on twin.
#[inline(always)]
pub(crate) fn held_subclass(_map: &LockMap) -> u8 {
    0
}

/// See the on twin.
#[inline(always)]
pub fn assert_held(_map: &LockMap, _how: HeldAs) {}

/// See the on twin.
#[inline(always)]
pub fn assert_not_held(_map: &LockMap) {}

/// See the on twin.
#[inline(always)]
pub fn ww_misuse(_map: &LockMap, _what: WwMisuse) {}

/// See the on twin.
#[inline(always)]
pub fn freed<T: ?Sized>(_memory: &T) {}

/// See the on twin.
#[inline(always)]
pub fn task_exit() {}

/// See the on twin.
#[inline(always)]
pub fn user_return() {}

/// See the on twin.
#[inline(always)]
pub fn set_task_name(_name: &str) {}

/// See the on twin.
#[inline(always)]
pub fn context_enter(_context: Context, _threaded: bool) {}

/// See the on twin.
#[inline(always)]
pub fn context_exit(_context: Context) {}

/// See the on twin.
#[inline(always)]
pub fn enable_context(_context: Context) {}

/// See the on twin.
#[inline(always)]
pub fn disable_context(_context: Context) {}

/// See the on twin.
#[doc(hidden)]
#[inline(always)]
#[must_use]
pub fn slow_entries() -> u64 {
    0
}

/// See the on twin.
#[inline(always)]
#[must_use]
pub fn is_quiet() -> bool {
    true
}

/// Empty.
#[inline(always)]
#[must_use]
pub fn held_locks() -> Vec<Acquired> {
    Vec::new()
}
