// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Where the dependencies are: one entry for each, found by its number, by its ends, and from each of its classes.
//!
//! An entry is 44 bytes. What is larger is kept elsewhere and shared ([`evidence`](super::evidence)), what few dependencies have
//! in a table of its own. The dependencies that leave a class, and those that lead to it, are two lists through the
//! entries, the latest first; a class has the beginnings and the lengths.
//!
//! Invariants: every edge is in the index, in the list of those that leave its source, in the list of those that lead
//! to its target, and nowhere else. The place of an edge that has gone is used again; its number is not.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use super::chunks::{Chunks, Index, NONE, Slab};
use super::evidence::{EndId, Evidence, Reference, Stack, StackId, WitnessId};
use super::search::Direction;
use super::sight::Tasks;
use super::strength::{Hold, Strength, Wait};
use super::{Dependency, topology};
use crate::ids::ClassId;

/// Number of an edge, in the order of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId {
    number: u32,
    /// Where it is, as long as there is an edge of this number.
    at: u32,
}

/// A dependency without its evidence, for which see [`Engine::dependency`](super::Engine::dependency).
#[derive(Debug)]
pub struct Edge {
    /// The class held.
    pub from: ClassId,
    /// The class taken.
    pub to: ClassId,
    /// See [`Strength`].
    pub strength: Strength,
    /// Both were neighbours on the held stack (the kernel prints only those).
    pub adjacent: bool,
    /// The next one of those that leave its source, and of those that lead to its target.
    next: [u32; 2],
    held: EndId,
    taken: EndId,
    who: WitnessId,
    /// In which segment of the task that was the last time.
    last: u32,
    /// Where its guards and the lock it is nested in are, if it has any.
    besides: u32,
    stack: Stack,
}

const _: () = assert!(size_of::<Edge>() == 44);

/// What is at a place that is free: no edge leads from a class to itself.
impl Default for Edge {
    fn default() -> Self {
        Edge {
            from: ClassId(0),
            to: ClassId(0),
            strength: Strength { hold: Hold::Exclusive, wait: Wait::Everybody },
            adjacent: false,
            next: [NONE; 2],
            held: EndId::NONE,
            taken: EndId::NONE,
            who: WitnessId::NONE,
            last: 0,
            besides: NONE,
            stack: Stack::NONE,
        }
    }
}

impl Edge {
    fn is_there(&self) -> bool {
        self.from != self.to
    }

    /// The evidence that it refers to.
    fn references(&self) -> [Reference; 3] {
        [Reference::End(self.held), Reference::End(self.taken), Reference::Witness(self.who)]
    }

