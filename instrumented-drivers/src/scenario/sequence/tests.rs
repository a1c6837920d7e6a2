// SPDX-License-Identifier: GPL-2.0-only
//! The text form, its errors, the comparison and the projections, without any model.

use proptest::prelude::*;

use super::{How, Op, Sequence, Step, TaskSequence, as_extracted, compare, in_scope};
use lockdep::Mode;

fn parse(text: &str) -> Sequence {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn error_of(text: &str) -> String {
    text.parse::<Sequence>().expect_err(text).to_string()
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let cases = [
        ("+ a #1 W @ f", "line 1: there is no `task NAME` line before this one"),
        ("task t\n+ a 1 W @ f", "line 2: `+ a 1 W @ f` is not `SIGN CLASS #N … @ FUNCTION`"),
        ("task t\n+ a #1 W f", "line 2: `+ a #1 W f` is not `SIGN CLASS #N … @ FUNCTION`"),
        ("task t\n* a #1 @ f", "line 2: `*` is none of `+`, `-` and `~`"),
        ("task t\n+ a #1 X @ f", "line 2: `X` is none of `W`, `R`, `RR` and `U`"),
        ("task t\n+ a #1 W sub=x @ f", "line 2: `sub=x` is none of `try`, `sub=N` and `nest`"),
        ("task t\n- a #1 W @ f", "line 2: `W` is out of place"),
        ("task t\n\n- a #1 @ f", "line 3: a release, but no lock is held"),
        ("task t\n  + a #1 W @ f", "line 2: indented by 2, but 0 locks are held: 0"),
        ("task t\n}", "line 2: this `}` closes nothing, no block is open"),
        ("task t\nrepeat 0 {\n}", "line 2: `repeat 0 {` is not `repeat N {` with N at least 1"),
        ("task t\nrepeat 2 {\n+ a #1 W @ f\n}", "line 4: the block begins with 0 locks held and ends with 1"),
        ("task t\n# a\nrepeat 2 {\n", "line 3: this block is never closed"),
        ("task t\nrepeat 2 {\ntask u", "line 3: a task cannot begin inside a repeated block"),
        ("task t\nrepeat 99999999999 {\n+ a #1 W @ f\n- a #1 @ f\n}", "line 5: more than 1000000 events"),
    ];
    for (text, expected) in cases {
        assert_eq!(error_of(text), expected, "{text}");
    }
}

#[test]
fn a_repeated_block_is_the_block_written_out() {
    let folded = "task t\nrepeat 3 {\n+ a b #1 RR try sub=2 nest @ f\n  ~ a b #1 @ f\n- a b #1 @ f\n}\n";
    let sequence = parse(folded);
    assert_eq!(sequence.tasks[0].steps.len(), 9);
    assert_eq!(sequence.tasks[0].steps[0].class, "a b");
    assert_eq!(sequence.to_string(), folded);
}

#[test]
fn a_difference_in_any_field_is_found() {
    let base = "task t\n+ a #1 W @ f\n  + b #1 R @ g\n  - b #1 @ g\n- a #1 @ f\n";
    let others = [
        ("b #1 R @ g", "b #1 W @ g"),
        ("b #1 R @ g", "b #1 R try @ g"),
        ("b #1 R @ g", "b #1 R sub=1 @ g"),
        ("b #1 R @ g", "b #1 R nest @ g"),
        ("b #1 R @ g", "b #2 R @ g"),
        ("b #1 R @ g", "c #1 R @ g"),
        ("b #1 R @ g", "b #1 R @ h"),
        ("task t", "task u"),
        ("  + b #1 R @ g\n  - b #1 @ g\n", ""),
        ("- a #1 @ f", "- a #1 @ f\n\ntask t\n+ a #1 W @ f"),
    ];
    assert_eq!(compare(&parse(base), &parse(base)), Ok(()));
    for (from, to) in others {
        let other = parse(&base.replacen(from, to, 1));
        assert!(compare(&parse(base), &other).is_err(), "{from} -> {to}");
        assert!(compare(&other, &parse(base)).is_err(), "{to} -> {from}");
    }
}

#[test]
fn a_difference_is_shown_with_the_events_before_it() {
    let expected = parse("task t\n+ a #1 W @ f\n  + b #1 W @ g\n  - b #1 @ g\n- a #1 @ f\n");
    let got = parse("task t\n+ a #1 W @ f\n- a #1 @ f\n");
    let mismatch = compare(&expected, &got).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "task t (no. 1), event 2:\n           + a #1 W @ f\nexpected     + b #1 W @ g\n             - b #1 @ g\n           \
         - a #1 @ f\n     got   - a #1 @ f\n"
    );
}

#[test]
fn a_lock_may_have_the_number_of_one_that_is_gone_and_of_no_other() {
    let hold = |first: usize, second: usize, third: usize| {
        let one = |number| format!("+ a #{number} W @ f\n- a #{number} @ f\n");
        parse(&format!("task t\n{}{}{}", one(first), one(second), one(third)))
    };
    assert_eq!(compare(&hold(1, 1, 1), &hold(1, 2, 3)), Ok(()), "each is gone before the next comes");
    assert_eq!(compare(&hold(1, 2, 1), &hold(1, 2, 1)), Ok(()));
    assert!(compare(&hold(1, 1, 1), &hold(1, 2, 1)).is_err(), "the first is still there");
    assert!(compare(&hold(1, 2, 1), &hold(1, 1, 1)).is_err(), "one lock has one number");
    assert!(compare(&hold(1, 2, 1), &hold(1, 2, 2)).is_err());
    let both = parse("task t\n+ a #1 W @ f\n  + a #2 W @ f\n  - a #2 @ f\n- a #1 @ f\n");
    let twice = parse("task t\n+ a #1 W @ f\n  + a #1 W @ f\n  - a #1 @ f\n- a #1 @ f\n");
    assert!(compare(&twice, &both).is_err(), "the first is held");
}

