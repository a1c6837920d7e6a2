// SPDX-License-Identifier: GPL-2.0-only
//! The scenarios of the GPU under every policy and regime, with and without the validator.

use instrumented_drivers::scenario::{End, Scenario, Setup};

const IDS: [&str; 14] =
    ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P15"];

#[test]
fn each_scenario_ends_as_stated_in_every_setup_and_leaves_nothing_behind() {
    for id in IDS {
        let scenario = Scenario::find(id).unwrap_or_else(|| panic!("no scenario {id}"));
        for setup in Setup::all() {
            let run = scenario.run(setup);
            let as_stated = if lockdep::ENABLED {
                scenario.is_as_expected(setup, &run)
            } else {
                matches!(run.end, End::Done)
            };
            assert!(as_stated, "{id} {setup}: {:?} {:?}", run.end, run.reports);
        }
    }
}
