// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The class registry: one entry for each key and subclass, its name and its usage so far.
//!
//! Names are as the kernel prints them: the name given to the key, `#N` if it is the N-th key of that name,
//! `/S` for subclass S. All subclasses of one key share the N.
//!
//! Kernel counterpart: `register_lock_class()`, `count_matching_names()`, `print_lock_name()`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::end_of;
use super::graph::{End, StackId};
use super::task::{CLASSES_MAX, HeldLock};
use super::usage::{Fact, FirstUse, Usage};
use crate::event::{Context, LockKind, WaitType};
use crate::ids::{ClassId, Instance};

/// What is known about a class when it is first used.
#[derive(Clone, Debug)]
pub struct ClassDef {
    /// Name of the key.
    pub name: Arc<str>,
    /// 0 to 7.
    pub subclass: u8,
    /// Another subclass of the same key, if there is one already.
    pub sibling: Option<ClassId>,
    /// The kernel's rule on nesting within the class.
    pub strict: bool,
    /// `(outer, inner)`.
    pub waits: (WaitType, WaitType),
    /// Normal, per-CPU or override.
    pub kind: LockKind,
    /// Two threads cannot hold one lock of it exclusively at one time. False for what is not really a lock.
    pub excludes: bool,
    /// Not a lock but something that is waited for until it happens. Nobody holds it.
    pub event: bool,
}

impl ClassDef {
    /// A strict class with this name: the kernel's default.
    #[must_use]
    pub fn named(name: &str) -> Self {
        ClassDef {
            name: name.into(),
            subclass: 0,
            sibling: None,
            strict: true,
            waits: (WaitType::Unchecked, WaitType::Unchecked),
            kind: LockKind::Normal,
            excludes: true,
            event: false,
        }
    }
}

/// How many locks of a class were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Population {
    None,
    One(Instance),
    Many,
}

/// One class.
#[derive(Clone, Debug)]
pub struct Class {
    /// As registered.
    pub def: ClassDef,
    /// The first subclass of the key that was registered.
    pub group: ClassId,
    /// It is the `nth` key of its name, from 1.
    pub nth: u32,
    /// Contexts in which it was ever taken.
    pub usage: Usage,
    /// For each fact of [`usage`](Self::usage), when it became one.
    pub first_uses: Vec<FirstUse>,
    population: Population,
    removed: bool,
    /// What was last learned from: what is learned next is often learned from the same acquisition.
    evidence: Option<Arc<End>>,
}

impl Class {
    /// True if the class has gone away. Its name is kept for those who still hold a lock of it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// True if holding "a lock of this class" means holding one certain lock, which shuts others out.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        self.def.excludes
            && !self.def.event
            && self.def.kind == LockKind::Normal
            && matches!(self.population, Population::One(_))
    }

    /// A lock of the class was seen. True if it is the second one: then the class guards nothing any more.
    pub(super) fn populate(&mut self, instance: Instance) -> bool {
        match self.population {
            Population::None => self.population = Population::One(instance),
            Population::One(known) if known != instance => return self.populate_many(),
            _ => {}
        }
        false
    }

    /// There are several locks of the class. True if that is new.
    pub(super) fn populate_many(&mut self) -> bool {
        !matches!(std::mem::replace(&mut self.population, Population::Many), Population::Many)
    }

    /// When a fact was first seen.
    #[must_use]
    pub fn first_use(&self, fact: Fact) -> Option<&FirstUse> {
        self.first_uses.iter().find(|first| first.fact == fact)
    }

    /// True for classes that an interrupt inversion cannot run through: one lock for each CPU, and annotations.
    #[must_use]
    pub fn skips_irq_rules(&self) -> bool {
        self.def.kind != LockKind::Normal
    }

    /// The name as printed.
    #[must_use]
    pub fn display_name(&self) -> String {
        let mut name = self.def.name.to_string();
        if self.nth > 1 {
            name.push_str(&format!("#{}", self.nth));
        }
        if self.def.subclass > 0 {
            name.push_str(&format!("/{}", self.def.subclass));
        }
        name
    }
}

