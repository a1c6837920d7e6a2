// SPDX-License-Identifier: MIT OR Apache-2.0
//! What really happens: tasks that run small straight-line programs of lock operations, and a search through all
//! their interleavings for one in which somebody waits for ever.
//!
//! It knows locks and no rule: no class, no dependency, no order. A [`Start`] says who runs: how many copies of each
//! program, and whether writers come by from elsewhere.
//!
//! The locks are reader/writer locks. A writer waits for everybody; a reader for a writer inside and for one that
//! queues; a recursive reader only for a writer inside; a trylock that cannot be had at once is left out,
//! together with its release. Whoever waits may have come earlier or later: a writer's arrival is a move of its own.
//! At its end a task releases what it still holds.

use std::collections::HashSet;

/// There are three locks.
pub(crate) const LOCKS: usize = 3;

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Write,
    Read,
    Recursive,
    Try,
}

impl How {
    pub(crate) const ALL: [How; 4] = [How::Write, How::Read, How::Recursive, How::Try];
}

/// One operation of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Takes this lock.
    Take(u8, How),
    /// Releases what this earlier operation took, if it did.
    Release(u8),
}

/// A straight-line program of at most six operations.
pub(crate) type Program = Vec<Op>;

/// The operations before `end` whose lock has not been released by then, as a set; a failed trylock counts as taken.
pub(crate) fn open(program: &[Op], end: usize) -> u8 {
    program[..end].iter().enumerate().fold(0, |open, (at, op)| match op {
        Op::Take(..) => open | 1 << at,
        Op::Release(taken) => open & !(1 << taken),
    })
}

/// Who runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// Tasks for each program.
    pub(crate) copies: usize,
    /// Writers that hold nothing else come by at any time.
    pub(crate) writers: bool,
}

/// The most tasks there can be.
const THREADS: usize = 6;

/// One task: where it is in its program, which of its operations took their lock, and whether it queues as a writer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Thread {
    at: u8,
    taken: u8,
    queued: bool,
}

/// All tasks, and at which locks (a set) a writer from elsewhere queues.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct State {
    threads: [Thread; THREADS],
    queued: u8,
}

/// By how many a lock is held, and whether somebody queues for it.
#[derive(Clone, Copy, Default)]
struct Lock {
    writers: u8,
    readers: u8,
    queue: bool,
}

impl Lock {
    fn is_free(self) -> bool {
        self.writers + self.readers == 0
    }
}

/// A search through all interleavings.
struct Explorer<'p> {
    programs: [&'p [Op]; 2],
    /// For each program and position, [`open`].
    open: [Vec<u8>; 2],
    start: Start,
}

/// True if in some interleaving somebody waits for ever.
pub(crate) fn deadlocks(programs: [&[Op]; 2], start: Start) -> bool {
    assert!(2 * start.copies <= THREADS && programs.iter().all(|program| program.len() <= 6));
    let open = programs.map(|program| {
        let held = |end| if end == program.len() { 0 } else { open(program, end) };
        (0..=program.len()).map(held).collect()
    });
    Explorer { programs, open, start }.search()
}

impl Explorer<'_> {
    fn search(&self) -> bool {
        let mut seen = HashSet::from([State::default()]);
        let mut stack = vec![State::default()];
        let mut next = Vec::new();
        while let Some(state) = stack.pop() {
            let progress = self.moves(&state, &mut next);
            if !progress
                && self.threads().any(|(i, program)| usize::from(state.threads[i].at) < program.len())
            {
                return true;
            }
            stack.extend(next.drain(..).filter(|next| seen.insert(*next)));
        }
        false
    }

    /// The tasks that there are, with their programs: first all of one, then all of the other.
    fn threads(&self) -> impl Iterator<Item = (usize, &[Op])> {
        (0..2 * self.start.copies).map(|i| (i, self.programs[i / self.start.copies]))
    }

    /// The locks in a state.
    fn locks(&self, state: &State) -> [Lock; LOCKS] {
        let mut locks: [Lock; LOCKS] =
            std::array::from_fn(|i| Lock { queue: state.queued & 1 << i != 0, ..Lock::default() });
        for (i, program) in self.threads() {
            let thread = state.threads[i];
            let mut held = self.open[i / self.start.copies][usize::from(thread.at)] & thread.taken;
            while held != 0 {
                match program[held.trailing_zeros() as usize] {
                    Op::Take(lock, How::Read | How::Recursive) => locks[usize::from(lock)].readers += 1,
                    Op::Take(lock, How::Write | How::Try) => locks[usize::from(lock)].writers += 1,
                    Op::Release(_) => {}
                }
                held &= held - 1;
            }
            if thread.queued
                && let Some(Op::Take(lock, _)) = program.get(usize::from(thread.at))
            {
                locks[usize::from(*lock)].queue = true;
            }
        }
        locks
    }

    /// Adds every state that one move leads to; true if one of them is a step of somebody and not only the arrival
    /// of one more writer from elsewhere.
    fn moves(&self, state: &State, next: &mut Vec<State>) -> bool {
        let locks = self.locks(state);
        let mut progress = false;
        for (i, program) in self.threads() {
            let thread = state.threads[i];
            let Some(op) = program.get(usize::from(thread.at)) else { continue };
            let on = Thread { at: thread.at + 1, queued: false, ..thread };
            let moved = match *op {
                Op::Release(_) => on,
                Op::Take(lock, how) => {
                    let lock = locks[usize::from(lock)];
                    let goes = match how {
                        How::Write | How::Try => lock.is_free(),
                        How::Read => lock.writers == 0 && !lock.queue,
                        How::Recursive => lock.writers == 0,
                    };
                    match how {
                        _ if goes => Thread { taken: thread.taken | 1 << thread.at, ..on },
                        How::Try => on,
                        How::Write if !thread.queued => Thread { queued: true, ..thread },
                        _ => continue,
                    }
                }
            };
            progress = true;
            let mut state = *state;
            state.threads[i] = moved;
            // Tasks with one program are alike.
            state.threads.chunks_mut(self.start.copies).for_each(<[Thread]>::sort_unstable);
            next.push(state);
        }
        for (i, lock) in locks.iter().enumerate() {
            let queued = state.queued & 1 << i != 0;
            // It gets the lock, and releases it; or it comes and has to wait.
            let leaves = queued && lock.is_free();
            let comes = self.start.writers && !queued && lock.readers > 0;
            if leaves || comes {
                next.push(State { queued: state.queued ^ 1 << i, ..*state });
                progress |= leaves;
            }
        }
        progress
    }
}
