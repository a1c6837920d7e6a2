// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a replay learns, against what the kernel learned in the same run.
//!
//! For some traces there are, besides the standard events, the same run with all arguments of each acquisition
//! (`ext/NAME.lkx.gz`), the kernel's graph before it (`.lockdep-before.gz`) and what it learned meanwhile
//! (`.newdeps`). The kernel lists direct dependencies only: the two locks were neighbours on the stack.
#![cfg(feature = "lockdep")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lockdep::ReportKind;
use lockdep::engine::Edge;
use lockdep_replay::ftrace::{self, Line, Op};
use lockdep_replay::{Annotations, Dump, Judge, Lines};

const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/traces");

/// The runs with ground truth: the trace of standard events, and whether the kernel made a report.
const RUNS: [(&str, &str); 4] = [
    ("abba", "abba.trace.gz"),
    ("old_policy_self_import", "old_policy_self_import.trace.gz"),
    ("stock_self_import", "stock_self_import.trace.gz"),
    ("unlock_order_ok", "unlock_order_ok.trace"),
];

type Pairs = BTreeSet<(String, String)>;

fn lines_of(file: &str) -> Vec<String> {
    let mut lines = Lines::open(Path::new(&format!("{TRACES}/{file}"))).expect("a file");
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().expect("whole") {
        all.push(String::from_utf8_lossy(line).into_owned());
    }
    all
}

/// The kernel's graph before the run and what it learned in it. Classes are named by the address of their key, which
/// is what the full form has too, or by name without `#N` and `/S`, which is all the standard events have.
struct Kernel {
    before: Pairs,
    learned: Pairs,
}

fn kernel(run: &str, name_of: fn(&str, &str) -> String) -> Kernel {
    let mut kernel = Kernel { before: Pairs::new(), learned: Pairs::new() };
    let mut from = String::new();
    for line in lines_of(&format!("ext/{run}.lockdep-before.gz")) {
        if let Some(edge) = line.strip_prefix(" -> [") {
            let (address, name) = edge.split_once("] ").expect("an address and a name");
            kernel.before.insert((from.clone(), name_of(address, name)));
        } else if let Some((address, rest)) = line.split_once(" OPS:")
            && let Some((_, name)) = rest.split_once(" BD:").and_then(|(_, rest)| rest.split_once(": "))
        {
            from = name_of(address, name);
        }
    }
    for line in lines_of(&format!("ext/{run}.newdeps")) {
        let Some(edge) = line.strip_prefix("edge ") else { continue };
        let (from, to) =
            edge.split_once(" -> ").filter(|(_, to)| to.starts_with("ff")).unwrap_or_else(|| {
                // A name may have an arrow in it; the second class starts with an address.
                let at = edge.find(" -> ff").expect("two classes");
                (&edge[..at], &edge[at + 4..])
            });
        let class = |text: &str| {
            let (address, name) = text.split_once(' ').expect("an address and a name");
            name_of(address, name)
        };
        kernel.learned.insert((class(from), class(to)));
    }
    kernel
}

fn by_address(address: &str, _: &str) -> String {
    address.to_owned()
}

/// Without `/S` and `#N`.
fn by_name(_: &str, name: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name =
        name.rsplit_once('/').filter(|(_, s)| digits(s) && s.len() == 1).map_or(name, |(name, _)| name);
    name.rsplit_once('#').filter(|(_, n)| digits(n)).map_or(name, |(name, _)| name).to_owned()
}

/// Replays up to the first finding: the kernel learns nothing any more after its report.
fn replay<'a>(file: &str, annotations: &'a Annotations) -> Judge<'a> {
    go_on(Judge::new(annotations), file)
}

fn go_on<'a>(mut judge: Judge<'a>, file: &str) -> Judge<'a> {
    for (number, line) in (1..).zip(lines_of(file)) {
        judge.line(number, line.as_bytes()).expect("a whole trace");
        if !judge.findings().is_empty() {
            break;
        }
    }
    judge
}

/// The dependencies between neighbours on the stack.
fn direct<'j>(judge: &'j Judge<'_>) -> impl Iterator<Item = &'j Edge> {
    judge.engine().graph().edges().filter(|edge| edge.adjacent)
}

#[test]
fn with_all_arguments_the_direct_dependencies_are_exactly_the_kernels() {
    let annotations = Annotations::none();
    for (run, _) in RUNS {
        let judge = replay(&format!("ext/{run}.lkx.gz"), &annotations);
        let class = |class| {
            let subclass = judge.engine().classes().get(class).subclass;
            format!("{:x}", judge.key_of(class).expect("a key") + u64::from(subclass))
        };
        let kernel = kernel(run, by_address);
        let ours: Pairs = direct(&judge).map(|edge| (class(edge.from), class(edge.to))).collect();
        let new: Pairs = ours.difference(&kernel.before).cloned().collect();
        assert_eq!(new, kernel.learned, "{run}");
    }
}

