// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Threads that inherit the validator of the thread that starts them.
//!
//! What the starter did before, and what a thread did before somebody waited for its end, can never meet what came
//! after: a finding whose two sides are apart like that is tagged `ordered`.
//!
//! A thread that is started otherwise is watched too, by the process-wide validator; it does not know the scope
//! that it was started in, nor is known what happened before it.

use std::io;
use std::thread::{Builder, Result, Thread};

use crate::runtime::{Binding, End, ScopeId};

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
    let end = binding.end();
    let inner = builder.spawn(move || binding.run_task(f))?;
    Ok(JoinHandle { inner, end })
}

/// Like [`std::thread::JoinHandle`]; what the thread did has happened before what follows [`join`](Self::join).
#[derive(Debug)]
pub struct JoinHandle<T> {
    inner: std::thread::JoinHandle<T>,
    end: End,
}

impl<T> JoinHandle<T> {
    /// Waits for the thread to end.
    ///
    /// # Errors
    /// The payload of the panic, if the thread panicked.
    pub fn join(self) -> Result<T> {
        let result = self.inner.join();
        self.end.follow();
        result
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.inner.thread()
    }

    /// True if the thread has run to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
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
    /// Also if the closure or a thread panics.
    struct Close(ScopeId);
    impl Drop for Close {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let close = Close(ScopeId::open());
    let id = close.0;
    std::thread::scope(move |scope| f(Scope { scope, id }))
}

/// What [`scope`] gives to its closure.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    scope: &'scope std::thread::Scope<'scope, 'env>,
    id: ScopeId,
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
        let end = binding.end();
        self.id.add(&end);
        let inner = self.scope.spawn(move || binding.run_task(f));
        ScopedJoinHandle { inner, end }
    }
}

/// Like [`std::thread::ScopedJoinHandle`]; see [`JoinHandle`].
#[derive(Debug)]
pub struct ScopedJoinHandle<'scope, T> {
    inner: std::thread::ScopedJoinHandle<'scope, T>,
    end: End,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the thread to end.
    ///
    /// # Errors
    /// The payload of the panic, if the thread panicked.
    pub fn join(self) -> Result<T> {
        let result = self.inner.join();
        self.end.follow();
        result
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.inner.thread()
    }

    /// True if the thread has run to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}
