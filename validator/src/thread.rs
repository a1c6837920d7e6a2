// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that inherit the validator of the thread that starts them.

use std::io;
use std::thread::{Builder, JoinHandle};

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
