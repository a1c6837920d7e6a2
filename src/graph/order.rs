// SPDX-License-Identifier: MIT OR Apache-2.0
//! An order of lock classes: which may be taken while which is held.
//!
//! An order is a set of pairs of names. What it says is its closure: with `a -> b` and `b -> c`, `c` may be taken
//! under `a`, too. So two orders are compared by what they imply, and one is written down by pairs that imply
//! the rest ([`Order::reduced`]). Its written form ([`Order::parse`], [`fmt::Display`]) has a line for each class that
//! another one is taken under.

use std::collections::BTreeSet;
use std::fmt;

use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graphmap::DiGraphMap;

/// Between a class and those taken under it. A name has no blanks around its arrow (`&mm->mmap_lock`).
const THEN: &str = " -> ";
/// Between classes of which none is before another.
const AND: &str = ", ";

/// Pairs of an earlier and a later class, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order(BTreeSet<(String, String)>);

impl Order {
    /// Adds a pair; a class is not before itself.
    pub(crate) fn add(&mut self, earlier: &str, later: &str) {
        if earlier != later {
            self.0.insert((earlier.to_owned(), later.to_owned()));
        }
    }

    /// Reads the written form: in each line `outer -> inner, inner`, blank, or a comment behind `#` and a blank.
    ///
    /// The error is the number of the line and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut order = Order::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split("# ").next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let mut steps = line.split(THEN).map(|step| step.split(AND).map(str::trim));
            let mut outer: Vec<&str> = steps.next().into_iter().flatten().collect();
            let mut pairs = 0;
            for inner in steps {
                let inner: Vec<&str> = inner.collect();
                if outer.iter().chain(&inner).any(|name| name.is_empty()) {
                    return Err((number, "the name of a class is missing"));
                }
                for (earlier, later) in
                    outer.iter().flat_map(|outer| inner.iter().map(move |inner| (outer, inner)))
                {
                    order.add(earlier, later);
                    pairs += 1;
                }
                outer = inner;
            }
            if pairs == 0 {
                return Err((number, "expected `outer class -> inner class, inner class`"));
            }
        }
        Ok(order)
    }

    fn graph(&self) -> DiGraphMap<&str, ()> {
        DiGraphMap::from_edges(self.pairs())
    }

    /// All pairs, by name.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(earlier, later)| (earlier.as_str(), later.as_str()))
    }

    /// The classes, earlier ones first; those that are taken in both orders stand side by side.
    pub(crate) fn classes(&self) -> Vec<&str> {
        tarjan_scc(&self.graph()).into_iter().rev().flatten().collect()
    }

    /// Pairs that imply all others, with none to spare.
    pub(crate) fn reduced(&self) -> Order {
        let mut graph = self.graph();
        for (earlier, later) in self.pairs() {
            graph.remove_edge(earlier, later);
            if !has_path_connecting(&graph, earlier, later, None) {
                graph.add_edge(earlier, later, ());
            }
        }
        let mut reduced = Order::default();
        for (earlier, later, ()) in graph.all_edges() {
            reduced.add(earlier, later);
        }
        reduced
    }

    /// The pairs that do not follow from `other`.
    pub(crate) fn beyond(&self, other: &Order) -> Order {
        let known = other.graph();
        let follows = |earlier, later| {
            known.contains_node(earlier)
                && known.contains_node(later)
                && has_path_connecting(&known, earlier, later, None)
        };
        Order(self.0.iter().filter(|(earlier, later)| !follows(earlier, later)).cloned().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the language of Graphviz.
    pub(crate) fn to_dot(&self) -> String {
        let mut text = String::from("digraph \"lock classes\" {\n    node [shape=box];\n");
        for (earlier, later) in self.pairs() {
            text.push_str(&format!("    {earlier:?} -> {later:?};\n"));
        }
        text.push_str("}\n");
        text
    }
}

/// The written form, earlier classes first.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = self.classes();
        for earlier in &classes {
            let under = |later: &&&str| self.0.contains(&((*earlier).to_owned(), (**later).to_owned()));
            let later: Vec<&str> = classes.iter().filter(under).copied().collect();
            if !later.is_empty() {
                writeln!(f, "{earlier}{THEN}{}", later.join(AND))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    fn order(text: &str) -> Order {
        Order::parse(text).unwrap()
    }

    #[test]
    fn the_written_form_is_read_as_it_was_written() {
        let text = "&mm->mmap_lock -> a\na -> b\n";
        assert_eq!(order("a -> b\n&mm->mmap_lock -> a").to_string(), text);
        assert_eq!(order(text), order(&order(text).to_string()));
        assert_eq!(order("x -> a, b -> c # why\n\n# nothing else\n"), order("x -> a, b\na -> c\nb -> c"));
    }

    #[test]
    fn a_line_that_is_no_order_is_named() {
        assert_eq!(Order::parse("a -> b\nc"), Err((2, "expected `outer class -> inner class, inner class`")));
        assert_eq!(Order::parse("a ->  -> b"), Err((1, "the name of a class is missing")));
    }

    #[test]
    fn what_follows_is_not_written_and_not_beyond() {
        let all = order("a -> b, c\nb -> c");
        assert_eq!(all.reduced(), order("a -> b -> c"));
        assert!(all.beyond(&all.reduced()).is_empty());
        assert_eq!(order("a -> b, d").beyond(&all), order("a -> d"));
    }

    #[test]
    fn classes_in_both_orders_keep_what_they_imply() {
        let both = order("a -> b\nb -> a\nb -> c\na -> c");
        let reduced = both.reduced();
        assert!(both.beyond(&reduced).is_empty());
        assert_eq!(reduced.pairs().count(), 3);
        assert_eq!(both.classes()[2], "c");
    }
}
