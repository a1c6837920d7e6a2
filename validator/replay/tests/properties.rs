// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for every input: nothing panics, and a trace that is cut anywhere gives the findings of its beginning
//! and, unless it was cut between two lines, a clear error.
#![cfg(feature = "lockdep")]

use std::io::{Cursor, Read, Write};
use std::sync::OnceLock;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use lockdep_replay::input::Reason;
use lockdep_replay::{Annotations, History, Lines, Options, Replay, ftrace};
use proptest::prelude::*;

const TRACE: &[u8] = include_bytes!("../../../tests/data/traces/abba.trace.gz");

/// A recorded trace with a finding in line 462, as text and compressed.
fn trace() -> &'static (Vec<u8>, Vec<u8>) {
    static TEXTS: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let mut text = Vec::new();
        GzDecoder::new(TRACE).read_to_end(&mut text).expect("a gzip file");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text).expect("memory");
        (text, encoder.finish().expect("memory"))
    })
}

fn judge(bytes: Vec<u8>) -> Result<Replay, lockdep_replay::InputError> {
    let lines = Lines::new(Box::new(Cursor::new(bytes)))?;
    Ok(History::new(&Annotations::builtin(), &[], Options::default()).replay("input", lines, &mut |_| {}))
}

fn findings(replay: &Replay) -> Vec<(u64, String)> {
    replay.findings.iter().map(|found| (found.line, found.report.signature().to_owned())).collect()
}

/// Text that looks like a trace, in pieces that are put together at random.
fn nearly_a_trace() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("            init-38      [001] ...1.     4.881374: "),
        Just("  kworker/u8:0-10-9 [000] d.h2. 1.0: "),
        Just("CPU:1 [LOST 12 EVENTS]"),
        Just("# entries-in-buffer/entries-written: 1/1   #P:2"),
        Just("##### CPU 0 buffer started ####"),
        Just("lock_acquire: "),
        Just("lock_release: "),
        Just("lkx_acquire: "),
        Just("ffffffff81b0a450 "),
        Just("key=1 sub=0 try=0 read=0 check=1 nest=0 wt=0:3 type=0 hi=1 si=1 hc=0 sc=0 name=a"),
        Just("try "),
        Just("read "),
        Just("lk_a"),
        Just("sched_process_fork: comm=a pid=1 child_comm=b child_pid=38"),
        Just("sched_process_exit: comm=a pid=1 prio=120"),
        Just("irq_enable: caller=syscall_exit_to_user_mode+0x1/0x2"),
        Just("tracing_mark_write: x"),
        Just("["),
        Just("-1 [0] "),
        Just(": "),
        Just("\n"),
        Just("\n"),
    ]
    .prop_map(|piece| piece.as_bytes().to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![8 => piece, 1 => noise], 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(ftrace::Line::Record(record)) = ftrace::parse(&line) {
            let _ = record.op();
        }
    }

    #[test]
    fn no_bytes_make_a_replay_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), gzip: bool) {
        let mut input = if gzip { vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3] } else { Vec::new() };
        input.extend(bytes);
        let outcome = judge(input);
        // Noise is no trace.
        prop_assert!(outcome.map_or(true, |replay| replay.error.is_some()));
    }

    #[test]
    fn nothing_that_looks_like_a_trace_makes_a_replay_panic(text in nearly_a_trace()) {
        if let Ok(replay) = judge(text) {
            prop_assert!(replay.findings.is_sorted_by_key(|found| found.line));
        }
    }

    #[test]
    fn an_error_names_a_line_that_exists_or_the_file(text in nearly_a_trace()) {
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        if let Ok(Replay { error: Some(error), .. }) = judge(text) {
            prop_assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", error);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_trace_cut_anywhere_gives_its_beginnings_findings_and_an_error(at in 0..trace().0.len()) {
        let text = &trace().0;
        let whole = judge(text.clone()).expect("readable");
        prop_assert!(whole.error.is_none());
        let cut = judge(text[..at].to_vec()).expect("readable");
        let lines = text[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        let beginning: Vec<_> = findings(&whole).into_iter().filter(|(line, _)| *line <= lines).collect();
        prop_assert_eq!(findings(&cut), beginning);
        match &cut.error {
            Some(error) if at == 0 => prop_assert!(matches!(error.reason, Reason::Empty)),
            Some(error) if text[at - 1] != b'\n' => {
                prop_assert!(matches!(error.reason, Reason::CutLine), "{}", error);
                prop_assert_eq!(error.line, Some(lines + 1));
            }
            // Cut between two lines: the header still says how many there should be.
            Some(error) => prop_assert!(
                matches!(error.reason, Reason::EventsMissing(2739) | Reason::NoEvents), "{}", error
            ),
            None => prop_assert!(text[at - 1] == b'\n' && cut.notes.len() == 1, "{:?}", cut.notes),
        }
    }

    #[test]
    fn a_compressed_trace_cut_anywhere_gives_a_beginning_of_the_findings_and_an_error(at in 0..trace().1.len()) {
        let packed = &trace().1;
        let whole = findings(&judge(packed.clone()).expect("readable"));
        let cut = judge(packed[..at].to_vec()).expect("readable");
        prop_assert!(whole.starts_with(&findings(&cut)));
        let reason = cut.error.map(|error| error.reason);
        let clear = match at {
            0 => matches!(reason, Some(Reason::Empty)),
            1 => matches!(reason, Some(Reason::Binary(0x1f))),
            _ => matches!(reason, Some(Reason::GzipCut)),
        };
        prop_assert!(clear, "{:?}", reason);
    }
}
