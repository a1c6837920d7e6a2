// SPDX-License-Identifier: GPL-2.0-only
//! Everything at once on real threads: jobs over overlapping sets of objects, mapping, faults of the CPU and of the GPU,
//! advice, reclaim, export and import, and a camera whose frames the GPU reads. Seeded, so that a run can be repeated as
//! far as threads can; bounded, so that it ends. Every counter, byte and frame is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::yield_now;

use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::{DontNeed, WillNeed};
use instrumented_drivers::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use instrumented_drivers::drm::panfrost::job::PANFROST_JD_REQ_FS;
use instrumented_drivers::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::KernelCore;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::{MapFlags, Signal};
use instrumented_drivers::kernel::shrinker::{direct_reclaim_at, kswapd};
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::policy::LockingPolicy::P2;
use instrumented_drivers::policy::ShmemLocking::C;
use instrumented_drivers::user::{Child, Driver, Process, Programs, QueueBuffer};

use crate::common::{PAGE, clean, map};
use crate::vb2_common::{CAMERAS, FRAME, Random, check_frame};

const THREADS: u64 = 4;
const SHARED: usize = 6;
const SZ_2M: usize = 2 << 20;

/// An open file of the GPU, the objects in it that all threads use, and how often each must have been counted up.
struct Shared {
    gpu: Fd,
    objects: [(Handle, u64); SHARED],
    expected: [AtomicU64; SHARED],
}

impl Shared {
    fn new(process: &Process) -> Result<Self> {
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

    /// Every job has counted in each of its objects, and no count was lost.
    fn check(&self, process: &Process) -> Result {
        for ((handle, _), expected) in self.objects.iter().zip(&self.expected) {
            process.panfrost_wait_bo(self.gpu, *handle, WaitTimeout::Forever)?;
            let cpu = map(process, self.gpu, *handle, PAGE)?;
            let bytes = core::array::from_fn(|at| process.read_byte(cpu + at as u64).expect("mapped"));
            assert_eq!(u64::from_le_bytes(bytes), expected.load(Ordering::Relaxed), "{handle:?}");
            process.munmap(cpu, PAGE as u64)?;
        }
        Ok(())
    }
}

/// A thread that uses the GPU.
struct Worker<'a> {
    process: &'a Process,
    shared: &'a Shared,
    programs: Programs,
    requirements: u32,
    heap: (Handle, u64),
}

