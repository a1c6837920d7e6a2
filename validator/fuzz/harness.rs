// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzz targets and `validator/tests/fuzz.rs` do with their bytes. A panic is the finding: of the code under
//! test, of its invariants, or of the assertions here.
#![allow(dead_code, reason = "each target uses its part")]

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Context, Event, HeldAs, LockKind, Mode, PinOp, Place, WaitType};
use lockdep::ids::{ClassId, Instance, LockId, TaskId};
use lockdep::litmus;
use lockdep::report::model::Report;
use lockdep::ww::WwMisuse;

/// Any text is a program, or gets an error that points into it. A program runs, and its reports can be shown.
pub(crate) fn litmus(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match litmus::parse(&text) {
        Ok(program) => program.run().reported.iter().for_each(|reported| show(&reported.report)),
        Err(error) => {
            let line = text.lines().nth(error.line as usize - 1).expect("the line of an error exists");
            assert!(error.column as usize <= line.chars().count() + 1, "{error}");
            assert!(!error.message.is_empty());
        }
    }
}

/// Every rendering of a report; the litmus program is one.
fn show(report: &Report) {
    assert!(!report.to_string().is_empty());
    assert!(report.to_json().is_object());
    let text = report.to_litmus();
    if let Err(error) = litmus::parse(&text) {
        panic!("{error}\n{text}\n{report}");
    }
}

const TASKS: usize = 3;
const CLASSES: usize = 12;
/// The last two classes are those of events, which are no locks.
const LOCK_CLASSES: usize = 10;

/// Any bytes are a history: as many classes, tasks and events as they last for.
pub(crate) fn events(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut engine = Engine::new();
    let classes: Vec<ClassId> = (0..CLASSES).map(|i| class(&mut engine, i)).collect();
    let mut tasks: Vec<Task> =
        (0..TASKS).map(|i| Task::new(TaskId(i as u32), format!("t{i}").into(), 7)).collect();
    while !bytes.0.is_empty() {
        let number = bytes.below(TASKS);
        if bytes.rarely() {
            // One task starts another, or waits for its end.
            let clock = tasks[bytes.below(TASKS)].pass_on();
            tasks[number].follow(&clock);
        }
        let task = &mut tasks[number];
        let outcome = engine.step(task, event(&mut bytes, &classes));
        engine.check_invariants();
        task.check_invariants();
        outcome.findings.iter().for_each(|finding| show(&finding.report));
    }
    assert!(!engine.dump().is_empty());
    assert_eq!(engine.stats().dependencies, engine.graph().len() as u64);
}

/// A few classes of each sort; the odd ones are subclasses of the even ones.
fn class(engine: &mut Engine, i: usize) -> ClassId {
    let waits = [WaitType::Unchecked, WaitType::Sleep, WaitType::Config, WaitType::Spin][i / 2 % 4];
    let def = ClassDef {
        waits: (waits, waits),
        kind: [LockKind::Normal, LockKind::Normal, LockKind::PerCpu, LockKind::WaitOverride][i / 3],
        strict: i % 4 < 2,
        excludes: i != 4,
        ..ClassDef::named(&format!("c {}", i / 2))
    };
    let sibling = engine.classes().iter().last().map(|(id, _)| id).filter(|_| i % 2 == 1);
    engine.register(ClassDef { subclass: (i % 2) as u8, sibling, ..def })
}

fn event(bytes: &mut Bytes<'_>, classes: &[ClassId]) -> Event {
    let place = Place::Line(bytes.below(8) as u32);
    let lock = bytes.below(16);
    let instance = Instance(lock as u64 * 8);
    let class = classes[lock % LOCK_CLASSES];
    let happening = classes[LOCK_CLASSES + lock % 2];
    let context = if bytes.flag() { Context::HardIrq } else { Context::SoftIrq };
    match bytes.below(32) {
        0..=8 => Event::Acquire(Acquisition {
            class,
            instance,
            lock: LockId(bytes.below(2) as u32 * (lock as u32 + 1)),
            mode: bytes.mode(),
            trylock: bytes.rarely(),
            check: !bytes.rarely(),
            sync: bytes.rarely(),
            nest: bytes.rarely().then(|| Instance(bytes.below(16) as u64 * 8)),
            rank: bytes.rarely().then(|| bytes.below(4) as u32),
            place,
        }),
        9..=13 => Event::Release { instance, place },
        14 => Event::Downgrade { instance, place },
        15 => Event::Convert { instance, from: bytes.mode(), to: bytes.mode(), waits: bytes.flag(), place },
        16 => {
            let how = [HeldAs::Any, HeldAs::Read, HeldAs::Write][bytes.below(3)];
            Event::AssertHeld { instance, class, how, place }
        }
        17 => Event::AssertNotHeld { instance, class, place },
        18 => {
            let what = WwMisuse::ALL[bytes.below(WwMisuse::ALL.len())];
            Event::WwMisuse { instance, class, what, place }
        }
        19 => Event::Freed { start: instance.0, len: bytes.below(32) as u64 + 1, place },
        20 => Event::Dropped { lock: LockId(lock as u32 + 1) },
        21 => Event::Context { context, enter: bytes.flag(), threaded: bytes.flag() },
        22 => Event::Enable { context, on: bytes.flag(), place },
        23 => Event::Reclass {
            instance,
            class: classes[bytes.below(LOCK_CLASSES)],
            check: !bytes.rarely(),
            place,
        },
        24 => {
            let cookie = bytes.below(3) as u16 + 1;
            let op = [PinOp::Pin(cookie), PinOp::Repin(cookie), PinOp::Unpin(cookie)][bytes.below(3)];
            Event::Pin { instance, class, op, place }
        }
        25 => Event::BadSubclass { instance, class, subclass: bytes.next().max(8), place },
        26 => Event::Declare { before: class, after: classes[bytes.below(LOCK_CLASSES)], place },
        27 => Event::Wait { instance, class: happening, place },
        28 => Event::Complete { instance, class: happening, place },
        29 => Event::RcuUnprotected { instance, class, place },
        30 if bytes.flag() => Event::RemoveClass { class, held: bytes.below(3) as u32, place },
        30 => Event::ClassGone { instance, class, place },
        _ if bytes.flag() => Event::Exit { place },
        _ => Event::UserReturn { place },
    }
}

/// The input, from its front; zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.next()) % bound
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn rarely(&mut self) -> bool {
        self.next() >= 224
    }

    fn mode(&mut self) -> Mode {
        [Mode::Write, Mode::Read, Mode::RecursiveRead, Mode::Upgradable][self.below(4)]
    }
}
