// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The search for a path along the dependencies whose locks can wait for each other.
//!
//! Why [`Graph::find_path`] is exact: whether a path can be continued depends on its last class and on how it
//! arrived there, so the search visits each pair of these once, unless the class was reached before in a way
//! that can be continued by at least the same edges. Breadth first, the edges of a class in the order of learning, so the
//! path found is a shortest one, and of those the one that is oldest from its beginning on.
//! Classes from which the goal cannot be reached are left out ([`topology`](super::topology)); most searches for
//! a cycle end before they begin.
//!
//! Kernel counterpart: `__bfs()`, `check_noncircular()`. The kernel visits a class once,
//! whichever way it arrived first, and so can miss a cycle (`lockdep-facts` FN-1, case X1).

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::edges::{Edge, EdgeId};
use super::graph::Graph;
use super::strength::{Hold, Strength, Wait};
use crate::event::Mode;
use crate::ids::ClassId;

/// Which way a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the locks taken later.
    Forward,
    /// To the locks taken earlier.
    Backward,
}

impl Direction {
    pub(super) const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

    pub(super) fn opposite(self) -> Direction {
        match self {
            Direction::Forward => Direction::Backward,
            Direction::Backward => Direction::Forward,
        }
    }
}

/// How a search came to a class; decides how it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// Forward: somebody waits for the class like this. The next edge starts with a hold that blocks it.
    Wait(Wait),
    /// Backward: somebody holds the class like this. The next edge ends with a wait that it blocks.
    Hold(Hold),
}

impl Via {
    /// How an edge arrives at its other end, if a path that came this way can go on along it.
    fn along(self, strength: Strength) -> Option<Via> {
        match self {
            Via::Wait(wait) => wait.blocked_by(strength.hold).then_some(Via::Wait(strength.wait)),
            Via::Hold(hold) => strength.wait.blocked_by(hold).then_some(Via::Hold(strength.hold)),
        }
    }

    /// The ways to go on, as a set.
    fn ways(self) -> u8 {
        let ways = |mut open: [bool; 3]| {
            open.reverse();
            open.into_iter().fold(0, |set, open| set << 1 | u8::from(open))
        };
        match self {
            Via::Wait(wait) => ways(Hold::ALL.map(|hold| wait.blocked_by(hold))),
            Via::Hold(hold) => ways(Wait::ALL.map(|wait| wait.blocked_by(hold))),
        }
    }
}

/// A state of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) class: ClassId,
    via: Via,
}

impl Arrived {
    /// Somebody waits for the class in this mode.
    pub(super) const fn waiting(class: ClassId, mode: Mode) -> Self {
        Arrived { class, via: Via::Wait(Wait::of(mode)) }
    }

    /// Somebody holds the class in this mode.
    pub(super) const fn holding(class: ClassId, mode: Mode) -> Self {
        Arrived { class, via: Via::Hold(Hold::of(mode)) }
    }

    /// Forward, "by recursive reads only" (only an exclusive hold blocks those); backward, "held shared only"
    /// (that blocks no recursive read).
    pub(super) const fn is_weak(self) -> bool {
        !matches!(self.via, Via::Wait(Wait::Everybody | Wait::Readers) | Via::Hold(Hold::Exclusive))
    }
}

/// In which ways a search came to a class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The search, by its number.
    round: u32,
    /// Sets of ways to go on, as a set of sets.
    seen: u8,
}

/// One arrival, with the position of the one before and the edge from there.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Arrived,
    parent: Option<(usize, EdgeId)>,
}

impl Graph {
    /// False if there is surely no way along the dependencies from one class to the other.
    fn may_lead(&mut self, from: ClassId, to: ClassId) -> bool {
        if self.topology.rules_out(from, to) {
            return false;
        }
        // Cheaper than the search, and often it says that there is no need for one.
        self.counters.moved += self.topology.put_before(to, from, &self.edges) as u64;
        !self.topology.rules_out(from, to)
    }

    /// A shortest strong path from a lock that is waited for to a lock that is held: the path that, together with
    /// the edge `held → waited for` of this strength, is a deadlock. Empty if the two are one class.
    pub(super) fn find_path(
        &mut self,
        held: ClassId,
        waited_for: ClassId,
        strength: Strength,
    ) -> Option<Vec<EdgeId>> {
        if !self.may_lead(waited_for, held) {
            return None;
        }
        let start = Arrived { class: waited_for, via: Via::Wait(strength.wait) };
        let found = |at: Arrived| at.class == held && at.via.along(strength).is_some();
        let skip = |graph: &Graph, class| graph.topology.is_beyond(class, held);
        self.search(Direction::Forward, start, skip, found).map(|(_, path)| path)
    }

