// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios under every policy and regime, and `lockdep scenario` through the real binary.
#![cfg(feature = "lockdep")]

mod command;

use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::sequence::{Sequence, as_extracted, compare, in_scope};
use instrumented_drivers::scenario::{End, Run, Scenario, Setup, registry};
use serde_json::Value;

use command::{facts, lockdep, old_policy_report, word, words};

fn json(args: &[&str]) -> (i32, Vec<Value>) {
    command::json("results", args)
}

fn run(id: &str, setup: Setup) -> Run {
    Scenario::find(id).unwrap_or_else(|| panic!("no scenario {id}")).run(setup)
}

fn reported(run: &Run) -> Vec<&'static str> {
    run.reported().into_iter().map(|kind| kind.name()).collect()
}

#[test]
fn every_scenario_finds_what_is_expected_and_leaves_nothing_behind() {
    let mut runs = 0;
    for scenario in registry() {
        for setup in Setup::all() {
            let run = scenario.run(setup);
            assert!(
                scenario.is_as_expected(setup, &run),
                "{} {setup}: expected {:?}, got {:?}, {:?}",
                scenario.id,
                scenario.expected(setup),
                run.reported(),
                run.end
            );
            runs += 1;
        }
    }
    assert!(runs >= 12 * 35, "only {runs} runs");
}

/// The rows of the list of what must be executable that are no scenarios, and why.
const NOT_SCENARIOS: [(&str, &str); 3] = [
    ("V14", "optional there: no driver here commits frames to a display that waits for fences"),
    ("M8", "memory of a program as an object of i915 is not modelled"),
    ("U2", "it loses a table in some orders, as the kernel does: explored by the models' tests"),
];

#[test]
fn ids_and_names_are_unique_and_all_that_are_owed_are_there() {
    let scenarios = registry();
    let mut words: Vec<&str> = scenarios.iter().flat_map(|scenario| [scenario.id, scenario.name]).collect();
    let total = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), total);
    let rows = [
        ("V", 14),
        ("M", 12),
        ("S", 7),
        ("F", 7),
        ("P", 15),
        ("W", 8),
        ("H", 2),
        ("U", 2),
        ("R", 1),
        ("K", 10),
    ];
    let owed = rows.into_iter().flat_map(|(letter, last)| (1..=last).map(move |n| format!("{letter}{n}")));
    for id in owed {
        assert_eq!(
            Scenario::find(&id).is_none(),
            NOT_SCENARIOS.iter().any(|(other, _)| *other == id),
            "{id}"
        );
    }
}

/// The table of what each policy and regime must report, column by column, apart from the scenarios' own
/// expectations. P1 and C together were never a kernel; they follow from the rule.
#[test]
fn the_summary_table_holds() {
    use LockingPolicy::{P0, P1, P2};
    use ShmemLocking::{A, B, B0, C};
    let maps = ["V1", "M1", "M2", "M3", "M4", "M5", "M6", "vgem_export", "vgem_self_import", "importer_vgem"];
    let unlocked = ["K3", "K5", "K6"];
    let imports = ["V2", "K1-private"];
    let clean: &[&str] = &[];
    let deadlock: &[&str] = &["recursive"];
    let assertion: &[&str] = &["assert-held"];
    for (policy, shmem, of_maps, of_unlocked, of_imports) in [
        (P0, A, clean, clean, clean),
        (P1, A, clean, clean, clean),
        (P1, B, deadlock, assertion, clean),
        (P1, B0, deadlock, assertion, assertion),
        (P1, C, deadlock, assertion, clean),
        (P2, A, clean, clean, clean),
        (P2, B0, clean, assertion, assertion),
        (P2, B, clean, assertion, clean),
        (P2, C, clean, assertion, clean),
    ] {
        let setup = Setup { policy, shmem };
        let columns = [(&maps[..], of_maps), (&unlocked[..], of_unlocked), (&imports[..], of_imports)];
        for (ids, expected) in columns {
            for id in ids {
                assert_eq!(reported(&run(id, setup)), expected, "{id} under {setup}");
            }
        }
    }
}

