// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The GPU: what the driver's register accesses reach. Nothing here is the kernel's; it takes no kernel lock.
//!
//! Three job slots, each a thread of its own, run chains of jobs ([`program`]); a slot has a current chain and a next
//! one, which it starts when the current one has ended well. Eight address spaces translate, each through the page
//! table that the driver last told it to use. Where a page is missing, the slot raises the MMU's interrupt and waits
//! until the driver flushes that address space, or switches it off. One more thread samples performance counters.
//!
//! Interrupts are levels: a line is up while a bit is both pending and not masked.
//!
//! A job that cannot go on without help from outside (a gate, an endless loop, a page fault that nobody answers)
//! counts as idle for [`Background::settle`](crate::kernel::kthread::Background::settle).

pub mod program;
mod run;

pub(super) use run::{GPU_IRQ_CLEAN_CACHES_COMPLETED, GPU_IRQ_PERFCNT_SAMPLE_COMPLETED, GpuCommand};

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::dma_buf::SgTable;
use crate::kernel::irq_thread::IrqAction;
use crate::kernel::kthread::{Background, Kthread};
use crate::kernel::shmem::PAGE_SIZE;

/// Bytes in a page, for addresses.
pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// How many address spaces the GPU can use at one time.
pub const ADDRESS_SPACES: usize = 8;

/// `NUM_JOB_SLOTS`.
pub const JOB_SLOTS: usize = 3;

/// One page of a buffer: the table that lists it and its place there.
#[derive(Clone)]
struct GpuPte {
    table: Arc<SgTable>,
    index: usize,
}

/// A page table in the memory that CPU and GPU share: GPU page number → page.
#[derive(Default)]
pub(super) struct GpuPageTable(RwLock<BTreeMap<u64, GpuPte>>);

impl GpuPageTable {
    /// Enters the pages of a table from this page number on.
    pub(super) fn map(&self, first: u64, table: &Arc<SgTable>, indices: Range<usize>) {
        let mut pages = self.0.write();
        for (at, index) in (first..).zip(indices) {
            pages.insert(at, GpuPte { table: table.clone(), index });
        }
    }

    /// Removes everything in this range.
    pub(super) fn unmap(&self, range: Range<u64>) {
        self.0.write().retain(|page, _| !range.contains(page));
    }

    fn find(&self, page: u64) -> Option<GpuPte> {
        self.0.read().get(&page).cloned()
    }
}

/// A command to the MMU of one address space.
pub(super) enum AsCommand {
    /// `AS_COMMAND_UPDATE` after the translation table register was written; `None` switches it off.
    Update(Option<Arc<GpuPageTable>>),
    /// `AS_COMMAND_FLUSH_PT` or `FLUSH_MEM`: looks everything up anew; accesses that wait are tried again.
    Flush,
}

#[derive(Default)]
struct AddressSpace {
    table: Option<Arc<GpuPageTable>>,
    /// `AS_FAULTADDRESS`.
    fault_address: u64,
}

/// How a chain ended (`JS_STATUS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exception {
    /// Well.
    #[default]
    Done,
    /// Soft-stopped; it can go on at `JS_TAIL`.
    Stopped,
    /// Hard-stopped.
    Terminated,
    /// A job that the GPU does not know.
    DataInvalid,
    /// An address that is not mapped.
    TranslationFault,
}

impl Exception {
    /// `panfrost_exception_is_fault`.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Exception::DataInvalid | Exception::TranslationFault)
    }
}

/// A command to a slot about its current chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// `JS_COMMAND_SOFT_STOP`: after the job that it is at.
    Soft,
    /// `JS_COMMAND_HARD_STOP_0`, `_1`: now, if the chain is the one with this flag.
    Hard(bool),
}

/// A chain to run: `JS_HEAD_NEXT`, and what is in `JS_CONFIG_NEXT`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) head: u64,
    pub(super) space: usize,
    /// Tells the two chains of a slot apart.
    pub(super) flag: bool,
}

/// What a slot waits for, if somebody else has to bring it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    Gate(u64),
    /// An endless loop.
    Loop,
    /// Not even a stop helps.
    Wedge,
    Fault {
        space: usize,
    },
}

#[derive(Default)]
struct Slot {
    current: Option<Chain>,
    /// The slot's thread has the current chain in hand.
    begun: bool,
    next: Option<Chain>,
    next_started: bool,
    stop: Option<Stop>,
    status: Exception,
    tail: u64,
    stall: Option<Stall>,
}

#[derive(Default)]
struct State {
    slots: [Slot; JOB_SLOTS],
    spaces: [AddressSpace; ADDRESS_SPACES],
    gates: BTreeSet<u64>,
    job_int: Interrupt,
    mmu_int: Interrupt,
    gpu_int: Interrupt,
    /// Counts resets.
    resets: u64,
    counters: run::Counters,
}

/// `*_INT_RAWSTAT` and `*_INT_MASK`.
#[derive(Default)]
struct Interrupt {
    raw: u32,
    mask: u32,
}

impl Interrupt {
    fn is_up(&self) -> bool {
        self.raw & self.mask != 0
    }
}

