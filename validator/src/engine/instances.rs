// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The order of single locks within one class, for where a class is too coarse.
//!
//! Locks built at one place are one class, and are often nested: the nodes of a tree, two accounts, two shards. The
//! class says nothing about which comes first; so for two locks of one key (whatever the subclass) that one task
//! holds at a time, the order of the *objects* is recorded, and a contradiction, direct or through others, is a
//! finding. Not recorded are nestings that something else orders: a nest lock, a rank.
//!
//! A lock is known here by a number that it keeps when it moves and that is never used again, so a reused address
//! is a new lock. When a lock goes away, whoever came before it now comes before whoever came after it: no
//! evidence is lost.
//!
//! Invariants: the graph has no strong cycle; an edge stands in the successors of its source, which are sorted (a lock
//! may come before thousands), and in the predecessors of its target; a node without edges is not kept.
//!
//! Kernel counterpart: none. The kernel has only the class rule, which is silent once a subclass is named
//! (`lockdep-facts` §6.2, case X6).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::evidence::End;
use super::sight::Tasks;
use super::strength::{Strength, Wait};
use crate::ids::{ClassId, LockId};

/// More bridges than this are not built when a lock in the middle of an order goes away.
const BRIDGES_MAX: usize = 4096;

/// One lock was taken while another of its key was held.
#[derive(Clone, Debug)]
pub struct Nesting {
    /// The earlier lock and its class.
    pub from: (LockId, ClassId),
    /// The later lock and its class.
    pub to: (LockId, ClassId),
    /// See [`Strength`].
    pub strength: Strength,
    /// The earlier acquisition.
    pub held: End,
    /// The later one.
    pub taken: End,
    /// Who did it first.
    pub task: Arc<str>,
    /// Whether anybody else did, too.
    pub tasks: Tasks,
}

/// A state of the search: at a lock, waited for like this.
type State = (LockId, Wait);

#[derive(Debug, Default)]
struct Node {
    /// By later lock and strength.
    successors: Vec<Nesting>,
    predecessors: Vec<LockId>,
}

impl Node {
    /// Where the nesting with this later lock and strength is among the successors, or where it belongs.
    fn find(&self, to: LockId, strength: Strength) -> Result<usize, usize> {
        self.successors.binary_search_by_key(&(to, strength), |known| (known.to.0, known.strength))
    }
}

/// The orders of all locks of one engine.
#[derive(Debug, Default)]
pub struct Instances {
    nodes: FxHashMap<LockId, Node>,
    bridges_left_out: u64,
    /// Nestings recorded so far.
    nestings: u64,
    /// For each class, how many pairs of its locks were nested with nothing but this to order them, and the first pair.
    unordered: BTreeMap<ClassId, (u64, Nesting)>,
}

impl Instances {
    /// Number of locks that are in some order.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if no two locks of one key were ever nested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bridges that were not built because there would have been too many.
    #[must_use]
    pub fn bridges_left_out(&self) -> u64 {
        self.bridges_left_out
    }

    /// The classes of which locks were nested with nothing but the objects to order them: how many pairs, and the first.
    pub fn unordered(&self) -> impl Iterator<Item = (ClassId, u64, &Nesting)> {
        self.unordered.iter().map(|(class, (pairs, first))| (*class, *pairs, first))
    }

    /// Records a nesting that a task has made, or gives the known ones that contradict it.
    pub(super) fn see(&mut self, nesting: &Nesting) -> Option<Vec<Nesting>> {
        let before = self.nestings;
        let contradiction = self.learn(nesting);
        if self.nestings > before && nesting.from.1 == nesting.to.1 {
            self.unordered.entry(nesting.to.1).or_insert_with(|| (0, nesting.clone())).0 += 1;
        }
        contradiction
    }

    /// Records a nesting, or gives the known nestings that lead from its later lock back to its earlier one.
    fn learn(&mut self, nesting: &Nesting) -> Option<Vec<Nesting>> {
        let (from, to) = (nesting.from.0, nesting.to.0);
        if let Some(node) = self.nodes.get_mut(&from)
            && let Ok(at) = node.find(to, nesting.strength)
        {
            node.successors[at].tasks.add(&nesting.tasks);
            return None;
        }
        if let Some(path) = self.find_path(nesting) {
            return Some(path);
        }
        self.insert(nesting.clone());
        None
    }

    fn insert(&mut self, nesting: Nesting) {
        self.nestings += 1;
        let (from, to) = (nesting.from.0, nesting.to.0);
        self.nodes.entry(to).or_default().predecessors.push(from);
        let node = self.nodes.entry(from).or_default();
        if let Err(at) = node.find(to, nesting.strength) {
            node.successors.insert(at, nesting);
        }
    }

