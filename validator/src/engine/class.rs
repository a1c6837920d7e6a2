// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The class registry: one entry for each key and subclass, its name and its usage so far.
//!
//! Names are as the kernel prints them: the name given to the key, `#N` if it is the N-th key of that name,
//! `/S` for subclass S. All subclasses of one key share the N.
//!
//! Kernel counterpart: `register_lock_class()`, `count_matching_names()`, `print_lock_name()`.

use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::chunks::{Chunks, Index};
use super::end_of;
use super::evidence::{EndId, Evidence, Reference, Stack, StackId};
use super::sight::Tasks;
use super::task::{CLASSES_MAX, HeldLock};
use super::usage::{Fact, KeptUse, Usage};
use crate::event::{Context, LockKind, WaitType};
use crate::ids::{ClassId, Instance};

/// What is known about a class when it is first used.
#[derive(Clone, Debug)]
pub struct ClassDef {
    /// Name of the key.
    pub name: Box<str>,
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
    /// [`Class::only`].
    One,
    Many,
    /// The class has gone away.
    Removed,
}

/// What a class is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// See [`ClassDef::excludes`].
    Exclusive,
    /// Its opposite.
    Shared,
    /// See [`ClassDef::event`].
    Event,
}

/// One class, in 56 bytes and its name.
#[derive(Debug)]
pub struct Class {
    /// Name of the key.
    pub name: Box<str>,
    /// The first subclass of the key that was registered.
    pub group: ClassId,
    /// It is the `nth` key of its name, from 1.
    pub nth: u32,
    /// The only lock seen, if there is only one.
    only: Instance,
    /// What was last learned from: what is learned next is often learned from the same acquisition.
    evidence: EndId,
    /// Of the facts of [`usage`](Self::usage) that are not in [`Classes::more`].
    first_use: KeptUse,
    population: Population,
    /// Contexts in which it was ever taken.
    pub usage: Usage,
    /// 0 to 7.
    pub subclass: u8,
    /// The kernel's rule on nesting within the class.
    pub strict: bool,
    /// `(outer, inner)`.
    pub waits: (WaitType, WaitType),
    /// Normal, per-CPU or override.
    pub kind: LockKind,
    nature: Nature,
}

impl Class {
    /// True if the class has gone away. Its name is kept for those who still hold a lock of it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.population == Population::Removed
    }

    /// True if holding "a lock of this class" means holding one certain lock, which shuts others out.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        self.nature == Nature::Exclusive
            && self.kind == LockKind::Normal
            && self.population == Population::One
    }

    /// True if this is no lock, but something that is waited for until it happens.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.nature == Nature::Event
    }

    /// Somebody waits for it to happen, or lets it.
    pub(super) fn make_event(&mut self) {
        self.nature = Nature::Event;
    }

    /// A lock of the class was seen. True if it is the second one: then the class guards nothing any more.
    pub(super) fn populate(&mut self, instance: Instance) -> bool {
        match self.population {
            Population::None => (self.population, self.only) = (Population::One, instance),
            Population::One if self.only != instance => return self.populate_many(),
            _ => {}
        }
        false
    }

    /// There are several locks of the class. True if that is new.
    pub(super) fn populate_many(&mut self) -> bool {
        let new = matches!(self.population, Population::None | Population::One);
        if new {
            self.population = Population::Many;
        }
        new
    }

    /// True for classes that an interrupt inversion cannot run through: one lock for each CPU, and annotations.
    #[must_use]
    pub fn skips_irq_rules(&self) -> bool {
        self.kind != LockKind::Normal
    }

    /// The name as printed.
    #[must_use]
    pub fn display_name(&self) -> String {
        let mut name = self.name.to_string();
        if self.nth > 1 {
            name.push_str(&format!("#{}", self.nth));
        }
        if self.subclass > 0 {
            name.push_str(&format!("/{}", self.subclass));
        }
        name
    }
}

const _: () = assert!(size_of::<Class>() == 56);

#[expect(clippy::cast_possible_truncation, reason = "a part of the hash is one, too")]
fn hash(name: &str) -> u32 {
    FxBuildHasher.hash_one(name) as u32
}

