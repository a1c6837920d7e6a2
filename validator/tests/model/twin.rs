// SPDX-License-Identifier: MIT OR Apache-2.0
//! The naive twin of the engine: the rules once more, as plain as can be.
//!
//! Its state are lists: who holds what, which edges and which usage facts are known. Everything else is computed
//! anew at each step, by fixpoint iteration. It shares no code with the engine, and its letters are its own: a hold
//! is `E`xclusive, `U`pgradable or `S`hared; a wait is `N`ormal (for everybody), `R`ecursive (for writers) or `G`rowing
//! (an upgrade: for readers).

use std::collections::BTreeSet;

use lockdep::event::{Context, HeldAs, LockKind, Mode, WaitType};

use super::program::{Action, Class, KEYS, TASKS, Taking};

/// The kinds of what a step broke.
pub(crate) type Kinds = BTreeSet<&'static str>;

/// Held class, taken class, letter of the hold, letter of the wait.
pub(crate) type Edge = (Class, Class, char, char);

/// Class, context, with it enabled (or inside it), reading.
type Fact = (Class, usize, bool, bool);

/// Who waits for whom, as a list.
const BLOCKED: [(char, char); 5] = [('N', 'E'), ('N', 'U'), ('N', 'S'), ('R', 'E'), ('G', 'S')];

fn hold_letter(mode: Mode) -> char {
    match mode {
        Mode::Write => 'E',
        Mode::Upgradable => 'U',
        Mode::Read | Mode::RecursiveRead => 'S',
    }
}

fn wait_letter(mode: Mode) -> char {
    if mode == Mode::RecursiveRead { 'R' } else { 'N' }
}

/// The inside of which contexts a task is in; hard first.
type Level = [bool; 2];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) taking: Taking,
    level: Level,
    /// One more of a nested class.
    merged: bool,
}

/// The interrupt state of a task.
#[derive(Clone, Copy)]
struct Irq {
    inside: Level,
    on: [bool; 2],
    threaded: bool,
}

#[derive(Default)]
struct Task {
    held: Vec<Hold>,
    irq: Option<Irq>,
    interrupted: Vec<Irq>,
}

impl Task {
    fn irq(&self) -> Irq {
        self.irq.unwrap_or(Irq { inside: [false; 2], on: [true; 2], threaded: false })
    }
}

#[derive(Default)]
pub(crate) struct Twin {
    pub(crate) edges: BTreeSet<Edge>,
    facts: BTreeSet<Fact>,
    tasks: [Task; TASKS],
}

impl Twin {
    /// The locks that a task holds, outermost first.
    pub(crate) fn held(&self, task: usize) -> &[Hold] {
        &self.tasks[task].held
    }

    /// The position of a lock, from the top.
    pub(crate) fn position(&self, task: usize, lock: usize) -> Option<usize> {
        self.held(task).iter().rposition(|held| held.taking.lock == lock)
    }

    /// What an action of a task breaks; `None` if it is not possible now. "The n-th" is by its lock, of which the
    /// topmost hold is meant.
    pub(crate) fn act(&mut self, task: usize, action: Action) -> Option<Kinds> {
        let top = |twin: &Twin, nth: usize| {
            let lock = twin.held(task).get(nth)?.taking.lock;
            twin.position(task, lock)
        };
        let only_if = |broken: bool, kind| if broken { Kinds::from([kind]) } else { Kinds::new() };
        let holds = !self.held(task).is_empty();
        Some(match action {
            Action::Take(taking) => self.take(task, taking),
            Action::Release(nth) => self.take_out(task, top(self, nth)?, false),
            Action::Downgrade(nth) => self.take_out(task, top(self, nth)?, true),
            Action::ReleaseUnheld(lock) => {
                if self.position(task, lock).is_some() {
                    return None;
                }
                Kinds::from(["balance"])
            }
            Action::Convert(nth, up) => return self.convert(task, nth, up),
            Action::AssertHeld(lock, how) => {
                let fits = self.position(task, lock).is_some_and(|at| {
                    how == HeldAs::Any
                        || (how == HeldAs::Write) == (self.held(task)[at].taking.mode == Mode::Write)
                });
                only_if(!fits, "assert-held")
            }
            Action::AssertNotHeld(lock) => only_if(self.position(task, lock).is_some(), "assert-not-held"),
            Action::Free(lock) => only_if(self.position(task, lock).is_some(), "freed"),
            Action::Exit => only_if(holds, "exit"),
            Action::UserReturn => only_if(holds, "user-return"),
            Action::Enter(context, threaded) => return self.enter(task, context, threaded),
            Action::Leave => {
                let before = self.tasks[task].interrupted.pop()?;
                self.tasks[task].irq = Some(before);
                Kinds::new()
            }
            Action::Enable(context, on) => return self.enable(task, context, on),
        })
    }

