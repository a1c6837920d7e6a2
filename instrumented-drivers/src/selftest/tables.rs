// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The cases, one literal table for each part of the suite. `program.rs` explains the words of a body.
//!
//! Section, row and column are called as in the kernel's log (columns by the name of the test function). Where the
//! kernel's names of two rows are swapped against what they run (the last two of [`THREE_LOCKS`]), the bodies
//! here are those that the names say; both are silent.

use lockdep::ReportKind;

use super::program::{Cell, Kind, parse};
use super::{Block, Case};

use ReportKind::{
    Balance, Circular, Freed, IrqInversion, IrqOrder, IrqState, NestMissing, Recursive, WaitContext, WwApi,
};

/// The columns of the first part, as they are headed, and what they stand for.
const COLUMNS: [(&str, Kind); 7] = [
    ("spin", Kind::Spin),
    ("wlock", Kind::WriteLock),
    ("rlock", Kind::ReadLock),
    ("mutex", Kind::Mutex),
    ("wsem", Kind::WriteSem),
    ("rsem", Kind::ReadSem),
    ("rtmutex", Kind::RtMutex),
];
const MAIN_HEADS: &[&str] = &["spin", "wlock", "rlock", "mutex", "wsem", "rsem", "rtmutex"];
const RLOCK: usize = 2;
const RSEM: usize = 5;

/// What a recursive reader makes of it, where the other columns report.
#[derive(Clone, Copy)]
enum Readers {
    Silent,
    Too,
}

/// Group 1: the basic matrix: row, test function, body, kind, and whether recursive readers report too.
const BASIC: [(&str, &str, &str, ReportKind, Readers); 9] = [
    ("A-A deadlock", "AA", "+X1 +X2", Recursive, Readers::Silent),
    ("A-B-B-A deadlock", "ABBA", "+A +B -B -A  +B +A -A -B", Circular, Readers::Silent),
    ("A-B-B-C-C-A deadlock", "ABBCCA", "+A +B -B -A  +B +C -C -B  +C +A -A -C", Circular, Readers::Silent),
    ("A-B-C-A-B-C deadlock", "ABCABC", "+A +B -B -A  +C +A -A -C  +B +C -C -B", Circular, Readers::Silent),
    (
        "A-B-B-C-C-D-D-A deadlock",
        "ABBCCDDA",
        "+A +B -B -A  +B +C -C -B  +C +D -D -C  +D +A -A -D",
        Circular,
        Readers::Silent,
    ),
    (
        "A-B-C-D-B-D-D-A deadlock",
        "ABCDBDDA",
        "+A +B -B -A  +C +D -D -C  +B +D -D -B  +D +A -A -D",
        Circular,
        Readers::Silent,
    ),
    (
        "A-B-C-D-B-C-D-A deadlock",
        "ABCDBCDA",
        "+A +B -B -A  +C +D -D -C  +B +C -C -B  +D +A -A -D",
        Circular,
        Readers::Silent,
    ),
    ("double unlock", "double_unlock", "+A -A -A", Balance, Readers::Too),
    ("initialize held", "init_held", "+A init(A)", Freed, Readers::Too),
];

/// A cell with a body of its own: test function, body, kind.
type Single = (&'static str, &'static str, Option<ReportKind>);

