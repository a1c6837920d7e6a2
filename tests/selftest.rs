// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's locking self-test against what a real kernel printed, cell by cell: verdict and kind of report.
#![cfg(feature = "lockdep")]

use std::collections::BTreeMap;
use std::process::Command;

use instrumented_drivers::selftest::blocks;
use lockdep::ReportKind;
use lockdep::ww::WwMisuse;
use serde_json::Value;

/// One line of the kernel's record.
struct Cell {
    section: String,
    row: String,
    test: String,
    expected: String,
    observed: String,
    headline: String,
}

fn kernel_cells(file: &str) -> Vec<Cell> {
    let path = format!("{}/tests/data/selftest/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the record");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("section,row,test_fn,lockclass_mask_hex,expected,observed,first_headline"));
    lines
        .map(|line| {
            // No field but the last contains a comma.
            let mut fields = line.splitn(7, ',').map(str::to_owned);
            let mut next = || fields.next().unwrap_or_else(|| panic!("seven fields: {line}"));
            let (section, row, test) = (next(), next(), next());
            let _mask = next();
            Cell { section, row, test, expected: next(), observed: next(), headline: next() }
        })
        .collect()
}

/// The kind that says what a headline of the kernel says. The reclaim cells have no headline.
fn kind_of(cell: &Cell) -> Option<ReportKind> {
    if cell.observed == "silent" {
        return None;
    }
    if cell.section == "fs_reclaim tests" {
        assert!(cell.headline.starts_with("(mask 0"), "{}", cell.headline);
        return Some(ReportKind::Recursive);
    }
    let words = [
        ("possible recursive locking detected", ReportKind::Recursive),
        ("possible circular locking dependency detected", ReportKind::Circular),
        ("bad unlock balance detected", ReportKind::Balance),
        ("held lock freed", ReportKind::Freed),
        ("inconsistent lock state", ReportKind::IrqState),
        ("possible irq lock inversion dependency detected", ReportKind::IrqInversion),
        ("-unsafe lock order detected", ReportKind::IrqOrder),
        ("Nested lock was not taken", ReportKind::NestMissing),
        ("Invalid wait context", ReportKind::WaitContext),
        ("DEBUG_LOCKS_WARN_ON", ReportKind::WwApi),
    ];
    let found = words.into_iter().find(|(words, _)| cell.headline.contains(words));
    Some(found.unwrap_or_else(|| panic!("{}: unknown headline {}", cell.test, cell.headline)).1)
}

/// The kernel's condition that failed, as our word for the misuse.
fn misuse_of(headline: &str) -> Option<WwMisuse> {
    let condition = headline.split_once("DEBUG_LOCKS_WARN_ON(")?.1.strip_suffix(')')?;
    Some(match condition {
        "ww->ctx" => WwMisuse::StaleContext,
        "ww_ctx->done_acquire" => WwMisuse::AfterDone,
        "ww_ctx->contending_lock != ww" => WwMisuse::WrongLock,
        "ww_ctx->acquired > 0" => WwMisuse::StillHolding,
        "ww_ctx->ww_class != ww->ww_class" => WwMisuse::WrongClass,
        "ww_ctx->contending_lock" => WwMisuse::IgnoredBackOff,
        "!ctx->contending_lock" => WwMisuse::UnneededSlow,
        "!lock->ctx->acquired" => WwMisuse::Unbalanced,
        "ctx->done_acquire" => WwMisuse::DoneTwice,
        _ => panic!("unknown condition {condition}"),
    })
}

type Key = (String, String, String);

/// Section, row and column of each of our cases, with the first report.
fn our_cells() -> BTreeMap<Key, Option<lockdep::Report>> {
    blocks()
        .into_iter()
        .flat_map(|block| block.cases)
        .map(|case| {
            let outcome = case.run();
            assert_eq!(outcome.problem, None, "{}", case.column);
            ((case.section.to_owned(), case.row, case.column), outcome.report)
        })
        .collect()
}

#[test]
fn every_cell_agrees_with_the_real_kernel_in_verdict_and_kind() {
    let ours = our_cells();
    for (file, cells) in [("selftest-6.12-rawnesting-cells.csv", 394), ("selftest-6.12-cells.csv", 358)] {
        let kernels = kernel_cells(file);
        assert_eq!(kernels.len(), cells, "{file}");
        let mut wrong = Vec::new();
        for cell in &kernels {
            assert_eq!(cell.expected, cell.observed, "the kernel passes its own suite");
            let key = (cell.section.clone(), cell.row.clone(), cell.test.clone());
            let report = ours.get(&key).unwrap_or_else(|| panic!("{file}: we have no case {key:?}"));
            let (had, wanted) = (report.as_ref().map(|report| report.kind), kind_of(cell));
            if had != wanted {
                wrong.push(format!("{}: the kernel says {wanted:?}, we say {had:?}", cell.test));
            }
            let (had, wanted) = (report.as_ref().and_then(|report| report.misuse), misuse_of(&cell.headline));
            if had != wanted {
                wrong.push(format!("{}: the kernel says {wanted:?}, we say {had:?}", cell.test));
            }
        }
        assert!(wrong.is_empty(), "{file}: {} cells:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn we_have_no_cell_that_the_kernel_does_not_have() {
    let kernels: std::collections::BTreeSet<_> = kernel_cells("selftest-6.12-rawnesting-cells.csv")
        .into_iter()
        .map(|cell| (cell.section, cell.row, cell.test))
        .collect();
    for case in blocks().into_iter().flat_map(|block| block.cases) {
        let key = (case.section.to_owned(), case.row, case.column);
        assert!(kernels.contains(&key), "{key:?}");
    }
}

fn lockdep(args: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_lockdep")).args(args).output().expect("the command starts");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

#[test]
fn the_command_prints_the_kernels_table() {
    let (text, status) = lockdep(&["selftest"]);
    assert_eq!(status, Some(0));
    assert_eq!(text.lines().last(), Some("394 of 394 passed"));
    let rows: Vec<_> = text.lines().filter(|line| line.contains(':')).collect();
    let kernels = include_str!("data/selftest/table.txt");
    assert_eq!(rows, kernels.lines().collect::<Vec<_>>());
}

#[test]
fn the_json_has_every_cell_with_the_kernels_labels() {
    let (text, status) = lockdep(&["selftest", "--format", "json"]);
    assert_eq!(status, Some(0));
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["total"], &json["passed"], &json["failed"]), (&394.into(), &394.into(), &0.into()));
    let cases = json["cases"].as_array().expect("cases");
    let mut left: BTreeMap<Key, Cell> = kernel_cells("selftest-6.12-rawnesting-cells.csv")
        .into_iter()
        .map(|cell| ((cell.section.clone(), cell.row.clone(), cell.test.clone()), cell))
        .collect();
    for case in cases {
        let field = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let key = (field("section"), field("row"), field("column"));
        let cell = left.remove(&key).unwrap_or_else(|| panic!("{key:?}"));
        assert_eq!(field("expected"), cell.expected, "{key:?}");
        assert_eq!(field("observed"), cell.observed, "{key:?}");
        assert_eq!(case["kind"].as_str(), kind_of(&cell).map(ReportKind::name), "{key:?}");
    }
    assert!(left.is_empty());
}
