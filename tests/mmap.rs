// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep mmap` through the real binary: the matrix, the reports, the exit status, the JSON, mistakes.
#![cfg(feature = "lockdep")]

mod command;

use std::process::{Command, Stdio};

use serde_json::Value;

use command::{facts, lockdep, old_policy_report, word, words};

fn json(args: &[&str]) -> (i32, Vec<Value>) {
    command::json("cells", args)
}

/// The exporters, and how many of the four paths each has.
const EXPORTERS: [(&str, usize); 15] = [
    ("vgem", 4),
    ("vkms", 4),
    ("panfrost", 4),
    ("lima", 4),
    ("omapdrm", 4),
    ("tegra", 4),
    ("i915", 4),
    ("i915-lmem", 4),
    ("vb2-dma-contig", 3),
    ("vb2-dma-sg", 3),
    ("vb2-vmalloc", 3),
    ("system-heap", 2),
    ("cma-heap", 2),
    ("udmabuf", 2),
    ("fastrpc", 2),
];

/// Those whose buffers are objects of the shmem helper.
const SHMEM: [&str; 4] = ["vgem", "vkms", "panfrost", "lima"];

/// The rule, written down here once more and in another form than in the program.
fn expected_verdict(policy: &str, shmem: &str, exporter: &str, path: &str) -> &'static str {
    // Fastrpc still asserts what nobody holds any more.
    if exporter == "fastrpc" && policy == "P2" {
        return "assert-held";
    }
    // Only the shmem helper takes the lock in its mmap; the others were asserting it under P1.
    if !SHMEM.contains(&exporter) {
        return "clean";
    }
    match (policy, shmem, path) {
        ("P1", "B0" | "B" | "C", "dma-buf-fd" | "self-import-fd" | "foreign-import-fd") => "recursive",
        (_, "B0", "foreign-import-fd") => "assert-held",
        _ => "clean",
    }
}

#[test]
fn every_cell_of_the_matrix_has_the_verdict_of_the_rule() {
    let (status, cells) = json(&["mmap"]);
    assert_eq!(status, 0, "without options, the expected deadlocks are no failure");
    let mut seen = Vec::new();
    for cell in &cells {
        let [policy, shmem, exporter, path] =
            ["policy", "shmem", "exporter", "path"].map(|field| word(cell, field));
        assert_eq!(word(cell, "verdict"), expected_verdict(policy, shmem, exporter, path), "{cell:#}");
        assert_eq!(word(cell, "expected"), word(cell, "verdict"), "{cell:#}");
        assert_eq!(cell["ok"], true);
        assert_eq!(cell["report"].is_null(), word(cell, "verdict") == "clean", "{cell:#}");
        seen.push((policy, shmem, exporter, path));
    }
    let total = seen.len();
    seen.sort_unstable();
    seen.dedup();
    let cells = 3 * 4 * EXPORTERS.iter().map(|(_, paths)| paths).sum::<usize>();
    assert_eq!((seen.len(), total), (cells, cells), "each once");
}

#[test]
fn the_reservation_lock_is_held_in_mmap_under_p1_only_and_through_the_core_only() {
    let (_, cells) = json(&["mmap"]);
    for cell in &cells {
        let held = words(cell, "held_in_mmap");
        let through_the_core = word(cell, "path") != "driver-fd";
        let expected: &[&str] = if word(cell, "policy") == "P1" && through_the_core {
            &["&mm->mmap_lock", "reservation_ww_class_mutex"]
        } else if word(cell, "exporter").starts_with("vb2") && !through_the_core {
            // The video device looks its buffer up, and never under the queue's own lock.
            &["&mm->mmap_lock", "&q->mmap_lock"]
        } else {
            &["&mm->mmap_lock"]
        };
        assert_eq!(held, expected, "{cell:#}");
    }
}