/// Groups 2 and 3: readers and writers of one class, and of two: row, the rwlock's cell, the rwsem's.
const MIXED: [(&str, Single, Single); 7] = [
    (
        "recursive read-lock",
        ("rlock_AA1", "r+X1 r+X1 r-X1 r-X1", None),
        ("rsem_AA1", "R+X1 R+X1", Some(Recursive)),
    ),
    (
        "recursive read-lock #2",
        ("rlock_AA1B", "r+X1 r+X2 r-X2 r-X1", None),
        ("rsem_AA1B", "R+X1 R+X2", Some(Recursive)),
    ),
    (
        "mixed read-write-lock",
        ("rlock_AA2", "r+X1 w+X2", Some(Recursive)),
        ("rsem_AA2", "R+X1 W+X2", Some(Recursive)),
    ),
    (
        "mixed write-read-lock",
        ("rlock_AA3", "w+X1 r+X2", Some(Recursive)),
        ("rsem_AA3", "W+X1 R+X2", Some(Recursive)),
    ),
    (
        "mixed read-lock/lock-write ABBA",
        ("rlock_ABBA1", "r+X1 s+Y1 s-Y1 r-X1  s+Y1 w+X1 w-X1 s-Y1", Some(Circular)),
        ("rwsem_ABBA1", "R+X1 m+Y1 m-Y1 R-X1  m+Y1 W+X1 W-X1 m-Y1", Some(Circular)),
    ),
    (
        "mixed read-lock/lock-read ABBA",
        ("rlock_ABBA2", "r+X1 s+Y1 s-Y1 r-X1  s+Y1 r+X1 r-X1 s-Y1", None),
        ("rwsem_ABBA2", "R+X1 m+Y1 m-Y1 R-X1  m+Y1 R+X1 R-X1 m-Y1", Some(Circular)),
    ),
    (
        "mixed write-lock/lock-write ABBA",
        ("rlock_ABBA3", "w+X1 s+Y1 s-Y1 w-X1  s+Y1 w+X1 w-X1 s-Y1", Some(Circular)),
        ("rwsem_ABBA3", "W+X1 m+Y1 m-Y1 W-X1  m+Y1 W+X1 W-X1 m-Y1", Some(Circular)),
    ),
];

/// How many of [`MIXED`] are about one class.
const MIXED_ONE_CLASS: usize = 4;

/// Group 4: a reader's chain that was found good must not be taken for the writer's.
const CHAIN_CACHE: (&str, Single) = (
    "chain cached mixed R-L/L-W ABBA",
    (
        "rlock_chaincache_ABBA1",
        "r+X1 s+Y1 s-Y1 r-X1  s+Y1 r+X1 r-X1 s-Y1  s+Y1 w+X1 w-X1 s-Y1",
        Some(Circular),
    ),
);

/// Group 5: cycles of three rwlocks in every order of the three events: name, events, verdict.
const THREE_LOCKS: [(&str, [&str; 3], Option<ReportKind>); 4] = [
    ("W1R2/W2R3/W3R1", ["w+X1 r+Y1 r-Y1 w-X1", "w+Y1 r+Z1 r-Z1 w-Y1", "w+Z1 r+X1 r-X1 w-Z1"], Some(Circular)),
    ("W1W2/R2R3/W3R1", ["w+X1 w+Y1 w-Y1 w-X1", "r+Y1 r+Z1 r-Z1 r-Y1", "w+Z1 r+X1 r-X1 w-Z1"], Some(Circular)),
    ("W1W2/R2R3/R3W1", ["w+X1 w+Y1 w-Y1 w-X1", "r+Y1 r+Z1 r-Z1 r-Y1", "r+Z1 w+X1 w-X1 r-Z1"], None),
    ("W1R2/R2R3/W3W1", ["w+X1 r+Y1 r-Y1 w-X1", "r+Y1 r+Z1 r-Z1 r-Y1", "w+Z1 w+X1 w-X1 w-Z1"], None),
];

/// What an interrupt test reports.
#[derive(Clone, Copy)]
enum Late {
    /// The same in every order.
    Always(ReportKind),
    /// `irq-order` if the first event, which nests the locks, comes last; `irq-inversion` if it comes before.
    ByOrder,
}

/// A row of interrupt tests, run in every order of its events and, if its name has a `{}`, for hard and soft
/// interrupts.
struct Irq {
    row: &'static str,
    test: &'static str,
    events: &'static [&'static str],
    /// Reader columns are silent, the others report this.
    kind: Late,
}

