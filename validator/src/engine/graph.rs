// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The dependency graph: which class was taken while which other was held, and the search for cycles.
//!
//! An edge `prev → next` has a *strength*: was `prev` held exclusively (E) or shared (S), was `next` taken by
//! somebody who waits for readers too (N) or by a recursive reader (R). Edges of different strength between
//! two classes are different edges, each with evidence of its own.
//!
//! A cycle is a deadlock only if no task in it waits for a recursive read while the lock is held shared: no two
//! adjacent edges (·R)(S·). Why [`Graph::find_path`] is exact: whether a path can be continued depends on its
//! last class and on whether it arrived there by R alone, so the search visits each pair (class, arrived by R)
//! once, and the pair without the restriction dominates. Breadth first, so the path found is a shortest one.
//!
//! Invariants: every edge is in the index, in the successor list of its source, in the predecessor list of its
//! target, and nowhere else.
//!
//! Kernel counterpart: `struct lock_list`, `__bfs()`, `check_noncircular()`. The kernel visits a class once,
//! whichever way it arrived first, and so can miss a cycle (`lockdep-facts` FN-1, case X1).

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Mode, Place};
use crate::ids::{ClassId, Instance};

/// Number of an edge, in the order of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(pub(crate) u32);

/// A stack that the runtime keeps for an edge; means nothing to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackId(pub u32);

/// Which holds at the two ends can block each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strength {
    /// The earlier lock is held exclusively.
    pub exclusive: bool,
    /// The later lock is taken by a recursive reader.
    pub recursive: bool,
}

impl Strength {
    /// The strength of "took `next` while holding `prev`".
    #[must_use]
    pub const fn of(prev: Mode, next: Mode) -> Self {
        Strength { exclusive: matches!(prev, Mode::Write), recursive: matches!(next, Mode::RecursiveRead) }
    }

    /// `EN`, `ER`, `SN` or `SR`.
    #[must_use]
    pub const fn letters(self) -> &'static str {
        match (self.exclusive, self.recursive) {
            (true, false) => "EN",
            (true, true) => "ER",
            (false, false) => "SN",
            (false, true) => "SR",
        }
    }
}

/// One end of an edge as it was first seen.
#[derive(Clone, Copy, Debug)]
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
    /// The stack at the later acquisition.
    pub stack: Option<StackId>,
    /// Both were neighbours on the held stack (the kernel prints only those).
    pub adjacent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    class: ClassId,
    strength: Strength,
    edge: EdgeId,
}

/// Which way a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the locks taken later.
    Forward,
    /// To the locks taken earlier.
    Backward,
}

impl Direction {
    /// Whether an edge can continue a path that arrived weakly or not; if so, how it arrives.
    fn arrive(self, weak: bool, strength: Strength) -> Option<bool> {
        let (continues, next_weak) = match self {
            Direction::Forward => (strength.exclusive, strength.recursive),
            Direction::Backward => (!strength.recursive, !strength.exclusive),
        };
        (continues || !weak).then_some(next_weak)
    }
}

/// A state of the search: at a class, with a restriction on how the path may go on. Forward, weak means "by
/// recursive reads only" (only an exclusive hold blocks those); backward, "held shared only" (that blocks no
/// recursive read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) class: ClassId,
    pub(super) weak: bool,
}

/// One arrival, with the position of the one before and the edge from there.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Arrived,
    parent: Option<(usize, EdgeId)>,
}

/// Search effort since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchCounters {
    /// Searches started.
    pub searches: u64,
    /// States (class, arrived by R) taken off the queue.
    pub visited: u64,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    edges: Vec<Dependency>,
    index: FxHashMap<(ClassId, ClassId, Strength), EdgeId>,
    successors: Vec<Vec<Neighbour>>,
    predecessors: Vec<Vec<Neighbour>>,
    marks: Vec<[u32; 2]>,
    round: u32,
    counters: SearchCounters,
}

impl Graph {
    /// The edge, if it is known.
    #[must_use]
    pub fn lookup(&self, from: ClassId, to: ClassId, strength: Strength) -> Option<EdgeId> {
        self.index.get(&(from, to, strength)).copied()
    }

    /// Notes that a known edge was also seen between neighbours.
    pub(super) fn mark_adjacent(&mut self, edge: EdgeId) {
        self.edges[edge.0 as usize].adjacent = true;
    }

