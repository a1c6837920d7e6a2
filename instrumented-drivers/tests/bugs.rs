// SPDX-License-Identifier: GPL-2.0-only
//! The bugs of the corpus, broken and fixed, with the validator and without: what a run shows by itself does not depend on
//! who watches.

use instrumented_drivers::bug::Bug;
use instrumented_drivers::scenario::End;
use instrumented_drivers::scenario::bugs::{Case, Expected};

#[test]
fn the_broken_code_shows_what_it_must_and_the_fixed_code_nothing() {
    for case in Case::all() {
        let judged = case.judge();
        assert!(judged.is_fixed_clean(), "{case:?}: {:?}", judged.fixed);
        let broken = &judged.broken;
        match case.expected {
            Expected::Report { stops: true, .. } if !lockdep::ENABLED => {
                assert!(broken.failure().is_some_and(|failure| failure.to_string().contains("would hang")));
            }
            Expected::Report { .. } if !lockdep::ENABLED => {
                assert!(matches!(broken.end, End::Done), "{case:?}: {broken:?}");
            }
            _ => assert!(judged.is_as_expected(), "{case:?}: {broken:?}"),
        }
    }
}

#[test]
fn each_bug_is_in_the_table() {
    let cases = Case::all();
    for bug in Bug::ALL {
        // The first takes no lock and has a test of its own; the second hides others.
        let elsewhere = [Bug::LateTimeoutLosesJob, Bug::FaultsUnannotated].contains(&bug);
        let listed = elsewhere || cases.iter().any(|case| case.is_about(bug));
        assert!(listed, "{bug:?}");
    }
}
