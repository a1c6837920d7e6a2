// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The dependency graph: which class was taken while which other was held.
//!
//! The edges themselves are in [`edges`](super::edges), what makes one block another in [`strength`](super::strength), and
//! the search for cycles is in `search.rs`. A [topology](super::topology) knows of most dependencies that they close none.
//!
//! Kernel counterpart: `struct lock_list`, `add_lock_to_list()`.

use super::chunks::Chunks;
use super::edges::{Edge, EdgeId, Edges};
use super::evidence::{End, EndId, Evidence, Reference, StackId, WitnessId};
use super::search::{Direction, Marks};
use super::sight::Tasks;
use super::strength::Strength;
use super::topology::Topology;
use crate::ids::ClassId;

use std::sync::Arc;

/// One dependency with the evidence of its first sight.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The class held.
    pub from: ClassId,
    /// The class taken.
    pub to: ClassId,
    /// See [`Strength`].
    pub strength: Strength,
    /// The earlier acquisition.
    pub held: End,
    /// The later acquisition.
    pub taken: End,
    /// Who did it.
    pub task: Arc<str>,
    /// Whether anybody else did, too.
    pub tasks: Tasks,
    /// Classes of which a lock was held exclusively, outside of both, every time this was seen.
    pub guards: Box<[ClassId]>,
    /// The class of the lock that serialises the nesting of the later lock, if it was taken as nested.
    pub nest: Option<ClassId>,
    /// The stack at the later acquisition.
    pub stack: Option<StackId>,
    /// Both were neighbours on the held stack (the kernel prints only those).
    pub adjacent: bool,
}

/// Search effort since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchCounters {
    /// Searches started.
    pub searches: u64,
    /// States (class, how it was reached) taken off the queue.
    pub visited: u64,
    /// To keep the topological order: dependencies followed, and classes that were given another place.
    pub moved: u64,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) edges: Edges,
    pub(super) topology: Topology,
    pub(super) marks: Chunks<Marks>,
    pub(super) round: u32,
    pub(super) counters: SearchCounters,
}

impl Graph {
    /// The edge, if it is known.
    #[must_use]
    pub fn lookup(&self, from: ClassId, to: ClassId, strength: Strength) -> Option<EdgeId> {
        self.edges.find(from, to, strength)
    }

    /// Notes that a known edge was seen again. True if it has lost a guard.
    pub(super) fn seen_again(&mut self, edge: EdgeId, again: &Dependency, evidence: &mut Evidence) -> bool {
        self.edges.seen_again(edge, again, evidence)
    }

    /// Adds an edge that is not known, with what is kept of its two ends and of who did it.
    ///
    /// # Panics
    /// With more than 2³² edges.
    pub(super) fn insert(&mut self, new: &Dependency, ends: [EndId; 2], who: WitnessId) -> EdgeId {
        debug_assert!(
            self.lookup(new.from, new.to, new.strength).is_none(),
            "internal error: edge inserted twice"
        );
        let edge = self.edges.add(new, ends, who);
        self.counters.moved += self.topology.add(new.from, new.to, &self.edges) as u64;
        edge
    }

    /// Takes out every edge of a class. The numbers of the others stay, and no number is used again.
    pub(super) fn remove_class(&mut self, class: ClassId, evidence: &mut Evidence) {
        self.edges.remove_class(class, evidence);
        self.topology.remove(class);
    }

    pub(super) fn set_stack(&mut self, edge: EdgeId, stack: StackId) {
        self.edges.set_stack(edge, stack);
    }

    /// The edge with this number, unless it has gone with one of its classes.
    #[must_use]
    pub fn get(&self, edge: EdgeId) -> Option<&Edge> {
        self.edges.get(edge)
    }

    /// The same with its evidence.
    pub(super) fn dependency(&self, edge: EdgeId, evidence: &Evidence) -> Option<Dependency> {
        self.edges.get(edge).map(|edge| self.edges.dependency(edge, evidence))
    }

    /// The class of the lock that serialises the nesting of an edge's later lock, if it was taken as nested.
    pub(super) fn nest(&self, edge: EdgeId) -> Option<ClassId> {
        self.edges.get(edge).and_then(|edge| self.edges.nest(edge))
    }

    /// All edges in the order of learning.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter()
    }

    /// How many edges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes directly after (or before) one, with repeats.
    pub(super) fn adjacent(&self, class: ClassId, forward: bool) -> impl Iterator<Item = ClassId> {
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        self.edges.of(direction, class).map(move |(_, edge)| edge.end(direction))
    }

    /// Search effort so far.
    #[must_use]
    pub fn counters(&self) -> SearchCounters {
        self.counters
    }

    /// The evidence that is referred to.
    pub(super) fn references(&self) -> impl Iterator<Item = Reference> {
        self.edges.references()
    }

    /// Asserts what the headers of this module and those below it promise.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        self.edges.check();
        self.topology.check(self.edges().map(|edge| (edge.from, edge.to)));
    }
}
