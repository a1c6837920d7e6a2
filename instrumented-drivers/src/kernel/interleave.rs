// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! All interleavings of a few tasks: the tasks run one at a time, and each stops before it takes, tries or releases a lock
//! and before it touches a pointer, a reference count or a list that is read without a lock. There one of them is chosen
//! to go on. [`explore`] runs the tasks again and again until every choice was made that can make a difference.
//!
//! Two steps of different tasks on different objects can be swapped without a difference, so of all orders that differ
//! in such swaps one is run. Two rules find it. A choice is made differently only if a step that came later in some run
//! depends on the one that was chosen (Flanagan and Godefroid, *Dynamic partial-order reduction for model checking
//! software*, 2005). And a task whose step was explored at a choice is not chosen later until another one has taken a
//! step that depends on it (sleep sets: Godefroid, *Partial-Order Methods for the Verification of Concurrent Systems*,
//! 1996). Objects are known by the order in which a run first meets them.
//!
//! Not supported: tasks that wait for anything but a lock (a fence, a completion), locks under a context that are
//! contended, locks that other threads take meanwhile.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// What a task is about to do to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take it exclusively, as soon as it is free.
    Write,
    /// Take it shared, as soon as nobody has it exclusively.
    Read,
    /// Take it exclusively if it is free.
    TryWrite,
    /// Take it shared if nobody has it exclusively.
    TryRead,
    /// Give back an exclusive hold.
    EndWrite,
    /// Give back a shared hold.
    EndRead,
    /// Make an exclusive hold a shared one.
    Downgrade,
    /// Touch it, without a lock.
    Access,
}

/// A step and the number of its object.
type Move = (Step, usize);

/// Whether it matters which of two steps of different tasks comes first. A lock cannot be waited for before it is given
/// back, so these two have one order only.
fn depend((one, object): Move, (other, same): Move) -> bool {
    let shares = |step| matches!(step, Step::Read | Step::TryRead | Step::EndRead);
    let waits = |step| matches!(step, Step::Write | Step::Read);
    let ends = |step| matches!(step, Step::EndWrite | Step::EndRead | Step::Downgrade);
    object == same
        && !(shares(one) && shares(other))
        && !(waits(one) && ends(other))
        && !(ends(one) && waits(other))
}

/// A choice that was made: who could go on, and what was explored there.
struct Choice {
    enabled: Vec<(usize, Move)>,
    /// Those that need not be chosen: explored here, or asleep since an earlier choice.
    asleep: Vec<(usize, Move)>,
    /// The tasks that have to be chosen here, in one run or another.
    wanted: Vec<usize>,
    chosen: (usize, Move),
}

#[derive(Default)]
struct Hold {
    writer: bool,
    readers: usize,
}

#[derive(Default)]
struct State {
    /// Where each task waits; `None`: it runs, or has ended.
    waiting: Vec<Option<Move>>,
    ended: usize,
    turn: Option<usize>,
    numbers: BTreeMap<usize, usize>,
    holds: BTreeMap<usize, Hold>,
    path: Vec<Choice>,
    depth: usize,
    asleep: Vec<(usize, Move)>,
    /// This order differs from another one only in swaps; it is run to its end.
    redundant: bool,
    deadlock: bool,
}

struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

