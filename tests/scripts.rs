// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts: the recorded programs, written in the language of `lockdep scenario --script`, against the same programs
//! written in Rust; and the command on good and bad files.
#![cfg(feature = "lockdep")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use instrumented_drivers::scenario::script::Script;
use instrumented_drivers::scenario::sequence::{Sequence, compare};
use instrumented_drivers::scenario::{Scenario, Setup, registry};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scripts")
}

fn script(program: &str) -> Script {
    let path = folder().join(format!("{program}.script"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Script::parse(&text).unwrap_or_else(|error| panic!("{}:{error}", path.display()))
}

/// The programs that were recorded on a real kernel.
fn recorded() -> Vec<Scenario> {
    registry().into_iter().filter(|scenario| scenario.name.starts_with("oracle@")).collect()
}

#[test]
fn every_recorded_program_is_a_script_that_locks_the_same() {
    let programs = recorded();
    assert_eq!(programs.len(), 14);
    for scenario in programs {
        let (run, wrong) = script(scenario.id).run(Setup::LINUX_6_12);
        assert_eq!(wrong, None, "{}", scenario.id);
        assert!(run.failure().is_none(), "{}: {:?}", scenario.id, run.end);
        let written = Sequence::from(&*scenario.run_recorded(Setup::LINUX_6_12).recorded);
        if let Err(mismatch) = compare(&written, &Sequence::from(&*run.recorded)) {
            panic!("{}: {mismatch}", scenario.id);
        }
    }
}

#[test]
fn a_script_expects_what_its_program_expects_and_gets_it_in_every_setup() {
    for scenario in recorded() {
        let script = script(scenario.id);
        for setup in Setup::all() {
            assert_eq!(script.expected(setup), scenario.expected(setup), "{} {setup}", scenario.id);
            let (run, wrong) = script.run(setup);
            assert_eq!(wrong, None, "{} {setup}", scenario.id);
            assert!(script.is_as_expected(setup, &run), "{} {setup}: {:?}", scenario.id, run.end);
        }
    }
}

/// The command, with the script on its standard input.
fn lockdep(args: &[&str], script: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args([&["scenario", "--script", "-"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads all of it");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("ends by itself"), text(stdout), text(stderr))
}

const MAPS: &str = "vgem = open vgem\nh = create vgem\nb = PRIME_HANDLE_TO_FD vgem h\nmap = mmap b\n";

#[test]
fn the_command_prints_events_and_verdict() {
    let (status, stdout, stderr) = lockdep(&[], MAPS);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("# models, script <stdin>, policy P2 C: done\ntask init\n"), "{stdout}");
    assert!(stdout.ends_with("\nverdict: clean, as expected\n"), "{stdout}");
    let events: Sequence = stdout.split("\nverdict").next().unwrap().parse().expect("the form of a sequence");
    assert!(
        events.to_string().contains("+ reservation_ww_class_mutex #1 W @ drm_gem_shmem_mmap"),
        "{events}"
    );
}

#[test]
fn a_finding_is_printed_as_a_report_and_is_status_1_unless_the_script_says_so() {
    let old = ["--policy", "P1", "--shmem", "B"];
    let (status, stdout, stderr) = lockdep(&old, MAPS);
    assert_eq!((status, stderr.as_str()), (1, ""));
    assert!(stdout.contains("WARNING: possible recursive locking detected"), "{stdout}");
    assert!(stdout.ends_with("\nverdict: recursive; NOT AS EXPECTED: clean\n"), "{stdout}");
    let (status, stdout, _) = lockdep(&old, &format!("finds recursive if P1 B\n{MAPS}"));
    assert_eq!(status, 0);
    assert!(stdout.ends_with("\nverdict: recursive, as expected\n"), "{stdout}");
    let (status, ..) = lockdep(&[], &format!("finds recursive\n{MAPS}"));
    assert_eq!(status, 1, "it is clean under P2");
}

#[test]
fn a_mistake_is_one_line_with_file_line_and_column_and_status_2() {
    let (status, stdout, stderr) = lockdep(&[], "x = opne vgem\n");
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.starts_with("lockdep: <stdin>:1:5: `opne` is no call; expected "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
    let (status, stdout, stderr) = lockdep(&[], "vgem = open vgem\nGEM_CLOSE vgem 7\n");
    assert_eq!(status, 2);
    assert!(stdout.contains("drm_gem_handle_delete"), "what there was until then is printed: {stdout}");
    assert_eq!(stderr, "lockdep: <stdin>:2:1: `GEM_CLOSE` failed with EINVAL; expected it to succeed\n");
    let missing = Command::new(env!("CARGO_BIN_EXE_lockdep"))
        .args(["scenario", "--script", "no/such.script"])
        .output()
        .expect("it starts");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("lockdep: no/such.script: "));
}

#[test]
fn the_json_has_events_verdict_and_reports() {
    let (status, stdout, _) = lockdep(&["--format", "json", "--policy", "P1", "--shmem", "C"], MAPS);
    assert_eq!(status, 1);
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let script = &document["script"];
    assert_eq!(script["ok"], false);
    assert_eq!(script["end"], "stopped");
    assert_eq!(script["reported"], serde_json::json!(["recursive"]));
    assert_eq!(script["reports"][0]["kind"], "recursive");
    assert!(script["sequence"].as_str().is_some_and(|text| text.starts_with("task init\n")));
}
