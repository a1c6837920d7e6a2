// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines and annotations that are unusual and right, and ones that are wrong.
#![cfg(feature = "lockdep")]

use lockdep_replay::Annotations;
use lockdep_replay::classes::Rule;
use lockdep_replay::ftrace::{Level, Line, Malformed, Op, Record, parse};

fn record(line: &str) -> Record<'_> {
    match parse(line.as_bytes()) {
        Ok(Line::Record(record)) => record,
        other => panic!("{line}: {other:?}"),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn task_names_may_hold_anything() {
    let cases = [
        ("            init-38      [001] ...1.     4.610296: e: x", "init", 38, 1),
        ("          <idle>-0       [000] d.h2.     4.798627: e: x", "<idle>", 0, 0),
        ("           <...>-1234567 [000] d.h2.     4.798627: e: x", "<...>", 1_234_567, 0),
        ("   kworker/u8:0-10      [003] .....     4.0: e: x", "kworker/u8:0", 10, 3),
        ("   a [1] b: c -d-77      [012] .....     4.0: e: x", "a [1] b: c -d", 77, 12),
        ("     bad-1 [00-5       [000] .....     4.0: e: x", "bad-1 [00", 5, 0),
        ("            init-38      (     36) [001] ...1.     4.6: e: x", "init", 38, 1),
        ("            init-38      (-------) [001] ...1.     4.6: e: x", "init", 38, 1),
        ("         (sd-pam)-38      [001] ...1.     4.6: e: x", "(sd-pam)", 38, 1),
    ];
    for (line, task, pid, cpu) in cases {
        let record = record(line);
        assert_eq!((text(record.task), record.pid, record.cpu), (task, pid, cpu), "{line}");
        assert_eq!((text(record.event), text(record.text)), ("e", "x"), "{line}");
    }
}

#[test]
fn the_flags_column_may_be_absent_or_short() {
    let flags = |column: &str| record(&format!("  t-1 [000] {column} 4.0: e: x")).flags;
    assert_eq!(flags(""), None);
    let cases = [
        (".....", true, true, Level::Task, false),
        ("....", true, true, Level::Task, false),
        ("d..1.", false, true, Level::Task, false),
        ("b..2.", true, false, Level::Task, true),
        ("D.s3#", false, false, Level::SoftIrq, true),
        ("..s1.", true, false, Level::SoftIrq, true),
        ("dNh2.", false, true, Level::HardIrq, true),
        ("d.H2.", false, false, Level::HardInSoft, true),
        ("d.z2.", false, false, Level::Nmi, true),
        ("dnZff", false, false, Level::Nmi, true),
    ];
    for (column, hard, soft, level, interrupt) in cases {
        let flags = flags(column).expect(column);
        assert_eq!(
            (flags.hard_on(), flags.soft_on(), flags.level(), flags.in_interrupt()),
            (hard, soft, level, interrupt),
            "{column}"
        );
    }
}

#[test]
fn lock_names_may_hold_anything_and_addresses_may_have_a_prefix() {
    let op = record(
        "  t-1 [000] ..... 4.0: lock_acquire: ffffffff81b0a450 try read (work_completion)(&(&w)->work)",
    )
    .op();
    let name = &b"(work_completion)(&(&w)->work)"[..];
    assert_eq!(op, Ok(Op::Acquire { address: 0xffff_ffff_81b0_a450, trylock: true, read: true, name }));
    let op = record("  t-1 [000] ..... 4.0: lock:lock_acquire: 0x10 read a: b [c] read try").op();
    let name = &b"a: b [c] read try"[..];
    assert_eq!(op, Ok(Op::Acquire { address: 16, trylock: false, read: true, name }));
    assert_eq!(
        record("  t-1 [000] ..... 4.0: lock_release:    10 (null)").op(),
        Ok(Op::Release { address: 16, name: b"(null)" })
    );
    assert_eq!(
        record(
            "  t-1 [000] ..... 4.0: sched_process_fork: comm=a child_pid=3 pid=1 child_comm=b child_pid=4"
        )
        .op(),
        Ok(Op::Fork { child: 4 })
    );
    assert_eq!(record("  t-1 [000] ..... 4.0: something_else: ffff").op(), Ok(Op::Other));
}

#[test]
fn what_is_between_the_events_is_recognised() {
    let cases = [
        ("", Line::Other),
        ("# tracer: nop", Line::Other),
        ("# entries-in-buffer/entries-written: 12/34   #P:2", Line::Entries { held: 12, written: 34 }),
        ("##### CPU 3 buffer started ####", Line::BufferStarted),
        ("CPU:3 [LOST 12 EVENTS]", Line::Lost { cpu: 3, count: Some(12) }),
        ("CPU:3 [LOST EVENTS]", Line::Lost { cpu: 3, count: None }),
        ("<stack trace>", Line::Other),
        (" => do_syscall_64", Line::Other),
    ];
    for (line, wanted) in cases {
        assert_eq!(parse(line.as_bytes()), Ok(wanted), "{line}");
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let cases = [
        ("init", Malformed::NoTask),
        ("  init-38 [001", Malformed::NoTask),
        ("  -38 [001] ..... 4.0: e: x", Malformed::NoTask),
        ("  init-99999999999 [001] ..... 4.0: e: x", Malformed::NoTask),
        ("  init-38 [001] ", Malformed::NoTime),
        ("  init-38 [001] .....", Malformed::NoTime),
        ("  init-38 [001] ..... 4.0", Malformed::NoTime),
        ("  init-38 [001] 4.0", Malformed::NoTime),
        ("  init-38 [001] hello 4.0: e: x", Malformed::Flags),
        ("  init-38 [001] ..... 4.0:", Malformed::NoEvent),
        ("  init-38 [001] ..... 4.0: lock_acq", Malformed::NoEvent),
        ("CPU:x [LOST 12 EVENTS]", Malformed::Lost),
    ];
    for (line, wanted) in cases {
        assert_eq!(parse(line.as_bytes()), Err(wanted), "{line}");
    }
    let cases = [
        ("lock_acquire: ", Malformed::NoAddress),
        ("lock_acquire: lk_a", Malformed::NoAddress),
        ("lock_acquire: 12345678901234567 lk_a", Malformed::NoAddress),
        ("lock_acquire: (ptrval) lk_a", Malformed::NoAddress),
        ("lock_acquire: (____ptrval____) lk_a", Malformed::HiddenAddress),
        ("lock_acquire: ff read ", Malformed::NoName),
        ("lock_release: ff", Malformed::NoName),
        ("sched_process_fork: comm=a", Malformed::NoField("child_pid=")),
        ("lkx_acquire: ff key=1", Malformed::NoField("name=")),
        ("lkx_acquire: ff key=1 name=a", Malformed::NoField("sub=")),
        (
            "lkx_acquire: ff key=1 sub=8 try=0 read=0 check=0 nest=0 wt=0:0 type=0 name=a",
            Malformed::NoField("sub="),
        ),
    ];
    for (event, wanted) in cases {
        let line = format!("  t-1 [000] ..... 4.0: {event}");
        assert_eq!(record(&line).op(), Err(wanted), "{event}");
    }
}

#[test]
fn the_last_annotation_that_fits_a_name_counts_alone() {
    let mut annotations = Annotations::none();
    let lines = r#"
        # a comment
        rcu_*: recursive-read, unchecked
        rcu_node: plain
        *_key: subclass-on-nesting
        *mid*: instance-class
        a: b: nest=the context, of: it
        "*odd\"name\\: x": unchecked
    "#;
    // The nest name of the line after the comment has a comma in it, which ends it.
    let error = annotations.add(lines).expect_err("a comma ends a word");
    assert_eq!(error.to_string().split(':').next(), Some("line 7"));
    let mut annotations = Annotations::none();
    annotations.add(&lines.replace("the context, of: it", "ctx")).expect("well-formed");
    let unchecked = Rule { unchecked: true, ..Rule::default() };
    let cases = [
        ("rcu_read_lock", Rule { recursive_read: true, ..unchecked.clone() }),
        ("rcu_node", Rule::default()),
        ("rcu_key", Rule { subclass_on_nesting: true, ..Rule::default() }),
        ("amid the", Rule { instance_class: true, ..Rule::default() }),
        ("a: b", Rule { nest: Some("ctx".to_owned()), ..Rule::default() }),
        ("*odd\"name\\: x", unchecked),
        ("xodd\"name\\: x", Rule::default()),
        ("else", Rule::default()),
    ];
    for (name, rule) in cases {
        assert_eq!(annotations.rule(name), rule, "{name}");
    }
}