thread_local! {
    static TASK: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

/// Called by everybody before a step; a task that is explored waits for its turn.
pub(crate) fn before<T: ?Sized>(object: &T, step: Step) {
    let task = TASK.with_borrow(Clone::clone);
    if let Some((schedule, task)) = task {
        schedule.wait(task, core::ptr::from_ref(object).cast::<()>().addr(), step);
    }
}

impl State {
    fn is_enabled(&self, (step, object): Move) -> bool {
        let Some(hold) = self.holds.get(&object) else { return true };
        match step {
            Step::Write => !hold.writer && hold.readers == 0,
            Step::Read => !hold.writer,
            _ => true,
        }
    }

    /// What the step does to the locks.
    fn apply(&mut self, (step, object): Move) {
        let hold = self.holds.entry(object).or_default();
        match step {
            Step::Write => hold.writer = true,
            Step::Read => hold.readers += 1,
            Step::TryWrite => hold.writer |= hold.readers == 0,
            Step::TryRead => hold.readers += usize::from(!hold.writer),
            Step::EndWrite => hold.writer = false,
            Step::EndRead => hold.readers = hold.readers.saturating_sub(1),
            Step::Downgrade => (hold.writer, hold.readers) = (false, hold.readers + 1),
            Step::Access => {}
        }
    }

    /// Chooses who goes on, once nobody runs.
    fn choose(&mut self) {
        let tasks = self.waiting.iter().enumerate();
        let enabled: Vec<(usize, Move)> = tasks
            .filter_map(|(task, waits)| waits.map(|step| (task, step)))
            .filter(|(_, step)| self.is_enabled(*step))
            .collect();
        if enabled.is_empty() {
            self.deadlock = self.ended < self.waiting.len();
            return;
        }
        let chosen = if self.redundant { enabled[0] } else { self.follow_path(enabled) };
        let (task, step) = chosen;
        self.apply(step);
        self.waiting[task] = None;
        self.turn = Some(task);
    }

    /// The choice of the earlier runs, or a new one at the end of their path.
    fn follow_path(&mut self, enabled: Vec<(usize, Move)>) -> (usize, Move) {
        if self.depth == self.path.len() {
            let asleep = core::mem::take(&mut self.asleep);
            let Some(chosen) = enabled.iter().copied().find(|choice| !asleep.contains(choice)) else {
                self.redundant = true;
                return enabled[0];
            };
            self.path.push(Choice { enabled, asleep, wanted: vec![chosen.0], chosen });
        } else {
            let steps = |choices: &[(usize, Move)]| -> Vec<_> {
                choices.iter().map(|(task, (step, _))| (*task, *step)).collect()
            };
            let before = &self.path[self.depth].enabled;
            assert_eq!(steps(before), steps(&enabled), "the tasks do something else in each run");
        }
        let (earlier, rest) = self.path.split_at_mut(self.depth);
        let choice = &rest[0];
        self.depth += 1;
        let (task, step) = choice.chosen;
        let rival = |other: &&mut Choice| other.chosen.0 != task && depend(other.chosen.1, step);
        if let Some(rival) = earlier.iter_mut().rev().find(rival) {
            // This step could have come first: there, or the other ones have to lead to it.
            let ready = rival.enabled.iter().any(|(other, _)| *other == task);
            let instead =
                rival.enabled.iter().map(|(other, _)| *other).filter(|other| !ready || *other == task);
            rival.wanted.extend(instead);
        }
        let stays = |other: &&(usize, Move)| other.0 != task && !depend(other.1, step);
        self.asleep = choice.asleep.iter().filter(stays).copied().collect();
        choice.chosen
    }

    /// The next path: the last choice that can be made differently. False: there is none.
    fn advance(&mut self) -> bool {
        while let Some(mut last) = self.path.pop() {
            last.asleep.push(last.chosen);
            let is_next =
                |choice: &(usize, Move)| last.wanted.contains(&choice.0) && !last.asleep.contains(choice);
            if let Some(next) = last.enabled.iter().copied().find(is_next) {
                last.chosen = next;
                self.path.push(last);
                return true;
            }
        }
        false
    }

    fn restart(&mut self, tasks: usize) {
        let path = core::mem::take(&mut self.path);
        *self = State { waiting: vec![None; tasks], path, ..State::default() };
    }
}

impl Schedule {
    fn wait(&self, task: usize, address: usize, step: Step) {
        let mut state = self.state.lock();
        let next = state.numbers.len();
        let object = *state.numbers.entry(address).or_insert(next);
        state.waiting[task] = Some((step, object));
        self.pass_on(&mut state);
        self.wait_for_turn(state, task);
    }

    fn wait_for_turn(&self, mut state: parking_lot::MutexGuard<'_, State>, task: usize) {
        while state.turn != Some(task) {
            if state.deadlock && !std::thread::panicking() {
                drop(state);
                panic!("the tasks wait for each other for ever");
            }
            self.changed.wait(&mut state);
        }
    }

    /// Whoever ran stops; somebody else may go on.
    fn pass_on(&self, state: &mut State) {
        state.turn = None;
        let stopped = state.waiting.iter().flatten().count() + state.ended;
        if stopped == state.waiting.len() {
            state.choose();
        }
        self.changed.notify_all();
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.ended += 1;
        self.pass_on(&mut state);
    }
}

/// One of the tasks.
pub type Task = Box<dyn FnOnce() + Send>;

/// What was explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// Orders that differ from each other in more than swaps of independent steps.
    pub interleavings: usize,
    /// Runs that turned out to be one of those again.
    pub redundant: usize,
    /// Whether these are all; if not, the limit was reached.
    pub complete: bool,
}