/// All classes of one engine.
#[derive(Debug, Default)]
pub struct Classes {
    entries: Chunks<Class>,
    /// The first class of each name.
    names: Index,
    /// How many keys have the name of such a class, if not one.
    keys: FxHashMap<u32, u32>,
    /// Of classes whose facts came at different times: all but the first ones.
    more: FxHashMap<ClassId, Vec<(Usage, KeptUse)>>,
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
        let hash = hash(&def.name);
        let first = self.first_of(&def.name);
        let (group, nth) = match (def.sibling, first) {
            (Some(sibling), _) => {
                let sibling = self.get(sibling);
                (sibling.group, sibling.nth)
            }
            (None, Some(first)) => {
                let keys = self.keys.entry(first).or_insert(1);
                *keys += 1;
                (id, *keys)
            }
            (None, None) => (id, 1),
        };
        self.entries.push(Class {
            name: def.name,
            group,
            nth,
            only: Instance(0),
            evidence: EndId::NONE,
            first_use: KeptUse::NONE,
            population: Population::None,
            usage: Usage::default(),
            subclass: def.subclass,
            strict: def.strict,
            waits: def.waits,
            kind: def.kind,
            nature: match (def.event, def.excludes) {
                (true, _) => Nature::Event,
                (false, true) => Nature::Exclusive,
                (false, false) => Nature::Shared,
            },
        });
        if def.sibling.is_none() && first.is_none() {
            self.names.add(id.0, hash);
        } else {
            self.names.make_room(id.0);
        }
        id
    }

    /// The first class of a name.
    fn first_of(&self, name: &str) -> Option<u32> {
        self.names.find(hash(name), |at| *self.entries[at].name == *name)
    }

    /// Tells the stack of a fact that was noted.
    pub(super) fn set_stack(&mut self, id: ClassId, fact: Fact, stack: StackId) {
        let mut more = self.more.get_mut(&id).into_iter().flatten();
        match more.find(|(facts, _)| facts.has(fact)) {
            Some((_, later)) => later.stack = stack.into(),
            None => self.entries[id.0].first_use.stack = stack.into(),
        }
    }

    /// The class goes away. Its number is not used again; a new key of its name may get its `#N`.
    pub(super) fn remove(&mut self, id: ClassId, evidence: &mut Evidence) {
        if self.get(id).is_removed() {
            return;
        }
        self.removed += 1;
        for reference in self.references_of(id).collect::<Vec<_>>() {
            evidence.release(reference);
        }
        self.more.remove(&id);
        let class = self.get_mut(id);
        class.usage = Usage::default();
        class.first_use = KeptUse::NONE;
        class.evidence = EndId::NONE;
        class.population = Population::Removed;
        let (own, nth) = (class.group == id, class.nth);
        if own && let Some(first) = self.first_of(&self.get(id).name) {
            let keys = self.keys.entry(first).or_insert(1);
            *keys -= u32::from(*keys == nth);
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
        &self.entries[id.0]
    }

    /// Notes a fact about the class of a lock; true if it is new. Those of one step may be noted `together`, if the
    /// acquisition is the same.
    pub(super) fn note(
        &mut self,
        lock: &HeldLock,
        fact: Fact,
        together: bool,
        task: &Arc<str>,
        evidence: &mut Evidence,
    ) -> bool {
        let id = lock.bits.class();
        self.usage.add(fact);
        let class = self.get_mut(id);
        if class.is_removed() || !class.usage.add(fact) {
            return false;
        }
        let by = self.evidence(lock, evidence);
        let first = &mut self.entries[id.0].first_use;
        let mut more = self.more.get_mut(&id);
        let last = more.as_mut().and_then(|more| more.last_mut());
        if together && last.as_ref().map_or(first.by, |(_, last)| last.by) == by {
            evidence.release(Reference::End(by));
            last.into_iter().for_each(|(facts, _)| _ = facts.add(fact));
            return true;
        }
        let who = evidence.witness(task, &Tasks::Several);
        let new = KeptUse { by, who, stack: Stack::NONE };
        if first.by == EndId::NONE {
            *first = new;
        } else {
            self.more.entry(id).or_default().push((Usage::only(fact), new));
        }
        true
    }

    /// When a fact was first seen.
    pub(super) fn first_use(&self, id: ClassId, fact: Fact) -> Option<&KeptUse> {
        let class = self.get(id);
        let mut more = self.more.get(&id).into_iter().flatten();
        let later = || more.find(|(facts, _)| facts.has(fact)).map_or(&class.first_use, |(_, later)| later);
        class.usage.has(fact).then(later)
    }

    /// How and where a lock was taken, for what is learned from it.
    pub(super) fn evidence(&mut self, held: &HeldLock, evidence: &mut Evidence) -> EndId {
        let last = &mut self.get_mut(held.bits.class()).evidence;
        let end = evidence.keep(end_of(held), *last);
        if *last != end {
            evidence.share(end);
            let before = std::mem::replace(last, end);
            if before != EndId::NONE {
                evidence.release(Reference::End(before));
            }
        }
        end
    }

    /// The evidence that is referred to.
    pub(super) fn references(&self) -> impl Iterator<Item = Reference> {
        (0..).map(ClassId).take(self.len()).flat_map(|id| self.references_of(id))
    }

    fn references_of(&self, id: ClassId) -> impl Iterator<Item = Reference> {
        let class = self.get(id);
        let more = self.more.get(&id).into_iter().flatten().map(|(_, later)| later);
        let uses = std::iter::once(&class.first_use).chain(more);
        let of_uses = uses.flat_map(|kept| [Reference::End(kept.by), Reference::Witness(kept.who)]);
        let all = std::iter::once(Reference::End(class.evidence)).chain(of_uses);
        all.filter(|reference| !reference.is_none())
    }

    /// True if some class has a fact of this context and direction: if none has, no search can find one.
    pub(super) fn any_used(&self, context: Context, enabled: bool) -> bool {
        self.usage.any(context, enabled, true)
    }

    pub(super) fn get_mut(&mut self, id: ClassId) -> &mut Class {
        &mut self.entries[id.0]
    }

    /// Number of classes, those included that have gone away.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True before the first one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All classes that are there, in the order of first use.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        (0..).map(ClassId).zip(self.entries.iter()).filter(|(_, class)| !class.is_removed())
    }
}