/// Group 6: interrupt contexts: spinlock, writer, reader.
const IRQ: [Irq; 6] = [
    Irq {
        row: "{}-irqs-on + irq-safe-A",
        test: "irqsafe1_{}",
        events: &["irq{ +A -A }", "+A -A"],
        kind: Late::Always(IrqState),
    },
    Irq {
        row: "sirq-safe-A => hirqs-on",
        test: "irqsafe2A",
        events: &["soft{ +A -A }", "hard-off +A hard-on -A"],
        kind: Late::Always(IrqState),
    },
    Irq {
        row: "{}-safe-A + irqs-on",
        test: "irqsafe2B_{}",
        events: &["irq{ +A -A }", "off +A on -A"],
        kind: Late::Always(IrqState),
    },
    Irq {
        row: "{}-safe-A + unsafe-B #1",
        test: "irqsafe3_{}",
        events: &["+A +B -B -A", "+B -B", "irq{ +A -A }"],
        kind: Late::Always(IrqState),
    },
    Irq {
        row: "{}-safe-A + unsafe-B #2",
        test: "irqsafe4_{}",
        events: &["off +A +B -B -A on", "+B -B", "irq{ +A -A }"],
        kind: Late::ByOrder,
    },
    Irq {
        row: "{}-irq lock-inversion",
        test: "irq_inversion_{}",
        events: &["off w+A +B -B w-A on", "+B -B", "irq{ r+A r-A }"],
        kind: Late::ByOrder,
    },
];

/// Group 7: readers in interrupts: writer, reader.
const IRQ_READERS: [Irq; 3] = [
    Irq {
        row: "{}-irq read-recursion",
        test: "irq_read_recursion_{}",
        events: &["off w+A w-A on", "r+A r-A", "irq{ +A s+B s-B -A }"],
        kind: Late::Always(IrqState),
    },
    Irq {
        row: "{}-irq read-recursion #2",
        test: "irq_read_recursion2_{}",
        events: &["off s+B +A -A s-B on", "r+A r-A", "irq{ s+B s-B }"],
        kind: Late::ByOrder,
    },
    Irq {
        row: "{}-irq read-recursion #3",
        test: "irq_read_recursion3_{}",
        events: &["off w+B +A -A w-B on", "r+A r-A", "irq{ r+B r-B }"],
        kind: Late::ByOrder,
    },
];

/// Two mutexes of one context, the second of which an older context seems to hold: the second lock backs off.
const BACK_OFF: &str = "raw(o2) forget(o2) ctx(t) older(t2,t) own(o2,t2) lock(o,t) lock(o2,t)=EDEADLK ";
/// The same, and a third one is held by the older context as well.
const BACK_OFF_TWICE: &str = "raw(o2) forget(o2) raw(o3) forget(o3) ctx(t) older(t2,t) own(o2,t2) own(o3,t2) lock(o,t) lock(o2,t)=EDEADLK ";
/// The older context lets go.
const LET_GO: &str = "disown(o2) recall(o2) unraw(o2) ";