/// Runs the tasks that `begin` makes in every order, at most `limit` of them; `end` looks at the result of each.
///
/// # Panics
/// With the panic of a task, if the tasks wait for each other for ever, or if they do not do the same again when the same
/// choices are made.
pub fn explore(limit: usize, mut begin: impl FnMut() -> Vec<Task>, mut end: impl FnMut()) -> Explored {
    let schedule = Arc::new(Schedule { state: Mutex::default(), changed: Condvar::new() });
    let mut explored = Explored { interleavings: 0, redundant: 0, complete: false };
    while explored.interleavings < limit {
        let tasks = begin();
        schedule.state.lock().restart(tasks.len());
        let threads: Vec<_> =
            tasks.into_iter().enumerate().map(|(task, f)| start(&schedule, task, f)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
        end();
        let mut state = schedule.state.lock();
        if state.redundant {
            explored.redundant += 1;
        } else {
            explored.interleavings += 1;
        }
        if !state.advance() {
            explored.complete = true;
            break;
        }
    }
    explored
}

fn start(schedule: &Arc<Schedule>, task: usize, f: Task) -> lockdep::thread::JoinHandle<()> {
    struct End(Arc<Schedule>);
    impl Drop for End {
        fn drop(&mut self) {
            TASK.set(None);
            self.0.end();
        }
    }
    let schedule = schedule.clone();
    lockdep::thread::spawn(move || {
        TASK.set(Some((schedule.clone(), task)));
        let end = End(schedule);
        // The first step is the task's begin, so that all of them are there before one goes on.
        before(&end, Step::Access);
        f();
    })
}

#[cfg(test)]
mod tests {
    use super::{Explored, Step, Task, before, explore};
    use crate::kernel::locking::{Mutex as KernelMutex, sleep_class};
    use lockdep::LockClass;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex};

    static CLASS: LockClass = sleep_class("explored");

    /// Two tasks that write their letters into one text or two, a step each.
    fn texts(shared: bool) -> (Explored, BTreeSet<String>) {
        let log = Arc::new(Mutex::new(String::new()));
        let objects = [Arc::new(0_u32), Arc::new(1)];
        let mut seen = BTreeSet::new();
        let begin = || {
            let task = |letters: &'static str, object: usize| -> Task {
                let (log, object) = (log.clone(), objects[object].clone());
                Box::new(move || {
                    for letter in letters.chars() {
                        before(&*object, Step::Access);
                        log.lock().unwrap().push(letter);
                    }
                })
            };
            vec![task("ab", 0), task("xy", usize::from(!shared))]
        };
        let end = || {
            seen.insert(core::mem::take(&mut *log.lock().unwrap()));
        };
        let explored = explore(1000, begin, end);
        (explored, seen)
    }

    #[test]
    fn all_orders_of_dependent_steps_are_run_and_one_of_independent_ones() {
        let (explored, seen) = texts(true);
        assert_eq!((explored.interleavings, explored.complete), (6, true), "4 choose 2");
        assert_eq!(seen.len(), 6, "{seen:?}");
        let (explored, seen) = texts(false);
        assert_eq!((explored.interleavings, explored.complete, seen.len()), (1, true, 1), "{seen:?}");
    }

    #[test]
    fn an_order_that_hangs_is_found() {
        // Here it is the hang that is looked for, not the wrong order.
        let nobody = lockdep::Validator::builder().watch(false).build();
        let exploration = || {
            explore(
                1000,
                || {
                    let locks = Arc::new([KernelMutex::new(&CLASS), KernelMutex::new(&CLASS)]);
                    let task = |first: usize| -> Task {
                        let locks = locks.clone();
                        Box::new(move || {
                            locks[first].lock();
                            locks[1 - first].lock_nested(1);
                            locks[1 - first].unlock();
                            locks[first].unlock();
                        })
                    };
                    vec![task(0), task(1)]
                },
                || (),
            )
        };
        let hang = nobody.scope(|| catch_unwind(AssertUnwindSafe(exploration)));
        let panic = hang.expect_err("one of the orders hangs");
        assert_eq!(panic.downcast_ref(), Some(&"the tasks wait for each other for ever"));
    }
}