/// The three interrupt lines.
pub(super) struct Lines {
    pub(super) job: IrqAction,
    pub(super) mmu: IrqAction,
    pub(super) gpu: IrqAction,
}

/// A GPU.
pub struct Hw {
    state: Mutex<State>,
    changed: Condvar,
    slots: [Arc<Kthread>; JOB_SLOTS],
    counters: Arc<Kthread>,
    lines: OnceLock<Lines>,
}

/// `MK_JS_MASK`: the bits of a slot in the job interrupt's registers.
pub(super) const fn js_mask(slot: usize) -> u32 {
    js_done(slot) | js_err(slot)
}

/// `JOB_INT_MASK_DONE`.
pub(super) const fn js_done(slot: usize) -> u32 {
    1 << slot
}

/// `JOB_INT_MASK_ERR`.
pub(super) const fn js_err(slot: usize) -> u32 {
    1 << (16 + slot)
}

/// All bits of the job interrupt.
pub(super) const JS_ALL: u32 = js_mask(0) | js_mask(1) | js_mask(2);

impl Hw {
    pub(super) fn new(background: &Background) -> Arc<Self> {
        Arc::new_cyclic(|hw: &Weak<Hw>| Hw {
            state: Mutex::default(),
            changed: Condvar::new(),
            slots: core::array::from_fn(|slot| {
                let hw = hw.clone();
                background.kthread(&format!("mali-js{slot}"), move || {
                    if let Some(hw) = hw.upgrade() {
                        hw.run_slot(slot);
                    }
                })
            }),
            counters: {
                let hw = hw.clone();
                background.kthread("mali-prfcnt", move || {
                    if let Some(hw) = hw.upgrade() {
                        hw.run_counters();
                    }
                })
            },
            lines: OnceLock::new(),
        })
    }

    /// Connects the interrupt lines; once.
    pub(super) fn connect(&self, lines: Lines) {
        let connected = self.lines.set(lines);
        debug_assert!(connected.is_ok(), "connected twice");
    }

    pub(super) fn lines(&self) -> Option<&Lines> {
        self.lines.get()
    }

    /// Changes an interrupt's registers; raises the line if that leaves it up and it was not.
    fn interrupt<R>(
        &self,
        which: fn(&mut State) -> &mut Interrupt,
        line: fn(&Lines) -> &IrqAction,
        change: impl FnOnce(&mut State) -> R,
    ) -> R {
        let mut state = self.state.lock();
        let was_up = which(&mut state).is_up();
        let result = change(&mut state);
        let raise = !was_up && which(&mut state).is_up();
        drop(state);
        if let (true, Some(lines)) = (raise, self.lines()) {
            line(lines).raise();
        }
        result
    }

