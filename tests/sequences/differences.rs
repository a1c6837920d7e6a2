// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the recorded programs' locks differ from the recorded ones under other policies and regimes, as data: the
//! snapshot has each hold that is there in addition (`+`) or not (`-`), with what it is inside and around, and the setups;
//! each has a reason ([`reasons::REASONS`]). Without these holds the sequences are the same, event by event.

#[path = "differences/hold.rs"]
mod hold;
#[path = "differences/reasons.rs"]
mod reasons;

use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};

use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::sequence::{Sequence, as_extracted, compare};
use instrumented_drivers::scenario::{End, Scenario, Setup};

use hold::{Hold, before, holds, without};
use reasons::{REASONS, Reason};

/// The recorded programs.
fn programs() -> Vec<String> {
    let files = std::fs::read_dir(super::folder()).expect("the folder is part of the repository");
    let stem = |path: std::path::PathBuf| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let mut names: Vec<String> = files.filter_map(|file| stem(file.expect("readable").path())).collect();
    names.sort();
    names
}

/// What a program locks, and where it was stopped, if it was: the hold it waited for and could never have.
fn sequence(program: &str, setup: Setup) -> (Sequence, Option<Hold>) {
    let run = Scenario::find(program).expect("a scenario for each recorded program").run_recorded(setup);
    let all = as_extracted(&Sequence::from(&*run.recorded));
    match run.end {
        End::Done => (all, None),
        End::Stopped => {
            let wanted = holds(&all).into_iter().rfind(|hold| hold.is_open()).expect("it waited for a lock");
            (all, Some(wanted))
        }
        End::Failed(failure) => panic!("{program} {setup}: {failure}"),
    }
}

/// How many there are of each.
fn counted(sequence: &Sequence) -> BTreeMap<Hold, usize> {
    let mut counts = BTreeMap::new();
    for hold in holds(sequence) {
        *counts.entry(hold).or_default() += 1;
    }
    counts
}

/// The lines that tell one sequence from the other, the line's hold for each.
fn differences(program: &str, reference: &Sequence, setup: Setup) -> Vec<(String, Hold)> {
    let (mut other, stopped) = sequence(program, setup);
    let mut reference = reference.clone();
    let mut lines = Vec::new();
    if let Some(wanted) = stopped {
        (reference, other) = before(&reference, &other);
        lines.push((format!("stops at {wanted}"), wanted));
    }
    let (here, there) = (counted(&other), counted(&reference));
    let number = |counts: &BTreeMap<Hold, usize>, wanted: &dyn Fn(&Hold) -> bool| -> usize {
        counts.iter().filter(|(hold, _)| wanted(hold)).map(|(_, count)| count).sum()
    };
    let all: BTreeSet<&Hold> = here.keys().chain(there.keys()).collect();
    let changed: BTreeSet<&str> = all
        .iter()
        .filter(|hold| {
            let same = |other: &Hold| other.what == hold.what;
            number(&here, &same) != number(&there, &same)
        })
        .map(|hold| hold.what.as_str())
        .collect();
    for hold in all.into_iter().filter(|hold| changed.contains(hold.what.as_str())) {
        let same = |other: &Hold| other == hold;
        let (more, less) = (number(&here, &same), number(&there, &same));
        let times =
            if more.abs_diff(less) == 1 { String::new() } else { format!("{} × ", more.abs_diff(less)) };
        if more != less {
            let sign = if more > less { '+' } else { '-' };
            lines.push((format!("{sign} {times}{hold}"), hold.clone()));
        }
    }
    let [known, rest] = [&reference, &other].map(|sequence| as_extracted(&without(sequence, &changed)));
    // In either run freed memory may have been given out again, and one lock have another's number.
    if let Err(mismatch) = compare(&known, &rest).or_else(|told| compare(&rest, &known).map_err(|_| told)) {
        let lines: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
        panic!("{program} {setup}: besides\n{}\nthere is a difference\n{mismatch}", lines.join("\n"));
    }
    lines
}

/// `P0, P1 × A; P2 × B`, and `P1` or `A` for all regimes or policies.
fn setups(of: &BTreeSet<Setup>) -> String {
    let mut groups: Vec<(Vec<LockingPolicy>, Vec<ShmemLocking>)> = Vec::new();
    for policy in LockingPolicy::ALL {
        let has = |shmem: &ShmemLocking| of.contains(&Setup { policy, shmem: *shmem });
        let regimes: Vec<ShmemLocking> = ShmemLocking::ALL.into_iter().filter(has).collect();
        match groups.iter_mut().find(|(_, known)| *known == regimes) {
            _ if regimes.is_empty() => {}
            Some((policies, _)) => policies.push(policy),
            None => groups.push((vec![policy], regimes)),
        }
    }
    let group = |(policies, regimes): (Vec<LockingPolicy>, Vec<ShmemLocking>)| {
        let some = |names: Vec<&str>, all: usize| (names.len() < all).then(|| names.join(", "));
        let policies = some(policies.iter().map(|policy| policy.name()).collect(), LockingPolicy::ALL.len());
        let regimes = some(regimes.iter().map(|shmem| shmem.name()).collect(), ShmemLocking::ALL.len());
        [policies, regimes].into_iter().flatten().collect::<Vec<_>>().join(" × ")
    };
    groups.into_iter().map(group).collect::<Vec<_>>().join("; ")
}

/// For each program the lines of each reason, with the setups; then the reasons. Lines that have not exactly one reason
/// come second.
fn table() -> (String, BTreeSet<String>) {
    let mut text = String::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut unexplained: BTreeSet<String> = BTreeSet::new();
    for program in programs() {
        let (reference, stopped) = sequence(&program, Setup::LINUX_6_12);
        assert_eq!(stopped, None, "{program}");
        let mut lines: BTreeMap<(&str, String), BTreeSet<Setup>> = BTreeMap::new();
        for setup in Setup::all() {
            for (line, hold) in differences(&program, &reference, setup) {
                let fits = |reason: &&Reason| reason.explains(setup, &line, &hold);
                let fitting: Vec<&str> = REASONS.iter().filter(fits).map(|reason| reason.name).collect();
                if let [reason] = fitting[..] {
                    used.insert(reason);
                    lines.entry((reason, line)).or_default().insert(setup);
                } else {
                    unexplained.insert(format!("{setup}: {line}: {fitting:?}"));
                }
            }
        }
        let _ = writeln!(text, "{program}");
        let mut last = "";
        for ((reason, line), of) in &lines {
            if *reason != last {
                let _ = writeln!(text, "  {reason}");
                last = reason;
            }
            let _ = writeln!(text, "    {line} ({})", setups(of));
        }
    }
    for reason in REASONS {
        assert!(used.contains(reason.name), "{} is a reason for nothing", reason.name);
        let _ = writeln!(text, "{}: {}", reason.name, reason.why);
    }
    (text, unexplained)
}

#[test]
fn other_policies_and_regimes_differ_from_the_recorded_sequences_only_as_stated_and_for_a_reason() {
    let (text, unexplained) = table();
    let unexplained: Vec<_> = unexplained.into_iter().collect();
    assert!(unexplained.is_empty(), "not explained by exactly one reason:\n{}", unexplained.join("\n"));
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("sequence-differences", text);
    });
}