#[test]
fn primed_with_the_kernels_graph_only_what_is_new_is_counted() {
    let annotations = Annotations::none();
    for (run, _) in RUNS {
        let dump = Path::new(TRACES).join(format!("ext/{run}.lockdep-before.gz"));
        let mut judge = Judge::new(&annotations);
        judge.prime(Dump::read(&dump).expect("a dump"));
        let judge = go_on(judge, &format!("ext/{run}.lkx.gz"));
        let kernel = kernel(run, by_address);
        let alone = replay(&format!("ext/{run}.lkx.gz"), &annotations).counts().edges;
        let primed = judge.counts().edges;
        // Not only neighbours count here, so there are more than the kernel lists.
        assert!((kernel.learned.len() as u64..alone).contains(&primed), "{run}: {primed} of {alone}");
        assert_eq!(judge.notes(false), [""; 0], "{run}: nothing of the dump was left out");
    }
}

/// On purpose: the kernel stops walking the held stack at the first lock that is no trylock. No strong path leads
/// through a recursive reader, so the engine goes on to what lies below it.
#[test]
fn below_a_recursive_reader_more_is_learned_than_the_kernel_does() {
    let line = |address: u32, read: u8, check: u8, name: &str| {
        format!(
            "  t-1 [000] ..... 1.0: lkx_acquire: {address:x} key={address:x} sub=0 try=0 read={read} check={check} \
             nest=0 wt=0:0 type=0 hi=1 si=1 hc=0 sc=0 depth=0 rec=0 dl=1 ip=f+0x1/0x2 name={name}"
        )
    };
    let annotations = Annotations::none();
    let mut judge = Judge::new(&annotations);
    let lines = [line(1, 0, 1, "low"), line(2, 0, 1, "a"), line(3, 2, 1, "seq"), line(4, 0, 1, "b")];
    for (number, line) in (1..).zip(&lines) {
        judge.line(number, line.as_bytes()).expect("well-formed");
    }
    let classes = judge.engine().classes();
    let name = |class| classes.get(class).display_name();
    let edges: Vec<_> =
        judge.engine().graph().edges().map(|edge| (name(edge.from), name(edge.to), edge.adjacent)).collect();
    let edge = |from: &str, to: &str, adjacent| (from.to_owned(), to.to_owned(), adjacent);
    assert_eq!(
        edges,
        [
            edge("low", "a", true),
            edge("a", "seq", true),
            edge("seq", "b", true),
            // The kernel has all but this one.
            edge("a", "b", false),
        ]
    );
}

/// Names of locks that were released without having been taken: held when the trace began. (The full form was
/// switched on a moment earlier and has their acquisitions.)
fn held_before(file: &str) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    let mut before = BTreeSet::new();
    for line in lines_of(file) {
        let Ok(Line::Record(record)) = ftrace::parse(line.as_bytes()) else { continue };
        match record.op() {
            Ok(Op::Acquire { address, .. }) => {
                taken.insert((record.pid, address));
            }
            Ok(Op::Release { address, name }) if !taken.contains(&(record.pid, address)) => {
                before.insert(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
    }
    before
}

#[test]
fn with_names_only_nothing_is_missing_and_nothing_is_invented() {
    let annotations = Annotations::builtin();
    for (run, file) in RUNS {
        let judge = replay(file, &annotations);
        let class = |class| judge.engine().classes().get(class).name.to_string();
        let kernel = kernel(run, by_name);
        let ours: Pairs = direct(&judge).map(|edge| (class(edge.from), class(edge.to))).collect();
        let before = held_before(file);
        assert!(before.len() <= 5, "{run}: {before:?}");
        let missing: Vec<_> =
            kernel.learned.difference(&ours).filter(|(from, _)| !before.contains(from)).collect();
        let known: Pairs = kernel.before.union(&kernel.learned).cloned().collect();
        let invented: Vec<_> = ours.difference(&known).collect();
        assert_eq!((missing, invented), (vec![], vec![]), "{run}");
    }
}

#[test]
fn with_all_arguments_the_verdict_is_the_same() {
    let annotations = Annotations::none();
    let wanted: BTreeMap<&str, ReportKind> =
        [("abba", ReportKind::Circular), ("old_policy_self_import", ReportKind::Recursive)].into();
    for (run, _) in RUNS {
        let judge = replay(&format!("ext/{run}.lkx.gz"), &annotations);
        let found = judge.findings().first();
        assert_eq!(found.map(|found| found.report.kind), wanted.get(run).copied(), "{run}");
        if let Some(found) = found {
            // The kernel prints its report into the same file, right after the acquisition that caused it.
            let lines = lines_of(&format!("ext/{run}.lkx.gz"));
            let at = usize::try_from(found.line).expect("a line");
            assert!(lines[at - 1].contains(" dl=1 "), "{run}: the kernel was still checking");
            let report = lines[at..].iter().position(|line| line.contains("WARNING: possible"));
            let next =
                lines[at..].iter().position(|line| line.contains("init-38") && line.contains(" dl=1 "));
            assert!(report.is_some() && next.is_none(), "{run}: it checked nothing after that");
        }
    }
}
