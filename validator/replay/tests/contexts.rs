// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which stack an event belongs to, and which class a name means: small traces, and the dependencies they teach.
#![cfg(feature = "lockdep")]

use lockdep::ReportKind;
use lockdep_replay::{Annotations, Judge};

/// One event of task 7 on CPU 0.
fn event(flags: &str, event: &str) -> String {
    format!("            t-7       [000] {flags} 1.000000: {event}")
}

fn acquire(flags: &str, lock: &str) -> String {
    event(flags, &format!("lock_acquire: {lock}"))
}

fn judge<'a>(annotations: &'a Annotations, lines: &[String]) -> Judge<'a> {
    let mut judge = Judge::new(annotations);
    for (number, line) in (1..).zip(lines) {
        judge.line(number, line.as_bytes()).expect("well-formed");
    }
    judge
}

/// What the lines teach, each as `FROM -STRENGTH> TO`.
fn taught(lines: &[String]) -> Vec<String> {
    let annotations = Annotations::none();
    let judge = judge(&annotations, lines);
    let name = |class| judge.engine().classes().get(class).display_name();
    let edges = judge.engine().graph().edges();
    edges.map(|edge| format!("{} -{}> {}", name(edge.from), edge.strength.letters(), name(edge.to))).collect()
}

#[test]
fn a_lock_of_an_interrupt_has_no_order_against_the_interrupted_task() {
    for flags in ["d.h1.", "..s1.", "d.H1."] {
        assert_eq!(taught(&[acquire(".....", "1 m"), acquire(flags, "2 i")]), [""; 0], "{flags}");
        let nested = [acquire(".....", "1 m"), acquire(flags, "2 i"), acquire(flags, "3 j")];
        assert_eq!(taught(&nested), ["i -EN> j"], "{flags}");
    }
}

#[test]
fn the_interrupt_goes_on_until_interrupts_or_tasks_are_switched() {
    let held = acquire(".....", "1 m");
    let interrupt = event("d.h1.", "local_timer_exit: vector=236");
    let tail = acquire("d....", "2 (null)");
    assert_eq!(taught(&[held.clone(), interrupt.clone(), tail.clone()]), [""; 0]);
    let ends = [
        event("d....", "irq_enable: caller=asm_sysvec_apic_timer_interrupt+0x1a/0x20 parent=0x0"),
        event("d....", "irq_disable: caller=__schedule+0x4a7/0x8e0 parent=0x0"),
        event("d..2.", "sched_switch: prev_comm=t prev_pid=7 ==> next_comm=u next_pid=8"),
        event(".....", "lock_acquired: 1 m"),
        "            u-8       [000] d.... 1.000000: sched_wakeup: x".to_owned(),
    ];
    for end in ends {
        let lines = [held.clone(), interrupt.clone(), end.clone(), tail.clone()];
        assert_eq!(taught(&lines), ["m -EN> (null)"], "{end}");
    }
    let elsewhere = "            u-8       [001] d.... 1.000000: sched_wakeup: x".to_owned();
    assert_eq!(taught(&[held, interrupt, elsewhere, tail]), [""; 0]);
}

#[test]
fn locks_in_a_non_maskable_interrupt_are_not_followed() {
    assert_eq!(taught(&[acquire(".....", "1 m"), acquire("d.z1.", "2 n"), acquire("d.Z1.", "3 o")]), [""; 0]);
}

#[test]
fn a_reader_in_an_interrupt_or_with_bottom_halves_off_overtakes_writers() {
    for (flags, strength) in
        [(".....", "EN"), ("d....", "EN"), ("b....", "ER"), ("D....", "ER"), ("..s..", "ER"), ("d.h..", "ER")]
    {
        let lines = [acquire(flags, "1 a"), acquire(flags, "2 read rw")];
        assert_eq!(taught(&lines), [format!("a -{strength}> rw")], "{flags}");
    }
}

#[test]
fn a_released_lock_is_found_even_if_its_level_changed() {
    let lines = [acquire("d.h1.", "1 i"), event(".....", "lock_release: 1 i"), acquire("d.h1.", "2 j")];
    assert_eq!(taught(&lines), [""; 0], "i is not held any more");
}

#[test]
fn static_locks_of_one_name_are_classes_of_their_own_if_that_is_declared() {
    let cycle = |first: &str, second: &str| {
        let (a, b) = (format!("{first} lk_cyc"), format!("{second} lk_cyc"));
        let release = |lock: &str| event(".....", &format!("lock_release: {lock}"));
        [
            acquire(".....", &a),
            acquire(".....", &b),
            release(&b),
            release(&a),
            acquire(".....", &b),
            acquire(".....", &a),
        ]
    };
    let first = |annotations: &Annotations, lines: &[String]| {
        let judge = judge(annotations, lines);
        let first = judge.findings().first();
        first.map(|found| (found.line, found.report.kind))
    };
    let declared = Annotations::builtin();
    let static_locks = cycle("ffffffff81b0a000", "ffffffff81b0a0a0");
    assert_eq!(first(&declared, &static_locks), Some((6, ReportKind::Circular)));
    assert_eq!(first(&Annotations::none(), &static_locks), Some((2, ReportKind::Recursive)));
    // The address of a lock on the heap says nothing about its class.
    let heap_locks = cycle("ff11000000c4c000", "ff11000000c4c0a0");
    assert_eq!(first(&declared, &heap_locks), Some((2, ReportKind::Recursive)));
}

#[test]
fn a_nested_lock_is_one_subclass_deeper_unless_it_is_the_same_lock() {
    let annotations = Annotations::builtin();
    let two = [acquire(".....", "1 &mm->mmap_lock"), acquire(".....", "2 &mm->mmap_lock")];
    assert_eq!(judge(&annotations, &two).findings().len(), 0);
    let same = [acquire(".....", "1 &mm->mmap_lock"), acquire(".....", "1 &mm->mmap_lock")];
    assert_eq!(judge(&annotations, &same).findings()[0].report.kind, ReportKind::Recursive);
}

#[test]
fn nobody_is_followed_across_lost_beginnings_of_a_buffer() {
    let lines =
        [acquire(".....", "1 a"), "##### CPU 1 buffer started ####".to_owned(), acquire(".....", "2 b")];
    assert_eq!(taught(&lines), [""; 0], "a may have been released on CPU 1 before");
}
