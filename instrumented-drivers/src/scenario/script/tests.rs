// SPDX-License-Identifier: GPL-2.0-only
//! The language and its reference.

use super::calls::CALLS;
use super::{LANGUAGE, Script};
use crate::scenario::Setup;
use crate::user::Driver;

/// The blocks of the reference that are not prose: the example, the lines, the calls.
fn blocks() -> Vec<&'static str> {
    LANGUAGE.split("```").skip(1).step_by(2).map(|block| block.trim_start_matches("text\n")).collect()
}

#[test]
fn the_reference_has_every_call_with_its_arguments() {
    let calls: Vec<String> = CALLS.iter().map(ToString::to_string).collect();
    let said = blocks()[2].lines().filter(|line| !line.is_empty());
    let said: Vec<&str> = said.map(|line| line.split("  ").next().unwrap_or_default()).collect();
    assert_eq!(said, calls);
}

#[test]
fn the_example_of_the_reference_does_what_it_says() {
    let script = Script::parse(blocks()[0]).unwrap_or_else(|error| panic!("{error}"));
    for setup in Setup::all() {
        let (run, wrong) = script.run(setup);
        assert_eq!(wrong, None, "{setup}");
        assert!(script.is_as_expected(setup, &run), "{setup}: {:?} {:?}", run.reported(), run.end);
    }
}

#[test]
fn the_reference_names_every_driver() {
    let prose = LANGUAGE.rsplit("```").next().unwrap_or_default();
    let named: Vec<&str> = prose.split(|c: char| c.is_whitespace() || c == ',' || c == '.').collect();
    for driver in Driver::ALL {
        assert!(named.contains(&driver.name()), "{}", driver.name());
    }
}