    fn take(&mut self, task: usize, taking: Taking) -> Kinds {
        let irq = self.tasks[task].irq();
        let mut new = Hold { taking, level: irq.inside, merged: false };
        new.merged = self.merges(task, new);
        let mut broken = Kinds::new();
        if !new.merged {
            if self.waits_wrongly(task, new) {
                broken.insert("wait-context");
            }
            if taking.check {
                for context in 0..2 {
                    if irq.inside[context] && !taking.trylock {
                        broken.extend(self.learn_fact(new, context, false));
                    }
                    // What is only waited for is not held when the interrupt comes.
                    if may_interrupt(irq, context) && !taking.sync {
                        broken.extend(self.learn_fact(new, context, true));
                    }
                }
            }
        }
        broken.extend(self.put(task, new));
        if taking.sync {
            self.tasks[task].held.pop();
        }
        broken
    }

    fn merges(&self, task: usize, new: Hold) -> bool {
        let top = self.held(task).last();
        new.taking.nest.is_some()
            && top.is_some_and(|top| (top.taking.class(), top.level) == (new.taking.class(), new.level))
    }

    /// The nest lock, the order, and the push.
    fn put(&mut self, task: usize, new: Hold) -> Kinds {
        let mut broken = Kinds::new();
        if new.taking.nest.is_some_and(|nest| self.position(task, nest).is_none()) {
            broken.insert("nest-missing");
        }
        if !new.merged && !new.taking.trylock && new.taking.check {
            // No writer can be inside of what is read, and a recursive reader waits for nobody else.
            let reads_already = new.taking.mode == Mode::RecursiveRead
                && self
                    .held(task)
                    .iter()
                    .any(|held| held.taking.lock == new.taking.lock && held.taking.mode != Mode::Write);
            if self.recurses(task, new) {
                broken.insert("recursive");
            } else if !reads_already {
                let same_level =
                    self.held(task).iter().rev().take_while(|held| held.level == new.level).count();
                let first = self.held(task).len() - same_level;
                let held: Vec<usize> = (first..self.held(task).len()).collect();
                broken.extend(self.depend(
                    task,
                    &held,
                    new.taking.class(),
                    wait_letter(new.taking.mode),
                    new.taking.mode,
                ));
            }
        }
        self.tasks[task].held.push(new);
        broken
    }

    /// The first lock of the class that is held, if it is no reader under a reader, must come after the nest lock.
    fn recurses(&self, task: usize, new: Hold) -> bool {
        let held = self.held(task);
        let clash = held.iter().position(|held| {
            let readers = new.taking.mode == Mode::RecursiveRead && held.taking.mode != Mode::Write;
            let same = if KEYS[new.taking.class().0].strict {
                held.taking.class() == new.taking.class()
            } else {
                held.taking.lock == new.taking.lock
            };
            same && !readers
        });
        let nest = held.iter().position(|held| Some(held.taking.lock) == new.taking.nest);
        clash.is_some_and(|clash| nest.is_none_or(|nest| nest > clash))
    }

    fn waits_wrongly(&self, task: usize, new: Hold) -> bool {
        let waits = KEYS[new.taking.class().0].waits;
        let irq = self.tasks[task].irq();
        let mut allowed = match (irq.inside, irq.threaded) {
            ([true, _], false) => WaitType::Spin,
            ([true, _], true) | ([false, true], _) => WaitType::Config,
            ([false, false], _) => WaitType::Sleep,
        };
        for held in self.held(task).iter().filter(|held| held.level == new.level) {
            let key = &KEYS[held.taking.class().0];
            if key.kind == LockKind::WaitOverride {
                allowed = key.waits;
            } else if key.waits != WaitType::Unchecked {
                allowed = allowed.min(key.waits);
            }
        }
        waits != WaitType::Unchecked && !new.taking.trylock && waits > allowed
    }

