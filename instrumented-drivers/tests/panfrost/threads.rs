// SPDX-License-Identifier: GPL-2.0-only
//! Everything at once on real threads: jobs over overlapping sets of objects, mapping, faults of the CPU and of the GPU,
//! advice, reclaim, export and import, and a camera whose frames the GPU reads. Seeded, so that a run can be repeated as
//! far as threads can; bounded, so that it ends. Every counter, byte and frame is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::yield_now;

use instrumented_drivers::drm::file::DrmFile;
use instrumented_drivers::drm::gem::{drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap_unlocked};
use instrumented_drivers::drm::gem_handle::drm_gem_object_lookup;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv::DontNeed;
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use instrumented_drivers::drm::panfrost::submit::WaitTimeout;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::KernelCore;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::shrinker::{direct_reclaim_at, kswapd};
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::policy::LockingPolicy::{P0, P2};
use instrumented_drivers::policy::ShmemLocking::{A, C};
use instrumented_drivers::scenario::stress::Random;
use instrumented_drivers::scenario::stress::gpu::{Shared, Worker};
use instrumented_drivers::user::{Child, Driver, Process, Programs, QueueBuffer};

use crate::common::{PAGE, all, clean, map, open_with_bo};
use crate::vb2_common::{CAMERAS, FRAME, check_frame};

const THREADS: u64 = 4;

/// How often an object is mapped while it is counted.
const ROUNDS: usize = 300;

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
                    let round = || worker.round(&mut random);
                    let done = direct_reclaim_at(&core, move |n| n.is_multiple_of(short), round);
                    done.unwrap_or_else(|failure| panic!("thread {number} of seed {seed}: {failure}"));
                }
                worker.finish()
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
        shared.finish(process).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        Ok(())
    });
}

/// The shrinker counts without the locks of the objects: what it reads may be out of date, and no more than that.
#[test]
fn objects_are_counted_while_they_are_mapped() {
    for (policy, shmem) in all() {
        if policy == P0 && shmem != A {
            // No kernel was like that: the core maps without the lock that the helper expects.
            continue;
        }
        clean(policy, shmem, |kernel, process| {
            let (gpu, handle, _) = open_with_bo(process, PAGE)?;
            assert!(process.panfrost_madvise(gpu, handle, DontNeed)?);
            // From now on it is listed, and never purged.
            let buffer = process.prime_handle_to_fd(gpu, handle, DRM_RDWR)?;
            let file = process.peek(gpu)?;
            let file: &DrmFile = file.private().ok_or(Errno::ENOTTY)?;
            let obj = kernel.kthread(|_| drm_gem_object_lookup(file, handle)).ok_or(Errno::ENOENT)?;
            let stop = Arc::new(AtomicBool::new(false));
            let (core, told) = (kernel.core().clone(), stop.clone());
            let reclaimer = process.spawn(move |_| reclaim(&core, &told))?;
            for _ in 0..ROUNDS {
                let cpu = map(process, gpu, handle, PAGE)?;
                process.munmap(cpu, PAGE as u64)?;
                kernel.kthread(|_| {
                    drm_gem_vmap_unlocked(&obj).map(|map| drm_gem_vunmap_unlocked(&obj, &map))
                })?;
            }
            kernel.kthread(|_| drm_gem_object_put(obj));
            stop.store(true, Ordering::Release);
            assert_eq!(reclaimer.wait(), 0);
            process.close(buffer)?;
            process.close(gpu)
        });
    }
}

#[test]
fn jobs_mappings_advice_reclaim_exports_and_a_camera_at_once_lose_nothing() {
    (0..3).for_each(everything_at_once);
}
