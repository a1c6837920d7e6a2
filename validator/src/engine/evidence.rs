// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! What is kept of acquisitions and tasks for the reports, each once for all who refer to it.
//!
//! Most dependencies are learned from acquisitions that taught something before, so they refer to the same [`End`], and
//! from few tasks. Both are counted: when the last dependency, usage fact or class that refers to one goes, so does it.
//! An end is packed: of its place, code has a number here (a program has as many as it has lines), and a line of an
//! input file is its own number.
//!
//! Invariant: each count is the number of those who refer to it, which the engine checks.
//!
//! Kernel counterpart: `lock_trace`, and the fields of `struct lock_class` that are for printing.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::chunks::{NONE, Slab};
use super::sight::{Clock, Sight, Tasks};
use crate::event::{Mode, Place};
use crate::ids::{Instance, TaskId};

/// One end of an edge as it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The lock object.
    pub instance: Instance,
    /// How it was taken.
    pub mode: Mode,
    /// By a trylock.
    pub trylock: bool,
    /// Where.
    pub place: Place,
}

/// A stack that the runtime keeps; means nothing to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackId(pub u32);

/// A stack or none, in four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack(u32);

impl Stack {
    pub(super) const NONE: Stack = Stack(NONE);

    pub(super) fn get(self) -> Option<StackId> {
        Some(StackId(self.0)).filter(|stack| stack.0 != NONE)
    }
}

impl From<StackId> for Stack {
    fn from(stack: StackId) -> Self {
        Stack(stack.0)
    }
}

/// The number of an end that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndId(u32);

impl EndId {
    pub(super) const NONE: EndId = EndId(NONE);
}

/// The number of a witness that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WitnessId(u32);

impl WitnessId {
    pub(super) const NONE: WitnessId = WitnessId(NONE);
}

/// That somebody refers to something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reference {
    End(EndId),
    Witness(WitnessId),
}

impl Reference {
    pub(super) fn is_none(self) -> bool {
        matches!(self, Reference::End(EndId::NONE) | Reference::Witness(WitnessId::NONE))
    }
}

/// Places from here on are numbers of [`Evidence::places`], those below are lines.
const LISTED: u32 = 1 << 31;

/// References beyond this number are to another copy.
const REFERENCES_MAX: u32 = (1 << 29) - 1;

/// A kept [`End`].
#[derive(Clone, Copy, Debug, Default)]
struct Packed {
    instance: u64,
    place: u32,
    /// Bits 0 and 1: the mode; bit 2: by a trylock; the others: how many refer to it.
    rest: u32,
}

impl Packed {
    const fn references(self) -> u32 {
        self.rest >> 3
    }

    const fn mode(self) -> Mode {
        match self.rest & 3 {
            0 => Mode::Write,
            1 => Mode::Read,
            2 => Mode::RecursiveRead,
            _ => Mode::Upgradable,
        }
    }
}

/// Who was seen, and what it knew.
#[derive(Debug, Default)]
struct Witness {
    name: Arc<str>,
    /// None: its name is all that is kept of it.
    sight: Option<(TaskId, Arc<Clock>)>,
    references: u32,
}

/// What makes two witnesses one: where the name is, the task, and where the clock is.
type Same = (usize, Option<(TaskId, usize)>);

fn same(name: &Arc<str>, sight: Option<(TaskId, &Arc<Clock>)>) -> Same {
    let address = |clock| Arc::as_ptr(clock) as usize;
    (name.as_ptr() as usize, sight.map(|(task, clock)| (task, address(clock))))
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    ends: Slab<Packed>,
    /// Lines of code, and of input files those whose numbers are too large.
    places: Vec<Place>,
    listed: FxHashMap<Place, u32>,
    witnesses: Slab<Witness>,
    known: FxHashMap<Same, WitnessId>,
}