#[test]
fn b0_has_a_finding_of_its_own_where_a_foreign_device_attaches() {
    let (_, cells) = json(&["mmap", "--shmem", "B0", "--path", "foreign-import-fd"]);
    for cell in cells.iter().filter(|cell| word(cell, "verdict") != "clean") {
        let kinds: Vec<&str> =
            cell["findings"].as_array().unwrap().iter().map(|report| word(report, "kind")).collect();
        assert_eq!(kinds[0], "assert-held", "{cell:#}");
        assert_eq!(cell["findings"][0]["wanted"]["class"], "reservation_ww_class_mutex");
        assert_eq!(kinds.contains(&"recursive"), word(cell, "policy") == "P1", "{kinds:?}");
    }
    assert_eq!(cells.len(), 3 * EXPORTERS.len());
}

#[test]
fn with_a_policy_any_finding_is_status_1() {
    assert_eq!(json(&["mmap", "--policy", "P0", "--shmem", "A"]).0, 0);
    assert_eq!(json(&["mmap", "--policy", "P1", "--shmem", "A"]).0, 0);
    assert_eq!(json(&["mmap", "--policy", "P1", "--shmem", "B"]).0, 1);
    assert_eq!(json(&["mmap", "--policy", "P1", "--shmem", "B", "--path", "driver-fd"]).0, 0);
    assert_eq!(json(&["mmap", "--policy", "P2", "--shmem", "C"]).0, 1, "fastrpc's assertion");
    assert_eq!(json(&["mmap", "--policy", "P2", "--shmem", "B", "--fixed"]).0, 0);
    assert_eq!(json(&["mmap", "--policy", "P2", "--shmem", "C", "--fixed"]).0, 0);
    assert_eq!(json(&["mmap", "--policy", "P2", "--shmem", "B0", "--fixed"]).0, 1, "the assertion in pin");
    assert_eq!(json(&["mmap", "--shmem", "B"]).0, 0, "no policy was chosen");
}

#[test]
fn fastrpc_asserts_what_p2_no_longer_holds_and_the_switch_takes_that_out() {
    for fixed in [false, true] {
        let mut args = vec!["mmap", "--exporter", "fastrpc"];
        args.extend(fixed.then_some("--fixed"));
        let (status, cells) = json(&args);
        assert_eq!(status, 0, "expected either way");
        for cell in &cells {
            let stale = word(cell, "policy") == "P2" && !fixed;
            assert_eq!(word(cell, "verdict"), if stale { "assert-held" } else { "clean" }, "{cell:#}");
            if stale {
                assert_eq!(cell["report"]["wanted"]["function"], "fastrpc_mmap", "{cell:#}");
            }
        }
    }
}

#[test]
fn the_options_choose_cells() {
    let (_, cells) = json(&["mmap", "--policy", "p2", "--shmem", "c", "--exporter", "vkms"]);
    assert_eq!(cells.len(), 4);
    assert!(cells.iter().all(|cell| word(cell, "exporter") == "vkms" && word(cell, "shmem") == "C"));
}

#[test]
fn the_seed_report_has_the_facts_of_the_real_kernels() {
    let kernel = old_policy_report("vgem_self_import");
    let expected = [
        ("reservation_ww_class_mutex", "drm_gem_shmem_mmap"),
        ("reservation_ww_class_mutex", "dma_buf_mmap_internal"),
        ("&mm->mmap_lock", "vm_mmap_pgoff"),
        ("reservation_ww_class_mutex", "dma_buf_mmap_internal"),
    ];
    let expected: Vec<_> = expected.map(|(lock, at)| (lock.to_owned(), at.to_owned())).into();
    assert_eq!(facts(&kernel), expected, "what the kernel printed");

    let (status, cells) =
        json(&["mmap", "--policy", "P1", "--shmem", "B", "--exporter", "vgem", "--path", "self-import-fd"]);
    assert_eq!(status, 1);
    let report = &cells[0]["report"];
    assert_eq!(word(report, "kind"), "recursive");
    assert_eq!(report["certain"], true, "this very lock, not only one of its class");
    assert_eq!(report["wanted"]["instance"], report["conflict"]["instance"]);
    let text = word(report, "text");
    assert!(text.contains("possible recursive locking detected"), "{text}");
    assert_eq!(facts(text), expected, "{text}");
    let stack = report["stack"].as_array().expect("a stack");
    let functions: Vec<&str> = stack.iter().map(|frame| word(frame, "function")).collect();
    let mut rest = functions.iter();
    for function in ["drm_gem_shmem_mmap", "drm_gem_prime_mmap", "dma_buf_mmap_internal", "vm_mmap_pgoff"] {
        assert!(rest.any(|frame| frame.ends_with(function)), "no {function} in its place in {functions:#?}");
    }
}

