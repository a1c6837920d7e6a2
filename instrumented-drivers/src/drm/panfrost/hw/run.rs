// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The GPU at work: the threads of the job slots and of the performance counters.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::MutexGuard;

use super::program::{HEADER, Job, Op};
use super::{Chain, Exception, GpuPte, Hw, Interrupts, PAGE, Stall, State, Stop, js_done, js_err};
use crate::kernel::shmem::PAGE_SIZE;

/// Why a chain does not go on.
enum Broken {
    /// With this status.
    Exception(Exception),
    /// The GPU was reset under it: nobody wants to know.
    Reset,
}

type Step<T = ()> = Result<T, Broken>;

/// What a slot knows while it runs a chain. The GPU's state is locked except while the slot waits.
struct Core<'a> {
    hw: &'a Hw,
    state: MutexGuard<'a, State>,
    slot: usize,
    space: usize,
    resets: u64,
}

impl Hw {
    /// The thread of a slot: runs what is to be run.
    pub(super) fn run_slot(&self, slot: usize) {
        loop {
            let mut state = self.state.lock();
            let js = &mut state.slots[slot];
            let Some(chain) = js.current.filter(|_| !js.begun) else { return };
            js.begun = true;
            let resets = state.resets;
            let mut core = Core { hw: self, state, slot, space: chain.space, resets };
            let (status, tail) = core.run(&chain);
            drop(core);
            self.job_interrupt(|state| state.end(slot, resets, status, tail));
            self.changed.notify_all();
        }
    }
}

impl State {
    fn end(&mut self, slot: usize, resets: u64, status: Option<Exception>, tail: u64) {
        let Some(status) = status.filter(|_| self.resets == resets) else { return };
        let js = &mut self.slots[slot];
        js.current = None;
        js.status = status;
        js.tail = tail;
        self.job_int.raw |= if status == Exception::Done { js_done(slot) } else { js_err(slot) };
        self.latch(slot);
    }
}

impl Core<'_> {
    /// Runs a chain; how it ended (`None`: the GPU was reset), and at which job.
    fn run(&mut self, chain: &Chain) -> (Option<Exception>, u64) {
        let mut at = chain.head;
        let mut seen = BTreeSet::new();
        loop {
            let next = self.stopped().and_then(|()| {
                let job = self.job(at)?;
                self.perform(job.op)?;
                if job.next != 0 && !seen.insert(job.next) {
                    // It would go round for ever.
                    self.stall(Stall::Loop)?;
                }
                Ok(job.next)
            });
            match next {
                Ok(0) => return (Some(Exception::Done), at),
                Ok(next) => at = next,
                Err(Broken::Exception(status)) => return (Some(status), at),
                Err(Broken::Reset) => return (None, at),
            }
        }
    }

    fn stopped(&mut self) -> Step {
        if self.state.resets != self.resets {
            return Err(Broken::Reset);
        }
        match self.state.slots[self.slot].stop.take() {
            None => Ok(()),
            Some(Stop::Soft) => Err(Broken::Exception(Exception::Stopped)),
            Some(Stop::Hard(_)) => Err(Broken::Exception(Exception::Terminated)),
        }
    }

    fn job(&mut self, at: u64) -> Step<Job> {
        let mut header = [0; HEADER];
        for (address, byte) in (at..).zip(&mut header) {
            *byte = self.read(address)?;
        }
        Job::decode(&header).ok_or(Broken::Exception(Exception::DataInvalid))
    }

    fn perform(&mut self, op: Op) -> Step {
        match op {
            Op::Null => {}
            Op::WriteValue { to, value, len } => {
                for address in to..to.saturating_add(len) {
                    self.write(address, value)?;
                }
            }
            Op::Copy { to, from, len } => {
                for offset in 0..len {
                    let value = self.read(from + offset)?;
                    self.write(to + offset, value)?;
                }
            }
            Op::Add { to, value } => self.add(to, value)?,
            Op::Gate(number) if self.state.gates.contains(&number) => {}
            Op::Gate(number) => self.stall(Stall::Gate(number))?,
            Op::Wedge => self.stall(Stall::Wedge)?,
        }
        Ok(())
    }

    fn add(&mut self, to: u64, value: u8) -> Step {
        let mut number = [0; 8];
        for (address, byte) in (to..).zip(&mut number) {
            *byte = self.read(address)?;
        }
        // The other slots may do something in between: it is not an atomic operation.
        MutexGuard::unlocked(&mut self.state, std::thread::yield_now);
        let sum = u64::from_le_bytes(number).wrapping_add(u64::from(value));
        for (address, byte) in (to..).zip(sum.to_le_bytes()) {
            self.write(address, byte)?;
        }
        Ok(())
    }

    fn read(&mut self, address: u64) -> Step<u8> {
        let pte = self.translate(address)?;
        Ok(pte.table.read(offset(&pte, address)))
    }

    fn write(&mut self, address: u64, value: u8) -> Step {
        let pte = self.translate(address)?;
        pte.table.write(offset(&pte, address), value);
        Ok(())
    }

    /// Waits while the page is missing, until it is there or the address space is switched off.
    fn translate(&mut self, address: u64) -> Step<GpuPte> {
        loop {
            if self.state.resets != self.resets {
                return Err(Broken::Reset);
            }
            let Some(table) = &self.state.spaces[self.space].table else {
                return Err(Broken::Exception(Exception::TranslationFault));
            };
            if let Some(pte) = table.find(address / PAGE) {
                return Ok(pte);
            }
            self.fault(address)?;
        }
    }

    fn fault(&mut self, address: u64) -> Step {
        let space = self.space;
        // Before the interrupt: the answer may come while it is being raised.
        self.state.slots[self.slot].stall = Some(Stall::Fault { space });
        self.state.spaces[space].fault_address = address;
        let was_up = Interrupts::MMU(&mut self.state).is_up();
        Interrupts::MMU(&mut self.state).raw |= 1 << space;
        if !was_up
            && Interrupts::MMU(&mut self.state).is_up()
            && let Some(lines) = self.hw.lines()
        {
            MutexGuard::unlocked(&mut self.state, || lines.mmu.raise());
        }
        self.sleep()
    }

    /// Waits for something that has to come from outside.
    fn stall(&mut self, stall: Stall) -> Step {
        self.state.slots[self.slot].stall = Some(stall);
        self.sleep()
    }

    fn sleep(&mut self) -> Step {
        self.hw.slots[self.slot].stalls();
        while self.state.slots[self.slot].stall.is_some() {
            self.hw.changed.wait(&mut self.state);
        }
        self.stopped()
    }
}

