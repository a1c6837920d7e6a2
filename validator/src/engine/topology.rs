// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A topological order of the classes, kept up to date as dependencies come, so that most of them need no search.
//!
//! The classes stand in a [`Line`]; every dependency leads forwards in it, but for those set apart below. So there is
//! no way from `a` to `b` if `b` comes first, and a search need not go beyond its goal.
//!
//! **At first** classes are in the order of their first use: who takes two locks uses the outer one first, so most
//! dependencies fit.
//!
//! **A new dependency `from → to` against the line** asks for a move ([`Topology::put_before`]). Two searches go on at a
//! time, between `to` and `from`: one forwards from `to`, which takes the first class of those that it has found, one
//! backwards from `from`, which takes the last. The one that has followed fewer dependencies goes next. They are done
//! when one has nothing left, or when what it takes next lies beyond what the other takes next. If they never met there
//! is no way from `to` to `from`. Then all classes that one of them took and that are on the wrong side of the *turn*,
//! the first class that was found forwards and not taken, are put before that: those taken backwards first. Nobody else
//! moves.
//!
//! Why that is right. A class taken forwards comes before the turn, and all that follow it are taken too or come at the turn
//! or later; of a class taken backwards and coming after the turn, all that precede it are taken too or come before
//! the turn. Within both groups the order stays. So what led forwards does so still, and `from` is before `to`.
//!
//! What it costs. The two sides follow equally many dependencies, but for those of one class. When two parts that knew nothing of
//! each other are joined, the effort is that of the smaller one; and each dependency followed on one side is out of reach of
//! each on the other from then on, so `m` dependencies in any sequence cost O(√m) steps each in the mean, whatever the numbers of the
//! classes. (Searching all between the two ends, as Pearce and Kelly do, has no such bound.) No single insertion takes more
//! than [`STEPS_MAX`].
//!
//! **Against the grain.** Readers may be taken in both orders, so there can be cycles (that are no deadlocks), and
//! then no order fits. Such a dependency is set apart: it keeps no one's place. Nor does one for which more steps would be
//! needed than allowed. A way may use dependencies that were set apart; then it begins before the last of their sources and
//! ends after the first of their targets, which is what [`Topology::rules_out`] asks.
//!
//! The claims are one-sided. The line may rule a way out, it never claims that there is one; the
//! search of the graph decides that. [`Topology::check`] states the invariant, which the property tests
//! assert after each event.
//!
//! Source: B. Haeupler, T. Kavitha, R. Mathew, S. Sen, R. Tarjan, "Incremental cycle detection, topological ordering, and
//! strong component maintenance", 2012 (two-way compatible search); I. Katriel and H. Bodlaender, "Online topological
//! ordering", 2006 (balance by dependencies). The kernel has none and searches for each new dependency.

use std::collections::BinaryHeap;

use super::chunks::Chunks;
use super::line::{Label, Line};
use crate::ids::ClassId;

/// Dependencies that are followed to make room for one before it is set apart instead.
const STEPS_MAX: usize = 1 << 18;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Topology {
    line: Line,
    /// Dependencies that keep no order.
    apart: Vec<(ClassId, ClassId)>,
    /// The last label of a source among those, and the first of a target.
    reach: Option<(Label, Label)>,
    /// For each class the search that has found it last, by its number.
    seen: Chunks<u32>,
    forward: Side,
    backward: Side,
}

/// One of the two searches.
#[derive(Debug, Default)]
struct Side {
    /// Number of the search.
    round: u32,
    /// Found and not taken. The last label is on top; forwards, labels are inverted.
    found: BinaryHeap<(Label, ClassId)>,
    /// With their labels.
    taken: Vec<(Label, ClassId)>,
    /// Dependencies followed.
    steps: usize,
}

impl Side {
    fn begin(&mut self, round: u32) {
        self.round = round;
        self.found.clear();
        self.taken.clear();
        self.steps = 0;
    }
}

