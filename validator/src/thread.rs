// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Threads that inherit the validator of the thread that starts them.
//!
//! A thread that is started otherwise is watched too, by the process-wide validator; it does not know the scope
//! that it was started in.

use std::io;
use std::thread::{Builder, JoinHandle, ScopedJoinHandle};

use crate::runtime::Binding;

/// Like [`std::thread::spawn`]; the new thread is watched by the validator that watches the caller, and the
/// locks it still holds at its end are reported.
///
/// # Panics
/// If the operating system cannot start a thread.
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_with(Builder::new(), f).expect("failed to spawn thread")
}

/// Like [`spawn`], for a thread that was prepared with a [`Builder`] (name, stack size).
///
/// # Errors
/// If the operating system cannot start a thread.
pub fn spawn_with<F, T>(builder: Builder, f: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let binding = Binding::current();
    builder.spawn(move || binding.run_task(f))
}

/// Like [`std::thread::scope`], for threads that borrow; they inherit as those of [`spawn`] do.
///
/// ```
/// let total = lockdep::sync::Mutex::new(0);
/// lockdep::thread::scope(|s| {
///     for i in 1..=3 {
///         let total = &total;
///         s.spawn(move || *total.lock() += i);
///     }
/// });
/// assert_eq!(total.into_inner(), 6);
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(Scope<'scope, 'env>) -> T,
{
    std::thread::scope(|scope| f(Scope { scope }))
}

/// What [`scope`] gives to its closure.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    scope: &'scope std::thread::Scope<'scope, 'env>,
}

impl<'scope> Scope<'scope, '_> {
    /// Like [`std::thread::Scope::spawn`], with the validator that watches the caller.
    ///
    /// # Panics
    /// If the operating system cannot start a thread.
    pub fn spawn<F, T>(self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let binding = Binding::current();
        self.scope.spawn(move || binding.run_task(f))
    }
}
