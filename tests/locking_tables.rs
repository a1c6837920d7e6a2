// SPDX-License-Identifier: MIT OR Apache-2.0
//! The orders of lock classes that the headers of the models state, against the orders that the scenarios teach.
//!
//! A header has a section `# Locking`. Each item of a list there states which locks are taken inside which, where,
//! and under which policies and regimes of the shmem helper if not under all:
//!
//! ```text
//! * `&bo->lock` → `&vm->lock` → `fs_reclaim`: an object gets its addresses
//! * `reservation_ww_class_mutex` → `&a`, `&b` (P1, P2 × A): what the core holds in `vmap`
//! ```
#![cfg(feature = "lockdep")]

#[expect(dead_code, reason = "what a report says is for other subcommands")]
mod command;
#[path = "locking_tables/header.rs"]
mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use command::{json, word};
use header::{POLICIES, REGIMES, Stated, locking, stated};

/// An earlier and a later class.
type Pair = (String, String);

/// The models' source files: where it is below `instrumented-drivers/src`, and its text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("instrumented-drivers/src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("part of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("a source file");
                files.push((path.strip_prefix(&root).expect("below the root").to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// What all headers state, by file.
fn all_stated() -> Vec<(PathBuf, Stated)> {
    let sources = sources();
    let of_file = |(path, text): &(PathBuf, String)| {
        let stated = stated(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stated.into_iter().map(|stated| (path.clone(), stated)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(of_file).collect()
}

/// What the scenarios teach under this policy and regime; true for the pairs that imply the others.
fn taught(policy: &str, regime: &str) -> BTreeMap<Pair, bool> {
    let (status, edges) = json("edges", &["graph", "--policy", policy, "--shmem", regime]);
    assert_eq!(status, 0);
    let pair = |edge| (word(edge, "from").to_owned(), word(edge, "to").to_owned());
    edges.iter().map(|edge| (pair(edge), edge["implied"] == false)).collect()
}

/// Where the headers and the scenarios differ under this policy and regime.
fn differences(
    (policy, regime): (&str, &str),
    stated: &[(PathBuf, Stated)],
    taught: &BTreeMap<Pair, bool>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known: BTreeSet<&Pair> = BTreeSet::new();
    let mut here: BTreeSet<&Pair> = BTreeSet::new();
    for (path, stated) in stated {
        known.insert(&stated.pair);
        if stated.holds(policy, regime) {
            here.insert(&stated.pair);
            if !taught.contains_key(&stated.pair) {
                let (earlier, later) = &stated.pair;
                problems.push(format!(
                    "{} states `{earlier}` → `{later}`, which no scenario teaches",
                    path.display()
                ));
            }
        }
    }
    for (pair, needed) in taught {
        let (earlier, later) = pair;
        if known.contains(pair) && !here.contains(pair) {
            problems.push(format!("`{earlier}` → `{later}` is taught, and not stated for here"));
        } else if *needed && !here.contains(pair) {
            problems.push(format!("no header states `{earlier}` → `{later}`"));
        }
    }
    problems
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_order_in_a_header_is_taught_and_every_order_that_is_taught_is_in_a_header() {
    let stated = all_stated();
    assert!(stated.len() > 150, "only {} orders", stated.len());
    let under = |policy: &'static str| {
        let told = |regime| differences((policy, regime), &stated, &taught(policy, regime));
        REGIMES.map(|regime| (format!("{policy} {regime}"), told(regime)))
    };
    let mut problems: BTreeMap<String, Vec<String>> = BTreeMap::new();
    std::thread::scope(|scope| {
        for thread in POLICIES.map(|policy| scope.spawn(move || under(policy))) {
            for (setup, told) in thread.join().expect("each run ends").into_iter() {
                told.into_iter().for_each(|problem| problems.entry(problem).or_default().push(setup.clone()));
            }
        }
    });
    let problems = problems.iter().map(|(problem, setups)| format!("{problem} ({})", setups.join(", ")));
    assert_none(&problems.collect::<Vec<_>>());
}

#[test]
fn a_header_that_states_too_much_too_little_or_in_the_wrong_place_is_told() {
    let taught: BTreeMap<Pair, bool> = [(("a", "b"), true), (("b", "c"), true), (("a", "c"), false)]
        .map(|((earlier, later), needed)| ((earlier.to_owned(), later.to_owned()), needed))
        .into();
    let told = |list: &str| {
        let header = list.lines().map(|line| format!("//! {line}\n")).collect::<String>();
        let stated = stated(&format!("//! # Locking\n//!\n{header}")).expect("a list");
        let stated: Vec<_> = stated.into_iter().map(|stated| (PathBuf::from("model.rs"), stated)).collect();
        differences(("P2", "C"), &stated, &taught)
    };
    assert_eq!(told("* `a` → `b` → `c`: here"), [""; 0]);
    assert_eq!(told("* `a` → `b`: here"), ["no header states `b` → `c`"]);
    assert_eq!(
        told("* `a` → `b` → `c`: here\n* `c` → `d`: there"),
        ["model.rs states `c` → `d`, which no scenario teaches"]
    );
    // Implied by the others, but said to be the case elsewhere only.
    assert_eq!(
        told("* `a` → `b` → `c`: here\n* `a` → `c` (P0): there"),
        ["`a` → `c` is taught, and not stated for here"]
    );
}

#[test]
fn every_lock_class_of_a_driver_is_named_in_its_locking_section() {
    let sources = sources();
    let mut problems = Vec::new();
    for (path, text) in &sources {
        let folder = path.with_file_name("mod.rs");
        let is_driver = ["dma_buf", "drm", "media", "misc"].iter().any(|part| path.starts_with(part));
        if !is_driver {
            continue;
        }
        let sections: String = sources
            .iter()
            .filter(|(other, _)| other == path || *other == folder)
            .map(|(_, text)| locking(text).join("\n"))
            .collect();
        for class in header::classes(text) {
            if !sections.contains(&format!("`{class}`")) {
                problems.push(format!("{}: no word about `{class}`", path.display()));
            }
        }
    }
    assert_none(&problems);
}