#[test]
fn a_deadlock_is_certain_and_stops_the_run_and_an_assertion_does_not() {
    let setup = Setup { policy: LockingPolicy::P1, shmem: ShmemLocking::B };
    let stopped = run("V1", setup);
    assert!(matches!(stopped.end, End::Stopped), "{:?}", stopped.end);
    assert!(stopped.reports[0].is_certain());
    let asserted = run("K3", setup);
    assert!(matches!(asserted.end, End::Done), "{:?}", asserted.end);
}

/// Two instances of one class: no certain deadlock, but the kernel's rule all the same.
#[test]
fn two_drivers_on_the_shmem_helper_nest_its_vmap_lock_in_regime_a() {
    for policy in LockingPolicy::ALL {
        let run = run("P15", Setup { policy, shmem: ShmemLocking::A });
        assert!(!run.reports.is_empty());
        for report in &run.reports {
            let (wanted, held) = (report.wanted.as_ref().unwrap(), report.conflict.as_ref().unwrap());
            assert_eq!(wanted.lock.class, "&shmem->vmap_lock");
            assert_eq!(held.lock.class, "&shmem->vmap_lock");
            assert_ne!(wanted.lock.instance, held.lock.instance);
            assert!(!report.is_certain());
        }
    }
}

/// The same programs ran on a real kernel whose dma-buf core held the lock around mmap.
#[test]
fn under_the_old_policy_each_program_gets_the_report_of_the_real_kernel() {
    let setup = Setup { policy: LockingPolicy::P1, shmem: ShmemLocking::C };
    for program in ["vgem_export", "vgem_self_import", "vgem_into_vkms", "importer_vgem"] {
        let run = run(program, setup);
        let kernel = facts(&old_policy_report(program));
        assert_eq!(kernel.len(), 4, "wanted, held, and two locks held: {kernel:?}");
        assert_eq!(facts(&run.reports[0].to_string()), kernel, "{program}");
    }
}

#[test]
fn the_reservation_lock_is_held_in_an_exporters_mmap_under_p1_only() {
    for setup in Setup::all() {
        for id in ["V1", "M1", "importer_vgem", "vgem_into_vkms"] {
            let run = run(id, setup);
            let through_core = |path: &str| path != "drm_gem_mmap_obj";
            let mapped: Vec<_> = run.mmaps.iter().filter(|entry| through_core(entry.path)).collect();
            assert!(!mapped.is_empty(), "{id} {setup}");
            let held = mapped.iter().any(|entry| entry.resv_held);
            assert_eq!(held, setup.policy == LockingPolicy::P1, "{id} {setup}: {mapped:?}");
        }
    }
}