    /// The dependencies of a wait for `class` while these holds (by position) are in force. What lies below a hold
    /// is connected through it, if it has dependencies of its own and a path through it can be strong.
    fn depend(&mut self, task: usize, held: &[usize], class: Class, wait: char, mode: Mode) -> Kinds {
        let mut broken = Kinds::new();
        for at in held.iter().rev() {
            let hold = self.held(task)[*at];
            let edge = (hold.taking.class(), class, hold_letter(hold.taking.mode), wait);
            if hold.taking.check && edge.0 != class && !self.edges.contains(&edge) {
                if self.closes_cycle(edge) {
                    broken.insert("circular");
                } else if self.joins_safe_to_unsafe(edge, mode) {
                    broken.insert("irq-order");
                } else {
                    self.edges.insert(edge);
                }
            }
            let below =
                self.held(task)[..*at].iter().any(|below| below.taking.class() == hold.taking.class());
            let nested = hold.taking.nest.is_some() && below;
            let weak = hold.taking.mode == Mode::RecursiveRead;
            if hold.taking.check && !hold.taking.trylock && !weak && !nested {
                break;
            }
        }
        broken
    }

    /// All states (class, letter) that a path from this one leads to, along the edges by waits or against them by
    /// holds; none through a class that is left out.
    fn reach(
        &self,
        start: (Class, char),
        forward: bool,
        out: impl Fn(Class) -> bool,
    ) -> BTreeSet<(Class, char)> {
        let mut states = BTreeSet::from([start]);
        states.retain(|(class, _)| !out(*class));
        loop {
            let mut next = states.clone();
            for (class, letter) in &states {
                for (from, to, hold, wait) in &self.edges {
                    let (near, far, blocked, letter) = if forward {
                        (from, to, (*letter, *hold), wait)
                    } else {
                        (to, from, (*wait, *letter), hold)
                    };
                    if near == class && BLOCKED.contains(&blocked) && !out(*far) {
                        next.insert((*far, *letter));
                    }
                }
            }
            if next == states {
                return states;
            }
            states = next;
        }
    }

    /// True if somebody who waits for `to` in this way can, over steps that block, come to wait for `from` while
    /// that is held in this way.
    fn closes_cycle(&self, (from, to, hold, wait): Edge) -> bool {
        let states = self.reach((to, wait), true, |_| false);
        states.iter().any(|(class, waits)| *class == from && BLOCKED.contains(&(*waits, hold)))
    }

    /// A class carries a fact, for writing or, if `readers` count, for reading.
    fn has(&self, class: Class, context: usize, enabled: bool, readers: bool) -> bool {
        self.facts.contains(&(class, context, enabled, false))
            || readers && self.facts.contains(&(class, context, enabled, true))
    }

    /// True if somewhere before the edge there is a class used in a context, and behind it one that is taken with
    /// that context enabled.
    fn joins_safe_to_unsafe(&self, (from, to, hold, _): Edge, mode: Mode) -> bool {
        let before = self.reach((from, hold), false, no_inversion);
        let behind = self.reach((to, wait_letter(mode)), true, no_inversion);
        (0..2).any(|context| {
            before.iter().any(|(class, hold)| self.has(*class, context, false, *hold == 'E'))
                && behind.iter().any(|(class, wait)| self.has(*class, context, true, *wait != 'R'))
        })
    }