/// The classes directly after, or before, one.
pub(super) trait Neighbours {
    fn after(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId>;
    fn before(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId>;
}

impl Topology {
    /// The label of a class that is in the line.
    fn label(&self, class: ClassId) -> Label {
        self.line.label(class).expect("a class that was seen")
    }

    /// True if there is surely no way along the dependencies from one class to the other.
    pub(super) fn rules_out(&self, from: ClassId, to: ClassId) -> bool {
        let (Some(start), Some(goal)) = (self.line.label(from), self.line.label(to)) else {
            return from != to;
        };
        start > goal && !self.reach.is_some_and(|(last, first)| start <= last && first <= goal)
    }

    /// True if no way to `goal` goes through `class`, by its label.
    pub(super) fn is_beyond(&self, class: ClassId, goal: ClassId) -> bool {
        let label = self.label(goal);
        class != goal && self.label(class) > self.reach.map_or(label, |(last, _)| last.max(label))
    }

    /// Sees to it that a dependency that is in the graph leads forwards, or is known not to. The effort, as with
    /// [`put_before`](Self::put_before).
    pub(super) fn add(&mut self, from: ClassId, to: ClassId, graph: &impl Neighbours) -> usize {
        let effort = self.put_before(from, to, graph);
        if self.label(from) > self.label(to) && !self.apart.contains(&(from, to)) {
            self.apart.push((from, to));
            self.measure();
        }
        effort
    }

    /// All dependencies of a class were taken out of the graph. The line is as good as before.
    pub(super) fn remove(&mut self, class: ClassId) {
        self.apart.retain(|(from, to)| *from != class && *to != class);
        self.measure();
    }

    /// Brings two classes into this order, unless they are or there is a way from the second one to the first. The
    /// effort: dependencies followed and labels changed.
    pub(super) fn put_before(&mut self, from: ClassId, to: ClassId, graph: &impl Neighbours) -> usize {
        while self.line.len() <= from.index().max(to.index()) {
            self.line.push();
            self.seen.push(0);
        }
        if self.label(from) <= self.label(to) {
            return 0;
        }
        let turn = self.search(from, to, graph);
        let steps = self.forward.steps + self.backward.steps;
        let Some((turn, class)) = turn else { return steps };
        let mut moved: Vec<(Label, ClassId)> = self.backward.taken.clone();
        moved.retain(|(label, _)| *label > turn);
        moved.sort_unstable();
        self.forward.taken.retain(|(label, _)| *label < turn);
        self.forward.taken.sort_unstable();
        let moved: Vec<ClassId> = moved.iter().chain(&self.forward.taken).map(|(_, class)| *class).collect();
        let changed = self.line.put(&moved, class, class == from);
        if !self.apart.is_empty() {
            self.measure();
        }
        steps + changed
    }

    /// Looks for a way from `to` to `from`, which comes later. If there is none, gives the turn.
    fn search(&mut self, from: ClassId, to: ClassId, graph: &impl Neighbours) -> Option<(Label, ClassId)> {
        self.begin(from, to);
        let Topology { line, seen, forward, backward, .. } = self;
        let label = |class| line.label(class).expect("a class that was seen");
        let mut turn = (label(from), from);
        while let (Some(&(first, low)), Some(&(last, high))) = (forward.found.peek(), backward.found.peek()) {
            let first = !first;
            if first > last {
                break;
            }
            if forward.steps + backward.steps > STEPS_MAX {
                return None;
            }
            let (after, before) = (graph.after(low), graph.before(high));
            if forward.steps + after.len() <= backward.steps + before.len() {
                forward.found.pop();
                forward.taken.push((first, low));
                forward.steps += after.len() + 1;
                for next in after {
                    let at = label(next);
                    if seen[next.0] == backward.round {
                        return None;
                    }
                    // What leads back is set apart; what is found beyond the other side is not taken any more.
                    if at > last {
                        turn = turn.min((at, next));
                    } else if at > first
                        && std::mem::replace(&mut seen[next.0], forward.round) != forward.round
                    {
                        forward.found.push((!at, next));
                    }
                }
            } else {
                backward.found.pop();
                backward.taken.push((last, high));
                backward.steps += before.len() + 1;
                for next in before {
                    let at = label(next);
                    if seen[next.0] == forward.round {
                        return None;
                    }
                    if first < at
                        && at < last
                        && std::mem::replace(&mut seen[next.0], backward.round) != backward.round
                    {
                        backward.found.push((at, next));
                    }
                }
            }
        }
        let waiting = forward.found.peek().map(|(label, class)| (!label, *class));
        Some(waiting.map_or(turn, |waiting| turn.min(waiting)))
    }

    /// Two new searches.
    fn begin(&mut self, from: ClassId, to: ClassId) {
        if self.backward.round >= u32::MAX - 2 {
            self.seen.fill(0);
            self.backward.round = 0;
        }
        self.forward.begin(self.backward.round + 1);
        self.backward.begin(self.forward.round + 1);
        self.seen[to.0] = self.forward.round;
        self.seen[from.0] = self.backward.round;
        self.forward.found.push((!self.label(to), to));
        self.backward.found.push((self.label(from), from));
    }

    /// Brings up to date what is known of the dependencies that were set apart.
    fn measure(&mut self) {
        let line = &self.line;
        let ends = |(from, to): &(ClassId, ClassId)| Some((line.label(*from)?, line.label(*to)?));
        // One that fits again is kept like all others.
        self.apart.retain(|edge| ends(edge).is_some_and(|(source, target)| source > target));
        let reach = self.apart.iter().filter_map(ends);
        self.reach = reach.reduce(|(last, first), (source, target)| (last.max(source), first.min(target)));
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub(super) fn check(&self, mut edges: impl Iterator<Item = (ClassId, ClassId)>) {
        self.line.check();
        let kept = |(from, to): (ClassId, ClassId)| {
            self.label(from) < self.label(to) || self.apart.contains(&(from, to))
        };
        assert!(edges.all(kept), "internal error: a dependency against the line");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ClassId, Neighbours, Topology};

    const CLASSES: u32 = 12;

    /// As simple as can be.
    #[derive(Default)]
    struct Pairs(Vec<(ClassId, ClassId)>);

    impl Neighbours for Pairs {
        fn after(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
            let after = self.0.iter().filter(|(from, _)| *from == class).map(|(_, to)| *to);
            after.collect::<Vec<_>>().into_iter()
        }

        fn before(&self, class: ClassId) -> impl ExactSizeIterator<Item = ClassId> {
            let before = self.0.iter().filter(|(_, to)| *to == class).map(|(from, _)| *from);
            before.collect::<Vec<_>>().into_iter()
        }
    }

    impl Pairs {
        fn leads(&self, from: ClassId, to: ClassId) -> bool {
            let mut found = vec![from];
            let mut position = 0;
            while position < found.len() {
                let next: Vec<_> =
                    self.after(found[position]).filter(|class| !found.contains(class)).collect();
                found.extend(next);
                position += 1;
            }
            found.contains(&to)
        }
    }

    fn pair() -> impl Strategy<Value = (ClassId, ClassId)> {
        (0..CLASSES, 0..CLASSES)
            .prop_filter("a class does not depend on itself", |(from, to)| from != to)
            .prop_map(|(from, to)| (ClassId(from), ClassId(to)))
    }

    fn all_pairs() -> impl Iterator<Item = (ClassId, ClassId)> {
        (0..CLASSES).flat_map(|a| (0..CLASSES).map(move |b| (ClassId(a), ClassId(b))))
    }

    proptest! {
        /// Whatever comes in whatever order: cycles, repeats, and pairs that are asked for and then not learned.
        #[test]
        fn what_is_ruled_out_is_not_there(pairs in prop::collection::vec((pair(), any::<bool>()), 1..60)) {
            let (mut graph, mut topology) = (Pairs::default(), Topology::default());
            for ((from, to), learned) in pairs {
                topology.put_before(from, to, &graph);
                topology.check(graph.0.iter().copied());
                if learned {
                    graph.0.push((from, to));
                    topology.add(from, to, &graph);
                    topology.check(graph.0.iter().copied());
                }
                for (from, to) in all_pairs() {
                    prop_assert!(!(topology.rules_out(from, to) && graph.leads(from, to)), "{from:?} {to:?}");
                }
            }
        }

        /// As long as there is no cycle nothing is set apart, every way back is ruled out, and of any two classes
        /// the one that is asked for is put first if and only if no way leads back. What would close a cycle is refused.
        #[test]
        fn an_order_is_known_completely(pairs in prop::collection::vec(pair(), 1..60)) {
            let (mut graph, mut topology) = (Pairs::default(), Topology::default());
            for (from, to) in pairs {
                topology.put_before(from, to, &graph);
                prop_assert_eq!(topology.rules_out(to, from), !graph.leads(to, from));
                if !topology.rules_out(to, from) {
                    continue;
                }
                graph.0.push((from, to));
                prop_assert_eq!(topology.add(from, to, &graph), 0, "it is in order already");
                prop_assert!(topology.apart.is_empty());
                topology.check(graph.0.iter().copied());
                prop_assert!(graph.0.iter().all(|(from, to)| topology.rules_out(*to, *from)));
            }
        }
    }

    /// Adds the dependencies of a chain in this sequence; the effort.
    fn effort_of_chain(sequence: impl Iterator<Item = u32>) -> usize {
        let (mut graph, mut topology) = (Pairs::default(), Topology::default());
        let mut effort = 0;
        for n in sequence {
            // The numbers are against the order.
            let (from, to) = (ClassId(1000 - n), ClassId(999 - n));
            graph.0.push((from, to));
            effort += topology.add(from, to, &graph);
        }
        topology.check(graph.0.iter().copied());
        effort
    }

    #[test]
    fn a_chain_against_the_numbers_is_put_in_order_at_the_cost_of_the_shorter_part() {
        // One class at a time, at either end: one dependency is followed for each, and some labels change in a crowd.
        for effort in [effort_of_chain(0..500), effort_of_chain((0..500).rev())] {
            assert!(effort <= 12 * 500, "{effort}");
        }
        // Pieces of 1, 2, 4 … are joined: each class is in the shorter part 9 times at most.
        let joined = (0..9).flat_map(|level| (0..512u32).filter(move |n| (n + 1).trailing_zeros() == level));
        let effort = effort_of_chain(joined);
        assert!(effort <= 9 * 4 * 512, "{effort}");
    }
}
