// SPDX-License-Identifier: MIT OR Apache-2.0
//! What our engine learns from the kernel's recorded trace of a program, against what it learns from the events of
//! the models in the same program: the same order among the locks that the models have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use instrumented_drivers::scenario::{Scenario, Setup};
use lockdep::engine::Engine;
use lockdep::ids::ClassId;
use lockdep::{Mode, Recorded, RecordedOp};
use lockdep_replay::{Annotations, Judge, Lines};

type Names = BTreeSet<String>;
type Edges = BTreeSet<(String, String)>;

/// Name and subclass, as the kernel prints them.
fn name(engine: &Engine, class: ClassId) -> String {
    let class = engine.classes().get(class);
    if class.subclass == 0 { class.name.to_string() } else { format!("{}/{}", class.name, class.subclass) }
}

/// The order among these classes.
fn edges(engine: &Engine, classes: &Names) -> Edges {
    let edges = engine.graph().edges();
    let named = edges.map(|edge| (name(engine, edge.from), name(engine, edge.to)));
    named.filter(|(from, to)| classes.contains(from) && classes.contains(to)).collect()
}

/// The models' events in the form of a trace with all arguments of each acquisition, and the classes in them.
fn as_trace(events: &[Recorded]) -> (String, Names) {
    let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Names::new();
    let mut trace = String::new();
    for (time, event) in events.iter().enumerate() {
        let unused = 0x1000 + 16 * keys.len();
        let key = *keys.entry(&event.class).or_insert(unused);
        let task = format!("{:>16}-{:<7}", event.task_name, event.task.0);
        let (class, lock) = (&event.class, event.instance.0);
        let what = match event.op {
            RecordedOp::Acquire { how } => {
                let subclass = how.subclass;
                let plain = subclass == 0;
                names.insert(if plain { class.to_string() } else { format!("{class}/{subclass}") });
                let read = match how.mode {
                    Mode::Write | Mode::Upgradable => 0,
                    Mode::Read => 1,
                    Mode::RecursiveRead => 2,
                };
                assert!(!how.nest, "the form has no place for a nest lock of which only the use is known");
                format!(
                    "lkx_acquire: {lock:x} key={key:x} sub={subclass} try={} read={read} check=1 nest=0 \
                     wt=0:0 type=0 hi=1 si=1 hc=0 sc=0 name={class}",
                    u8::from(how.trylock)
                )
            }
            RecordedOp::Release => format!("lkx_release: {lock:x} key={key:x} name={class}"),
            // Leaves no event in a trace.
            RecordedOp::Downgrade | RecordedOp::AssertHeld => continue,
        };
        trace.push_str(&format!("{task} [000] .....     1.{time:06}: {what}\n"));
    }
    (trace, names)
}

/// True unless the line is an event of a lock that the models do not have. What such a lock stands between is direct
/// in the models.
fn is_modelled(line: &[u8], classes: &Names) -> bool {
    let line = String::from_utf8_lossy(line);
    if !["lock_acquire: ", "lock_release: ", "lkx_acquire: ", "lkx_release: "]
        .iter()
        .any(|kind| line.contains(kind))
    {
        return true;
    }
    classes
        .iter()
        .any(|class| [" ", "="].iter().any(|before| line.trim_end().ends_with(&format!("{before}{class}"))))
}

/// Replays the events of these classes.
fn learned(mut lines: Lines, annotations: &Annotations, classes: &Names) -> Edges {
    let mut judge = Judge::new(annotations);
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_line().expect("a whole trace") else { break };
        if is_modelled(line, classes) {
            judge.line(number, line).unwrap_or_else(|error| panic!("line {number}: {error}"));
        }
    }
    assert!(judge.findings().is_empty(), "neither the kernel nor the models do anything wrong");
    edges(judge.engine(), classes)
}

/// Memory management allocates under its own lock: areas, page tables. No driver is in it, and the models do not have
/// it.
const NOT_MODELLED: [(&str, &str); 2] =
    [("&mm->mmap_lock", "fs_reclaim"), ("&mm->mmap_lock/1", "fs_reclaim")];

#[test]
fn the_models_teach_the_order_that_the_kernels_trace_teaches() {
    let scenario = Scenario::find("vgem_self_import").expect("a recorded program");
    let (trace, classes) = as_trace(&scenario.run_recorded(Setup::LINUX_6_12).recorded);
    let lines = Lines::new(Box::new(std::io::Cursor::new(trace))).expect("text");
    let models = learned(lines, &Annotations::none(), &classes);
    assert!(models.len() >= 10, "{models:#?}");
    for (file, annotations) in [
        ("stock_self_import.trace.gz", Annotations::builtin()),
        // The same run with all arguments of each acquisition: nothing has to be annotated.
        ("ext/stock_self_import.lkx.gz", Annotations::none()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/traces").join(file);
        let lines = Lines::open(&path).expect("part of the repository");
        let mut kernel = learned(lines, &annotations, &classes);
        for (from, to) in NOT_MODELLED {
            assert!(
                kernel.remove(&(from.into(), to.into())),
                "{file}: {from} -> {to} is an exception for nothing"
            );
        }
        let missing: Vec<_> = kernel.difference(&models).collect();
        let invented: Vec<_> = models.difference(&kernel).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "{file}: the trace teaches {missing:#?}, the models do not; the models teach {invented:#?}, the \
             trace does not"
        );
    }
}
