// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! How long locks are waited for and held, by class: only where a validator was built to measure it.
//!
//! A thread that is measured does not use the fast path, so nobody else pays for the question. An acquisition first
//! tries the lock; if that fails, the wait is timed. The clock is looked at here and nowhere else.
//!
//! Kernel counterpart: `lock_stat`, `lock_contended()`, `lock_acquired()`.
//!
//! What it cannot see: trylocks, waits with a timeout, guards that keep their lock alive, reentrant mutexes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Inner;
use super::fork::Pass;
use super::thread::{Current, Thread};
use crate::event::Place;
use crate::hook::LockMap;
use crate::ids::{ClassId, Instance};
use crate::stats::{Contention, Times};

/// So many places of each class are told apart.
const PLACES_MAX: usize = 4;

/// What is known of one class.
#[derive(Clone, Default)]
struct Measured {
    acquisitions: u64,
    wait: Times,
    hold: Times,
    places: Vec<(Place, u64)>,
}

/// What is known of all.
#[derive(Default)]
pub(super) struct Table(Mutex<FxHashMap<ClassId, Measured>>);

impl Table {
    fn of(&self, class: ClassId, note: impl FnOnce(&mut Measured)) {
        note(self.0.lock().entry(class).or_default());
    }
}

impl Inner {
    /// The classes that were measured; those that were waited for most often first.
    pub(super) fn contention(&self) -> Vec<Contention> {
        let mut measured: Vec<(ClassId, Measured)> =
            self.measured.0.lock().iter().map(|(class, measured)| (*class, measured.clone())).collect();
        measured.sort_by_key(|(class, measured)| (std::cmp::Reverse(measured.wait.count), *class));
        let engine = self.engine.lock();
        let named = measured.into_iter().map(|(class, measured)| {
            let Measured { acquisitions, wait, hold, places } = measured;
            let places =
                places.into_iter().map(|(place, count)| (crate::places::site(place), count)).collect();
            let class = engine.classes().get(class).display_name();
            Contention { class, acquisitions, wait, hold, places }
        });
        named.collect()
    }
}

/// This thread has got a lock, and had to wait that long for it if it did not get it at once.
pub(crate) fn acquired(map: &LockMap, waited: Option<Duration>, place: Place) {
    let Some(mut entered) = Thread::enter() else { return };
    let _gate = Pass::new();
    let Current { validator, task, since, .. } = entered.current();
    let Some(position) = task.position(map.instance()) else { return };
    validator.measured.of(task.held()[position].bits.class(), |measured| {
        measured.acquisitions += 1;
        let Some(waited) = waited else { return };
        measured.wait.add(waited);
        if let Some((_, count)) = measured.places.iter_mut().find(|(known, _)| *known == place) {
            *count += 1;
        } else if measured.places.len() < PLACES_MAX {
            measured.places.push((place, 1));
        }
    });
    since.push((map.instance(), Instant::now()));
}

/// A lock is about to be released.
pub(super) fn released(current: &mut Current, instance: Instance) {
    let Current { validator, task, since, .. } = current;
    let Some(at) = since.iter().rposition(|(held, _)| *held == instance) else { return };
    let (_, start) = since.remove(at);
    if let Some(position) = task.position(instance) {
        let class = task.held()[position].bits.class();
        validator.measured.of(class, |measured| measured.hold.add(start.elapsed()));
    }
}
