// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Who is alive: a count of the objects of each type that were made and not freed. Every scenario ends with zero.
//!
//! A `Live` is part of an object. The count goes down when the object is freed *by the kernel's rules* (the last
//! reference was put and the release function ran), not when Rust drops the memory: an object that was merely
//! forgotten stays counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The counts of one kernel.
#[derive(Debug, Default)]
pub struct LiveObjects(Mutex<BTreeMap<&'static str, usize>>);

impl LiveObjects {
    /// Counts a new object of this type.
    pub(crate) fn born(self: &Arc<Self>, kind: &'static str) -> Live {
        *self.0.lock().entry(kind).or_insert(0) += 1;
        Live { counts: self.clone(), kind, freed: AtomicBool::new(false) }
    }

    /// How many of this type are alive.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.0.lock().get(kind).copied().unwrap_or(0)
    }

    /// The types that have live objects, with their number.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, usize)> {
        self.0.lock().iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count)).collect()
    }
}

/// An object's entry in the count.
#[derive(Debug)]
pub(crate) struct Live {
    counts: Arc<LiveObjects>,
    kind: &'static str,
    freed: AtomicBool,
}

impl Live {
    /// The object is freed.
    #[track_caller]
    pub(crate) fn freed(&self) {
        assert!(!self.freed.swap(true, Ordering::Relaxed), "kernel BUG: {} freed twice", self.kind);
        if let Some(count) = self.counts.0.lock().get_mut(self.kind) {
            *count -= 1;
        }
    }

    /// Whether it was freed: who looks at it now has not kept a reference.
    pub(crate) fn is_freed(&self) -> bool {
        self.freed.load(Ordering::Relaxed)
    }
}
