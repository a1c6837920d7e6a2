// SPDX-License-Identifier: GPL-2.0-only
//! The bugs of the corpus, broken and fixed, with the validator and without: what a run shows by itself does not depend on
//! who watches.

use instrumented_drivers::bug::Bug;
use instrumented_drivers::scenario::End;
use instrumented_drivers::scenario::bugs::{Case, Ends};

#[test]
fn the_broken_code_shows_what_it_must_and_the_fixed_code_nothing() {
    for case in Case::all() {
        let judged = case.judge();
        assert!(judged.is_fixed_clean(), "{case:?}: {:?}", judged.fixed);
        let broken = &judged.broken;
        if lockdep::ENABLED {
            assert!(judged.is_as_expected(), "{case:?}: {broken:?}");
        } else if case.expected.ends == Ends::Stopped {
            assert!(broken.failure().is_some_and(|failure| failure.to_string().contains("would hang")));
        } else if case.expected.kinds.is_empty() {
            assert!(judged.ended_as_expected(), "{case:?}: {broken:?}");
        } else {
            assert!(matches!(broken.end, End::Done), "{case:?}: {broken:?}");
        }
    }
}

#[test]
fn each_bug_is_in_the_table() {
    let cases = Case::all();
    for bug in Bug::ALL {
        // It takes no lock, is in no corpus, and has a test of its own.
        let listed = bug == Bug::LateTimeoutLosesJob || cases.iter().any(|case| case.is_about(bug));
        assert!(listed, "{bug:?}");
    }
}
