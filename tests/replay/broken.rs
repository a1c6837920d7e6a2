// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that is not a trace, an annotation file or a dump.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{TRACES, file, json, replay, small, stderr, stdout, trace, unpacked};

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_trace_without_releases_is_an_error_where_that_shows() {
    let steps: String = (0..60).map(|n| format!("+a{n} ")).collect();
    let path = file("no-release.trace", small(&steps).as_bytes());
    let output = replay(&[&path]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains(": line 49: a task seems to hold more than 48 locks here"), "{said}");
    assert!(stdout(&output).contains(": 49 events, 49 acquisitions, 0 releases"), "{}", stdout(&output));
}

/// A file that is broken after its finding.
struct Broken {
    name: &'static str,
    bytes: Vec<u8>,
    message: &'static str,
    /// The line of the finding that was made before.
    finding: bool,
}

fn broken_files() -> Vec<Broken> {
    let text = unpacked("abba.trace.gz");
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("{}\n", lines[..800].join("\n"));
    let with = |line: &str| format!("{head}{line}\n{}\n", lines[801..].join("\n")).into_bytes();
    let whole = packed(&text);
    let mut damaged = whole.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    let mut binary = head.clone().into_bytes();
    binary.extend([0, 1, 2, b'\n']);
    let broken = |name, bytes, message, finding| Broken { name, bytes, message, finding };
    vec![
        broken(
            "cut-line.trace",
            text.as_bytes()[..head.len() + 40].to_vec(),
            "line 801: the file is cut off in the middle of this line",
            true,
        ),
        broken(
            "short-line.trace",
            with("            init-38      [001] ...1.     4.88"),
            "line 801: not a line of a trace: a time stamp (`SECONDS.MICROSECONDS:`) is missing",
            true,
        ),
        broken(
            "no-event.trace",
            with("            init-38      [001] ...1.     4.881374: lock_acq"),
            "line 801: not a line of a trace: `EVENT:` is missing after the time stamp",
            true,
        ),
        broken(
            "no-address.trace",
            with("            init-38      [001] ...1.     4.881374: lock_acquire: lk_a"),
            "line 801: not a line of a trace: a lock event must name the address of the lock, in hexadecimal",
            true,
        ),
        broken(
            "no-name.trace",
            with("            init-38      [001] ...1.     4.881374: lock_release: ffffffff81b0a450"),
            "line 801: not a line of a trace: a lock event must name the lock after its address",
            true,
        ),
        broken(
            "hidden.trace",
            with("            init-38      [001] ...1.     4.881374: lock_release: (____ptrval____) lk_a"),
            "line 801: not a line of a trace: the kernel printed no address",
            true,
        ),
        broken(
            "overrun.trace",
            with("CPU:1 [LOST 1234 EVENTS]"),
            "line 801: 1234 events of CPU 1 were lost here (the ring buffer was overrun)",
            true,
        ),
        broken("lost.trace", with("CPU:0 [LOST EVENTS]"), "line 801: events of CPU 0 were lost here", true),
        broken("binary.trace", binary, "line 801: this is not text: the line has byte 0x00 in it", true),
        broken("cut.gz", whole[..whole.len() - 500].to_vec(), ": the gzip data is cut off here", true),
        broken("cut-trailer.gz", whole[..whole.len() - 4].to_vec(), ": the gzip data is cut off here", true),
        broken("damaged.gz", damaged, ": the gzip data is damaged here: ", true),
        broken("head.gz", whole[..9].to_vec(), "line 1: the gzip data is cut off here", false),
        broken(
            "elf.trace",
            b"\x7fELF\x02\x01\x01\0\0\n".to_vec(),
            "line 1: this is not text: the line has byte 0x7f",
            false,
        ),
        broken("empty.trace", Vec::new(), ": the file is empty", false),
        broken(
            "prose.trace",
            b"Dear kernel,\n".to_vec(),
            "line 1: not a line of a trace: `TASK-PID [CPU]`",
            false,
        ),
        broken(
            "header.trace",
            format!("{}\n", lines[..12].join("\n")).into_bytes(),
            ": the header speaks of 2739 events and there is none",
            false,
        ),
        broken("comments.trace", b"# tracer: nop\n#\n".to_vec(), ": there is no event in this file", false),
        broken("long.trace", vec![b'x'; 100_000], "line 1: the line is longer than 65536 bytes", false),
    ]
}