impl Evidence {
    /// Keeps an end, for one who refers to it: `last`, if that is the same.
    pub(super) fn keep(&mut self, end: End, last: EndId) -> EndId {
        if last != EndId::NONE && self.end(last) == end && self.ends[last.0].references() < REFERENCES_MAX {
            self.share(last);
            return last;
        }
        let place = match end.place {
            Place::Line(line) if line < LISTED => line,
            place => {
                let next = LISTED + u32::try_from(self.places.len()).expect("fewer than 2^31 lines of code");
                *self.listed.entry(place).or_insert_with(|| {
                    self.places.push(place);
                    next
                })
            }
        };
        let rest = end.mode as u32 | u32::from(end.trylock) << 2 | 1 << 3;
        EndId(self.ends.add(Packed { instance: end.instance.0, place, rest }))
    }

    /// One more refers to it.
    pub(super) fn share(&mut self, end: EndId) {
        self.ends[end.0].rest += 1 << 3;
    }

    /// One who refers to it is gone.
    pub(super) fn release(&mut self, reference: Reference) {
        match reference {
            Reference::End(EndId(at)) => {
                let packed = &mut self.ends[at];
                packed.rest -= 1 << 3;
                if packed.references() == 0 {
                    self.ends.take(at);
                }
            }
            Reference::Witness(WitnessId(at)) => {
                let witness = &mut self.witnesses[at];
                witness.references -= 1;
                if witness.references == 0 {
                    let Witness { name, sight, .. } = self.witnesses.take(at);
                    self.known.remove(&same(&name, sight.as_ref().map(|(task, clock)| (*task, clock))));
                }
            }
        }
    }

    /// An end that is kept.
    pub(super) fn end(&self, end: EndId) -> End {
        let packed = self.ends[end.0];
        let place = match packed.place.checked_sub(LISTED) {
            None => Place::Line(packed.place),
            Some(listed) => self.places[listed as usize],
        };
        let trylock = packed.rest & 4 != 0;
        End { instance: Instance(packed.instance), mode: packed.mode(), trylock, place }
    }

    /// Keeps who was seen, for one who refers to it; of several only this name.
    pub(super) fn witness(&mut self, name: &Arc<str>, tasks: &Tasks) -> WitnessId {
        let sight = match tasks {
            Tasks::One(sight) => Some((sight.task, &sight.first)),
            Tasks::Several => None,
        };
        let witnesses = &mut self.witnesses;
        let id = *self.known.entry(same(name, sight)).or_insert_with(|| {
            let sight = sight.map(|(task, clock)| (task, clock.clone()));
            WitnessId(witnesses.add(Witness { name: name.clone(), sight, references: 0 }))
        });
        witnesses[id.0].references += 1;
        id
    }

    /// The name of who was seen.
    pub(super) fn name(&self, id: WitnessId) -> &Arc<str> {
        &self.witnesses[id.0].name
    }

    /// Who was seen, `last` in this segment.
    pub(super) fn tasks(&self, id: WitnessId, last: u32) -> Tasks {
        match &self.witnesses[id.0].sight {
            Some((task, first)) => Tasks::One(Sight { task: *task, first: first.clone(), last }),
            None => Tasks::Several,
        }
    }

    /// Asserts what the module header promises, given all references.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub(super) fn check(&self, references: impl Iterator<Item = Reference>) {
        let (mut ends, mut witnesses) = (FxHashMap::default(), FxHashMap::default());
        for reference in references {
            match reference {
                Reference::End(end) => *ends.entry(end.0).or_insert(0) += 1,
                Reference::Witness(id) => *witnesses.entry(id.0).or_insert(0) += 1,
            }
        }
        for (at, packed) in self.ends.iter() {
            let counted = ends.get(&at).copied().unwrap_or(0);
            assert_eq!(packed.references(), counted, "internal error: references to an end");
        }
        for (at, witness) in self.witnesses.iter() {
            let counted = witnesses.get(&at).copied().unwrap_or(0);
            assert_eq!(witness.references, counted, "internal error: references to a witness");
        }
        assert_eq!(self.ends.len(), ends.len(), "internal error: an end that nobody refers to");
        assert_eq!(self.witnesses.len(), witnesses.len(), "internal error: a witness that nobody refers to");
        assert_eq!(self.known.len(), witnesses.len(), "internal error: a witness that is not known");
    }
}