#[test]
fn what_a_compiler_appends_to_a_name_does_not_count() {
    let kernel = parse("task t\n+ a #1 W @ slab_alloc_node.isra.0\n- a #1 @ f.constprop.0\n");
    let model = parse("task t\n+ a #1 W @ slab_alloc_node\n- a #1 @ f\n");
    assert_eq!(compare(&kernel, &model), Ok(()));
}

#[test]
fn only_what_is_out_of_scope_is_projected_away() {
    let kernel = parse(
        "task t
+ resv #1 W @ f
  + fs_reclaim #1 W @ __alloc_pages_noprof
  - fs_reclaim #1 @ __alloc_pages_noprof
  + &vb->lock #1 W @ g
  - &vb->lock #1 @ g
  + fs_reclaim #1 W @ __alloc_pages_noprof
  - fs_reclaim #1 @ __alloc_pages_noprof
  + fs_reclaim #1 W @ slab_alloc_node.isra.0
  - fs_reclaim #1 @ slab_alloc_node.isra.0
- resv #1 @ f
+ resv #1 W @ f
  + fs_reclaim #1 W @ __alloc_pages_noprof
  - fs_reclaim #1 @ __alloc_pages_noprof
- resv #1 @ f
",
    );
    let expected = "task t
+ resv #1 W @ f
  + fs_reclaim #1 W @ __alloc_pages_noprof
  - fs_reclaim #1 @ __alloc_pages_noprof
  + fs_reclaim #1 W @ slab_alloc_node.isra.0
  - fs_reclaim #1 @ slab_alloc_node.isra.0
- resv #1 @ f
+ resv #1 W @ f
  + fs_reclaim #1 W @ __alloc_pages_noprof
  - fs_reclaim #1 @ __alloc_pages_noprof
- resv #1 @ f
";
    assert_eq!(in_scope(&kernel).to_string(), expected);
}

#[test]
fn a_model_is_extracted_as_the_traces_were() {
    let model = parse(
        "task t
+ &mm->mmap_lock #1 W @ f
  + fs_reclaim #1 W @ g
  - fs_reclaim #1 @ g
- &mm->mmap_lock #1 @ f
+ &mm->mmap_lock #2 W @ f
  + &mm->mmap_lock #3 W sub=1 @ f
  - &mm->mmap_lock #3 @ f
  ~ &mm->mmap_lock #2 @ f
- &mm->mmap_lock #2 @ f
+ &mm->mmap_lock #2 W @ f
  ~ &mm->mmap_lock #2 @ f
  + resv #1 W @ g
    + fs_reclaim #1 W @ h
    - fs_reclaim #1 @ h
  - resv #1 @ g
- &mm->mmap_lock #2 @ f
+ fs_reclaim #1 W @ g
- fs_reclaim #1 @ g

task u
+ &mm->mmap_lock #1 W @ f
- &mm->mmap_lock #1 @ f
",
    );
    let expected = "task t
+ &mm->mmap_lock #1 W @ f
  + resv #1 W @ g
    + fs_reclaim #1 W @ h
    - fs_reclaim #1 @ h
  - resv #1 @ g
- &mm->mmap_lock #1 @ f
";
    assert_eq!(as_extracted(&model).to_string(), expected);
}

/// A task that takes and releases locks, in any order, and ends with none.
fn task() -> impl Strategy<Value = TaskSequence> {
    let mode =
        prop_oneof![Just(Mode::Write), Just(Mode::Read), Just(Mode::RecursiveRead), Just(Mode::Upgradable)];
    let how = (mode, any::<bool>(), 0u8..8, any::<bool>()).prop_map(|(mode, trylock, subclass, nest)| How {
        mode,
        trylock,
        subclass,
        nest,
    });
    let choice = (any::<bool>(), 0usize..3, 1usize..3, how, 0usize..4);
    proptest::collection::vec(choice, 0..60).prop_map(|choices| {
        let step = |op, (class, instance): (usize, usize)| Step {
            op,
            class: ["&mm->mmap_lock", "resv", "a lock"][class].into(),
            instance,
            function: "f".into(),
        };
        let mut held = Vec::new();
        let mut steps = Vec::new();
        for (take, class, instance, how, which) in choices {
            if take || held.is_empty() {
                held.push((class, instance));
                steps.push(step(Op::Acquire(how), (class, instance)));
            } else {
                let lock = held.remove(which % held.len());
                steps.push(step(Op::Release, lock));
            }
        }
        steps.extend(held.into_iter().map(|lock| step(Op::Release, lock)));
        TaskSequence { task: "init".into(), steps }
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(tasks in proptest::collection::vec(task(), 0..3)) {
        let sequence = Sequence { tasks };
        let text = sequence.to_string();
        prop_assert_eq!(text.parse::<Sequence>(), Ok(sequence.clone()));
        prop_assert_eq!(compare(&sequence, &text.parse().unwrap()), Ok(()));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(task t\n)?([-+~ ]{0,3}(a|repeat 2 \\{|\\})( #1)?( W)?( @ f)?\n){0,8}") {
        let _ = text.parse::<Sequence>();
    }
}
