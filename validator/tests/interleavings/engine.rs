// SPDX-License-Identifier: MIT OR Apache-2.0
//! An engine that knows which classes there are, and of which there is more than one lock.

use crate::ids::ClassId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassDef {
    pub(crate) address: usize,
    pub(crate) subclass: u8,
    pub(crate) sibling: Option<ClassId>,
}

#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) classes: Vec<ClassDef>,
    /// In the order in which it was told.
    pub(crate) many: Vec<ClassId>,
}

impl Engine {
    pub(crate) fn register(&mut self, def: ClassDef) -> ClassId {
        self.classes.push(def);
        ClassId(self.classes.len() as u32 - 1)
    }

    pub(crate) fn many_instances(&mut self, class: ClassId) -> bool {
        self.many.push(class);
        true
    }
}

pub(crate) mod task {
    use crate::ids::ClassId;

    /// The class, in the high half of a word.
    pub(crate) struct Bits(u64);

    impl Bits {
        pub(crate) fn of_class(class: ClassId, _check: bool) -> Self {
            Bits(u64::from(class.0) << 32)
        }

        pub(crate) fn from_word(word: u64) -> Self {
            Bits(word)
        }

        pub(crate) fn word(&self) -> u64 {
            self.0
        }

        pub(crate) fn class(&self) -> ClassId {
            ClassId((self.0 >> 32) as u32)
        }
    }
}