    /// A shortest strong path from the later lock of `closing` to its earlier one.
    fn find_path(&self, closing: &Nesting) -> Option<Vec<Nesting>> {
        let start = (closing.to.0, closing.strength.wait);
        let mut parents: FxHashMap<State, Option<(State, &Nesting)>> = FxHashMap::from_iter([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(at @ (lock, wait)) = queue.pop_front() {
            if lock == closing.from.0 && wait.blocked_by(closing.strength.hold) {
                let mut path = Vec::new();
                let mut at = at;
                while let Some((before, nesting)) = parents[&at] {
                    path.push(nesting.clone());
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            for nesting in self.nodes.get(&lock).map_or(&[][..], |node| &node.successors) {
                let next = (nesting.to.0, nesting.strength.wait);
                if wait.blocked_by(nesting.strength.hold) && !parents.contains_key(&next) {
                    parents.insert(next, Some((at, nesting)));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// All locks of a class go away.
    pub(super) fn remove_class(&mut self, class: ClassId) {
        let mut locks: Vec<LockId> = Vec::new();
        for nesting in self.nodes.values().flat_map(|node| &node.successors) {
            for (lock, of) in [nesting.from, nesting.to] {
                if of == class {
                    locks.push(lock);
                }
            }
        }
        locks.into_iter().for_each(|lock| self.remove(lock));
        self.unordered.remove(&class);
    }

    /// The lock goes away.
    pub(super) fn remove(&mut self, lock: LockId) {
        let Some(node) = self.nodes.remove(&lock) else { return };
        let predecessors: FxHashSet<LockId> = node.predecessors.into_iter().collect();
        for successor in &node.successors {
            if let Some(next) = self.nodes.get_mut(&successor.to.0) {
                next.predecessors.retain(|known| *known != lock);
            }
        }
        let mut into = Vec::new();
        for predecessor in &predecessors {
            if let Some(before) = self.nodes.get_mut(predecessor) {
                into.extend(before.successors.extract_if(.., |nesting| nesting.to.0 == lock));
            }
        }
        if into.len() * node.successors.len() > BRIDGES_MAX {
            self.bridges_left_out += (into.len() * node.successors.len()) as u64;
        } else {
            self.bridge(&into, &node.successors);
        }
        let ends = predecessors.into_iter().chain(node.successors.iter().map(|nesting| nesting.to.0));
        for end in ends {
            if self
                .nodes
                .get(&end)
                .is_some_and(|node| node.successors.is_empty() && node.predecessors.is_empty())
            {
                self.nodes.remove(&end);
            }
        }
    }

    /// Joins each order that led to a lock with each that led on from it, where one could wait for the other.
    fn bridge(&mut self, into: &[Nesting], out: &[Nesting]) {
        for first in into {
            for second in out {
                if !first.strength.wait.blocked_by(second.strength.hold) || first.from.0 == second.to.0 {
                    continue;
                }
                let mut tasks = first.tasks.clone();
                tasks.add(&second.tasks);
                let bridge = Nesting {
                    from: first.from,
                    to: second.to,
                    strength: Strength { hold: first.strength.hold, wait: second.strength.wait },
                    held: first.held,
                    taken: second.taken,
                    task: second.task.clone(),
                    tasks,
                };
                // The two nestings were in order, so the bridge closes no cycle.
                let contradiction = self.learn(&bridge);
                debug_assert!(contradiction.is_none(), "internal error: a bridge closes a cycle");
            }
        }
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub fn check_invariants(&self) {
        for (lock, node) in &self.nodes {
            assert!(
                !node.successors.is_empty() || !node.predecessors.is_empty(),
                "internal error: {lock:?} is in no order"
            );
            assert!(
                node.successors.is_sorted_by_key(|known| (known.to.0, known.strength)),
                "internal error: the successors of {lock:?} are not sorted"
            );
            for nesting in &node.successors {
                assert!(
                    self.nodes.get(&nesting.to.0).is_some_and(|next| next.predecessors.contains(lock)),
                    "internal error: {lock:?} is no predecessor of its successor"
                );
            }
            for predecessor in &node.predecessors {
                assert!(
                    self.nodes
                        .get(predecessor)
                        .is_some_and(|before| before.successors.iter().any(|nesting| nesting.to.0 == *lock)),
                    "internal error: {lock:?} is no successor of its predecessor"
                );
            }
        }
    }
}
