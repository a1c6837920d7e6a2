// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A line of classes in which a class can be put anywhere, and any two be asked which comes first.
//!
//! The line is a linked list, and each class in it bears a *label*; labels rise along the line. Who is put between two
//! classes gets labels between theirs. Where these are too close, the labels of those that follow are spread anew, of as
//! few as it takes until `n` classes have room for `n²` labels: so the crowd is left with room again, and spreading
//! costs O(log n) for each class that was put somewhere, in the long run.
//!
//! Source: P. Dietz and D. Sleator, "Two algorithms for maintaining order in a list", 1987.

use super::chunks::Chunks;
use crate::ids::ClassId;

/// Rises along the line.
pub(super) type Label = u64;

/// The distance of labels where there is room.
const GAP: Label = 1 << 32;

/// Before the first class and after the last one.
const ENDS: u32 = 0;

#[derive(Clone, Copy, Debug)]
struct Node {
    label: Label,
    next: u32,
    previous: u32,
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Line {
    /// The ends of the line (label 0), then each class at its number plus 1.
    nodes: Chunks<Node>,
}

impl Default for Line {
    fn default() -> Self {
        let mut nodes = Chunks::default();
        nodes.push(Node { label: 0, next: ENDS, previous: ENDS });
        Line { nodes }
    }
}

/// Where a class is among the nodes.
const fn node_of(class: ClassId) -> u32 {
    class.0 + 1
}

impl Line {
    /// How many classes are in the line: those with the numbers below this one.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The label of a class, if it is in the line.
    pub(super) fn label(&self, class: ClassId) -> Option<Label> {
        self.nodes.get(node_of(class)).map(|node| node.label)
    }

    /// Puts the next class, by number, at the end.
    pub(super) fn push(&mut self) {
        let node = u32::try_from(self.nodes.len()).expect("fewer than 2^31 classes");
        self.nodes.push(Node { label: 0, next: ENDS, previous: ENDS });
        self.link(self.nodes[ENDS].previous, &[ClassId(node - 1)]);
    }

    /// Takes these classes out and puts them just before (or, at the end of the line, just after) one that is not among them.
    /// The number of labels that this has changed.
    pub(super) fn put(&mut self, classes: &[ClassId], beside: ClassId, after: bool) -> usize {
        for class in classes {
            let Node { next, previous, .. } = self.nodes[node_of(*class)];
            self.nodes[next].previous = previous;
            self.nodes[previous].next = next;
        }
        let beside = node_of(beside);
        let before = if after { beside } else { self.nodes[beside].previous };
        self.link(before, classes)
    }

    /// Puts classes that are nowhere behind a node.
    fn link(&mut self, before: u32, classes: &[ClassId]) -> usize {
        let behind = self.nodes[before].next;
        let mut last = before;
        for node in classes.iter().map(|class| node_of(*class)) {
            self.nodes[last].next = node;
            self.nodes[node].previous = last;
            last = node;
        }
        self.nodes[last].next = behind;
        self.nodes[behind].previous = last;
        self.spread(before, behind, classes.len() as Label)
    }

    /// Gives labels to the `count` nodes between two, and to as many of those that follow as stand in the way.
    fn spread(&mut self, mut before: u32, mut behind: u32, mut count: Label) -> usize {
        let room = loop {
            let room = self.end_label(behind) - self.nodes[before].label;
            if room > count * count {
                break room;
            }
            if behind == ENDS {
                // The labels are used up at this end: everybody moves up.
                (before, count) = (ENDS, self.nodes.len() as Label - 1);
                break Label::MAX;
            }
            behind = self.nodes[behind].next;
            count += 1;
        };
        let step = (room / (count + 1)).min(GAP);
        let mut label = self.nodes[before].label;
        let mut at = before;
        for _ in 0..count {
            at = self.nodes[at].next;
            label += step;
            self.nodes[at].label = label;
        }
        usize::try_from(count).expect("as many as there are nodes")
    }

    /// The label of a node that is behind others.
    fn end_label(&self, node: u32) -> Label {
        if node == ENDS { Label::MAX } else { self.nodes[node].label }
    }

    /// Asserts that labels rise along the line and all classes are in it.
    ///
    /// # Panics
    /// If the validator itself is wrong.
    pub(super) fn check(&self) {
        let (mut at, mut count) = (ENDS, 0);
        loop {
            let next = self.nodes[at].next;
            assert_eq!(self.nodes[next].previous, at, "internal error: a line that does not lead back");
            if next == ENDS {
                break;
            }
            assert!(self.nodes[at].label < self.nodes[next].label, "internal error: labels do not rise");
            (at, count) = (next, count + 1);
        }
        assert_eq!(count, self.len(), "internal error: a class is not in line");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ClassId, Label, Line};

    fn line_of(count: u32) -> Line {
        let mut line = Line::default();
        (0..count).for_each(|_| line.push());
        line
    }

    /// The classes as the labels have them.
    fn order(line: &Line) -> Vec<u32> {
        let mut classes: Vec<u32> = (0..u32::try_from(line.len()).unwrap()).collect();
        classes.sort_unstable_by_key(|class| line.label(ClassId(*class)));
        classes
    }

    proptest! {
        #[test]
        fn classes_are_where_they_were_put(
            count in 2..20u32,
            moves in prop::collection::vec((0..20u32, 1..4usize, any::<bool>()), 0..200),
        ) {
            let mut line = line_of(count);
            let mut expected: Vec<u32> = (0..count).collect();
            for (beside, length, after) in moves {
                let beside = beside % count;
                let moved: Vec<u32> = (0..count).filter(|class| *class != beside).take(length).collect();
                let classes: Vec<ClassId> = moved.iter().copied().map(ClassId).collect();
                line.put(&classes, ClassId(beside), after);
                expected.retain(|class| !moved.contains(class));
                let at = expected.iter().position(|class| *class == beside).unwrap() + usize::from(after);
                expected.splice(at..at, moved);
                line.check();
                prop_assert_eq!(order(&line), &*expected);
            }
        }
    }

    #[test]
    fn a_crowd_is_spread_at_a_cost_that_grows_slowly() {
        let mut line = line_of(4000);
        let last = ClassId(3999);
        // All want to be at the same place.
        let changed: usize = (0..3999).map(|class| line.put(&[ClassId(class)], last, false)).sum();
        line.check();
        assert!(changed <= 4000 * 24, "{changed}");
        let changed: usize = (1..3999).map(|class| line.put(&[ClassId(class)], ClassId(0), true)).sum();
        line.check();
        assert!(changed <= 4000 * 24, "{changed}");
    }

    #[test]
    fn where_the_labels_end_everybody_moves_up() {
        let mut line = line_of(3);
        line.nodes[3].label = Label::MAX - 1;
        line.push();
        line.check();
        assert_eq!(order(&line), [0, 1, 2, 3]);
        line.nodes[4].label = Label::MAX;
        assert_eq!(line.put(&[ClassId(0), ClassId(1)], ClassId(3), true), 4);
        line.check();
        assert_eq!(order(&line), [2, 3, 0, 1]);
    }
}
