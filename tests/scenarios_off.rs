// SPDX-License-Identifier: MIT OR Apache-2.0
//! The feature off: the same scenarios run as ordinary concurrent code, on locks that really block, and the command
//! says that it has nothing to judge with.
#![cfg(not(feature = "lockdep"))]

use std::process::{Command, Stdio};

use instrumented_drivers::policy::LockingPolicy;
use instrumented_drivers::scenario::mission::Cell;
use instrumented_drivers::scenario::{End, Setup, registry};

#[test]
fn every_scenario_that_cannot_hang_runs_to_its_end() {
    let mut runs = 0;
    for scenario in registry() {
        for setup in Setup::all().filter(|setup| !scenario.hangs(*setup)) {
            let run = scenario.run(setup);
            assert!(matches!(run.end, End::Done), "{} {setup}: {:?}", scenario.id, run.end);
            assert!(run.reports.is_empty(), "nobody watches");
            runs += 1;
        }
    }
    assert!(runs > 300, "only {runs} runs");
}

#[test]
fn a_scenario_that_would_hang_is_refused() {
    for scenario in registry() {
        for setup in Setup::all().filter(|setup| scenario.hangs(*setup)) {
            assert_eq!(setup.policy, LockingPolicy::P1);
            let run = scenario.run(setup);
            let failure = run.failure().unwrap_or_else(|| panic!("{} {setup} ran", scenario.id));
            assert!(failure.to_string().contains("would hang"), "{failure}");
        }
    }
}

#[test]
fn every_cell_that_cannot_deadlock_runs_and_says_who_held_the_lock() {
    for cell in Cell::all().filter(|cell| !cell.deadlocks()) {
        let outcome = cell.run();
        assert!(matches!(outcome.run.end, End::Done), "{cell}: {:?}", outcome.run.end);
        // Not through the file of the driver's own device.
        let core = ["dma_buf_mmap_internal", "dma_buf_mmap"];
        let through_core = outcome.run.mmaps.iter().filter(|entry| core.contains(&entry.path));
        for entry in through_core {
            assert_eq!(entry.resv_held, cell.setup.policy == LockingPolicy::P1, "{cell}: {entry:?}");
        }
    }
}

#[test]
fn the_command_says_that_the_feature_is_missing() {
    for args in [&["mmap"][..], &["scenario", "V1"], &["mmap", "--policy", "P9"], &[]] {
        let output = Command::new(env!("CARGO_BIN_EXE_lockdep"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built for this test");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(stderr.contains("built without the feature `lockdep`"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
        assert!(output.stdout.is_empty());
    }
}