/// Each mistake that is seen before the script runs.
#[test]
fn every_mistake_is_told_with_its_place_and_what_was_expected() {
    const BUFFER: &str = "vgem = open vgem\nh = create vgem\n";
    let cases = [
        (
            "a = opne vgem",
            "1:5: `opne` is no call; expected `finds`, `expect`, `for`, `fork` or a call: open close ",
        ),
        ("open vgm", "1:6: `vgm` is no driver; expected one of vgem, vkms, panfrost, lima, "),
        ("close  vgem", "1:8: `vgem` has no value here; expected a file"),
        ("vgem = open vgem\nclose vgm", "2:7: `vgm` has no value here; expected a file: vgem"),
        ("@GEM_CLOSE h vgem", "3:11: `h` is a handle; expected a file"),
        (
            "@GEM_CLOSE vgem",
            "3:15: expected HANDLE, as in `GEM_CLOSE FILE HANDLE`, found the end of the line",
        ),
        (
            "@GEM_CLOSE vgem h h",
            "3:18: expected the end of the line after `GEM_CLOSE FILE HANDLE`, found `h`",
        ),
        ("@m = mmap vgem 256k", "3:15: `256k` is no number; expected one such as 3, 0x10 or 256K"),
        ("@m = mmap vgem 99999999999999M", "3:15: `99999999999999M` is no number; expected one such as 3"),
        ("@SYNC vgem begin rw", "3:11: `begin` has no value here; expected one of start, end"),
        ("@x = close vgem", "3:5: `close` gives nothing that `x` could be"),
        ("@h = open vgem", "3:1: `h` is a handle, it cannot become a file"),
        ("3 = open vgem", "1:1: `3` is no name: expected a letter, then letters, digits and `_`"),
        (
            "@expect EINVALID: close vgem",
            "3:8: `EINVALID` is no error; expected one such as EINVAL or SIGBUS",
        ),
        ("@expect h = 3", "3:10: expected `==` or `!=`, found `=`"),
        ("@expect h ==", "3:12: expected a handle, found the end of the line"),
        ("@expect g == 3", "3:8: `g` has no value here; expected a name with a value: h vgem"),
        ("finds deadlock", "1:7: `deadlock` is no report kind; expected one of: "),
        ("finds", "1:6: expected a report kind after `finds`"),
        (
            "finds recursive if P3",
            "1:20: expected a policy (P0 P1 P2), a shmem regime (A B0 B C), or both, found `P3`",
        ),
        ("finds recursive if P1,", "1:23: expected a policy or a shmem regime, found the end of the line"),
        ("for i of 0..3 {", "1:7: expected `in` and a range such as `0..3`, found `of`"),
        ("for i in 3 {", "1:10: expected a range such as `0..3`, found `3`"),
        ("fork", "1:5: expected `{`, found the end of the line"),
        ("fork (", "1:6: expected `{` after `fork`, found `(`"),
        ("  fork {\n", "1:3: this `fork` is never closed; expected a line with `}`"),
        ("}", "1:1: this `}` closes nothing, no block is open"),
        ("@fork {\nm = mmap vgem\n}\nmunmap m", "6:8: `m` has no value here; expected a mapping"),
        ("@for i in 0..0 {\nm = mmap vgem\n}\nmunmap m", "6:8: `m` has no value here; expected a mapping"),
    ];
    let mut differ = Vec::new();
    for (text, expected) in cases {
        let text = text.replacen('@', BUFFER, 1);
        let error = Script::parse(&text).expect_err(&text).to_string();
        if !error.starts_with(expected) {
            differ.push(format!("{text}\n  {error}\n  {expected}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Each way in which a run can differ from what the text says.
#[test]
fn a_call_that_does_not_end_as_written_stops_the_script_and_is_told_with_its_place() {
    let cases = [
        ("x = open vgem\n  close 9", "2:3: `close` failed with EBADF; expected it to succeed"),
        ("expect EBADF: open vgem", "1:1: `open` succeeded; expected EBADF"),
        ("expect EINVAL: close 9", "1:1: `close` failed with EBADF; expected EINVAL"),
        (
            "m = memfd_create\nmap = mmap m\nmunmap map\nwrite map 0 1",
            "4:1: `write` failed with SIGSEGV; expected it to succeed",
        ),
        ("m = memfd_create\nmap = mmap m\nb = read map\nexpect b == 7", "4:1: `b` is 0; expected 7"),
        (
            "m = memfd_create\nsize = lseek_end m\nexpect size != 256K",
            "3:1: `size` is 262144; expected anything but 262144",
        ),
        ("fork {\nclose 9\n}", "2:1: `close` failed with EBADF; expected it to succeed"),
        ("for i in 0..2 {\nexpect i == 0\n}", "2:1: `i` is 1; expected 0"),
    ];
    for (text, expected) in cases {
        let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (run, wrong) = script.run(Setup::LINUX_6_12);
        assert_eq!(wrong.expect(text).to_string(), expected);
        assert!(!script.is_as_expected(Setup::LINUX_6_12, &run), "{text}");
        assert!(run.reports.is_empty(), "a process that is dropped is no finding");
    }
}

#[test]
fn what_is_left_open_is_closed_and_a_finding_nobody_wrote_is_not_as_expected() {
    let text =
        "vgem = open vgem\nh = create vgem\nbuffer = PRIME_HANDLE_TO_FD vgem h\nmap = mmap buffer\ntouch map";
    let script = Script::parse(text).unwrap();
    let (run, wrong) = script.run(Setup::LINUX_6_12);
    assert!(wrong.is_none() && script.is_as_expected(Setup::LINUX_6_12, &run), "{:?}", run.end);
    let old = Setup { policy: crate::policy::LockingPolicy::P1, ..Setup::LINUX_6_12 };
    let (run, wrong) = script.run(old);
    assert!(wrong.is_none(), "it is the finding that stops it");
    assert!(!script.is_as_expected(old, &run), "it found {:?}", run.reported());
    let (run, _) = Script::parse("finds recursive").unwrap().run(old);
    assert!(run.reports.is_empty() && !Script::parse("finds recursive").unwrap().is_as_expected(old, &run));
}
