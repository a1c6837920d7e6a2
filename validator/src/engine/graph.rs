// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The dependency graph: which class was taken while which other was held, and the search for cycles.
//!
//! An edge `prev → next` has a *strength*: how `prev` was held (E exclusively, U upgradable, S shared) and what
//! the task that took `next` waited for (N everybody, R writers only: a recursive reader, G readers only: an
//! upgrade, which has excluded all others before). Edges of different strength between two classes are
//! different edges, each with evidence of its own.
//!
//! A cycle is a deadlock only if at each lock in it the one who waits is blocked by the one who holds:
//!
//! | waits \ holds | E | U | S |
//! |---|---|---|---|
//! | N | yes | yes | yes (a writer, or a reader behind a waiting writer) |
//! | R | yes | no | no |
//! | G | no | no | yes |
//!
//! Why [`Graph::find_path`] is exact: whether a path can be continued depends on its last class and on how it
//! arrived there, so the search visits each pair of these once, unless the class was reached before in a way
//! that can be continued by at least the same edges. Breadth first, so the path found is a shortest one.
//! Classes from which the goal cannot be reached are left out ([`topology`]); most searches for
//! a cycle end before they begin.
//!
//! Invariants: every edge is in the index, in the successor list of its source, in the predecessor list of its
//! target, and nowhere else.
//!
//! Kernel counterpart: `struct lock_list`, `__bfs()`, `check_noncircular()`. The kernel visits a class once,
//! whichever way it arrived first, and so can miss a cycle (`lockdep-facts` FN-1, case X1).

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::sight::Tasks;
use super::topology::{self, Topology};
use crate::event::{Mode, Place};
use crate::ids::{ClassId, Instance};

/// Number of an edge, in the order of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(pub(crate) u32);

/// A stack that the runtime keeps for an edge; means nothing to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackId(pub u32);

/// How the earlier lock of a dependency is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// By a writer.
    Exclusive,
    /// By an upgradable reader.
    Upgradable,
    /// By a reader.
    Shared,
}

impl Hold {
    const ALL: [Hold; 3] = [Hold::Exclusive, Hold::Upgradable, Hold::Shared];

    /// The hold of this mode.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Write => Hold::Exclusive,
            Mode::Upgradable => Hold::Upgradable,
            Mode::Read | Mode::RecursiveRead => Hold::Shared,
        }
    }
}

/// Whom the task that takes the later lock of a dependency waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Everybody (a reader: by way of a waiting writer).
    Everybody,
    /// Writers: a recursive reader.
    Writers,
    /// Readers: an upgradable reader on its way to a writer.
    Readers,
}

impl Wait {
    const ALL: [Wait; 3] = [Wait::Everybody, Wait::Writers, Wait::Readers];

    /// The wait of an acquisition in this mode.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        match mode {
            Mode::RecursiveRead => Wait::Writers,
            Mode::Write | Mode::Read | Mode::Upgradable => Wait::Everybody,
        }
    }

    /// True if a task that waits like this is blocked by one that holds like that.
    #[must_use]
    pub const fn blocked_by(self, hold: Hold) -> bool {
        match self {
            Wait::Everybody => true,
            Wait::Writers => matches!(hold, Hold::Exclusive),
            Wait::Readers => matches!(hold, Hold::Shared),
        }
    }
}

/// Who at the two ends of a dependency can block whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strength {
    /// How the earlier lock is held.
    pub hold: Hold,
    /// Whom the task waits for at the later one.
    pub wait: Wait,
}

impl Strength {
    /// The strength of "took `next` while holding `prev`".
    #[must_use]
    pub const fn of(prev: Mode, next: Mode) -> Self {
        Strength { hold: Hold::of(prev), wait: Wait::of(next) }
    }

    /// The two letters of the module documentation, as in `EN`.
    #[must_use]
    pub const fn letters(self) -> &'static str {
        match (self.hold, self.wait) {
            (Hold::Exclusive, Wait::Everybody) => "EN",
            (Hold::Exclusive, Wait::Writers) => "ER",
            (Hold::Exclusive, Wait::Readers) => "EG",
            (Hold::Upgradable, Wait::Everybody) => "UN",
            (Hold::Upgradable, Wait::Writers) => "UR",
            (Hold::Upgradable, Wait::Readers) => "UG",
            (Hold::Shared, Wait::Everybody) => "SN",
            (Hold::Shared, Wait::Writers) => "SR",
            (Hold::Shared, Wait::Readers) => "SG",
        }
    }
}

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
    pub held: Arc<End>,
    /// The later acquisition.
    pub taken: Arc<End>,
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

