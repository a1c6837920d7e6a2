// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A topological order of the classes, kept up to date as dependencies come, so that most of them need no search.
//!
//! Each class has a place; every dependency leads to a higher place, but for those set apart below. So there is
//! no way from `a` to `b` if `b` has the lower place, and a search need not go beyond the place of its goal.
//!
//! **At first** classes are in the order of their first use: who takes two locks uses the outer one first, so most
//! dependencies fit. A class that is in no dependency yet goes where the first one wants it, before or after all others.
//!
//! **A new dependency against the places** moves the classes between its ends: those that lead to its source go
//! before those that its target leads to, within the places that both had. Nothing outside of that window moves.
//!
//! **Against the grain.** Readers may be taken in both orders, so there can be cycles (that are no deadlocks), and
//! then no order fits. Such a dependency is set apart: it keeps no one's place. Nor does one whose window is too large
//! to look at ([`WINDOW_MAX`]), so that no single insertion costs more than that. A way may use dependencies that
//! were set apart; then it begins below the highest of their sources and ends above the lowest of their targets,
//! which is what [`Topology::rules_out`] asks.
//!
//! Why it is right: the claims are one-sided. A place may rule a way out, it never claims that there is one; the
//! search of the graph decides that. [`Topology::check`] states the invariant, which the property tests
//! assert after each event.
//!
//! Source: D. Pearce and P. Kelly, "A dynamic topological sort algorithm for directed acyclic graphs", 2006. The kernel
//! has none and searches for each new dependency.

use crate::ids::ClassId;

/// A place in the order.
type Place = i64;

/// Classes that are looked at to make room for one dependency before it is set apart instead.
const WINDOW_MAX: usize = 100_000;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Topology {
    places: Vec<Place>,
    /// Highest and lowest place in use.
    last: Place,
    first: Place,
    /// Dependencies that keep no order.
    apart: Vec<(ClassId, ClassId)>,
    /// The highest place of a source among those, and the lowest of a target.
    reach: Option<(Place, Place)>,
    /// Marks of the search that is going on, by its number.
    seen: Vec<u32>,
    round: u32,
}

/// The classes directly after, or before, one.
pub(super) trait Neighbours {
    fn after(&self, class: ClassId) -> impl Iterator<Item = ClassId>;
    fn before(&self, class: ClassId) -> impl Iterator<Item = ClassId>;
}

impl Topology {
    /// The place of a class that is in a dependency.
    fn place(&self, class: ClassId) -> Place {
        self.places[class.index()]
    }

    /// True if there is surely no way along the dependencies from one class to the other.
    pub(super) fn rules_out(&self, from: ClassId, to: ClassId) -> bool {
        let place = |class: ClassId| self.places.get(class.index());
        let (Some(start), Some(goal)) = (place(from), place(to)) else { return from != to };
        start > goal && !self.reach.is_some_and(|(highest, lowest)| *start <= highest && lowest <= *goal)
    }

    /// The highest place that a way to this class can go through.
    fn bound(&self, goal: ClassId) -> Place {
        let goal = self.place(goal);
        self.reach.map_or(goal, |(highest, _)| highest.max(goal))
    }

    /// True if no way to `goal` goes through `class`, by its place.
    pub(super) fn is_beyond(&self, class: ClassId, goal: ClassId) -> bool {
        class != goal && self.place(class) > self.bound(goal)
    }

    /// A dependency was added to the graph. The number of classes that were looked at.
    pub(super) fn add(&mut self, from: ClassId, to: ClassId, graph: &impl Neighbours) -> usize {
        while self.places.len() <= from.index().max(to.index()) {
            self.last += 1;
            self.places.push(self.last);
            self.seen.push(0);
        }
        if self.place(from) < self.place(to) {
            return 0;
        }
        if graph.after(from).nth(1).is_none() && graph.before(from).next().is_none() {
            self.first -= 1;
            self.places[from.index()] = self.first;
            return 0;
        }
        if graph.before(to).nth(1).is_none() && graph.after(to).next().is_none() {
            self.last += 1;
            self.places[to.index()] = self.last;
            return 0;
        }
        self.make_room(from, to, graph)
    }

    /// All dependencies of a class were taken out of the graph. The places are as good as before.
    pub(super) fn remove(&mut self, class: ClassId) {
        self.apart.retain(|(from, to)| *from != class && *to != class);
        self.measure();
    }

    /// Moves what leads to `from` before what `to` leads to.
    fn make_room(&mut self, from: ClassId, to: ClassId, graph: &impl Neighbours) -> usize {
        let window = self.place(to)..=self.place(from);
        let (later, whole) = self.reachable(to, from, |class| graph.after(class), &window);
        if !whole {
            self.set_apart(from, to);
            return later.len();
        }
        let (earlier, whole) = self.reachable(from, to, |class| graph.before(class), &window);
        if !whole {
            self.set_apart(from, to);
            return later.len() + earlier.len();
        }
        let (mut earlier, mut later) = (earlier, later);
        earlier.sort_unstable_by_key(|class| self.place(*class));
        later.sort_unstable_by_key(|class| self.place(*class));
        let moved = [earlier, later].concat();
        let mut free: Vec<Place> = moved.iter().map(|class| self.place(*class)).collect();
        free.sort_unstable();
        for (class, place) in moved.iter().zip(free) {
            self.places[class.index()] = place;
        }
        self.measure();
        moved.len()
    }