    /// The class at the end to which this direction leads.
    pub(super) fn end(&self, direction: Direction) -> ClassId {
        match direction {
            Direction::Forward => self.to,
            Direction::Backward => self.from,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a part of the hash is one, too")]
fn hash(from: ClassId, to: ClassId, strength: Strength) -> u32 {
    FxBuildHasher.hash_one((from, to, strength)) as u32
}

/// A list of edges in one direction from a class.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    count: u32,
}

impl Default for List {
    fn default() -> Self {
        List { first: NONE, count: 0 }
    }
}

/// What few dependencies have.
#[derive(Debug, Default)]
struct Besides {
    guards: Box<[ClassId]>,
    nest: Option<ClassId>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Edges {
    table: Slab<Edge>,
    index: Index,
    /// For each class those that leave it and those that lead to it.
    lists: Chunks<[List; 2]>,
    besides: Slab<Besides>,
    /// How many there were.
    learned: u32,
    /// The number of the edge at each place, from when one is not its place: places were used again.
    numbers: Chunks<u32>,
}

/// Which of the two lists of a class leads this way.
fn way(direction: Direction) -> usize {
    match direction {
        Direction::Forward => 0,
        Direction::Backward => 1,
    }
}

impl Edges {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, from: ClassId, to: ClassId, strength: Strength) -> Option<EdgeId> {
        let is = |at| {
            let edge: &Edge = &self.table[at];
            (edge.from, edge.to, edge.strength) == (from, to, strength)
        };
        self.index.find(hash(from, to, strength), is).map(|at| self.id(at))
    }

    /// The edge, unless it has gone.
    pub(super) fn get(&self, id: EdgeId) -> Option<&Edge> {
        self.table.get(id.at).filter(|edge| edge.is_there() && self.id(id.at) == id)
    }

    /// The number of the edge at a place.
    pub(super) fn id(&self, at: u32) -> EdgeId {
        EdgeId { number: self.numbers.get(at).copied().unwrap_or(at), at }
    }

    /// Adds a dependency that is not known.
    ///
    /// # Panics
    /// With more than 2³² edges.
    pub(super) fn add(&mut self, new: &Dependency, [held, taken]: [EndId; 2], who: WitnessId) -> EdgeId {
        let number = self.learned;
        self.learned = number.checked_add(1).expect("fewer than 2^32 dependencies");
        let plain = new.guards.is_empty() && new.nest.is_none();
        let at = self.table.add(Edge {
            from: new.from,
            to: new.to,
            strength: new.strength,
            adjacent: new.adjacent,
            next: [NONE; 2],
            held,
            taken,
            who,
            last: last(&new.tasks),
            besides: if plain {
                NONE
            } else {
                self.besides.add(Besides { guards: new.guards.clone(), nest: new.nest })
            },
            stack: new.stack.map_or(Stack::NONE, Stack::from),
        });
        for direction in Direction::BOTH {
            let way = way(direction);
            let class = self.table[at].end(direction.opposite());
            self.lists.reach(class.0);
            let list = &mut self.lists[class.0][way];
            self.table[at].next[way] = std::mem::replace(&mut list.first, at);
            list.count += 1;
        }
        self.index.add(at, hash(new.from, new.to, new.strength));
        if number != at {
            while self.numbers.len() < self.table.places() {
                self.numbers.push(u32::try_from(self.numbers.len()).expect("a place"));
            }
            self.numbers[at] = number;
        }
        EdgeId { number, at }
    }

    /// Takes out every edge of a class.
    pub(super) fn remove_class(&mut self, class: ClassId, evidence: &mut Evidence) {
        for direction in Direction::BOTH {
            while let Some((at, _)) = self.of(direction, class).next() {
                self.remove(at, evidence);
            }
        }
    }

    fn remove(&mut self, at: u32, evidence: &mut Evidence) {
        self.index.remove(at);
        for direction in Direction::BOTH {
            let way = way(direction);
            let class = self.table[at].end(direction.opposite());
            let next = self.table[at].next[way];
            let before = self.of(direction, class).map(|(other, _)| other).take_while(|other| *other != at);
            match before.last() {
                Some(before) => self.table[before].next[way] = next,
                None => self.lists[class.0][way].first = next,
            }
            self.lists[class.0][way].count -= 1;
        }
        let edge = self.table.take(at);
        edge.references().into_iter().for_each(|reference| evidence.release(reference));
        if edge.besides != NONE {
            self.besides.take(edge.besides);
        }
    }

    /// Those that leave a class, or lead to it; the latest first, each with its place.
    pub(super) fn of(&self, direction: Direction, class: ClassId) -> Of<'_> {
        let lists = self.lists.get(class.0).copied().unwrap_or_default();
        Of { edges: self, way: way(direction), rest: lists[way(direction)] }
    }

    fn all(&self) -> impl Iterator<Item = (u32, &Edge)> {
        self.table.iter().filter(|(_, edge)| edge.is_there())
    }

    /// All in the order of learning.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Edge> {
        let mut all: Vec<(EdgeId, &Edge)> = self.all().map(|(at, edge)| (self.id(at), edge)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, edge)| edge)
    }

    /// The classes of which a lock was held exclusively, outside of both, every time this was seen.
    pub(super) fn guards(&self, edge: &Edge) -> &[ClassId] {
        self.besides.get(edge.besides).map_or(&[], |besides| &besides.guards)
    }

    /// The class of the lock that serialises the nesting of the later lock, if it was taken as nested.
    pub(super) fn nest(&self, edge: &Edge) -> Option<ClassId> {
        self.besides.get(edge.besides).and_then(|besides| besides.nest)
    }

    /// Notes that a known edge was seen again. True if it has lost a guard.
    pub(super) fn seen_again(&mut self, id: EdgeId, again: &Dependency, evidence: &mut Evidence) -> bool {
        let edge = &mut self.table[id.at];
        edge.adjacent |= again.adjacent;
        let before = evidence.tasks(edge.who, edge.last);
        let mut tasks = before.clone();
        tasks.add(&again.tasks);
        if tasks != before {
            let name = evidence.name(edge.who).clone();
            let before = std::mem::replace(&mut edge.who, evidence.witness(&name, &tasks));
            evidence.release(Reference::Witness(before));
            edge.last = last(&tasks);
        }
        let besides = edge.besides;
        if besides == NONE {
            return false;
        }
        let besides = &mut self.besides[besides];
        let lost = keep_guards(&mut besides.guards, &again.guards);
        if besides.guards.is_empty() && besides.nest.is_none() {
            self.besides.take(std::mem::replace(&mut edge.besides, NONE));
        }
        lost
    }

    pub(super) fn set_stack(&mut self, id: EdgeId, stack: StackId) {
        if self.get(id).is_some() {
            self.table[id.at].stack = stack.into();
        }
    }

    /// An edge with its evidence.
    pub(super) fn dependency(&self, edge: &Edge, evidence: &Evidence) -> Dependency {
        Dependency {
            from: edge.from,
            to: edge.to,
            strength: edge.strength,
            held: evidence.end(edge.held),
            taken: evidence.end(edge.taken),
            task: evidence.name(edge.who).clone(),
            tasks: evidence.tasks(edge.who, edge.last),
            guards: self.guards(edge).into(),
            nest: self.nest(edge),
            stack: edge.stack.get(),
            adjacent: edge.adjacent,
        }
    }

    /// The evidence that is referred to.
    pub(super) fn references(&self) -> impl Iterator<Item = Reference> {
        self.iter().flat_map(Edge::references)
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub(super) fn check(&self) {
        assert_eq!(self.all().count(), self.table.len(), "internal error: places in use");
        assert_eq!(self.table.len(), self.index.len(), "internal error: edges and index");
        for (at, edge) in self.all() {
            let found = self.find(edge.from, edge.to, edge.strength);
            assert_eq!(found, Some(self.id(at)), "internal error: an edge that is not in the index");
        }
        for direction in Direction::BOTH {
            let mut listed = 0;
            for class in (0..).map(ClassId).take(self.lists.len()) {
                let count = self.of(direction, class).count();
                assert_eq!(count, self.of(direction, class).len(), "internal error: length of a list");
                let latest_first =
                    self.of(direction, class).is_sorted_by(|(a, _), (b, _)| self.id(*a) > self.id(*b));
                assert!(latest_first, "internal error: order of a list");
                let own = self.of(direction, class).all(|(_, edge)| edge.end(direction.opposite()) == class);
                assert!(own, "internal error: the edge of another class in a list");
                listed += count;
            }
            assert_eq!(listed, self.table.len(), "internal error: edges and lists");
        }
        let besides = self.all().filter(|(_, edge)| edge.besides != NONE).count();
        assert_eq!(besides, self.besides.len(), "internal error: what few edges have");
    }
}

