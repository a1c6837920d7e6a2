// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was known before the first event: declared orders, and the kernel's graph as `/proc/lockdep` prints it.
//!
//! ```text
//! all lock classes:
//! ffffffff81ad60f0 OPS:      84 FD:   15 BD:   16 +.+.: static_call_mutex
//!  -> [ffffffff81a4aff0] text_mutex
//! ```
//!
//! A dump has dependencies between neighbours only and does not say how the locks were held: exclusively is assumed,
//! except for names whose reads are declared recursive. In a trace of standard events classes are told apart by
//! name (and subclass), in the form with all arguments by the address of the key; which it is, the first lock event
//! shows. The usage letters are not taken over.

use std::path::Path;
use std::sync::Arc;

use lockdep::engine::{ClassDef, Engine, Task};
use lockdep::event::{Acquisition, Context, Event};
use lockdep::ids::{ClassId, Instance, TaskId};
use lockdep::{Mode, Place};

use crate::classes::Annotations;
use crate::ftrace::hex;
use crate::input::{InputError, Lines, Reason};
use crate::names::Names;

/// A dump of `/proc/lockdep`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Dependencies, each from the class that is held to the class that is taken.
    pub dependencies: Vec<(DumpClass, DumpClass)>,
}

/// A class in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpClass {
    /// Address of the key.
    pub key: u64,
    /// The name without `#N` and `/S`.
    pub name: String,
    /// 0 to 7.
    pub subclass: u8,
}

/// The first line of a dump.
const TITLE: &[u8] = b"all lock classes:";

impl Dump {
    /// True if a file begins as a dump does.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_one(path: &Path) -> Result<bool, InputError> {
        Ok(Lines::open(path)?.next_line()?.is_some_and(|line| line.trim_ascii() == TITLE))
    }

    /// Reads a dump, plain or gzip.
    ///
    /// # Errors
    /// If it cannot be read to its end.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let mut lines = Lines::open(path)?;
        let mut dump = Dump::default();
        let mut from = None;
        while let Some(line) = lines.next_line()? {
            let line = line.trim_ascii_end();
            if line.is_empty() || line == TITLE {
                continue;
            }
            let known = if let Some(to) = line.strip_prefix(b" -> [") {
                from.clone().zip(successor(to)).map(|dependency| dump.dependencies.push(dependency))
            } else {
                from = class(line);
                from.as_ref().map(|_| ())
            };
            if known.is_none() {
                return Err(InputError::at(lines.number(), Reason::Dump));
            }
        }
        Ok(dump)
    }
}

/// `ADDR OPS: n FD: n BD: n usage: NAME`; the operations are missing in some kernels.
fn class(line: &[u8]) -> Option<DumpClass> {
    let space = memchr::memchr(b' ', line)?;
    let (address, rest) = line.split_at(space);
    let rest = &rest[memchr::memmem::find(rest, b" BD:")? + 4..];
    let name = &rest[memchr::memmem::find(rest, b": ")? + 2..];
    DumpClass::new(hex(address)?, name)
}

/// `ADDR] NAME`
fn successor(text: &[u8]) -> Option<DumpClass> {
    let end = memchr::memmem::find(text, b"] ")?;
    DumpClass::new(hex(&text[..end])?, &text[end + 2..])
}

impl DumpClass {
    /// A class as printed: its address is that of the subclass, `key + S`.
    fn new(address: u64, printed: &[u8]) -> Option<Self> {
        let printed = String::from_utf8_lossy(printed);
        let (name, subclass) = match printed.rsplit_once('/') {
            Some((name, digit @ ("1" | "2" | "3" | "4" | "5" | "6" | "7"))) => (name, digit.parse().ok()?),
            _ => (&*printed, 0),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let name = name.rsplit_once('#').filter(|(_, n)| digits(n)).map_or(name, |(name, _)| name);
        (!name.is_empty()).then(|| DumpClass {
            key: address.wrapping_sub(u64::from(subclass)),
            name: name.to_owned(),
            subclass,
        })
    }
}

/// A task that takes locks only to teach their order. Its interrupts are off, so that nothing is marked.
fn teacher(name: &str) -> Task {
    let mut task = Task::new(TaskId(0), Arc::from(name), u64::MAX);
    task.set_enabled(Context::HardIrq, false);
    task.set_enabled(Context::SoftIrq, false);
    task
}

/// Takes locks in this order and releases them; true if that contradicts nothing known.
fn teach(engine: &mut Engine, task: &mut Task, order: &[(ClassId, Mode)]) -> bool {
    let mut fine = true;
    let instances = (1..).map(Instance);
    for ((class, mode), instance) in order.iter().zip(instances.clone()) {
        let acquisition =
            Acquisition { mode: *mode, ..Acquisition::exclusive(*class, instance, Place::Unknown) };
        fine &= engine.step(task, Event::Acquire(acquisition)).findings.is_empty();
    }
    for instance in instances.take(order.len()) {
        engine.step(task, Event::Release { instance, place: Place::Unknown });
    }
    fine
}

/// Teaches the declared orders.
pub(crate) fn declare(engine: &mut Engine, names: &mut Names<'_>, annotations: &Annotations) {
    let mut task = teacher("declared order");
    for order in annotations.orders() {
        let order: Vec<_> = order
            .iter()
            .map(|(mode, name)| {
                let name = names.intern(name.as_bytes());
                (names.class(engine, name, 0, 0), *mode)
            })
            .collect();
        teach(engine, &mut task, &order);
    }
}

/// Teaches a dump, by key or by name. Gives the number of dependencies that contradict what was taught before, and
/// so were left out: two classes of one name cannot be told apart in a trace of standard events.
pub(crate) fn apply(engine: &mut Engine, names: &mut Names<'_>, dump: &Dump, by_key: bool) -> usize {
    let mut task = teacher("the kernel, before");
    let mut left_out = 0;
    for (from, to) in &dump.dependencies {
        let mut end = |class: &DumpClass| {
            let name = names.intern(class.name.as_bytes());
            let recursive = names.rule(name).recursive_read;
            let id = if by_key {
                let def = ClassDef { subclass: class.subclass, ..ClassDef::named("") };
                names.class_of_key(engine, (None, class.key), name, def)
            } else {
                names.class(engine, name, class.key, class.subclass)
            };
            (id, if recursive { Mode::RecursiveRead } else { Mode::Write })
        };
        let order = [end(from), end(to)];
        if order[0].0 == order[1].0 || !teach(engine, &mut task, &order) {
            left_out += 1;
        }
    }
    left_out
}