#[test]
fn the_events_are_printed_in_the_form_of_the_recorded_sequences() {
    let ended = lockdep(&["scenario", "vgem_export", "--events"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let models: Sequence = ended.stdout.parse().unwrap_or_else(|error| panic!("{error}\n{}", ended.stdout));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sequences/vgem_export.seq");
    let kernel: Sequence = std::fs::read_to_string(path).unwrap().parse().unwrap();
    compare(&in_scope(&kernel), &as_extracted(&models)).unwrap_or_else(|mismatch| panic!("{mismatch}"));
}

#[test]
fn the_events_of_another_setup_show_its_locks() {
    let ended = lockdep(&["scenario", "vgem_handle", "--events", "--policy", "P0", "--shmem", "A"]);
    assert!(ended.stdout.contains("+ &shmem->pages_lock #1 W @ drm_gem_shmem_get_pages"), "{}", ended.stdout);
    let ended = lockdep(&["scenario", "V1", "--events", "--policy", "P1", "--shmem", "B"]);
    assert!(ended.stdout.contains("policy P1 B: stopped"), "{}", ended.stdout);
    let last = ended.stdout.trim_end().lines().last().expect("events");
    assert!(
        last.contains("reservation_ww_class_mutex #1 W @ drm_gem_shmem_mmap"),
        "where it stopped: {last}"
    );
}

#[test]
fn a_scenario_is_found_by_id_and_by_name() {
    for name in ["v1", "vgem_basic@dmabuf-mmap"] {
        let (_, results) = json(&["scenario", name, "--policy", "P2", "--shmem", "C"]);
        assert_eq!((results.len(), word(&results[0], "id")), (1, "V1"));
    }
}

#[test]
fn the_json_has_a_result_for_each_setup() {
    let (status, results) = json(&["scenario", "V1", "V2"]);
    assert_eq!(status, 0);
    assert_eq!(results.len(), 24);
    for result in &results {
        assert_eq!(result["ok"], true, "{result:#}");
        assert_eq!(words(result, "expected"), words(result, "reported"), "{result:#}");
        assert!(result["milliseconds"].as_f64().is_some_and(|time| time > 0.0), "{result:#}");
        let reports = result["reports"].as_array().expect("a list of reports");
        assert_eq!(reports.is_empty(), words(result, "reported").is_empty());
        for report in reports {
            assert!(words(result, "reported").contains(&word(report, "kind")));
            assert!(word(report, "text").contains("WARNING"));
        }
    }
    let setups: Vec<_> =
        results.iter().map(|result| (word(result, "policy"), word(result, "shmem"))).collect();
    assert_eq!(setups[..2], [("P0", "A"), ("P0", "B0")]);
}

#[test]
fn with_a_policy_any_finding_is_status_1() {
    assert_eq!(json(&["scenario", "V1"]).0, 0, "the deadlocks are expected");
    assert_eq!(json(&["scenario", "V1", "--policy", "P1"]).0, 1);
    assert_eq!(json(&["scenario", "V1", "--policy", "P1", "--shmem", "A"]).0, 0);
    assert_eq!(json(&["scenario", "V1", "--policy", "P2"]).0, 0);
    assert_eq!(json(&["scenario", "K3", "--policy", "P2", "--shmem", "C"]).0, 1);
}

#[test]
fn the_text_says_which_setups_had_which_verdict() {
    let ended = lockdep(&["scenario", "V1", "V3"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    assert!(lines.contains(&"    recursive               P1 B0, P1 B, P1 C"), "{lines:#?}");
    assert!(lines.contains(&"    clean                   all 12"), "{lines:#?}");
    let timed = |line: &str, before: &str| {
        line.strip_prefix(before)?.trim().strip_suffix(" ms")?.parse::<f64>().ok().filter(|time| *time > 0.0)
    };
    let rows = ["V1                vgem_basic@dmabuf-mmap", "24 runs, 3 with a finding, 0 not as expected,"];
    for row in rows {
        assert!(lines.iter().any(|line| timed(line, row).is_some()), "{row}: {lines:#?}");
    }
}

#[test]
fn the_list_names_every_scenario() {
    let (status, scenarios) = command::json("scenarios", &["scenario", "--list"]);
    assert_eq!(status, 0);
    assert_eq!(scenarios.len(), registry().len());
    assert!(scenarios.iter().all(|scenario| !word(scenario, "about").is_empty()));
    assert!(lockdep(&["scenario", "--list"]).stdout.contains("vgem_basic@dmabuf-mmap"));
}

#[test]
fn a_mistake_is_one_clear_line_and_status_2() {
    let ended = lockdep(&["scenario", "V99"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.starts_with("lockdep: unknown scenario `V99`: it is one of vgem_handle,"));
    assert_eq!(ended.stderr.lines().count(), 1);
    let ended = lockdep(&["scenario", "V1", "--policy", "P3"]);
    assert_eq!(ended.status, 2);
    assert_eq!(ended.stderr, "lockdep: unknown policy `P3`: it is one of P0, P1, P2\n");
}