/// In which segment that was, if that counts.
fn last(tasks: &Tasks) -> u32 {
    match tasks {
        Tasks::One(sight) => sight.last,
        Tasks::Several => 0,
    }
}

/// Only these guards are left, of those that there were. True if there are fewer now.
pub(super) fn keep_guards(guards: &mut Box<[ClassId]>, left: &[ClassId]) -> bool {
    let lost = guards.iter().any(|guard| !left.contains(guard));
    if lost {
        *guards = guards.iter().copied().filter(|guard| left.contains(guard)).collect();
    }
    lost
}

/// See [`Edges::of`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    edges: &'a Edges,
    way: usize,
    rest: List,
}

impl<'a> Iterator for Of<'a> {
    type Item = (u32, &'a Edge);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.rest.first;
        if at == NONE {
            return None;
        }
        let edge = &self.edges.table[at];
        self.rest = List { first: edge.next[self.way], count: self.rest.count - 1 };
        Some((at, edge))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.rest.count as usize;
        (count, Some(count))
    }
}

impl ExactSizeIterator for Of<'_> {}

impl topology::Neighbours for Edges {
    fn after(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
        self.of(Direction::Forward, class).map(|(_, edge)| edge.to)
    }

    fn before(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
        self.of(Direction::Backward, class).map(|(_, edge)| edge.from)
    }
}