/// A command to the part of the GPU that is not job slots (`GPU_CMD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum GpuCommand {
    /// `GPU_CMD_PERFCNT_SAMPLE`, into `GPU_PERFCNT_BASE`: an address in an address space.
    Sample {
        /// Which one.
        space: usize,
        /// First address.
        base: u64,
        /// In bytes.
        len: u64,
    },
    /// `GPU_CMD_CLEAN_CACHES`.
    CleanCaches,
}

/// `GPU_IRQ_PERFCNT_SAMPLE_COMPLETED`.
pub(in super::super) const GPU_IRQ_PERFCNT_SAMPLE_COMPLETED: u32 = 1 << 16;
/// `GPU_IRQ_CLEAN_CACHES_COMPLETED`.
pub(in super::super) const GPU_IRQ_CLEAN_CACHES_COMPLETED: u32 = 1 << 17;

/// The performance counters.
#[derive(Default)]
pub(super) struct Counters {
    commands: VecDeque<GpuCommand>,
    samples: u8,
    frozen: bool,
}

impl Hw {
    /// `GPU_CMD`.
    pub(in super::super) fn gpu_command(&self, command: GpuCommand) {
        self.state.lock().counters.commands.push_back(command);
        self.counters.poke();
    }

    /// `GPU_INT_MASK`.
    pub(in super::super) fn set_gpu_mask(&self, mask: u32) {
        self.interrupt(Interrupts::GPU, |lines| &lines.gpu, |state| state.gpu_int.mask = mask);
    }

    /// `GPU_INT_STAT`.
    pub(in super::super) fn gpu_stat(&self) -> u32 {
        let state = self.state.lock();
        state.gpu_int.raw & state.gpu_int.mask
    }

    /// `GPU_INT_CLEAR`.
    pub(in super::super) fn clear_gpu(&self, status: u32) {
        self.state.lock().gpu_int.raw &= !status;
    }

    /// From now on the counters do not answer (or do, again).
    pub fn freeze_counters(&self, frozen: bool) {
        self.state.lock().counters.frozen = frozen;
    }

    /// The thread of the counters.
    pub(super) fn run_counters(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(command) = state.counters.commands.pop_front() else { return };
            if state.counters.frozen {
                continue;
            }
            let done = match command {
                GpuCommand::Sample { space, base, len } => {
                    state.sample(space, base, len);
                    GPU_IRQ_PERFCNT_SAMPLE_COMPLETED
                }
                GpuCommand::CleanCaches => GPU_IRQ_CLEAN_CACHES_COMPLETED,
            };
            drop(state);
            self.interrupt(Interrupts::GPU, |lines| &lines.gpu, |state| state.gpu_int.raw |= done);
        }
    }
}

impl State {
    /// Each sample has a number, from 1; it fills the buffer.
    fn sample(&mut self, space: usize, base: u64, len: u64) {
        self.counters.samples += 1;
        let number = self.counters.samples;
        let Some(table) = &self.spaces[space].table else { return };
        for address in base..base + len {
            if let Some(pte) = table.find(address / PAGE) {
                pte.table.write(offset(&pte, address), number);
            }
        }
    }
}

fn offset(pte: &GpuPte, address: u64) -> usize {
    pte.index * PAGE_SIZE + (address % PAGE) as usize
}