impl Dependency {
    /// Only these guards are left, of those that it had. True if it has lost one.
    pub(super) fn keep_guards(&mut self, left: &[ClassId]) -> bool {
        let lost = self.guards.iter().any(|guard| !left.contains(guard));
        if lost {
            self.guards = self.guards.iter().copied().filter(|guard| left.contains(guard)).collect();
        }
        lost
    }
}

/// What an edge leads to. Its strength is with the edge: few searches get that far.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    class: ClassId,
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
struct Marks {
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

/// The neighbour lists, for the topological order.
struct Lists<'a> {
    successors: &'a [Vec<Neighbour>],
    predecessors: &'a [Vec<Neighbour>],
}

/// The classes next to one. A class that is in no dependency yet has no list.
fn classes_next_to(class: ClassId, lists: &[Vec<Neighbour>]) -> impl ExactSizeIterator<Item = ClassId> {
    let list = lists.get(class.index()).map_or(&[][..], Vec::as_slice);
    list.iter().map(|neighbour| neighbour.class)
}

impl topology::Neighbours for Lists<'_> {
    fn after(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
        classes_next_to(class, self.successors)
    }

    fn before(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
        classes_next_to(class, self.predecessors)
    }
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    /// In the order of learning.
    edges: Vec<Dependency>,
    /// The number of each, once one has gone. Until then it is the place.
    ids: Option<Vec<EdgeId>>,
    /// The number of the next one.
    next: u32,
    index: FxHashMap<(ClassId, ClassId, Strength), EdgeId>,
    successors: Vec<Vec<Neighbour>>,
    predecessors: Vec<Vec<Neighbour>>,
    topology: Topology,
    marks: Vec<Marks>,
    round: u32,
    counters: SearchCounters,
}

impl Graph {
    /// The edge, if it is known.
    #[must_use]
    pub fn lookup(&self, from: ClassId, to: ClassId, strength: Strength) -> Option<EdgeId> {
        self.index.get(&(from, to, strength)).copied()
    }

    /// Notes that a known edge was seen again. True if it has lost a guard.
    pub(super) fn seen_again(&mut self, edge: EdgeId, again: &Dependency) -> bool {
        let at = self.position(edge).expect("a known edge");
        let known = &mut self.edges[at];
        known.adjacent |= again.adjacent;
        known.tasks.add(&again.tasks);
        known.keep_guards(&again.guards)
    }

    /// Adds an edge that is not known.
    ///
    /// # Panics
    /// With more than 2³² edges.
    pub(super) fn insert(&mut self, dependency: Dependency) -> EdgeId {
        let edge = EdgeId(self.next);
        self.next = self.next.checked_add(1).expect("fewer than 2^32 dependencies");
        let Dependency { from, to, strength, .. } = dependency;
        let known = self.index.insert((from, to, strength), edge);
        debug_assert!(known.is_none(), "internal error: edge inserted twice");
        let needed = from.index().max(to.index()) + 1;
        if self.successors.len() < needed {
            self.successors.resize_with(needed, Vec::new);
            self.predecessors.resize_with(needed, Vec::new);
        }
        self.successors[from.index()].push(Neighbour { class: to, edge });
        self.predecessors[to.index()].push(Neighbour { class: from, edge });
        self.edges.push(dependency);
        let lists = Lists { successors: &self.successors, predecessors: &self.predecessors };
        self.counters.moved += self.topology.add(from, to, &lists) as u64;
        if let Some(ids) = &mut self.ids {
            ids.push(edge);
        }
        edge
    }

    /// Where an edge stands; none if it has gone with one of its classes.
    fn position(&self, edge: EdgeId) -> Option<usize> {
        match &self.ids {
            Some(ids) => ids.binary_search(&edge).ok(),
            None => Some(edge.0 as usize).filter(|at| *at < self.edges.len()),
        }
    }

