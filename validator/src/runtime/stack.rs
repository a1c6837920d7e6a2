// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stacks: captured as addresses, resolved to names only when a report wants them.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Inner;
use crate::engine::usage::Fact;
use crate::engine::{Finding, StackId};
use crate::ids::ClassId;
use crate::limits::STACK_FRAMES;
use crate::places;
use crate::report::model::{Acquired, Frame, Report, Stack};
use crate::settings::Stacks;

type Frames = Arc<[usize]>;

/// The captured stacks of one validator; they are never freed, as the dependencies they belong to never are.
#[derive(Default)]
pub(super) struct StackTable {
    stacks: Mutex<Vec<Frames>>,
}

impl StackTable {
    /// Captures this thread's stack. No lock is held meanwhile: unwinding may wait for the dynamic loader.
    pub(super) fn capture(&self, when: Stacks) -> Option<StackId> {
        // Miri cannot turn an address into a name.
        if when == Stacks::Off || cfg!(miri) {
            return None;
        }
        let mut frames = Vec::with_capacity(STACK_FRAMES);
        backtrace::trace(|frame| {
            frames.push(frame.ip().addr());
            frames.len() < STACK_FRAMES
        });
        let mut stacks = self.stacks.lock();
        stacks.push(frames.into());
        Some(StackId(u32::try_from(stacks.len() - 1).unwrap_or(u32::MAX)))
    }

    /// How many were captured.
    pub(super) fn len(&self) -> usize {
        self.stacks.lock().len()
    }

    fn get(&self, id: StackId) -> Option<Frames> {
        self.stacks.lock().get(id.0 as usize).cloned()
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
    let first = frames.iter().position(|frame| !own(frame)).unwrap_or(0);
    let last = frames.iter().position(outer_end).unwrap_or(frames.len());
    frames.into_iter().take(last.max(first)).skip(first).collect()
}

impl Inner {
    /// Adds to a finding what only the runtime knows: stacks and function names.
    pub(super) fn complete(&self, finding: Finding, now: Option<StackId>) -> Report {
        let Finding { mut report, edges, usages } = finding;
        let (ids, firsts): (Vec<Option<StackId>>, Vec<Option<StackId>>) = {
            let engine = self.engine.lock();
            let first =
                |(class, fact): &(ClassId, Fact)| engine.classes().get(*class).first_use(*fact)?.stack;
            let firsts = usages.iter().map(first).collect();
            (edges.iter().map(|edge| engine.graph().get((*edge)?)?.stack).collect(), firsts)
        };
        report.stack = now.and_then(|id| self.stacks.resolve(id));
        for (edge, id) in report.edges.iter_mut().zip(ids) {
            edge.stack =
                if edge.new { report.stack.clone() } else { id.and_then(|id| self.stacks.resolve(id)) };
        }
        for (used, id) in report.usages.iter_mut().zip(firsts) {
            used.stack = id.and_then(|id| self.stacks.resolve(id));
        }
        for acquired in sites(&mut report) {
            acquired.site = places::site(acquired.site.place);
        }
        report
    }
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
