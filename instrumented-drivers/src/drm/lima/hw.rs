// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The simulated processors. Each has one job at a time, walks the job's page table like the real one, and raises an
//! interrupt when it is done, when it has run out of memory, or when there is no page at an address.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::LimaDevice;
use super::sched::lima_irq_handler;
use super::vm::LimaVm;
use crate::kernel::irq;
use crate::kernel::kthread::{Background, Kthread};
use crate::kernel::shmem::PAGE_SIZE;

/// `enum lima_sched_pipe_id`: the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// Geometry; it has the heaps.
    Gp,
    /// Pixels.
    Pp,
}

impl Pipe {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Gp, Self::Pp];
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimaFrame {
    /// Writes this to the first byte of each of `pages` pages, from an address on.
    Fill {
        /// Where, for the GPU.
        address: u64,
        /// How many pages.
        pages: u64,
        /// What.
        value: u8,
    },
    /// The same in a heap, whose other pages it asks for when it gets there. For the geometry processor.
    FillHeap {
        /// Where the heap begins, for the GPU.
        address: u64,
        /// How many pages.
        pages: u64,
        /// What.
        value: u8,
    },
    /// Never comes to an end.
    Hang,
}

/// What an interrupt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Done,
    OutOfMemory,
    Fault,
}

struct Current {
    frame: LimaFrame,
    vm: Arc<LimaVm>,
    /// Pages that are written.
    progress: u64,
}

/// One processor.
pub(super) struct LimaIp {
    current: Mutex<Option<Current>>,
    thread: Arc<Kthread>,
}

impl LimaIp {
    pub(super) fn new(background: &Background, dev: Weak<LimaDevice>, pipe: Pipe) -> Self {
        let name = if pipe == Pipe::Gp { "gp" } else { "pp" };
        let run = move || dev.upgrade().iter().for_each(|dev| run(dev, pipe));
        LimaIp { current: Mutex::default(), thread: background.kthread(name, run) }
    }

    /// It begins with a job.
    pub(super) fn start(&self, frame: LimaFrame, vm: &Arc<LimaVm>) {
        *self.current.lock() = Some(Current { frame, vm: vm.clone(), progress: 0 });
        self.thread.poke();
    }

    /// It has got memory and goes on.
    pub(super) fn resume(&self) {
        self.thread.poke();
    }

    /// `lima_gp_hard_reset`, `lima_pp_hard_reset`: it forgets its job.
    pub(super) fn hard_reset(&self) {
        *self.current.lock() = None;
    }

    /// Works until there is something to say.
    fn work(&self) -> Option<Event> {
        let mut slot = self.current.lock();
        let current = slot.as_mut()?;
        let (address, pages, value, grows) = match current.frame {
            LimaFrame::Fill { address, pages, value } => (address, pages, value, false),
            LimaFrame::FillHeap { address, pages, value } => (address, pages, value, true),
            LimaFrame::Hang => return None,
        };
        while current.progress < pages {
            match current.vm.walk(address / PAGE_SIZE as u64 + current.progress) {
                Some(page) => page.write(0, value),
                None if grows => return Some(Event::OutOfMemory),
                None => return Some(Event::Fault),
            }
            current.progress += 1;
        }
        *slot = None;
        Some(Event::Done)
    }
}

fn run(dev: &Arc<LimaDevice>, pipe: Pipe) {
    if let Some(event) = dev.pipe(pipe).ip.work() {
        irq::hardirq_threaded(|| lima_irq_handler(dev.pipe(pipe), event));
    }
}