impl<'a> Worker<'a> {
    fn new(process: &'a Process, shared: &'a Shared, number: u64) -> Result<Self> {
        let programs = Programs::new(process, shared.gpu)?;
        let heap = process.panfrost_create_bo(shared.gpu, SZ_2M, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?;
        let requirements = if number.is_multiple_of(2) { PANFROST_JD_REQ_FS } else { 0 };
        Ok(Worker { process, shared, programs, requirements, heap })
    }

    fn round(&self, random: &mut Random) -> Result {
        match random.below(6) {
            0 => self.map_and_fault(random),
            1 => self.advise(random),
            2 => self.export(random),
            _ => self.submit(random),
        }
    }

    /// Counts up in some of the objects, and touches the heap, which faults at first.
    fn submit(&self, random: &mut Random) -> Result {
        // The last job still reads its chain.
        self.process.panfrost_wait_bo(self.shared.gpu, self.programs.handle, WaitTimeout::Forever)?;
        self.programs.rewind();
        let chosen = self.shared.some(random);
        let jc = self.programs.load(self.process, |chain| {
            let chain = chosen.iter().fold(chain, |chain, at| chain.add(self.shared.objects[*at].1, 1));
            chain.write(self.heap.1 + random.below(SZ_2M) as u64, 1, 1)
        });
        let mut handles: Vec<Handle> = chosen.iter().map(|at| self.shared.objects[*at].0).collect();
        handles.push(self.heap.0);
        let job = PanfrostSubmit { requirements: self.requirements, ..self.programs.job(jc, &handles) };
        self.process.panfrost_submit(self.shared.gpu, &job)?;
        chosen.iter().for_each(|at| {
            self.shared.expected[*at].fetch_add(1, Ordering::Relaxed);
        });
        Ok(())
    }

    fn map_and_fault(&self, random: &mut Random) -> Result {
        let (handle, _) = self.shared.objects[random.below(SHARED)];
        let cpu = map(self.process, self.shared.gpu, handle, PAGE)?;
        // Far from where the jobs count.
        let at = cpu + 64 + random.below(PAGE - 64) as u64;
        self.process.write_byte(at, 5).expect("mapped");
        assert_eq!(self.process.read_byte(at), Ok(5));
        self.process.munmap(cpu, PAGE as u64)
    }

    /// What nobody needs may go at any moment, whole or not at all; what is needed again and is still there stays.
    fn advise(&self, random: &mut Random) -> Result {
        let (process, gpu) = (self.process, self.shared.gpu);
        let (handle, _) = process.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
        let cpu = map(process, gpu, handle, PAGE)?;
        process.write_byte(cpu, 77).expect("mapped");
        assert!(process.panfrost_madvise(gpu, handle, DontNeed)?, "it was needed until now");
        (0..random.below(30)).for_each(|_| yield_now());
        let kept = process.panfrost_madvise(gpu, handle, WillNeed)?;
        let expected = if kept { Ok(77) } else { Err(Signal::Bus) };
        assert_eq!(process.read_byte(cpu), expected);
        process.munmap(cpu, PAGE as u64)?;
        process.gem_close(gpu, handle)
    }

    fn export(&self, random: &mut Random) -> Result {
        let process = self.process;
        let (handle, _) = self.shared.objects[random.below(SHARED)];
        let buffer = process.prime_handle_to_fd(self.shared.gpu, handle, DRM_RDWR)?;
        let vgem = process.open(Driver::Vgem)?;
        let import = process.prime_fd_to_handle(vgem, buffer)?;
        process.close(buffer)?;
        let offset = process.driver_map_offset(vgem, import)?;
        let cpu = process.mmap(vgem, PAGE as u64, offset, MapFlags::SHARED)?;
        process.read_byte(cpu).expect("mapped");
        process.munmap(cpu, PAGE as u64)?;
        process.close(vgem)
    }
}

/// A camera streams; the GPU reads each frame through an import of its own and copies it into an object of its file.
fn stream(process: &Process, driver: Driver, frames: usize) -> Result {
    const BUFFERS: usize = 3;
    let camera = process.open(driver)?;
    process.reqbufs(camera, BUFFERS, Memory::Mmap)?;
    let gpu = process.open(Driver::Panfrost)?;
    let programs = Programs::new(process, gpu)?;
    let (target, to) = process.panfrost_create_bo(gpu, FRAME, PANFROST_BO_NOEXEC)?;
    let cpu = map(process, gpu, target, FRAME)?;
    let mut imports = Vec::new();
    for index in 0..BUFFERS {
        let buffer = process.expbuf(camera, index, 0)?;
        let import = process.prime_fd_to_handle(gpu, buffer)?;
        process.close(buffer)?;
        imports.push((import, process.panfrost_get_bo_offset(gpu, import)?));
        process.qbuf(camera, &QueueBuffer::mmap(index))?;
    }
    process.streamon(camera)?;
    for _ in 0..frames {
        let frame = process.dqbuf(camera)?;
        let (import, from) = imports[frame.index];
        programs.rewind();
        let jc = programs.load(process, |chain| chain.copy(to, from, FRAME as u64));
        process.panfrost_submit(gpu, &programs.job(jc, &[import, target]))?;
        process.panfrost_wait_bo(gpu, target, WaitTimeout::Forever)?;
        process.qbuf(camera, &QueueBuffer::mmap(frame.index))?;
        check_frame(process, cpu, frame.sequence, 0);
    }
    process.streamoff(camera)?;
    process.munmap(cpu, FRAME as u64)?;
    programs.unmap(process)?;
    // The imports go with the file, after the camera.
    process.close(camera)?;
    process.close(gpu)
}

/// Reclaims until it is told to stop; how many pages it got.
fn reclaim(core: &Arc<KernelCore>, stop: &AtomicBool) -> usize {
    let mut freed = 0;
    while !stop.load(Ordering::Acquire) {
        freed += kswapd(core, usize::MAX);
        yield_now();
    }
    freed
}

fn everything_at_once(seed: u64) {
    clean(P2, C, |kernel, process| {
        let shared = Arc::new(Shared::new(process)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (core, told) = (kernel.core().clone(), stop.clone());
        let reclaimer = process.spawn(move |_| reclaim(&core, &told))?;
        let workers = (1..=THREADS).map(|number| {
            let (shared, core) = (shared.clone(), kernel.core().clone());
            process.spawn(move |process| -> Result {
                let worker = Worker::new(process, &shared, number)?;
                let mut random = Random::new(seed, number);
                for _ in 0..30 {
                    // Now and then memory is short in the middle of it.
                    let short = u32::try_from(1 + random.below(20)).unwrap_or(1);
                    direct_reclaim_at(&core, move |n| n.is_multiple_of(short), || worker.round(&mut random))?;
                }
                process.panfrost_wait_bo(shared.gpu, worker.programs.handle, WaitTimeout::Forever)?;
                worker.programs.unmap(process)
            })
        });
        let workers: Vec<Child<Result>> = workers.collect::<Result<_>>()?;
        let driver = CAMERAS[usize::try_from(seed).unwrap_or(0) % CAMERAS.len()];
        let camera = process.spawn(move |process| stream(process, driver, 25))?;
        // All of them, before one failure is passed on.
        let results: Vec<Result> = workers.into_iter().chain([camera]).map(Child::wait).collect();
        stop.store(true, Ordering::Release);
        reclaimer.wait();
        results.into_iter().collect::<Result>()?;
        shared.check(process)?;
        process.close(shared.gpu)
    });
}

#[test]
fn jobs_mappings_advice_reclaim_exports_and_a_camera_at_once_lose_nothing() {
    (0..3).for_each(everything_at_once);
}