    /// A usage of a class, if it is new, must not be at odds with the class itself, nor with one on a path.
    fn learn_fact(&mut self, lock: Hold, context: usize, enabled: bool) -> Option<&'static str> {
        let class = lock.taking.class();
        let read = lock.taking.mode != Mode::Write;
        if !self.facts.insert((class, context, enabled, read)) {
            return None;
        }
        if self.has(class, context, !enabled, !read) {
            return Some("irq-state");
        }
        let inverted = if enabled {
            let before = self.reach((class, hold_letter(lock.taking.mode)), false, no_inversion);
            before.iter().any(|(class, hold)| self.has(*class, context, false, *hold == 'E'))
        } else {
            let behind = self.reach((class, wait_letter(lock.taking.mode)), true, no_inversion);
            behind.iter().any(|(class, wait)| self.has(*class, context, true, *wait != 'R'))
        };
        inverted.then_some("irq-inversion")
    }

    /// Takes out the hold at a position, or makes it a reader; it and what lay above are put back in order.
    fn take_out(&mut self, task: usize, position: usize, downgrade: bool) -> Kinds {
        let mut above = self.tasks[task].held.split_off(position);
        if downgrade {
            above[0].taking.mode = Mode::Read;
        } else {
            above.remove(0);
        }
        let mut broken = Kinds::new();
        for mut hold in above {
            hold.merged = self.merges(task, hold);
            broken.extend(self.put(task, hold));
        }
        broken
    }

    /// The mode that a hold is converted to.
    pub(crate) fn converted(from: Mode, up: bool) -> Option<Mode> {
        match (from, up) {
            (Mode::Upgradable, true) => Some(Mode::Write),
            (Mode::Upgradable, false) => Some(Mode::Read),
            (Mode::Write, false) => Some(Mode::Upgradable),
            _ => None,
        }
    }

    /// Changes the mode of a hold; only an upgrade waits, and for readers only.
    fn convert(&mut self, task: usize, nth: usize, up: bool) -> Option<Kinds> {
        let Taking { lock, mode: from, .. } = self.held(task).get(nth)?.taking;
        let to = Twin::converted(from, up)?;
        let position =
            self.held(task).iter().rposition(|held| (held.taking.lock, held.taking.mode) == (lock, from))?;
        let taking = self.held(task)[position].taking;
        let mut broken = Kinds::new();
        if up && taking.check {
            let reads = |other: &Hold| {
                other.taking.lock == lock && matches!(other.taking.mode, Mode::Read | Mode::RecursiveRead)
            };
            if self.held(task).iter().any(reads) {
                broken.insert("recursive");
            } else {
                let first = if taking.trylock { 0 } else { position };
                let others: Vec<usize> =
                    (first..self.held(task).len()).filter(|at| *at != position).collect();
                broken = self.depend(task, &others, taking.class(), 'G', to);
            }
        }
        self.tasks[task].held[position].taking.mode = to;
        Some(broken)
    }

    fn enter(&mut self, task: usize, context: Context, threaded: bool) -> Option<Kinds> {
        let before = self.tasks[task].irq();
        let context = context as usize;
        // Nothing interrupts a hard interrupt, and a soft one is interrupted by a hard one only.
        if before.inside[0] || before.inside[context] {
            return None;
        }
        let mut irq = Irq { threaded: threaded && context == 0, ..before };
        irq.inside[context] = true;
        irq.on[context] = false;
        irq.on[1] = false;
        self.tasks[task].interrupted.push(before);
        self.tasks[task].irq = Some(irq);
        Some(Kinds::new())
    }

    fn enable(&mut self, task: usize, context: Context, on: bool) -> Option<Kinds> {
        let mut irq = self.tasks[task].irq();
        let context = context as usize;
        if irq.inside[0] || irq.inside[context] {
            return None;
        }
        let was_on = std::mem::replace(&mut irq.on[context], on);
        self.tasks[task].irq = Some(irq);
        let mut broken = Kinds::new();
        if on && !was_on {
            for hold in self.held(task).to_vec().into_iter().filter(|hold| hold.taking.check) {
                for context in context..2 {
                    if may_interrupt(irq, context) {
                        broken.extend(self.learn_fact(hold, context, true));
                    }
                }
            }
        }
        Some(broken)
    }
}

/// Soft interrupts come where hard ones may come, too; no interrupt comes inside one of its own kind.
fn may_interrupt(irq: Irq, context: usize) -> bool {
    let open = |context: usize| irq.on[context] && !irq.inside[context];
    open(0) && open(context)
}

/// No inversion runs through a lock of which each CPU has its own, or through an annotation.
fn no_inversion(class: Class) -> bool {
    KEYS[class.0].kind != LockKind::Normal
}