    /// Adds an edge that is not known.
    ///
    /// # Panics
    /// With more than 2³² edges.
    pub(super) fn insert(&mut self, dependency: Dependency) -> EdgeId {
        let edge = EdgeId(u32::try_from(self.edges.len()).expect("fewer than 2^32 dependencies"));
        let Dependency { from, to, strength, .. } = dependency;
        let known = self.index.insert((from, to, strength), edge);
        debug_assert!(known.is_none(), "internal error: edge inserted twice");
        let needed = from.index().max(to.index()) + 1;
        if self.successors.len() < needed {
            self.successors.resize_with(needed, Vec::new);
            self.predecessors.resize_with(needed, Vec::new);
        }
        self.successors[from.index()].push(Neighbour { class: to, strength, edge });
        self.predecessors[to.index()].push(Neighbour { class: from, strength, edge });
        self.edges.push(dependency);
        edge
    }

    pub(super) fn set_stack(&mut self, edge: EdgeId, stack: StackId) {
        self.edges[edge.0 as usize].stack = Some(stack);
    }

    /// The edge with this number.
    #[must_use]
    pub fn edge(&self, edge: EdgeId) -> &Dependency {
        &self.edges[edge.0 as usize]
    }

    /// All edges in the order of learning.
    #[must_use]
    pub fn edges(&self) -> &[Dependency] {
        &self.edges
    }

    /// Search effort so far.
    #[must_use]
    pub fn counters(&self) -> SearchCounters {
        self.counters
    }

    /// A shortest strong path from a lock taken in `start` mode to a lock held in `target` mode: the path that,
    /// together with the edge target → start, is a deadlock. Empty if start and target are one class.
    pub(super) fn find_path(
        &mut self,
        (start, start_mode): (ClassId, Mode),
        (target, target_mode): (ClassId, Mode),
    ) -> Option<Vec<EdgeId>> {
        let start = Arrived { class: start, weak: start_mode == Mode::RecursiveRead };
        let found = |at: Arrived| at.class == target && (target_mode == Mode::Write || !at.weak);
        self.search(Direction::Forward, start, |_| false, found).map(|(_, path)| path)
    }

    /// A shortest strong path from `start` to a class that `found` accepts, along the edges or against them; the
    /// path's edges come in the order in which the locks are taken. Classes that `skip` names are not entered.
    pub(super) fn search(
        &mut self,
        direction: Direction,
        start: Arrived,
        skip: impl Fn(ClassId) -> bool,
        mut found: impl FnMut(Arrived) -> bool,
    ) -> Option<(Arrived, Vec<EdgeId>)> {
        self.counters.searches += 1;
        self.begin_round(start.class.index() + 1);
        let mut arrivals = vec![Arrival { at: start, parent: None }];
        let mut queue = VecDeque::from([0usize]);
        self.visit(start);
        while let Some(position) = queue.pop_front() {
            self.counters.visited += 1;
            let from = arrivals[position].at;
            if skip(from.class) {
                continue;
            }
            if found(from) {
                return Some((from, path_to(direction, &arrivals, position)));
            }
            for i in 0..self.neighbours(direction).get(from.class.index()).map_or(0, Vec::len) {
                let Neighbour { class, strength, edge } = self.neighbours(direction)[from.class.index()][i];
                let Some(weak) = direction.arrive(from.weak, strength) else { continue };
                let to = Arrived { class, weak };
                if self.visit(to) {
                    arrivals.push(Arrival { at: to, parent: Some((position, edge)) });
                    queue.push_back(arrivals.len() - 1);
                }
            }
        }
        None
    }

    fn neighbours(&self, direction: Direction) -> &[Vec<Neighbour>] {
        match direction {
            Direction::Forward => &self.successors,
            Direction::Backward => &self.predecessors,
        }
    }

    fn begin_round(&mut self, classes: usize) {
        let needed = classes.max(self.successors.len());
        if self.marks.len() < needed {
            self.marks.resize(needed, [0; 2]);
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.marks.fill([0; 2]);
            self.round = 1;
        }
    }

    /// Marks an arrival; false if it, or an unrestricted one, was there before.
    fn visit(&mut self, at: Arrived) -> bool {
        let mark = &mut self.marks[at.class.index()];
        if mark[0] == self.round || (at.weak && mark[1] == self.round) {
            return false;
        }
        mark[usize::from(at.weak)] = self.round;
        true
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        assert_eq!(self.edges.len(), self.index.len(), "internal error: edges and index");
        for (list, ends) in [
            (&self.successors, (|edge| (edge.from, edge.to)) as fn(&Dependency) -> (ClassId, ClassId)),
            (&self.predecessors, |edge| (edge.to, edge.from)),
        ] {
            let listed: usize = list.iter().map(Vec::len).sum();
            assert_eq!(self.edges.len(), listed, "internal error: edges and neighbour lists");
            for (at, neighbours) in list.iter().enumerate() {
                for neighbour in neighbours {
                    let (near, far) = ends(self.edge(neighbour.edge));
                    assert_eq!((near.index(), far), (at, neighbour.class), "internal error: neighbour list");
                }
            }
        }
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
