// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runtime's shared parts are made of, on loom's mutex: the mutex with `parking_lot`'s interface, and the map
//! with that part of `dashmap`'s which they use.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// Each operation is one critical section, as with `dashmap` for one key.
pub(crate) struct Map<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map(Mutex(loom::sync::Mutex::new(HashMap::new())))
    }
}

impl<K: Eq + Hash + Copy, V> Map<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<Entry<'_, K, V>> {
        let map = self.0.lock();
        map.contains_key(key).then_some(Entry { map, key: *key })
    }

    pub(crate) fn get_mut(&self, key: &K) -> Option<Entry<'_, K, V>> {
        self.get(key)
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.0.lock().insert(key, value);
    }

    pub(crate) fn remove(&self, key: &K) {
        self.0.lock().remove(key);
    }

    pub(crate) fn entry(&self, key: K) -> Entry<'_, K, V> {
        Entry { map: self.0.lock(), key }
    }
}

/// A key of the map, which is locked meanwhile.
pub(crate) struct Entry<'a, K, V> {
    map: MutexGuard<'a, HashMap<K, V>>,
    key: K,
}

impl<K: Eq + Hash + Copy, V> Entry<'_, K, V> {
    pub(crate) fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Some(known) = self.map.get_mut(&self.key) {
            change(known);
        }
        self
    }

    pub(crate) fn or_insert_with(mut self, value: impl FnOnce() -> V) {
        self.map.entry(self.key).or_insert_with(value);
    }
}

impl<K: Eq + Hash, V> Deref for Entry<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.map[&self.key]
    }
}

impl<K: Eq + Hash, V> DerefMut for Entry<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.map.get_mut(&self.key).expect("it was there, and the map is locked")
    }
}