    /// Takes out every edge of a class. The numbers of the others stay, and no number is used again.
    pub(super) fn remove_class(&mut self, class: ClassId) {
        let of_class = |edge: &Dependency| edge.from == class || edge.to == class;
        let mut kept = self.edges.iter().map(|edge| !of_class(edge));
        let ids = self.ids.get_or_insert_with(|| (0..self.next).map(EdgeId).collect());
        ids.retain(|_| kept.next().unwrap_or(true));
        for edge in self.edges.extract_if(.., |edge| of_class(edge)) {
            self.index.remove(&(edge.from, edge.to, edge.strength));
            self.successors[edge.from.index()].retain(|next| next.class != edge.to);
            self.predecessors[edge.to.index()].retain(|before| before.class != edge.from);
        }
        self.topology.remove(class);
    }

    pub(super) fn set_stack(&mut self, edge: EdgeId, stack: StackId) {
        if let Some(at) = self.position(edge) {
            self.edges[at].stack = Some(stack);
        }
    }

    /// The edge with this number.
    ///
    /// # Panics
    /// If it has gone with one of its classes.
    #[must_use]
    pub fn edge(&self, edge: EdgeId) -> &Dependency {
        self.get(edge).expect("a known edge")
    }

    /// The edge with this number, unless it has gone with one of its classes.
    #[must_use]
    pub fn get(&self, edge: EdgeId) -> Option<&Dependency> {
        self.position(edge).map(|at| &self.edges[at])
    }

    /// All edges in the order of learning.
    #[must_use]
    pub fn edges(&self) -> &[Dependency] {
        &self.edges
    }

    /// The classes directly after (or before) one, with repeats.
    pub(super) fn adjacent(&self, class: ClassId, forward: bool) -> impl Iterator<Item = ClassId> {
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        classes_next_to(class, self.neighbours(direction))
    }

    /// Search effort so far.
    #[must_use]
    pub fn counters(&self) -> SearchCounters {
        self.counters
    }

    /// False if there is surely no way along the dependencies from one class to the other.
    fn may_lead(&mut self, from: ClassId, to: ClassId) -> bool {
        if self.topology.rules_out(from, to) {
            return false;
        }
        // Cheaper than the search, and often it says that there is no need for one.
        let lists = Lists { successors: &self.successors, predecessors: &self.predecessors };
        self.counters.moved += self.topology.put_before(to, from, &lists) as u64;
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
        self.begin_round(start.class.index() + 1);
        let mut arrivals = vec![Arrival { at: start, parent: None }];
        let mut queue = VecDeque::from([0usize]);
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
            for i in 0..self.neighbours(direction).get(from.class.index()).map_or(0, Vec::len) {
                let Neighbour { class, edge } = self.neighbours(direction)[from.class.index()][i];
                let Some(via) = from.via.along(self.edge(edge).strength) else { continue };
                let to = Arrived { class, via };
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
        let left = |mask: u32, edge: EdgeId| {
            let on = &self.edge(edge).guards;
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
        let mut visited = 0;
        let mut found = None;
        while visited < arrivals.len() {
            let (Arrival { at, .. }, mask) = (arrivals[visited], masks[visited]);
            if at.class == held && at.via.along(strength).is_some() && mask == 0 {
                found = Some(path_to(Direction::Forward, &arrivals, visited));
                break;
            }
            for next in self.successors.get(at.class.index()).map_or(&[][..], Vec::as_slice) {
                let Some(via) = at.via.along(self.edge(next.edge).strength) else { continue };
                let mask = left(mask, next.edge);
                if seen.insert((next.class, via.ways(), mask)) {
                    arrivals.push(Arrival {
                        at: Arrived { class: next.class, via },
                        parent: Some((visited, next.edge)),
                    });
                    masks.push(mask);
                }
            }
            visited += 1;
        }
        self.counters.visited += visited as u64;
        found
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
            self.marks.resize(needed, Marks::default());
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.marks.fill(Marks::default());
            self.round = 1;
        }
    }

    /// Marks an arrival; false if there was one before that could go on in at least the same ways.
    fn visit(&mut self, at: Arrived) -> bool {
        let marks = &mut self.marks[at.class.index()];
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

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        assert_eq!(self.edges.len(), self.index.len(), "internal error: edges and index");
        self.topology.check(self.edges.iter().map(|edge| (edge.from, edge.to)));
        if let Some(ids) = &self.ids {
            assert_eq!(self.edges.len(), ids.len(), "internal error: edges and their numbers");
            assert!(ids.is_sorted(), "internal error: order of learning");
        }
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
