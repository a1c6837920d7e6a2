// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock's map: the real tag, and a key that is nothing but its address.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::engine::ClassDef;
use crate::ids::LockId;
use crate::tag::Tag;

#[derive(Clone, Copy)]
pub(crate) struct Key(pub(crate) usize);

impl Key {
    pub(crate) fn address(self) -> usize {
        self.0
    }

    pub(crate) fn site(self, _subclass: u8) -> Option<(&'static str, u32, u32, &'static str, u8)> {
        None
    }

    pub(crate) fn definition(self) -> ClassDef {
        ClassDef { address: self.0, subclass: 0, sibling: None }
    }
}

pub(crate) struct LockMap {
    pub(crate) tag: Tag,
    key: Key,
}

impl LockMap {
    pub(crate) fn new(key: Key) -> Self {
        LockMap { tag: Tag { word: AtomicU64::new(0), number: AtomicU32::new(0) }, key }
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn word_of(&self, epoch: u32) -> Option<u64> {
        self.tag.word_of(epoch)
    }

    pub(crate) fn remember(&self, word: u64) {
        self.tag.remember(word);
    }

    pub(crate) fn identify(&self) -> LockId {
        // Not loom's: only that each is another one matters.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        LockId(self.tag.identify(|| NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    }

    pub(crate) fn is_checked(&self) -> bool {
        true
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        false
    }
}
