// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A GPU that several threads use at once: jobs over overlapping sets of objects that count, mapping, faults of the CPU
//! and of the GPU, advice, export. No count may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::yield_now;

use super::Random;
use crate::drm::file::Handle;
use crate::drm::panfrost::drv::PanfrostMadv::{DontNeed, WillNeed};
use crate::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use crate::drm::panfrost::hw::program::JobChain;
use crate::drm::panfrost::job::PANFROST_JD_REQ_FS;
use crate::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use crate::drm::prime::DRM_RDWR;
use crate::kernel::errno::Result;
use crate::kernel::fault::{Plan, inject};
use crate::kernel::file::Fd;
use crate::kernel::mm::{MapFlags, Signal};
use crate::scenario::Failure;
use crate::scenario::world::{Outcome, PAGE, expect_eq};
use crate::user::{Driver, Process, Programs};

const SHARED: usize = 6;
const SZ_2M: usize = 2 << 20;

/// An open file of the GPU, the objects in it that all threads use, and how often each must have been counted up.
#[derive(Debug)]
pub struct Shared {
    gpu: Fd,
    objects: [(Handle, u64); SHARED],
    expected: [AtomicU64; SHARED],
}

impl Shared {
    /// Opens the device and makes the objects.
    ///
    /// # Errors
    /// As [`Process::open`] and [`Process::panfrost_create_bo`].
    pub fn new(process: &Process) -> Result<Self> {
        let gpu = process.open(Driver::Panfrost)?;
        let mut objects = [(Handle(0), 0); SHARED];
        for object in &mut objects {
            *object = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
        }
        Ok(Shared { gpu, objects, expected: Default::default() })
    }

    /// Some of them, each at most once, in any order.
    fn some(&self, random: &mut Random) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..SHARED).collect();
        for last in (1..SHARED).rev() {
            chosen.swap(last, random.below(last + 1));
        }
        chosen.truncate(1 + random.below(SHARED - 1));
        chosen
    }

    /// Waits for the jobs; every one has counted in each of its objects, and no count was lost. Closes the file.
    ///
    /// # Errors
    /// If one was lost.
    pub fn finish(&self, process: &Process) -> core::result::Result<(), Failure> {
        for ((handle, _), expected) in self.objects.iter().zip(&self.expected) {
            process.panfrost_wait_bo(self.gpu, *handle, WaitTimeout::Forever)?;
            let cpu = map(process, self.gpu, *handle)?;
            let mut count = [0; 8];
            for (at, byte) in (cpu..).zip(&mut count) {
                *byte = process.read_byte(at)?;
            }
            expect_eq("what the jobs counted", u64::from_le_bytes(count), expected.load(Ordering::Relaxed))?;
            process.munmap(cpu, PAGE as u64)?;
        }
        Ok(process.close(self.gpu)?)
    }
}

fn map(process: &Process, gpu: Fd, handle: Handle) -> Result<u64> {
    let offset = process.panfrost_mmap_bo(gpu, handle)?;
    process.mmap(gpu, PAGE as u64, offset, MapFlags::SHARED)
}

/// A thread that uses the GPU.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    shared: Arc<Shared>,
    programs: Programs,
    requirements: u32,
    heap: (Handle, u64),
}

