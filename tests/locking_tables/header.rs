// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the section `# Locking` of a module's header.

/// What a list item may restrict itself to; all of a kind, if none is given.
pub(crate) const POLICIES: [&str; 3] = ["P0", "P1", "P2"];
/// The same for the regimes of the shmem helper.
pub(crate) const REGIMES: [&str; 4] = ["A", "B0", "B", "C"];

/// One order of two classes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// The earlier and the later class.
    pub(crate) pair: (String, String),
    policies: Vec<String>,
    regimes: Vec<String>,
}

impl Stated {
    /// True if it is stated for this policy and regime.
    pub(crate) fn holds(&self, policy: &str, regime: &str) -> bool {
        let has = |list: &[String], word: &str| list.is_empty() || list.iter().any(|known| known == word);
        has(&self.policies, policy) && has(&self.regimes, regime)
    }
}

/// The lines of the section, without what makes them comments; none if there is no such section.
pub(crate) fn locking(text: &str) -> Vec<&str> {
    let header = text.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim_end);
    let section = header.skip_while(|line| *line != " # Locking").skip(1);
    section
        .take_while(|line| !line.starts_with(" # "))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect()
}

/// Every order in the section; the error is the item that cannot be read.
pub(crate) fn stated(text: &str) -> Result<Vec<Stated>, String> {
    let mut items: Vec<String> = Vec::new();
    let mut inside = false;
    for line in locking(text) {
        if let Some(begin) = line.strip_prefix("* ") {
            items.push(begin.to_owned());
            inside = true;
        } else if let (true, Some(more), Some(item)) = (inside, line.strip_prefix("  "), items.last_mut()) {
            item.push_str(&format!(" {more}"));
        } else {
            inside = false;
        }
    }
    let mut all = Vec::new();
    for item in items {
        all.extend(read(&item).ok_or_else(|| format!("cannot read the item `{item}`"))?);
    }
    Ok(all)
}

/// Reads `` `a` → `b`, `c` (P1 × A): where ``.
fn read(item: &str) -> Option<Vec<Stated>> {
    let (what, place) = item.split_once(": ")?;
    let (chain, condition) = match what.strip_suffix(')') {
        Some(what) => what.rsplit_once(" (").filter(|(chain, _)| chain.ends_with('`'))?,
        None => (what, ""),
    };
    let (mut policies, mut regimes) = (Vec::new(), Vec::new());
    for word in condition.split([',', '×']).map(str::trim).filter(|word| !word.is_empty()) {
        if POLICIES.contains(&word) {
            policies.push(word.to_owned());
        } else if REGIMES.contains(&word) {
            regimes.push(word.to_owned());
        } else {
            return None;
        }
    }
    let class = |quoted: &str| Some(quoted.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let steps = chain.split(" → ").map(|step| step.split(", ").map(class).collect::<Option<Vec<_>>>());
    let steps: Vec<Vec<String>> = steps.collect::<Option<_>>()?;
    let pairs = steps.windows(2).flat_map(|two| {
        two[0].iter().flat_map(|earlier| two[1].iter().map(|later| (earlier.clone(), later.clone())))
    });
    let all: Vec<Stated> =
        pairs.map(|pair| Stated { pair, policies: policies.clone(), regimes: regimes.clone() }).collect();
    (!all.is_empty() && !place.is_empty()).then_some(all)
}

/// The classes that a source file makes, by name.
pub(crate) fn classes(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named =
        code.filter(|line| line.contains("LockClass")).filter_map(|line| line.split_once("_class(\""));
    named.filter_map(|(_, name)| Some(name.split_once("\")")?.0)).collect()
}

#[test]
fn an_item_is_a_chain_a_condition_and_a_place() {
    let read = |item| stated(&format!("//! # Locking\n//! {item}\n//! # Other\n//! * `no` → `more`: it\n"));
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let all = read("* `&a` → `b`, `c` → `d` (P1, P2 × A): where, and\n//!   why").expect("a list");
    let pairs: Vec<_> = all.iter().map(|stated| stated.pair.clone()).collect();
    assert_eq!(pairs, [pair("&a", "b"), pair("&a", "c"), pair("b", "d"), pair("c", "d")]);
    let held = |stated: &Stated| {
        POLICIES
            .iter()
            .flat_map(|p| REGIMES.iter().filter(|r| stated.holds(p, r)).map(move |r| (*p, *r)))
            .collect()
    };
    assert_eq!(all[0].policies, ["P1", "P2"]);
    let held: Vec<(&str, &str)> = held(&all[0]);
    assert_eq!(held, [("P1", "A"), ("P2", "A")]);
    for bad in ["* `a` → `b`", "* `a` → b: no name", "* `a`: alone", "* `a` → `b` (P3): when", "* see above"]
    {
        assert!(read(bad).is_err(), "{bad}");
    }
}
