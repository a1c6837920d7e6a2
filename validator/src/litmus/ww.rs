// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The wound/wait mutexes and contexts of a program: who holds what, and the state that the rules of their
//! interface look at ([`crate::ww`]).
//!
//! Classes are wait-die, as the kernel's reservation objects: a context that holds locks is told to back off at a mutex
//! that an older context of another task holds. Any other mutex that somebody holds is taken as if it had been
//! released meanwhile: a litmus program does not block.

use std::collections::BTreeMap;

use super::program::{LockType, Program};
use crate::ids::Instance;
use crate::ww::{WwCtxState, WwLockState, WwMisuse};

/// What becomes of a blocking lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is held with this context already: -EALREADY, and nothing happens.
    Already,
    /// It is waited for, and then -EDEADLK.
    BackOff,
    /// It is taken.
    Take,
}

type Verdict = Result<(), WwMisuse>;

struct Lock {
    state: WwLockState,
    holder: Option<String>,
}

struct Ctx {
    state: WwCtxState,
    class: String,
    stamp: usize,
}

/// All of a program.
#[derive(Default)]
pub(super) struct WwWorld {
    classes: Vec<String>,
    locks: BTreeMap<String, Lock>,
    ctxs: BTreeMap<String, Ctx>,
    stamps: usize,
}

impl WwWorld {
    /// The mutexes of a program, none of them held.
    pub(super) fn new(program: &Program) -> Self {
        let mut world = WwWorld::default();
        for decl in program.locks.iter().filter(|decl| decl.kind == LockType::Ww) {
            world.init(&decl.name, &decl.class);
        }
        world
    }

    /// The mutex is initialised, perhaps anew.
    pub(super) fn init(&mut self, lock: &str, class: &str) {
        let state = WwLockState::new(self.class(class));
        self.locks.insert(lock.to_owned(), Lock { state, holder: None });
    }

    fn class(&mut self, name: &str) -> u64 {
        let known = self.classes.iter().position(|class| class == name);
        let position = known.unwrap_or_else(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        });
        position as u64
    }

    /// The class of a context that was begun.
    pub(super) fn ctx_class(&self, name: &str) -> Option<&str> {
        self.ctxs.get(name).map(|ctx| ctx.class.as_str())
    }

    /// A context begins; it is younger than all before it.
    pub(super) fn begin(&mut self, ctx: &str, id: Instance, class: &str) {
        let state = WwCtxState::new(id, self.class(class));
        self.stamps += 1;
        self.ctxs.insert(ctx.to_owned(), Ctx { state, class: class.to_owned(), stamp: self.stamps });
    }

    /// A mutex is used at all.
    pub(super) fn used(&self, lock: &str) -> Verdict {
        self.locks.get(lock).map_or(Ok(()), |lock| lock.state.used())
    }

    /// What a blocking lock of `task` will do.
    pub(super) fn attempt(&self, task: &str, lock: &str, ctx: Option<&str>) -> Attempt {
        let Some(lock) = self.locks.get(lock) else { return Attempt::Take };
        let Some(mine) = ctx.and_then(|ctx| self.ctxs.get(ctx)) else { return Attempt::Take };
        if mine.state.owns(&lock.state) {
            return Attempt::Already;
        }
        let elsewhere = lock.holder.as_ref().is_some_and(|holder| holder != task);
        let older = |other: &Ctx| other.state.owns(&lock.state) && other.stamp < mine.stamp;
        if elsewhere && mine.state.acquired() > 0 && self.ctxs.values().any(older) {
            Attempt::BackOff
        } else {
            Attempt::Take
        }
    }

    /// The slow path is about to be taken.
    pub(super) fn slow(&self, ctx: &str) -> Verdict {
        self.ctxs.get(ctx).map_or(Ok(()), |ctx| ctx.state.slow())
    }

    /// The attempt ended with a back-off.
    pub(super) fn backed_off(&mut self, ctx: &str, id: Instance) -> Verdict {
        self.ctxs.get_mut(ctx).map_or(Ok(()), |ctx| ctx.state.backed_off(id))
    }

    /// The mutex was taken.
    pub(super) fn took(&mut self, task: &str, lock: &str, id: Instance, ctx: Option<&str>) -> Verdict {
        if self.locks.get(lock).and_then(|lock| lock.holder.as_deref()).is_some_and(|holder| holder != task) {
            self.forget(lock)?;
        }
        let Some(lock) = self.locks.get_mut(lock) else { return Ok(()) };
        lock.holder = Some(task.to_owned());
        let Some(ctx) = ctx.and_then(|ctx| self.ctxs.get_mut(ctx)) else { return Ok(()) };
        ctx.state.took(&mut lock.state, id)
    }

    /// The mutex is released by `task`. If that task does not hold it, the rule `balance` says so, or it was taken
    /// over meanwhile.
    pub(super) fn dropped(&mut self, task: &str, lock: &str) -> Verdict {
        let holder = self.locks.get(lock).and_then(|lock| lock.holder.as_deref());
        if holder == Some(task) { self.forget(lock) } else { Ok(()) }
    }

    fn forget(&mut self, lock: &str) -> Verdict {
        let Some(lock) = self.locks.get_mut(lock) else { return Ok(()) };
        lock.holder = None;
        match self.ctxs.values_mut().find(|ctx| ctx.state.owns(&lock.state)) {
            Some(ctx) => ctx.state.dropped(&mut lock.state),
            None => Ok(()),
        }
    }

    /// No further lock with this context.
    pub(super) fn done(&mut self, ctx: &str) -> Verdict {
        self.ctxs.get_mut(ctx).map_or(Ok(()), |ctx| ctx.state.done())
    }

    /// The context ends.
    pub(super) fn fini(&self, ctx: &str) -> Verdict {
        self.ctxs.get(ctx).map_or(Ok(()), |ctx| ctx.state.fini())
    }

    /// The mutex is destroyed by `task`. If that task holds it, the rule `freed` says so.
    pub(super) fn destroy(&mut self, task: &str, lock: &str) -> Verdict {
        let Some(lock) = self.locks.get_mut(lock) else { return Ok(()) };
        let elsewhere = lock.holder.take().is_some_and(|holder| holder != task);
        lock.state.destroy(elsewhere)
    }
}