/// A row of wound/wait tests: name, and for each cell the test function, what comes before, the body, the verdict.
type WwRow = (&'static str, &'static [(&'static str, &'static [&'static str], Option<ReportKind>)]);

/// Group 8: wound/wait mutexes: the interface.
const WW: [WwRow; 7] = [
    (
        "ww api failures",
        &[
            (
                "ww_test_fail_acquire",
                &["ctx(t) bump(t) lock(o,t) lock(o,t)=EALREADY try(o)=busy \
                   younger(t2,t) lock(o,t2)=EDEADLK unlock(o) try(o) unlock(o)"],
                None,
            ),
            (
                "ww_test_normal",
                &["ctx(t) stale(o) lock(o) unlock(o) is-stale(o) lock-int(o) unlock(o) is-stale(o) \
                   try(o) is-stale(o) try(o)=busy unlock(o) is-stale(o) nest(o,t) is-stale(o) unlock(o) is-stale(o)"],
                None,
            ),
            ("ww_test_unneeded_slow", &["ctx(t) slow(o,t)"], Some(WwApi)),
        ],
    ),
    (
        "ww contexts mixing",
        &[
            ("ww_test_two_contexts", &["ctx(t) ctx(t2)"], Some(Recursive)),
            ("ww_test_diff_class", &["ctx-other(t) lock(o,t)"], Some(WwApi)),
        ],
    ),
    (
        "finishing ww context",
        &[
            ("ww_test_context_done_twice", &["ctx(t) done(t) done(t) fini(t)"], Some(WwApi)),
            ("ww_test_context_unlock_twice", &["ctx(t) done(t) fini(t) fini(t)"], Some(Balance)),
            ("ww_test_context_fini_early", &["ctx(t) lock(o,t) done(t) fini(t)"], Some(NestMissing)),
            ("ww_test_context_lock_after_done", &["ctx(t) done(t) lock(o,t)"], Some(WwApi)),
        ],
    ),
    (
        "locking mismatches",
        &[
            ("ww_test_object_unlock_twice", &["lock(o) unlock(o) unlock(o)"], Some(Balance)),
            (
                "ww_test_object_lock_unbalanced",
                &["ctx(t) lock(o,t) uncount(t) unlock(o) fini(t)"],
                Some(WwApi),
            ),
            ("ww_test_object_lock_stale_context", &["ctx(t) stale(o) lock(o,t)"], Some(WwApi)),
        ],
    ),
    (
        "EDEADLK handling",
        &[
            ("ww_test_edeadlk_normal", &[BACK_OFF, LET_GO, "unlock(o) lock(o2,t)"], None),
            ("ww_test_edeadlk_normal_slow", &[BACK_OFF, LET_GO, "unlock(o) slow(o2,t)"], None),
            ("ww_test_edeadlk_no_unlock", &[BACK_OFF, LET_GO, "lock(o2,t)"], Some(WwApi)),
            ("ww_test_edeadlk_no_unlock_slow", &[BACK_OFF, LET_GO, "slow(o2,t)"], Some(WwApi)),
            ("ww_test_edeadlk_acquire_more", &[BACK_OFF, "lock(o3,t)"], Some(WwApi)),
            ("ww_test_edeadlk_acquire_more_slow", &[BACK_OFF, "slow(o3,t)"], Some(WwApi)),
            ("ww_test_edeadlk_acquire_more_edeadlk", &[BACK_OFF_TWICE, "lock(o3,t)=EDEADLK"], Some(WwApi)),
            (
                "ww_test_edeadlk_acquire_more_edeadlk_slow",
                &[BACK_OFF_TWICE, "slow(o3,t)=EDEADLK"],
                Some(WwApi),
            ),
            ("ww_test_edeadlk_acquire_wrong", &[BACK_OFF, "unlock(o) lock(o3,t)"], Some(WwApi)),
            ("ww_test_edeadlk_acquire_wrong_slow", &[BACK_OFF, "unlock(o) slow(o3,t)"], Some(WwApi)),
        ],
    ),
    ("spinlock nest unlocked", &[("ww_test_spin_nest_unlocked", &["s+A^o s-A"], Some(NestMissing))]),
    (
        "spinlock nest test",
        &[("ww_test_spin_nest_lock", &["s+X1 s+Y1^X1 s+A s+Y2^X1 s-A s-Y2 s-Y1 s-X1"], None)],
    ),
];

/// Group 8, end: how one mutex is held, and how a second one (or a spinlock) is taken then.
const WW_MATRIX: [WwRow; 4] = [
    (
        "context",
        &[
            ("ww_test_context_block", &["ctx(t) lock(o,t) lock(o2)"], Some(Recursive)),
            ("ww_test_context_try", &["ctx(t) lock(o,t) try(o2) unlock(o2) unlock(o)"], None),
            ("ww_test_context_context", &["ctx(t) lock(o,t) lock(o2,t) unlock(o2) unlock(o)"], None),
        ],
    ),
    (
        "try",
        &[
            ("ww_test_try_block", &["try(o) lock(o2)"], Some(Recursive)),
            ("ww_test_try_try", &["try(o) try(o2) unlock(o2) unlock(o)"], None),
            ("ww_test_try_context", &["try(o) ctx(t) lock(o2,t)"], Some(Recursive)),
        ],
    ),
    (
        "block",
        &[
            ("ww_test_block_block", &["lock(o) lock(o2)"], Some(Recursive)),
            ("ww_test_block_try", &["lock(o) try(o2) unlock(o2) unlock(o)"], None),
            ("ww_test_block_context", &["lock(o) ctx(t) lock(o2,t)"], Some(Recursive)),
        ],
    ),
    (
        "spinlock",
        &[
            (
                "ww_test_spin_block",
                &["lock(o) s+A s-A unlock(o)  s+A lock(o) unlock(o) s-A"],
                Some(WaitContext),
            ),
            ("ww_test_spin_try", &["try(o) s+A s-A unlock(o)  s+A try(o) unlock(o) s-A"], None),
            (
                "ww_test_spin_context",
                &["ctx(t) lock(o,t) s+A s-A unlock(o)  s+A lock(o,t) unlock(o) s-A"],
                Some(WaitContext),
            ),
        ],
    ),
];

/// Rows with one cell: row, test function, body, verdict.
type Lone = (&'static str, &'static str, &'static [&'static str], Option<ReportKind>);

/// Group 10: the queued rwlock: readers are recursive in interrupts only, from here on.
const QUEUED: [Lone; 3] = [
    (
        "hardirq read-lock/lock-read",
        "queued_read_lock_hardirq_RE_Er",
        &["hard{ r+A w+B w-B r-A }  hard-off w+B r+A r-A w-B hard-on"],
        Some(Circular),
    ),
    (
        "hardirq lock-read/read-lock",
        "queued_read_lock_hardirq_ER_rE",
        &["hard{ w+B r+A r-A w-B }  hard-off r+A w+B w-B r-A hard-on"],
        None,
    ),
    (
        "hardirq inversion",
        "queued_read_lock_hardirq_inversion",
        &["hard{ w+B w-B }  hard-off w+B r+A r-A w-B hard-on  r+A r-A"],
        Some(IrqInversion),
    ),
];

/// Group 11: memory reclaim.
const RECLAIM: [Lone; 3] = [
    ("correct nesting", "fs_reclaim_correct_nesting", &["reclaim{ alloc-nofs }"], None),
    ("wrong nesting", "fs_reclaim_wrong_nesting", &["reclaim{ alloc }"], Some(Recursive)),
    ("protected nesting", "fs_reclaim_protected_nesting", &["reclaim{ nofs{ alloc } }"], None),
];

/// Group 12: what may wait where: row, its part of the test function's name, begin and end of the outer context, and
/// whether an RCU section, a raw spinlock, a spinlock, a mutex may stand in it.
const WAIT_CONTEXT: [(&str, &str, &str, &str, [bool; 4]); 9] = [
    ("in hardirq context", "HARDIRQ", "hard{", "}", [true, true, true, false]),
    ("in hardirq context (not threaded)", "NOTTHREADED_HARDIRQ", "raw{", "}", [true, true, false, false]),
    ("in softirq context", "SOFTIRQ", "soft{", "}", [true, true, true, false]),
    ("in RCU context", "RCU", "rcu{", "}", [true, true, true, false]),
    ("in RCU-bh context", "RCU_BH", "rcu_bh{", "}", [true, true, true, false]),
    ("in RCU-sched context", "RCU_SCHED", "rcu_sched{", "}", [true, true, false, false]),
    ("in RAW_SPINLOCK context", "raw_spinlock", "p+A", "p-A", [true, true, false, false]),
    ("in SPINLOCK context", "spinlock", "s+A", "s-A", [true, true, true, false]),
    ("in MUTEX context", "mutex", "m+A", "m-A", [true, true, true, true]),
];
const WAIT_HEADS: &[&str] = &["rcu", "raw", "spin", "mutex"];
const WAIT_INNER: [(&str, &str); 4] =
    [("RCU", "rcu{ }"), ("raw_spinlock", "p+B p-B"), ("spinlock", "s+B s-B"), ("mutex", "m+B m-B")];

/// Local lock A is taken under spinlock A, which a hard interrupt takes; for itself, and around spinlock B.
const LOCAL: &str = "hard{ s+A s-A }  hard-off s+A l+A l-A s-A hard-on ";
const LOCAL_A: &str = "l+A l-A ";
const LOCAL_AB: &str = "l+A s+B s-B l-A ";

/// Groups 13 and 14: local locks, and a chain whose ends conflict in the hard interrupt, not in the soft one.
const LOCAL_LOCK: [Lone; 4] = [
    ("local_lock inversion  2", "local_lock_2", &[LOCAL_A, LOCAL], None),
    ("local_lock inversion 3A", "local_lock_3A", &[LOCAL_AB, LOCAL], None),
    (
        "local_lock inversion 3B",
        "local_lock_3B",
        &[LOCAL_AB, LOCAL, "hard-off s+A s+B s-B s-A hard-off"],
        Some(IrqOrder),
    ),
    (
        "hardirq_unsafe_softirq_safe",
        "hardirq_deadlock_softirq_not_deadlock",
        &[
            "m+A hard-off s+C s-C hard-on m-A  hard{ s+A s-A }  ",
            "hard-off s+A s+B s-B s-A hard-on  hard-off s+B s+C s-C s-B hard-on  ",
            "soft{ s+D s-D }  soft-off s+D s-D soft-on  hard-off s+C s+D s-D s-C hard-on",
        ],
        Some(IrqOrder),
    ),
];

/// The whole suite, in the order of the kernel's log.
pub(super) fn blocks() -> Vec<Block> {
    let main = |heads, cases| Block { section: "main", title: false, heads, cases };
    let lone = |section, rows: &[Lone], groups: &[u8]| Block {
        section,
        title: true,
        heads: &[],
        cases: rows.iter().zip(groups).map(|(row, group)| lone_case(section, row, *group)).collect(),
    };
    vec![
        main(MAIN_HEADS, basic()),
        main(&[], mixed()),
        main(&[], irqs(6, &IRQ, &[0, 1, 2])),
        main(&[], irqs(7, &IRQ_READERS, &[1, 2])),
        Block { section: WW_SECTION, title: true, heads: &[], cases: ww(&WW) },
        Block {
            section: WW_SECTION,
            title: false,
            heads: &["block", "try", "context"],
            cases: ww(&WW_MATRIX),
        },
        lone("queued read lock tests", &QUEUED, &[10; 3]),
        lone("fs_reclaim tests", &RECLAIM, &[11; 3]),
        Block { section: WAIT_SECTION, title: true, heads: WAIT_HEADS, cases: wait_contexts() },
        lone("local_lock tests", &LOCAL_LOCK, &[13, 13, 13, 14]),
    ]
}

const WW_SECTION: &str = "Wound/wait tests";
const WAIT_SECTION: &str = "wait context tests";

/// The words of a body that names all its types need no cell.
const ANY: Cell = Cell { kind: Kind::Spin, soft: false };

fn basic() -> Vec<Case> {
    let mut cases = Vec::new();
    for (row, test, body, kind, readers) in BASIC {
        for (slot, (name, column)) in COLUMNS.into_iter().enumerate() {
            let silent = slot == RLOCK && matches!(readers, Readers::Silent);
            cases.push(Case {
                group: 1,
                section: "main",
                row: row.to_owned(),
                column: format!("{test}_{name}"),
                slot,
                expected: (!silent).then_some(kind),
                recursive_readers: true,
                steps: parse(body, Cell { kind: column, soft: false }),
            });
        }
    }
    cases
}

fn mixed() -> Vec<Case> {
    let cell = |group, row: &str, slot, (test, body, expected): Single| Case {
        group,
        section: "main",
        row: row.to_owned(),
        column: test.to_owned(),
        slot,
        expected,
        recursive_readers: true,
        steps: parse(body, ANY),
    };
    let mut cases = Vec::new();
    for (number, (row, rwlock, rwsem)) in MIXED.into_iter().enumerate() {
        let group = if number < MIXED_ONE_CLASS { 2 } else { 3 };
        cases.push(cell(group, row, RLOCK, rwlock));
        cases.push(cell(group, row, RSEM, rwsem));
    }
    let (row, single) = CHAIN_CACHE;
    cases.push(cell(4, row, RLOCK, single));
    for (name, events, expected) in THREE_LOCKS {
        for order in orders(events.len()) {
            cases.push(Case {
                group: 5,
                section: "main",
                row: format!("rlock {name}/{}", digits(order)),
                column: format!("{}_{}", name.replace('/', "_"), digits(order)),
                slot: RLOCK,
                expected,
                recursive_readers: true,
                steps: parse(&ordered(&events, order), ANY),
            });
        }
    }
    cases
}

/// The orders of two or three events, as the kernel counts them.
fn orders(events: usize) -> &'static [&'static [usize]] {
    match events {
        2 => &[&[0, 1], &[1, 0]],
        _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
    }
}

fn ordered(events: &[&str], order: &[usize]) -> String {
    order.iter().map(|event| events[*event]).collect::<Vec<_>>().join("  ")
}

/// An order in a name: `231`.
fn digits(order: &[usize]) -> String {
    order.iter().map(|event| (event + 1).to_string()).collect()
}

fn irqs(group: u8, rows: &[Irq], slots: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for Irq { row, test, events, kind } in rows {
        let interrupts: &[&str] = if row.contains("{}") { &["hard", "soft"] } else { &["soft"] };
        for order in orders(events.len()) {
            for interrupt in interrupts {
                for slot in slots {
                    let (name, column) = COLUMNS[*slot];
                    let kind = match kind {
                        Late::Always(kind) => *kind,
                        Late::ByOrder if order.last() == Some(&0) => IrqOrder,
                        Late::ByOrder => IrqInversion,
                    };
                    let cell = Cell { kind: column, soft: *interrupt == "soft" };
                    cases.push(Case {
                        group,
                        section: "main",
                        row: format!("{}/{}", row.replace("{}", interrupt), digits(order)),
                        column: format!("{}_{name}_{}", test.replace("{}", interrupt), digits(order)),
                        slot: *slot,
                        expected: (*slot != RLOCK).then_some(kind),
                        recursive_readers: true,
                        steps: parse(&ordered(events, order), cell),
                    });
                }
            }
        }
    }
    cases
}

fn ww(rows: &[WwRow]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (row, cells) in rows {
        for (slot, (test, body, expected)) in cells.iter().enumerate() {
            cases.push(Case {
                group: 8,
                section: WW_SECTION,
                row: (*row).to_owned(),
                column: (*test).to_owned(),
                slot,
                expected: *expected,
                recursive_readers: true,
                steps: parse(&body.concat(), ANY),
            });
        }
    }
    cases
}

fn wait_contexts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (row, outer, begin, end, allowed) in WAIT_CONTEXT {
        for (slot, ((inner, body), allowed)) in WAIT_INNER.into_iter().zip(allowed).enumerate() {
            cases.push(Case {
                group: 12,
                section: WAIT_SECTION,
                row: row.to_owned(),
                column: format!("{inner}_in_{outer}"),
                slot,
                expected: (!allowed).then_some(WaitContext),
                recursive_readers: false,
                steps: parse(&format!("{begin} {body} {end}"), ANY),
            });
        }
    }
    cases
}

fn lone_case(section: &'static str, (row, test, body, expected): &Lone, group: u8) -> Case {
    Case {
        group,
        section,
        row: (*row).to_owned(),
        column: (*test).to_owned(),
        slot: 0,
        expected: *expected,
        recursive_readers: false,
        steps: parse(&body.concat(), ANY),
    }
}
