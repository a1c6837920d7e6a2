// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stacks: captured as addresses, resolved to names only when a report wants them.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Inner;
use crate::engine::usage::Fact;
use crate::engine::{EdgeId, Finding, Outcome, StackId};
use crate::ids::{ClassId, Instance};
use crate::limits::STACK_FRAMES;
use crate::places;
use crate::report::model::{Acquired, Frame, Report, Stack};
use crate::settings::Stacks;

type Frames = Arc<[usize]>;

/// The stacks of the locks that a thread holds, if all are captured.
pub(super) type Traced = Vec<(Instance, StackId)>;

/// The captured stacks of one validator, each kept once. They are never freed, as the dependencies they belong to never are.
#[derive(Default)]
pub(super) struct StackTable {
    stacks: Mutex<Distinct>,
    /// How the earlier lock of a dependency was come by, if all stacks are captured.
    held: Mutex<FxHashMap<EdgeId, StackId>>,
}

#[derive(Default)]
struct Distinct {
    stacks: Vec<Frames>,
    ids: FxHashMap<Frames, StackId>,
}

impl StackTable {
    /// Captures this thread's stack. No lock is held meanwhile: unwinding may wait for the dynamic loader.
    fn capture(&self) -> Option<StackId> {
        // Miri cannot turn an address into a name.
        if cfg!(miri) {
            return None;
        }
        let mut frames = Vec::with_capacity(STACK_FRAMES);
        backtrace::trace(|frame| {
            frames.push(frame.ip().addr());
            frames.len() < STACK_FRAMES
        });
        let mut distinct = self.stacks.lock();
        if let Some(known) = distinct.ids.get(&*frames) {
            return Some(*known);
        }
        let id = StackId(u32::try_from(distinct.stacks.len()).ok()?);
        let frames: Frames = frames.into();
        distinct.stacks.push(frames.clone());
        distinct.ids.insert(frames, id);
        Some(id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.stacks.lock().stacks.len()
    }

    fn get(&self, id: StackId) -> Option<Frames> {
        self.stacks.lock().stacks.get(id.0 as usize).cloned()
    }

    fn resolve(&self, id: StackId) -> Option<Arc<Stack>> {
        let frames = self.get(id)?;
        let mut resolved = Vec::new();
        for ip in frames.iter() {
            backtrace::resolve(std::ptr::without_provenance_mut(*ip), |symbol| {
                let Some(name) = symbol.name() else { return };
                let place = symbol
                    .filename()
                    .and_then(|file| Some(format!("{}:{}", file.display(), symbol.lineno()?)));
                resolved.push(Frame { function: format!("{name:#}"), place });
            });
        }
        Some(Arc::new(Stack { frames: trim(resolved) }))
    }
}

/// Cuts off the validator's own frames at the inner end and the runtime's at the outer end.
fn trim(frames: Vec<Frame>) -> Vec<Frame> {
    const OWN: [&str; 6] = [
        "backtrace::",
        "lockdep::runtime::",
        "lockdep::hook::",
        "lockdep::sync::",
        "<lockdep::sync::",
        "lock_api::",
    ];
    let own = |frame: &Frame| OWN.iter().any(|prefix| frame.function.starts_with(prefix));
    let outer_end = |frame: &Frame| {
        ["__rust_begin_short_backtrace", "lang_start", "__libc_start"]
            .iter()
            .any(|word| frame.function.contains(word))
    };
    // In front of ours are those of who captures, which may have lost their paths where they were inlined.
    let ours = frames.iter().position(|frame| frame.function.starts_with(OWN[1])).unwrap_or(0);
    let first = frames.iter().skip(ours).position(|frame| !own(frame)).map_or(0, |first| ours + first);
    let last = frames.iter().position(outer_end).unwrap_or(frames.len());
    frames.into_iter().take(last.max(first)).skip(first).collect()
}

impl Inner {
    /// Notes the stack of an acquisition, if all are captured.
    pub(super) fn trace(&self, traced: &mut Traced, instance: Instance) {
        if self.config.stacks == Stacks::Full {
            traced.extend(self.stacks.capture().map(|stack| (instance, stack)));
        }
    }

    /// Captures the stack at which something was learned or found, and notes it with what was learned.
    pub(super) fn capture(&self, outcome: &Outcome, traced: &Traced) -> Option<StackId> {
        if self.config.stacks == Stacks::Off {
            return None;
        }
        let stack = self.stacks.capture()?;
        let mut engine = self.engine.lock();
        engine.attach_stack(&outcome.learned, &outcome.noted, stack);
        if !traced.is_empty() {
            let of_held =
                |edge: &EdgeId| Some((*edge, stack_of(traced, engine.dependency(*edge)?.held.instance)?));
            let held: Vec<_> = outcome.learned.iter().filter_map(of_held).collect();
            drop(engine);
            self.stacks.held.lock().extend(held);
        }
        Some(stack)
    }

    /// Adds to a finding what only the runtime knows: stacks and function names.
    pub(super) fn complete(&self, finding: Finding, now: Option<StackId>, traced: &Traced) -> Report {
        let Finding { mut report, edges, usages } = finding;
        let (ids, firsts): (Vec<Option<StackId>>, Vec<Option<StackId>>) = {
            let engine = self.engine.lock();
            let first = |(class, fact): &(ClassId, Fact)| engine.first_use(*class, *fact)?.stack;
            let firsts = usages.iter().map(first).collect();
            (edges.iter().map(|edge| engine.dependency((*edge)?)?.stack).collect(), firsts)
        };
        let resolve = |id: Option<StackId>| self.stacks.resolve(id?);
        report.stack = resolve(now);
        for (edge, id) in report.edges.iter_mut().zip(ids) {
            edge.stack = if edge.new { report.stack.clone() } else { resolve(id) };
        }
        for (used, id) in report.usages.iter_mut().zip(firsts) {
            used.stack = resolve(id);
        }
        for (edge, id) in report.edges.iter_mut().zip(edges) {
            let known = id.and_then(|id| self.stacks.held.lock().get(&id).copied());
            let own = || stack_of(traced, edge.from.lock.instance).filter(|_| edge.new);
            edge.from.stack = resolve(known.or_else(own));
        }
        for held in &mut report.held {
            held.stack = resolve(stack_of(traced, held.lock.instance));
        }
        for acquired in sites(&mut report) {
            acquired.site = places::site(acquired.site.place);
        }
        report
    }
}

/// The stack of a held lock, the innermost hold of it.
fn stack_of(traced: &Traced, instance: Instance) -> Option<StackId> {
    traced.iter().rfind(|(held, _)| *held == instance).map(|(_, stack)| *stack)
}

fn sites(report: &mut Report) -> impl Iterator<Item = &mut Acquired> {
    let Report { wanted, conflict, held, edges, usages, .. } = report;
    wanted
        .iter_mut()
        .chain(conflict.iter_mut())
        .chain(held.iter_mut())
        .chain(edges.iter_mut().flat_map(|edge| [&mut edge.from, &mut edge.to]))
        .chain(usages.iter_mut().map(|used| &mut used.by))
}
