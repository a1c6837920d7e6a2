// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz targets with a bounded generator, on any toolchain: what `validator/fuzz/` runs for hours under libFuzzer,
//! these run for seconds.
#![cfg(feature = "lockdep")]

#[path = "../fuzz/harness.rs"]
mod harness;

use proptest::prelude::*;

/// What a task can do.
const OPS: &[&str] = &[
    "lock",
    "read",
    "read!",
    "write",
    "try",
    "tryread",
    "slow",
    "unlock",
    "downgrade",
    "init",
    "free",
    "ctx",
    "done",
    "fini",
    "assert_held",
    "assert_read",
    "assert_write",
    "assert_not_held",
    "might_lock",
    "irq_off",
    "irq_on",
    "bh_off",
    "bh_on",
    "alloc",
    "might_fault",
    "wait_fence",
    "flush",
    "exit",
    "upread",
    "tryupread",
    "tryread!",
    "upgrade",
    "reclass",
    "unregister o",
    "register o",
    "pin",
    "repin",
    "unpin",
    "rcu",
    "wait",
    "complete",
    "spawn u",
    "join u",
    "user_return",
    "hardirq {",
    "hardirq raw {",
    "softirq {",
    "reclaim {",
    "signalling {",
    "work w {",
    "}",
];

/// What litmus programs are made of besides, and what they are not.
const WORDS: &[&str] = &[
    "t:",
    "u:",
    "name:",
    "prime:",
    "prime: dma_resv",
    "a",
    "b",
    "w",
    "o",
    "c",
    "mutex",
    "ww",
    "map",
    "class=o",
    "order=index",
    "sub=1",
    "sub=9",
    "nest=a",
    "ctx=c",
    "<",
    ":",
    ",",
    "#",
    "#!",
    "#! circular",
    "#! recursive, balance",
    "=",
    "é",
    "\u{2028}",
    "\u{0}",
];

const DECLARED: &str = "lock a, b : mutex\nlock w : rwlock\nlock o, p : ww class=o\nprime: dma_resv\nt: ctx c class=o\nlock e : event\nlock k : mutex check=no\n";

fn word() -> impl Strategy<Value = String> {
    prop_oneof![30 => prop::sample::select([OPS, WORDS].concat()).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

/// Mostly a step of a task, sometimes any words.
fn line() -> impl Strategy<Value = String> {
    let words = |max| prop::collection::vec(word(), 0..max).prop_map(|words| words.join(" "));
    let step = (
        prop::sample::select(&["t", "u"][..]),
        prop::sample::select(OPS),
        prop::sample::select(&["a", "b", "w", "o", "p", "c", "e", "k", "fence", ""][..]),
        prop::sample::select(&["", "", "", "sub=1", "nest=a", "ctx=c"][..]),
    );
    prop_oneof![
        10 => step.prop_map(|(task, op, lock, option)| match op.ends_with(['{', '}']) {
            true => format!("{task}: {op}"),
            false => format!("{task}: {op} {lock} {option}"),
        }),
        1 => words(6),
    ]
}

/// A step that is no step ends a program, so most programs are made of lines that parse after what stands before.
fn program() -> impl Strategy<Value = String> {
    (prop::collection::vec(line(), 0..40), prop::bool::weighted(0.9)).prop_map(|(lines, valid)| {
        let mut text = DECLARED.to_owned();
        // The tasks of the open sections, and the lines that close them.
        let mut open: Vec<String> = Vec::new();
        let closed =
            |open: &[String]| open.iter().rev().map(|task| format!("{task}: }}\n")).collect::<String>();
        for line in lines {
            let mut still = open.clone();
            match line.split_once(": ") {
                Some((task, rest)) if rest.ends_with('{') => still.push(task.to_owned()),
                Some((task, "}")) => {
                    if let Some(at) = still.iter().rposition(|other| other == task) {
                        still.remove(at);
                    }
                }
                _ => {}
            }
            let next = format!("{text}{line}\n");
            if !valid || lockdep::litmus::parse(&(next.clone() + &closed(&still))).is_ok() {
                (text, open) = (next, still);
            }
        }
        text + &closed(&open)
    })
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_litmus_program_or_an_error_in_its_place(text in program()) {
        harness::litmus(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_history_that_keeps_the_invariants(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        harness::events(&bytes);
    }
}

#[test]
fn what_was_found_once_is_right() {
    for text in [
        // An event that was locked like a lock: a search looked up its place in an order that it had none in.
        "lock e : event\nt: lock e\nt: complete e\n",
        // A context without a class, whose report could not be printed as a program.
        "lock o : ww class=resv\nt: ctx b class=\nt: slow o ctx=b\n",
        // An interrupt that leaves a lock behind broke the chain keys.
        "lock a, b : map\nt: lock a\nt: hardirq {\nt: lock b\nt: }\nt: lock a\n",
    ] {
        harness::litmus(text.as_bytes());
    }
}
