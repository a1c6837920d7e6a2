// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Tables that grow a little at a time: what the engine keeps for each class and each dependency.
//!
//! A `Vec` that doubles holds up to twice of what is in it, and three times while it is copied; with a million entries that
//! is tens of milliseconds for the one acquisition that meets it. [`Chunks`] is a row of pieces of [`CHUNK`] entries. Only the last
//! one grows, [`STEP`] entries at a time, so a table of `n` entries has room for fewer than `n + STEP`.
//!
//! [`Slab`] uses places again that were given back. [`Index`] finds entries by their keys. It keeps the hash of each, so that
//! the entry itself is looked at only when it is found, and one number for each bucket, of which there are as many as entries. With each new
//! entry there is one more bucket, into which some of the entries of one other bucket move: the first `2^k` buckets are known by
//! `k` bits of the hash, those that were split since by one more.
//!
//! Source: W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980.

use std::ops;

/// Entries in one piece: so many that the row of pieces stays small, and so few that one is copied in no time.
const CHUNK: usize = 256;

/// Entries that there is room for from when one more is needed.
const STEP: usize = 16;

/// The place of no entry.
pub(super) const NONE: u32 = u32::MAX;

/// A table that grows without moving what is in it.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.0.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    pub(super) fn push(&mut self, entry: T) {
        if self.0.last().is_none_or(|last| last.len() == CHUNK) {
            self.0.push(Vec::new());
        }
        let last = self.0.last_mut().expect("one with room for more");
        if last.len() == last.capacity() {
            last.reserve_exact(STEP);
        }
        last.push(entry);
    }

    /// Adds default entries until there is one at this place.
    pub(super) fn reach(&mut self, at: u32)
    where
        T: Default,
    {
        while self.len() <= at as usize {
            self.push(T::default());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn fill(&mut self, value: T)
    where
        T: Copy,
    {
        self.0.iter_mut().for_each(|chunk| chunk.fill(value));
    }
}

impl<T> ops::Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.0[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl<T> ops::IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.0[at as usize / CHUNK][at as usize % CHUNK]
    }
}

/// A table whose entries can be given back. A place that is free holds the default.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Chunks<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { entries: Chunks::default(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// How many places are in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many places there are, the free ones too.
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    /// What is at this place: an entry, or the default.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.entries.get(at)
    }

    /// Puts an entry somewhere.
    ///
    /// # Panics
    /// With 2³² - 1 entries.
    pub(super) fn add(&mut self, entry: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.entries[at] = entry;
            return at;
        }
        let at = u32::try_from(self.entries.len()).ok().filter(|at| *at != NONE);
        self.entries.push(entry);
        at.expect("fewer than 2^32 entries")
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, at: u32) -> T {
        self.free.push(at);
        std::mem::take(&mut self.entries[at])
    }

    /// All places, the free ones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.entries.iter())
    }
}

impl<T> ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.entries[at]
    }
}

impl<T> ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.entries[at]
    }
}

/// What an [`Index`] has for each entry.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Of the key.
    hash: u32,
    /// The next entry in the bucket.
    next: u32,
}

/// Finds entries by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The first entry of each bucket.
    buckets: Chunks<u32>,
    links: Chunks<Link>,
    entries: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The bucket of a hash, when there is one at least.
    fn bucket(&self, hash: u32) -> u32 {
        let buckets = self.buckets.len() as u64;
        let bits = buckets.next_power_of_two();
        let at = u64::from(hash) & (bits - 1);
        u32::try_from(if at < buckets { at } else { at - bits / 2 }).expect("fewer than there are hashes")
    }

    /// The entry with this hash that `is` it.
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.entries == 0 {
            return None;
        }
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let link = self.links[at];
            if link.hash == hash && is(at) {
                return Some(at);
            }
            at = link.next;
        }
        None
    }

    /// Takes in an entry. It must not be in yet.
    pub(super) fn add(&mut self, at: u32, hash: u32) {
        if self.entries == self.buckets.len() {
            self.split();
        }
        self.entries += 1;
        self.make_room(at);
        self.link(at, hash);
    }

    /// Makes room for this entry. An entry that is not taken in makes its own, too: who comes after many of these would have to make it
    /// for them all.
    pub(super) fn make_room(&mut self, at: u32) {
        self.links.reach(at);
    }

    fn link(&mut self, at: u32, hash: u32) {
        let bucket = self.bucket(hash);
        let next = std::mem::replace(&mut self.buckets[bucket], at);
        self.links[at] = Link { hash, next };
    }

    /// Adds a bucket.
    fn split(&mut self) {
        let new = u32::try_from(self.buckets.len()).expect("fewer than there are entries");
        self.buckets.push(NONE);
        // The one that had the entries of the new one until now.
        let Some(bits) = new.checked_ilog2() else { return };
        let mut at = std::mem::replace(&mut self.buckets[new - (1 << bits)], NONE);
        while at != NONE {
            let Link { hash, next } = self.links[at];
            self.link(at, hash);
            at = next;
        }
    }

    /// Leaves out an entry.
    ///
    /// # Panics
    /// If it is not in.
    pub(super) fn remove(&mut self, at: u32) {
        self.entries -= 1;
        let Link { hash, next } = self.links[at];
        let bucket = self.bucket(hash);
        let mut before = self.buckets[bucket];
        if before == at {
            self.buckets[bucket] = next;
            return;
        }
        while self.links[before].next != at {
            before = self.links[before].next;
        }
        self.links[before].next = next;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{CHUNK, Chunks, Index, STEP, Slab};

    proptest! {
        #[test]
        fn an_entry_is_found_from_when_it_comes_until_it_goes(
            keys in prop::collection::vec(0..200u64, 1..400),
        ) {
            let (mut slab, mut index) = (Slab::default(), Index::default());
            let mut known: HashMap<u64, u32> = HashMap::new();
            let mut most = 0;
            // Different keys have one hash.
            let hash = |key: u64| (key / 2) as u32;
            for key in keys {
                match known.remove(&key) {
                    Some(at) => {
                        index.remove(at);
                        prop_assert_eq!(slab.take(at), key);
                    }
                    None => {
                        let at = slab.add(key);
                        index.add(at, hash(key));
                        known.insert(key, at);
                    }
                }
                most = most.max(known.len());
                for key in 0..200 {
                    let found = index.find(hash(key), |at| slab[at] == key);
                    prop_assert_eq!(found, known.get(&key).copied());
                }
            }
            prop_assert_eq!((index.len(), slab.len()), (known.len(), known.len()));
            prop_assert_eq!(slab.entries.len(), most, "places are used again");
            prop_assert_eq!(index.buckets.len(), most);
        }
    }

    #[test]
    fn at_any_time_there_is_room_for_less_than_one_step_more() {
        let mut chunks = Chunks::default();
        for n in 0..3 * CHUNK {
            chunks.push(n);
            let room: usize = chunks.0.iter().map(Vec::capacity).sum();
            assert!(room < chunks.len() + STEP, "{room} for {}", chunks.len());
        }
        assert!(chunks.iter().copied().eq(0..3 * CHUNK));
        assert_eq!((chunks.get(CHUNK as u32), chunks.get(3 * CHUNK as u32)), (Some(&CHUNK), None));
    }
}
