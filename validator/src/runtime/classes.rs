// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The look-up of a lock's class, which is registered when the first lock of it is met.
//!
//! Three steps, each behind the one before: the word in the lock, read without any lock; the map of the keys; the
//! engine, under its lock. What is found in an earlier step was put there after the later ones, so a class that a thread
//! reads is known to the engine, and what was met at once by several threads is registered once.
//!
//! Also noted is whether more than one lock of the class was met, told from each other by their numbers: a class with a
//! single lock guards what is taken under it. A lock that several threads or validators meet is one lock.
//!
//! Lock order: engine, then keys.
//!
//! This file takes its locks from whoever includes it: `tests/interleavings` includes it with loom's, and tries all
//! interleavings.

use super::shared::{AtomicBool, Map, Mutex, Ordering};
use crate::engine::task::Bits;
use crate::engine::{ClassDef, Engine};
use crate::hook::{Key, LockMap};
use crate::ids::{ClassId, LockId};
use crate::limits::SUBCLASSES;

/// What the look-up of a key gives.
#[derive(Clone, Copy)]
struct Known {
    class: ClassId,
    /// The first lock of it that was met, if one was.
    first: LockId,
    /// The engine was told that there is more than one lock of the class.
    many: bool,
}

type SiteKey = (&'static str, u32, u32, &'static str, u8);

/// See the module documentation.
#[derive(Default)]
pub(super) struct Registry {
    /// Address of the key and subclass → class. Several addresses may mean one construction site.
    keys: Map<(usize, u8), Known>,
    /// Construction site and subclass → class.
    sites: Map<SiteKey, ClassId>,
    /// The engine wants to see the next acquisition, known or not.
    recheck_due: AtomicBool,
}

impl Registry {
    /// The class of a lock at a subclass, for the validator of this epoch; registered on first use.
    pub(super) fn class_of(
        &self,
        engine: &Mutex<Engine>,
        epoch: u32,
        map: &LockMap,
        subclass: u8,
    ) -> ClassId {
        if subclass == 0
            && let Some(word) = map.word_of(epoch)
        {
            return Bits::from_word(word).class();
        }
        // Before the word that lets the fast path use the lock.
        let met = map.identify();
        let class = self.class_of_key(engine, map.key(), subclass, met);
        if subclass == 0 && !map.is_dynamic() {
            map.remember(Bits::of_class(class, map.is_checked()).word() | u64::from(epoch));
        }
        class
    }

    /// The class of a key, registered on first use; [`LockId::UNKNOWN`] if no lock of it is met.
    pub(super) fn class_of_key(
        &self,
        engine: &Mutex<Engine>,
        key: Key,
        subclass: u8,
        met: LockId,
    ) -> ClassId {
        let at = (key.address(), subclass);
        let known = self.keys.get(&at).map(|known| *known);
        match known {
            None => self.register(&mut engine.lock(), key, subclass, met),
            Some(known) => {
                if subclass == 0 && !known.many && known.first != met {
                    self.meet(&mut engine.lock(), at, met);
                }
                known.class
            }
        }
    }

    /// The classes of a key, at whatever subclass.
    pub(super) fn classes_of(&self, address: usize) -> Vec<ClassId> {
        let class = |subclass| self.keys.get(&(address, subclass)).map(|known| known.class);
        (0..SUBCLASSES).filter_map(class).collect()
    }

    /// No lock bears this key any more, and its address may become that of another one.
    pub(super) fn forget(&self, address: usize) {
        for subclass in 0..SUBCLASSES {
            self.keys.remove(&(address, subclass));
        }
    }

    /// True if more than one lock of this class was met, so that one more changes nothing.
    pub(super) fn has_many(&self, map: &LockMap) -> bool {
        !map.is_dynamic() && self.keys.get(&(map.key().address(), 0)).is_some_and(|known| known.many)
    }

    /// True if the engine wants to see the next acquisition, and this is the one.
    pub(super) fn takes_recheck(&self) -> bool {
        self.recheck_due.load(Ordering::Relaxed) && self.recheck_due.swap(false, Ordering::Relaxed)
    }

    fn register(&self, engine: &mut Engine, key: Key, subclass: u8, met: LockId) -> ClassId {
        let at = (key.address(), subclass);
        // Another thread may have been first.
        if let Some(class) = self.keys.get(&at).map(|known| known.class) {
            self.meet(engine, at, met);
            return class;
        }
        let site = key.site(subclass);
        let same_site = site.and_then(|site| self.sites.get(&site).map(|class| *class));
        if let Some(class) = same_site {
            self.many_instances(engine, class);
        }
        let class = same_site.unwrap_or_else(|| {
            let sibling = self.classes_of(key.address()).first().copied();
            let class = engine.register(ClassDef { subclass, sibling, ..key.definition() });
            if let Some(site) = site {
                self.sites.insert(site, class);
            }
            class
        });
        self.keys.insert(at, Known { class, first: met, many: same_site.is_some() });
        class
    }

    /// A lock of a known class was met. The engine is told of the second one.
    fn meet(&self, engine: &mut Engine, at: (usize, u8), met: LockId) {
        let (_, subclass) = at;
        if subclass != 0 || met == LockId::UNKNOWN {
            return;
        }
        let Some(mut known) = self.keys.get_mut(&at) else { return };
        if known.first == LockId::UNKNOWN {
            known.first = met;
        } else if known.first != met && !known.many {
            known.many = true;
            self.many_instances(engine, known.class);
        }
    }

    fn many_instances(&self, engine: &mut Engine, class: ClassId) {
        if engine.many_instances(class) {
            self.recheck_due.store(true, Ordering::Relaxed);
        }
    }
}