    /// The classes within the window that can be reached from `start`; and whether that is all of them: the search ends
    /// at the `goal`, and when it becomes too long.
    fn reachable<I: Iterator<Item = ClassId>>(
        &mut self,
        start: ClassId,
        goal: ClassId,
        next: impl Fn(ClassId) -> I,
        window: &core::ops::RangeInclusive<Place>,
    ) -> (Vec<ClassId>, bool) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.seen.fill(0);
            self.round = 1;
        }
        let mut found = vec![start];
        self.seen[start.index()] = self.round;
        let mut position = 0;
        while position < found.len() {
            for class in next(found[position]) {
                if class == goal {
                    return (found, false);
                }
                let known = &mut self.seen[class.index()];
                if *known != self.round && window.contains(&self.places[class.index()]) {
                    *known = self.round;
                    found.push(class);
                }
            }
            position += 1;
            if found.len() > WINDOW_MAX {
                return (found, false);
            }
        }
        (found, true)
    }

    fn set_apart(&mut self, from: ClassId, to: ClassId) {
        self.apart.push((from, to));
        self.measure();
    }

    /// Brings up to date what is known of the dependencies that were set apart.
    fn measure(&mut self) {
        let ends = self.apart.iter().map(|(from, to)| (self.place(*from), self.place(*to)));
        self.reach = ends.reduce(|(high, low), (source, target)| (high.max(source), low.min(target)));
    }

    /// Asserts what the module header promises.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub(super) fn check(&self, mut edges: impl Iterator<Item = (ClassId, ClassId)>) {
        let kept = |(from, to): (ClassId, ClassId)| {
            let (source, target) = (self.place(from), self.place(to));
            source < target || self.apart.contains(&(from, to))
        };
        assert!(edges.all(kept), "internal error: a dependency against the places");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ClassId, Neighbours, Topology};

    /// As simple as can be.
    #[derive(Default)]
    struct Pairs(Vec<(ClassId, ClassId)>);

    impl Neighbours for Pairs {
        fn after(&self, class: ClassId) -> impl Iterator<Item = ClassId> {
            self.0.iter().filter(move |(from, _)| *from == class).map(|(_, to)| *to)
        }

        fn before(&self, class: ClassId) -> impl Iterator<Item = ClassId> {
            self.0.iter().filter(move |(_, to)| *to == class).map(|(from, _)| *from)
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
        (0..12u32, 0..12u32)
            .prop_filter("a class does not depend on itself", |(from, to)| from != to)
            .prop_map(|(from, to)| (ClassId(from), ClassId(to)))
    }

    proptest! {
        #[test]
        fn what_is_ruled_out_is_not_there(pairs in prop::collection::vec(pair(), 1..40)) {
            let (mut graph, mut topology) = (Pairs::default(), Topology::default());
            for (from, to) in pairs {
                graph.0.push((from, to));
                topology.add(from, to, &graph);
                topology.check(graph.0.iter().copied());
                for (from, to) in (0..12).flat_map(|a| (0..12).map(move |b| (ClassId(a), ClassId(b)))) {
                    prop_assert!(!(topology.rules_out(from, to) && graph.leads(from, to)), "{from:?} {to:?}");
                }
            }
        }

        /// Without cycles nothing is set apart, and every way back is ruled out.
        #[test]
        fn an_order_is_known_completely(mut pairs in prop::collection::vec(pair(), 1..40), seed in 0..12u32) {
            let (mut graph, mut topology) = (Pairs::default(), Topology::default());
            let turned = |class: ClassId| ClassId((class.0 * 5 + seed) % 12);
            for (from, to) in &mut pairs {
                let (low, high) = ((*from).min(*to), (*from).max(*to));
                (*from, *to) = (turned(low), turned(high));
            }
            for (from, to) in pairs {
                graph.0.push((from, to));
                topology.add(from, to, &graph);
                prop_assert!(topology.apart.is_empty());
                prop_assert!(graph.0.iter().all(|(from, to)| topology.rules_out(*to, *from)));
            }
        }
    }

    #[test]
    fn a_chain_taken_back_to_front_moves_nothing() {
        let (mut graph, mut topology) = (Pairs::default(), Topology::default());
        for n in (0..500).rev() {
            graph.0.push((ClassId(n), ClassId(n + 1)));
            assert_eq!(topology.add(ClassId(n), ClassId(n + 1), &graph), 0);
        }
        topology.check(graph.0.iter().copied());
    }
}