/// All classes of one engine.
#[derive(Debug, Default)]
pub struct Classes {
    entries: Vec<Class>,
    names: FxHashMap<Arc<str>, u32>,
    /// What is known of at least one class.
    usage: Usage,
    removed: usize,
}

impl Classes {
    /// Adds a class.
    ///
    /// # Panics
    /// With more than 2³¹ classes.
    pub fn register(&mut self, def: ClassDef) -> ClassId {
        let id = u32::try_from(self.entries.len()).ok().filter(|id| *id < CLASSES_MAX);
        let id = ClassId(id.expect("fewer than 2^31 classes"));
        let (group, nth) = match def.sibling {
            Some(sibling) => {
                let sibling = &self.entries[sibling.index()];
                (sibling.group, sibling.nth)
            }
            None => {
                let count = self.names.entry(def.name.clone()).or_insert(0);
                *count += 1;
                (id, *count)
            }
        };
        self.entries.push(Class {
            def,
            group,
            nth,
            usage: Usage::default(),
            first_uses: Vec::new(),
            population: Population::None,
            removed: false,
            evidence: None,
        });
        id
    }

    /// Tells the stack of a fact that was noted.
    pub(super) fn set_stack(&mut self, id: ClassId, fact: Fact, stack: StackId) {
        let firsts = &mut self.entries[id.index()].first_uses;
        if let Some(first) = firsts.iter_mut().find(|first| first.fact == fact) {
            first.stack = Some(stack);
        }
    }

    /// The class goes away. Its number is not used again; a new key of its name may get its `#N`.
    pub(super) fn remove(&mut self, id: ClassId) {
        let class = &mut self.entries[id.index()];
        if std::mem::replace(&mut class.removed, true) {
            return;
        }
        self.removed += 1;
        class.usage = Usage::default();
        class.first_uses = Vec::new();
        class.population = Population::None;
        class.evidence = None;
        if class.group == id
            && let Some(count) = self.names.get_mut(&class.def.name)
            && *count == class.nth
        {
            *count -= 1;
        }
    }

    /// How many have gone away.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.removed
    }

    /// The class with this number.
    #[must_use]
    pub fn get(&self, id: ClassId) -> &Class {
        &self.entries[id.index()]
    }

    /// Notes a fact about a class; true if it is new.
    pub(super) fn note(&mut self, id: ClassId, first: FirstUse) -> bool {
        self.usage.add(first.fact);
        let class = &mut self.entries[id.index()];
        if class.removed {
            return false;
        }
        let new = class.usage.add(first.fact);
        if new {
            // Most classes have two: taken with either kind of interrupt enabled.
            class.first_uses.reserve_exact(if class.first_uses.is_empty() { 2 } else { 1 });
            class.first_uses.push(first);
        }
        new
    }

    /// How and where a lock was taken, for what is learned from it.
    pub(super) fn evidence(&mut self, held: &HeldLock) -> Arc<End> {
        let end = end_of(held);
        let last = &mut self.entries[held.bits.class().index()].evidence;
        match last {
            Some(known) if **known == end => known.clone(),
            _ => last.insert(Arc::new(end)).clone(),
        }
    }

    /// True if some class has a fact of this context and direction: if none has, no search can find one.
    pub(super) fn any_used(&self, context: Context, enabled: bool) -> bool {
        self.usage.any(context, enabled, true)
    }

    pub(super) fn get_mut(&mut self, id: ClassId) -> &mut Class {
        &mut self.entries[id.index()]
    }

    /// Number of classes, those included that have gone away.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True before the first one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All classes that are there, in the order of first use.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        (0u32..).map(ClassId).zip(&self.entries).filter(|(_, class)| !class.removed)
    }
}