#[test]
fn broken_input_is_named_with_its_line_and_what_was_read_before_is_judged() {
    for Broken { name, bytes, message, finding } in broken_files() {
        let path = file(name, &bytes);
        let output = replay(&[&path]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.starts_with(&format!("lockdep: {path}: ")), "{name}: {said}");
        assert!(said.contains(message), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
        assert_eq!(stdout(&output).contains(&format!("{path}:462: init-38")), finding, "{name}");
    }
}

#[test]
fn a_broken_trace_among_good_ones_spoils_nothing() {
    let broken = file("among.trace", b"Dear kernel,\n");
    let good = trace("abba.trace.gz");
    let output = replay(&["--format", "json", &broken, &good, "no/such.trace"]);
    assert_eq!(output.status.code(), Some(2));
    let json = json(&output);
    assert_eq!(json["traces"][1]["findings"][0]["line"], 462);
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("among.trace: line 1: "), "{said}");
    assert!(said.contains("no/such.trace: cannot open it: "), "{said}");
}

#[test]
fn a_folder_is_no_trace() {
    let output = replay(&[TRACES]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with(&format!("lockdep: {TRACES}: cannot read it: ")),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_trace_is_required() {
    let output = replay(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("<TRACE>..."), "{}", stderr(&output));
}

#[test]
fn mistakes_in_an_annotation_file_are_named_with_their_line() {
    let cases = [
        ("word.classes", "# ok\nlk_a: recursive\n", "line 2: unknown word `recursive`: recursive-read, "),
        (
            "form.classes",
            "lk_a recursive-read\n",
            "line 1: `NAME: WORD, WORD…` or `order: NAME < NAME…` expected",
        ),
        ("name.classes", "*: unchecked\n", "line 1: a name is missing"),
        ("nest.classes", "a: nest=\n", "line 1: a name is missing"),
        ("quote.classes", "\"a: unchecked\n", "line 1: the closing quote of the name is missing"),
        ("order.classes", "order: a\n", "line 1: an order needs two names at least"),
        ("twice.classes", "order: a < b < a\n", "line 1: `a` stands in this order twice"),
    ];
    for (name, text, message) in cases {
        let path = file(name, text.as_bytes());
        let output = replay(&["--classes", &path, &trace("resv_ctx_ok.trace")]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(said.starts_with(&format!("lockdep: {path}: {message}")), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
    }
    let output = replay(&["--classes", "no/such.classes", &trace("resv_ctx_ok.trace")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("lockdep: no/such.classes: "), "{}", stderr(&output));
}

#[test]
fn a_broken_dump_is_named_with_its_line() {
    let text = "all lock classes:\nffffffff81ad60f0 OPS:      84 FD:   15 BD:   16 +.+.: static_call_mutex\n";
    let cases = [
        ("dump.txt", format!("{text} -> [xyz] text_mutex\n"), "line 3: not a line of /proc/lockdep: "),
        ("head.txt", "all lock classes:\n -> [ff] a\n".to_owned(), "line 2: not a line of /proc/lockdep: "),
        ("cut.txt", format!("{text} -> [ffff"), "line 3: the file is cut off in the middle of this line"),
        ("order.txt", "order: a\n".to_owned(), "line 1: an order needs two names at least"),
        ("none.txt", String::new(), "the file is empty"),
    ];
    for (name, text, message) in cases {
        let path = file(name, text.as_bytes());
        let output = replay(&["--prime", &path, &trace("resv_ctx_ok.trace")]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).starts_with(&format!("lockdep: {path}: {message}")), "{}", stderr(&output));
    }
}