impl Worker {
    /// With a place for its programs and a heap of its own.
    ///
    /// # Errors
    /// As [`Programs::new`] and [`Process::panfrost_create_bo`].
    pub fn new(process: &Process, shared: &Arc<Shared>, number: u64) -> Result<Self> {
        let programs = Programs::new(process, shared.gpu)?;
        let heap = process.panfrost_create_bo(shared.gpu, SZ_2M, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?;
        let requirements = if number.is_multiple_of(2) { PANFROST_JD_REQ_FS } else { 0 };
        Ok(Worker { process: process.clone(), shared: shared.clone(), programs, requirements, heap })
    }

    /// Does one thing or another; mostly it gives the GPU something to do.
    ///
    /// # Errors
    /// What a system call says, or if something was lost.
    pub fn round(&self, random: &mut Random) -> core::result::Result<(), Failure> {
        match random.below(6) {
            0 => self.map_and_fault(random),
            1 => self.advise(random),
            2 => self.export(random),
            _ => self.submit(random),
        }
    }

    /// Waits for its last job and gives the place for its programs back.
    ///
    /// # Errors
    /// As [`Process::panfrost_wait_bo`] and [`Process::munmap`].
    pub fn finish(self) -> Result {
        self.process.panfrost_wait_bo(self.shared.gpu, self.programs.handle, WaitTimeout::Forever)?;
        self.programs.unmap(&self.process)
    }

    /// Counts up in some of the objects, and touches the heap, which faults at first.
    fn submit(&self, random: &mut Random) -> Outcome {
        // The last job still reads its chain.
        self.process.panfrost_wait_bo(self.shared.gpu, self.programs.handle, WaitTimeout::Forever)?;
        self.programs.rewind();
        let chosen = self.shared.some(random);
        let at_heap = self.heap.1 + random.below(SZ_2M) as u64;
        let load = || {
            self.programs.load(&self.process, |chain| {
                let add = |chain: JobChain, at: &usize| JobChain::add(chain, self.shared.objects[*at].1, 1);
                chosen.iter().fold(chain, add).write(at_heap, 1, 1)
            })
        };
        // What is written here is the test's own; no failure belongs there.
        let (jc, _) = inject(Plan::NONE, load);
        let mut handles: Vec<Handle> = chosen.iter().map(|at| self.shared.objects[*at].0).collect();
        handles.push(self.heap.0);
        let job = PanfrostSubmit { requirements: self.requirements, ..self.programs.job(jc, &handles) };
        self.process.panfrost_submit(self.shared.gpu, &job)?;
        chosen.iter().for_each(|at| {
            self.shared.expected[*at].fetch_add(1, Ordering::Relaxed);
        });
        Ok(())
    }

    fn map_and_fault(&self, random: &mut Random) -> Outcome {
        let (handle, _) = self.shared.objects[random.below(SHARED)];
        let cpu = map(&self.process, self.shared.gpu, handle)?;
        // Far from where the jobs count.
        let at = cpu + 64 + random.below(PAGE - 64) as u64;
        self.process.write_byte(at, 5)?;
        expect_eq("what the CPU wrote", self.process.read_byte(at)?, 5)?;
        Ok(self.process.munmap(cpu, PAGE as u64)?)
    }

    /// What nobody needs may go at any moment, whole or not at all; what is needed again and is still there stays.
    fn advise(&self, random: &mut Random) -> Outcome {
        let (process, gpu) = (&self.process, self.shared.gpu);
        let (handle, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
        let cpu = map(process, gpu, handle)?;
        process.write_byte(cpu, 77)?;
        expect_eq("needed until now", process.panfrost_madvise(gpu, handle, DontNeed)?, true)?;
        (0..random.below(30)).for_each(|_| yield_now());
        if process.panfrost_madvise(gpu, handle, WillNeed)? {
            expect_eq("what was kept", process.read_byte(cpu)?, 77)?;
        } else {
            expect_eq("what was thrown away", process.read_byte(cpu), Err(Signal::Bus))?;
        }
        process.munmap(cpu, PAGE as u64)?;
        Ok(process.gem_close(gpu, handle)?)
    }

    fn export(&self, random: &mut Random) -> Outcome {
        let process = &self.process;
        let (handle, _) = self.shared.objects[random.below(SHARED)];
        let buffer = process.prime_handle_to_fd(self.shared.gpu, handle, DRM_RDWR)?;
        let vgem = process.open(Driver::Vgem)?;
        let import = process.prime_fd_to_handle(vgem, buffer)?;
        process.close(buffer)?;
        let offset = process.driver_map_offset(vgem, import)?;
        let cpu = process.mmap(vgem, PAGE as u64, offset, MapFlags::SHARED)?;
        process.read_byte(cpu)?;
        process.munmap(cpu, PAGE as u64)?;
        Ok(process.close(vgem)?)
    }
}