#[test]
fn the_text_shows_the_matrix_and_each_distinct_report_once() {
    let outcome = lockdep(&["mmap"]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "", "a stopped deadlock is no noise");
    let text = &outcome.stdout;
    let matrix: Vec<&str> = text.lines().take_while(|line| !line.contains("report 1 of")).collect();
    assert!(matrix.iter().all(|line| line.chars().count() <= 100), "{matrix:#?}");
    let rows = matrix.iter().filter(|line| line.starts_with('P')).count();
    // What does not depend on the regime of the shmem helper has one row for each policy.
    assert_eq!(rows, 3 * (4 * SHMEM.len() + EXPORTERS.len() - SHMEM.len()), "{text}");
    let row = |start: &str| matrix.iter().find(|line| line.starts_with(start)).map(|line| line.trim_end());
    assert!(row("P1     B     vgem ").is_some_and(|row| row.contains("m+r recursive")), "{text}");
    assert!(row("P1     all   i915 ").is_some_and(|row| row.contains("m+r clean")), "{text}");
    assert!(text.contains("m = &mm->mmap_lock, r = reservation_ww_class_mutex"), "{text}");
    assert!(text.contains("every one as expected"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour in a pipe");
    let wanted = text.lines().filter(|line| line.contains("is trying to acquire lock:")).count();
    assert_eq!(wanted, 2, "one deadlock through dma_buf_mmap_internal, one through dma_buf_mmap\n{text}");
}

#[test]
fn a_deadlock_really_hangs_when_nobody_watches_and_p2_does_not() {
    let (status, cells) =
        json(&["mmap", "--shmem", "B", "--exporter", "vgem", "--path", "self-import-fd", "--prove-hang"]);
    assert_eq!(status, 0);
    for cell in &cells {
        if word(cell, "policy") == "P1" {
            assert_eq!(cell["hang"]["hung"], true, "{cell:#}");
            assert_eq!(cell["hang"]["control"]["returned"], true, "{cell:#}");
            assert!(word(&cell["hang"], "state").starts_with('S'), "asleep, not busy: {cell:#}");
        } else {
            assert!(cell["hang"].is_null(), "nothing to prove: {cell:#}");
        }
    }
}

#[test]
fn a_mistake_is_one_clear_line_and_status_2() {
    let exporters =
        format!("unknown exporter `i810`: it is one of {}", EXPORTERS.map(|(name, _)| name).join(", "));
    for (args, wanted) in [
        (["--policy", "P9"], "unknown policy `P9`: it is one of P0, P1, P2"),
        (["--shmem", "D"], "unknown shmem regime `D`: it is one of A, B0, B, C"),
        (["--exporter", "i810"], exporters.as_str()),
        (
            ["--path", "x"],
            "unknown path `x`: it is one of dma-buf-fd, driver-fd, self-import-fd, foreign-import-fd",
        ),
    ] {
        let outcome = lockdep(&["mmap", args[0], args[1]]);
        assert_eq!(outcome.status, 2);
        assert_eq!(outcome.stderr, format!("lockdep: {wanted}\n"));
        assert_eq!(outcome.stdout, "");
    }
    assert_eq!(lockdep(&["mmap", "--no-such-option"]).status, 2);
    assert_eq!(lockdep(&["mmap", "--format", "xml"]).status, 2);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args(["mmap", "--policy", "P1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_ne!(output.status.code(), Some(2));
}

#[test]
fn the_help_names_every_choice() {
    let help = lockdep(&["mmap", "--help"]).stdout;
    let options =
        ["P0", "P1", "P2", "B0", "self-import-fd", "--prove-hang", "--fixed", "json", "Exit status"];
    for word in options.into_iter().chain(EXPORTERS.map(|(name, _)| name)) {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    assert!(!help.contains("unwatched"), "an inner matter");
}