    fn job_interrupt<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        self.interrupt(Interrupts::JOB, |lines| &lines.job, change)
    }

    /// `JOB_INT_MASK`.
    pub(super) fn set_job_mask(&self, mask: u32) {
        self.job_interrupt(|state| state.job_int.mask = mask);
    }

    /// `JOB_INT_STAT`.
    pub(super) fn job_stat(&self) -> u32 {
        let state = self.state.lock();
        state.job_int.raw & state.job_int.mask
    }

    /// `JOB_INT_RAWSTAT`.
    pub(super) fn job_rawstat(&self) -> u32 {
        self.state.lock().job_int.raw
    }

    /// `JOB_INT_CLEAR`; and `JOB_INT_JS_STATE`, which is sampled by that: the bits of the slots that are at work or will
    /// be.
    pub(super) fn clear_job(&self, status: u32) -> u32 {
        let mut state = self.state.lock();
        let failed = state.job_int.raw & status;
        state.job_int.raw &= !status;
        // A slot that had failed may go on now.
        let had_failed = |slot: &usize| failed & js_err(*slot) != 0;
        let go_on: Vec<_> = (0..JOB_SLOTS).filter(had_failed).filter(|slot| state.latch(*slot)).collect();
        let js_state = state.js_state();
        drop(state);
        go_on.into_iter().for_each(|slot| self.slots[slot].poke());
        js_state
    }

    /// `JS_STATUS`, `JS_TAIL`.
    pub(super) fn js_status(&self, slot: usize) -> (Exception, u64) {
        let state = self.state.lock();
        (state.slots[slot].status, state.slots[slot].tail)
    }

    /// Writes the registers of the next chain, then `JS_COMMAND_NEXT`: start. `None`: the registers stay as they are.
    pub(super) fn start_next(&self, slot: usize, chain: Option<Chain>) {
        let mut state = self.state.lock();
        let js = &mut state.slots[slot];
        js.next = chain.or(js.next);
        js.next_started = js.next.is_some();
        let latched = state.latch(slot);
        drop(state);
        // A slot that is at work finds it by itself (and one that waits must not look busy).
        if latched {
            self.slots[slot].poke();
        }
    }

    /// Writes the registers of the next chain and does not start it.
    pub(super) fn set_next(&self, slot: usize, chain: Chain) {
        self.state.lock().slots[slot].next = Some(chain);
    }

    /// `JS_COMMAND_NEXT`: no operation.
    pub(super) fn cancel_next(&self, slot: usize) {
        self.state.lock().slots[slot].next_started = false;
    }

    /// `JS_COMMAND_NEXT`, read: whether a chain waits there.
    pub(super) fn has_next(&self, slot: usize) -> bool {
        self.state.lock().slots[slot].next_started
    }

    /// `JS_COMMAND`.
    pub(super) fn stop(&self, slot: usize, stop: Stop) {
        let mut state = self.state.lock();
        let wanted = state.slots[slot].current.is_some_and(|chain| stop.is_for(&chain));
        if wanted {
            state.slots[slot].stop = Some(stop);
            self.wake(&mut state, |slot| slot.stop.is_some() && slot.stall != Some(Stall::Wedge));
        }
    }

    /// Waits until no slot is at work; false: one hangs and never will be.
    pub(super) fn wait_inactive(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.slots.iter().all(|slot| slot.current.is_none()) {
                return true;
            }
            if state.slots.iter().any(|slot| slot.stall == Some(Stall::Wedge)) {
                return false;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Writes the command register of an address space.
    pub(super) fn as_command(&self, space: usize, command: AsCommand) {
        let mut state = self.state.lock();
        if let AsCommand::Update(table) = command {
            state.spaces[space].table = table;
        }
        self.wake(&mut state, |slot| slot.stall == Some(Stall::Fault { space }));
    }

    /// `MMU_INT_MASK`.
    pub(super) fn set_mmu_mask(&self, mask: u32) {
        self.interrupt(Interrupts::MMU, |lines| &lines.mmu, |state| state.mmu_int.mask = mask);
    }

    /// `MMU_INT_STAT`.
    pub(super) fn mmu_stat(&self) -> u32 {
        let state = self.state.lock();
        state.mmu_int.raw & state.mmu_int.mask
    }

    /// `MMU_INT_RAWSTAT`.
    pub(super) fn mmu_rawstat(&self) -> u32 {
        self.state.lock().mmu_int.raw
    }

    /// `MMU_INT_CLEAR`.
    pub(super) fn clear_mmu(&self, status: u32) {
        self.state.lock().mmu_int.raw &= !status;
    }

    /// `AS_FAULTADDRESS`.
    pub(super) fn fault_address(&self, space: usize) -> u64 {
        self.state.lock().spaces[space].fault_address
    }

    /// `GPU_CMD_SOFT_RESET`: everything is forgotten, all interrupts are masked.
    pub(super) fn soft_reset(&self) {
        let mut state = self.state.lock();
        for slot in &mut state.slots {
            let stall = slot.stall;
            *slot = Slot { stall, ..Slot::default() };
        }
        state.spaces = Default::default();
        for interrupt in [Interrupts::JOB, Interrupts::MMU, Interrupts::GPU] {
            *interrupt(&mut state) = Interrupt::default();
        }
        state.resets += 1;
        self.wake(&mut state, |_| true);
    }

    /// How often the GPU was reset.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.state.lock().resets
    }

    /// Opens a gate, for good: jobs that wait there go on.
    pub fn open_gate(&self, number: u64) {
        let mut state = self.state.lock();
        state.gates.insert(number);
        self.wake(&mut state, |slot| slot.stall == Some(Stall::Gate(number)));
    }

    /// Lets slots go on whose situation has changed.
    fn wake(&self, state: &mut State, ready: impl Fn(&Slot) -> bool) {
        for (slot, thread) in state.slots.iter_mut().zip(&self.slots) {
            if slot.stall.is_some() && ready(slot) {
                slot.stall = None;
                thread.goes_on();
            }
        }
        self.changed.notify_all();
    }
}

struct Interrupts;

impl Interrupts {
    const JOB: fn(&mut State) -> &mut Interrupt = |state| &mut state.job_int;
    const MMU: fn(&mut State) -> &mut Interrupt = |state| &mut state.mmu_int;
    const GPU: fn(&mut State) -> &mut Interrupt = |state| &mut state.gpu_int;
}

impl Stop {
    fn is_for(self, chain: &Chain) -> bool {
        match self {
            Stop::Soft => true,
            Stop::Hard(flag) => flag == chain.flag,
        }
    }
}

impl State {
    /// The next chain becomes the current one, if it is to be started and there is none; true if so. After a failure it
    /// waits until the driver has looked at that.
    fn latch(&mut self, slot: usize) -> bool {
        let failed = self.job_int.raw & js_err(slot) != 0;
        let js = &mut self.slots[slot];
        let ready = js.current.is_none() && js.next_started && !failed;
        if ready {
            js.current = js.next.take();
            js.next_started = false;
            js.begun = false;
            js.stop = None;
        }
        ready
    }

    fn js_state(&self) -> u32 {
        let bits = |(number, slot): (usize, &Slot)| {
            let current = if slot.current.is_some() { js_done(number) } else { 0 };
            let next = if slot.next_started { js_err(number) } else { 0 };
            current | next
        };
        self.slots.iter().enumerate().map(bits).fold(0, |all, bits| all | bits)
    }
}

crate::kernel::opaque_debug!(Hw);
