// SPDX-License-Identifier: MIT OR Apache-2.0
//! The off twin of the runtime: a validator that watches nothing. Same names and signatures as the on twin.

use crate::hook::LockClass;
use crate::recorded::Recorded;
use crate::report::model::Report;
use crate::settings::{PanicOn, Stacks};
use crate::stats::{Chain, Contention, Stats, UnorderedNesting};

/// A validator that watches nothing. See the on twin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator(());

/// Prepares a [`Validator`]. See the on twin.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder(());

impl Builder {
    /// See the on twin.
    pub const fn panic_on(self, _when: PanicOn) -> Self {
        self
    }

    /// See the on twin.
    pub const fn print(self, _print: bool) -> Self {
        self
    }

    /// See the on twin.
    pub const fn sources(self, _sources: bool) -> Self {
        self
    }

    /// See the on twin.
    pub const fn stacks(self, _stacks: Stacks) -> Self {
        self
    }

    /// See the on twin.
    pub const fn record(self, _record: bool) -> Self {
        self
    }

    /// See the on twin.
    pub const fn contention(self, _measure: bool) -> Self {
        self
    }

    /// See the on twin.
    pub const fn watch(self, _watch: bool) -> Self {
        self
    }

    /// See the on twin.
    #[must_use]
    pub fn build(self) -> Validator {
        Validator(())
    }
}

impl Validator {
    /// See the on twin.
    #[must_use]
    pub fn new() -> Self {
        Validator(())
    }

    /// See the on twin.
    pub const fn builder() -> Builder {
        Builder(())
    }

    /// Runs `f`.
    #[inline(always)]
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    /// Empty.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        Vec::new()
    }

    /// Drops the callback.
    pub fn on_report(&self, _callback: impl Fn(&Report) + Send + Sync + 'static) {}

    /// Empty.
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        Vec::new()
    }

    /// Declares nothing.
    pub fn declare_order(&self, _order: &[&'static LockClass]) {}

    /// All zero.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Empty.
    #[must_use]
    pub fn contention(&self) -> Vec<Contention> {
        Vec::new()
    }

    /// Empty.
    #[must_use]
    pub fn chains(&self) -> Vec<Chain> {
        Vec::new()
    }

    /// Empty.
    #[must_use]
    pub fn unordered_nestings(&self) -> Vec<UnorderedNesting> {
        Vec::new()
    }

    /// Empty.
    #[must_use]
    pub fn dump(&self) -> String {
        String::new()
    }

    /// Empty.
    #[must_use]
    pub fn dependencies(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// See the on twin.
#[must_use]
pub fn global() -> &'static Validator {
    static GLOBAL: Validator = Validator(());
    &GLOBAL
}

/// A validator to hand to another thread: none.
pub(crate) struct Binding(());

impl Binding {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Binding(())
    }

    #[inline(always)]
    pub(crate) fn end(&self) -> End {
        End(())
    }

    #[inline(always)]
    pub(crate) fn run_task<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// See the on twin.
#[derive(Clone, Debug)]
pub(crate) struct End(());

impl End {
    #[inline(always)]
    pub(crate) fn follow(&self) {}
}

/// See the on twin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScopeId(());

impl ScopeId {
    #[inline(always)]
    pub(crate) fn open() -> Self {
        ScopeId(())
    }

    #[inline(always)]
    pub(crate) fn add(self, _end: &End) {}

    #[inline(always)]
    pub(crate) fn close(self) {}
}
