// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The suite as such: its size, and every case.

use super::program::{Kind, Op};
use super::{Case, blocks};

fn cases() -> Vec<Case> {
    blocks().into_iter().flat_map(|block| block.cases).collect()
}

#[test]
fn the_groups_have_the_kernels_sizes() {
    // Group, cases, cases that must report.
    let sizes = [
        (1, 63, 56),
        (2, 8, 6),
        (3, 6, 5),
        (4, 1, 1),
        (5, 24, 12),
        (6, 138, 92),
        (7, 72, 36),
        (8, 36, 26),
        (10, 3, 2),
        (11, 3, 1),
        (12, 36, 11),
        (13, 3, 1),
        (14, 1, 1),
    ];
    let cases = cases();
    for (group, all, reporting) in sizes {
        let of_group: Vec<_> = cases.iter().filter(|case| case.group == group).collect();
        assert_eq!(of_group.len(), all, "group {group}");
        let expected = of_group.iter().filter(|case| case.expected.is_some()).count();
        assert_eq!(expected, reporting, "group {group}");
    }
    assert_eq!(cases.len(), 394);
    assert_eq!(cases.iter().filter(|case| case.expected.is_some()).count(), 250);
}

#[test]
fn every_cell_has_a_name_of_its_own() {
    let mut names: Vec<_> = cases().into_iter().map(|case| (case.section, case.row, case.column)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 394);
}

/// Case after case takes only locks that are free, so a validator that misses something fails and does not hang.
#[test]
fn no_case_waits_for_itself() {
    for case in cases() {
        let mut held = Vec::new();
        for op in &case.steps {
            match op {
                Op::Lock { kind: Kind::ReadLock, object, .. } => held.push((Kind::WriteLock, *object, true)),
                Op::Lock { kind: Kind::ReadSem, object, .. } => held.push((Kind::WriteSem, *object, true)),
                Op::Lock { kind, object, .. } => {
                    let taken = held.iter().any(|(of, which, _)| (of, which) == (kind, object));
                    assert!(!taken, "{}: {op:?}", case.column);
                    held.push((*kind, *object, false));
                }
                Op::Unlock { kind, object } => {
                    let kind = match kind {
                        Kind::ReadLock => Kind::WriteLock,
                        Kind::ReadSem => Kind::WriteSem,
                        kind => *kind,
                    };
                    if let Some(at) = held.iter().position(|(of, which, _)| (*of, *which) == (kind, *object))
                    {
                        held.remove(at);
                    }
                }
                _ => {}
            }
            let writers = held.iter().filter(|(.., shared)| !shared);
            for (kind, object, _) in writers {
                let holders = held.iter().filter(|(of, which, _)| (of, which) == (kind, object)).count();
                assert_eq!(holders, 1, "{}: {op:?}", case.column);
            }
        }
    }
}

#[test]
fn every_case_passes() {
    let failed: Vec<_> = cases()
        .iter()
        .filter_map(|case| {
            let outcome = case.run();
            let right = if lockdep::ENABLED { case.is_passed_by(&outcome) } else { outcome.report.is_none() };
            (!right).then(|| {
                let (had, wanted) = (outcome.kind(), case.expected);
                format!("{}: wanted {wanted:?}, had {had:?} {:?}", case.column, outcome.problem)
            })
        })
        .collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_case_leaves_nothing_behind() {
    let cases = cases();
    let (first, last) = (&cases[0], &cases[393]);
    // Ends with interrupts off, and with locks held.
    let messy = cases.iter().find(|case| case.column == "local_lock_3B").expect("a case");
    for _ in 0..2 {
        let kinds = [messy.run().kind(), first.run().kind(), last.run().kind()];
        assert_eq!(
            kinds,
            if lockdep::ENABLED { [messy.expected, first.expected, last.expected] } else { [None; 3] }
        );
    }
}

/// The last case has two pairs that look alike: only the one in the hard interrupt is a bug.
#[test]
fn the_hard_interrupt_pair_is_named() {
    if !lockdep::ENABLED {
        return;
    }
    let cases = cases();
    let case = cases.iter().find(|case| case.group == 14).expect("a case");
    let report = case.run().report.expect("a report");
    let states: Vec<_> =
        report.usages.iter().map(|used| (used.by.lock.class.as_str(), used.state.as_str())).collect();
    assert_eq!(states, [("lock_A", "IN-HARDIRQ-W"), ("lock_D", "HARDIRQ-ON-W")]);
}
