// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a lock's name (and address, or key) to its class.
//!
//! Each name is stored once, with what the annotations say about it, so a line costs one lookup by bytes.

use lockdep::engine::{ClassDef, Engine};
use lockdep::ids::ClassId;
use lockdep::limits::SUBCLASSES;
use rustc_hash::FxHashMap;

use crate::classes::{Annotations, Rule};

/// Number of a name, in the order of first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameId(u32);

/// The subclasses of one key that were used.
type Subclasses = [Option<ClassId>; SUBCLASSES as usize];

#[derive(Debug)]
struct Name {
    text: String,
    rule: Rule,
    nest: Option<NameId>,
    classes: Subclasses,
}

/// All names and keys of one trace.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    annotations: &'a Annotations,
    index: FxHashMap<Box<[u8]>, NameId>,
    names: Vec<Name>,
    /// Static locks that are classes of their own, by name and address, and the keys of the form with all
    /// arguments, by address alone.
    keys: FxHashMap<(Option<NameId>, u64), Subclasses>,
    name_of_class: Vec<NameId>,
    key_of_class: FxHashMap<ClassId, u64>,
}

/// Static locks of the kernel image and its modules lie above this address (x86-64 and arm64 agree on it closely
/// enough: the heap is far below).
const STATIC_FROM: u64 = 0xffff_ffff_8000_0000;

impl<'a> Names<'a> {
    pub(crate) fn new(annotations: &'a Annotations) -> Self {
        Names {
            annotations,
            index: FxHashMap::default(),
            names: Vec::new(),
            keys: FxHashMap::default(),
            name_of_class: Vec::new(),
            key_of_class: FxHashMap::default(),
        }
    }

    /// The number of a name.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> NameId {
        if let Some(id) = self.index.get(bytes) {
            return *id;
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        let rule = self.annotations.rule(&text);
        let id = NameId(u32::try_from(self.names.len()).expect("fewer than 2^32 names"));
        self.index.insert(bytes.into(), id);
        let nest = rule.nest.clone();
        self.names.push(Name { text, rule, nest: None, classes: Subclasses::default() });
        // After the push: a name may be its own nest lock.
        let nest = nest.map(|nest| self.intern(nest.as_bytes()));
        self.names[id.0 as usize].nest = nest;
        id
    }

    pub(crate) fn rule(&self, name: NameId) -> &Rule {
        &self.names[name.0 as usize].rule
    }

    pub(crate) fn nest(&self, name: NameId) -> Option<NameId> {
        self.names[name.0 as usize].nest
    }

    pub(crate) fn name_of(&self, class: ClassId) -> NameId {
        self.name_of_class[class.index()]
    }

    /// The key of a class, where the events name it or the address is it.
    pub(crate) fn key_of(&self, class: ClassId) -> Option<u64> {
        self.key_of_class.get(&class).copied()
    }

    /// The class of a lock of this name at this address.
    pub(crate) fn class(&mut self, engine: &mut Engine, name: NameId, address: u64, subclass: u8) -> ClassId {
        let def = ClassDef { subclass, ..ClassDef::named("") };
        if self.rule(name).instance_class && address >= STATIC_FROM {
            return self.class_of_key(engine, (Some(name), address), name, def);
        }
        let entry = &mut self.names[name.0 as usize];
        if let Some(class) = entry.classes[usize::from(subclass)] {
            return class;
        }
        let class = register(engine, &entry.text, &entry.classes, def);
        entry.classes[usize::from(subclass)] = Some(class);
        self.name_of_class.push(name);
        class
    }

    /// The class of a key; `name` and `def` count when it is new.
    pub(crate) fn class_of_key(
        &mut self,
        engine: &mut Engine,
        key: (Option<NameId>, u64),
        name: NameId,
        def: ClassDef,
    ) -> ClassId {
        let subclass = usize::from(def.subclass);
        // The first key of a name takes over what was declared about the name.
        let declared = &mut self.names[name.0 as usize].classes;
        let classes = self.keys.entry(key).or_insert_with(|| std::mem::take(declared));
        if let Some(class) = classes[subclass] {
            return class;
        }
        let class = register(engine, &self.names[name.0 as usize].text, classes, def);
        classes[subclass] = Some(class);
        self.name_of_class.push(name);
        self.key_of_class.insert(class, key.1);
        class
    }
}

fn register(engine: &mut Engine, name: &str, known: &Subclasses, def: ClassDef) -> ClassId {
    let sibling = known.iter().flatten().next().copied();
    engine.register(ClassDef { name: name.into(), sibling, ..def })
}