    /// A shortest strong path from `start` to a class that `found` accepts, along the edges or against them; the
    /// path's edges come in the order in which the locks are taken. Classes that `skip` names are not entered.
    pub(super) fn search(
        &mut self,
        direction: Direction,
        start: Arrived,
        skip: impl Fn(&Graph, ClassId) -> bool,
        mut found: impl FnMut(Arrived) -> bool,
    ) -> Option<(Arrived, Vec<EdgeId>)> {
        self.counters.searches += 1;
        self.begin_round();
        let mut arrivals = vec![Arrival { at: start, parent: None }];
        let mut queue = VecDeque::from([0usize]);
        let mut hops = Vec::new();
        self.visit(start);
        while let Some(position) = queue.pop_front() {
            self.counters.visited += 1;
            let from = arrivals[position].at;
            if skip(self, from.class) {
                continue;
            }
            if found(from) {
                return Some((from, path_to(direction, &arrivals, position)));
            }
            let latest_first = self.edges.of(direction, from.class);
            hops.extend(latest_first.filter_map(|(at, edge)| {
                let to = Arrived { class: edge.end(direction), via: from.via.along(edge.strength)? };
                Some((to, self.edges.id(at)))
            }));
            while let Some((to, edge)) = hops.pop() {
                if self.visit(to) {
                    arrivals.push(Arrival { at: to, parent: Some((position, edge)) });
                    queue.push_back(arrivals.len() - 1);
                }
            }
        }
        None
    }

    /// Like [`find_path`](Self::find_path), for a path on which each of the `guards` is missing from at least one
    /// edge, so that none of them serialises the whole cycle. A search over (class, arrival, guards that were on
    /// every edge so far); it runs only for cycles that a guard may excuse.
    pub(super) fn find_path_without(
        &mut self,
        held: ClassId,
        waited_for: ClassId,
        strength: Strength,
        guards: &[ClassId],
    ) -> Option<Vec<EdgeId>> {
        if !self.may_lead(waited_for, held) {
            return None;
        }
        self.counters.searches += 1;
        let left = |mask: u32, edge: &Edge| {
            let on = self.edges.guards(edge);
            guards
                .iter()
                .enumerate()
                .filter(|(_, guard)| !on.contains(guard))
                .fold(mask, |m, (i, _)| m & !(1 << i))
        };
        let all = (1u32 << guards.len()) - 1;
        let start = Arrived { class: waited_for, via: Via::Wait(strength.wait) };
        let mut arrivals = vec![Arrival { at: start, parent: None }];
        let mut masks = vec![all];
        let mut seen = FxHashSet::from_iter([(waited_for, start.via.ways(), all)]);
        let (mut visited, mut hops) = (0, Vec::new());
        let mut found = None;
        while visited < arrivals.len() {
            let (Arrival { at, .. }, mask) = (arrivals[visited], masks[visited]);
            if at.class == held && at.via.along(strength).is_some() && mask == 0 {
                found = Some(path_to(Direction::Forward, &arrivals, visited));
                break;
            }
            let latest_first = self.edges.of(Direction::Forward, at.class);
            hops.extend(latest_first.filter_map(|(slot, edge)| {
                let to = Arrived { class: edge.to, via: at.via.along(edge.strength)? };
                Some((to, self.edges.id(slot), left(mask, edge)))
            }));
            while let Some((to, edge, mask)) = hops.pop() {
                if seen.insert((to.class, to.via.ways(), mask)) {
                    arrivals.push(Arrival { at: to, parent: Some((visited, edge)) });
                    masks.push(mask);
                }
            }
            visited += 1;
        }
        self.counters.visited += visited as u64;
        found
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.marks.fill(Marks::default());
            self.round = 1;
        }
    }

    /// Marks an arrival; false if there was one before that could go on in at least the same ways.
    fn visit(&mut self, at: Arrived) -> bool {
        self.marks.reach(at.class.0);
        let marks = &mut self.marks[at.class.0];
        if marks.round != self.round {
            *marks = Marks { round: self.round, seen: 0 };
        }
        let ways = at.via.ways();
        let dominates = |set: u8| marks.seen & 1 << set != 0 && set & ways == ways;
        if (0..8).any(dominates) {
            return false;
        }
        marks.seen |= 1 << ways;
        true
    }
}

fn path_to(direction: Direction, arrivals: &[Arrival], mut position: usize) -> Vec<EdgeId> {
    let mut path = Vec::new();
    while let Some((parent, edge)) = arrivals[position].parent {
        path.push(edge);
        position = parent;
    }
    if direction == Direction::Forward {
        path.reverse();
    }
    path
}
