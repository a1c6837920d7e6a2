// SPDX-License-Identifier: GPL-2.0-only
//! IGT `panfrost_*`, and what those tests do not reach: heaps, reclaim, performance counters, contention.
#![forbid(unsafe_code)]

use super::world::{Handle, Object, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::drm::panfrost::drv::PanfrostMadv::{DontNeed, WillNeed};
use crate::drm::panfrost::drv::PanfrostParam;
use crate::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC, to_panfrost_bo};
use crate::drm::panfrost::job::PANFROST_JD_REQ_FS;
use crate::drm::panfrost::mmu::SZ_2M;
use crate::drm::panfrost::perfcnt::PERFCNT_SIZE;
use crate::drm::panfrost::submit::{PanfrostSubmit, WaitTimeout};
use crate::drm::syncobj::SyncobjHandle;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::mm::{MapFlags, Signal};
use crate::kernel::shrinker::kswapd;
use crate::user::{Driver, Process, Programs};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "P1",
        name: "panfrost_gem_new@gem-new",
        about: "objects of two files: no size 0, zeroed memory, map, write, free, use the handle and address again",
        expects: Expects::Clean,
        program: gem_new,
    },
    Scenario {
        id: "P2",
        name: "panfrost_prime@gem-prime-import",
        about: "a display's buffer is imported and has an address for the GPU",
        expects: Expects::Pins,
        program: gem_prime_import,
    },
    Scenario {
        id: "P3",
        name: "panfrost_submit@pan-submit",
        about: "jobs write into an object; their fences are in the out-sync and on the object",
        expects: Expects::Clean,
        program: submit,
    },
    Scenario {
        id: "P4",
        name: "panfrost_submit@pan-submit-error",
        about: "each bad argument of a job has its error and leaves nothing behind",
        expects: Expects::Clean,
        program: submit_error,
    },
    Scenario {
        id: "P5",
        name: "panfrost_submit@pan-submit-and-close",
        about: "close the file while its jobs are at work and in the queue; the GPU serves others",
        expects: Expects::Clean,
        program: submit_and_close,
    },
    Scenario {
        id: "P6",
        name: "panfrost_submit@pan-reset",
        about: "a job that never ends, and one that does not even stop, are cancelled by a reset; the next one runs",
        expects: Expects::Clean,
        program: reset,
    },
    Scenario {
        id: "P7",
        name: "panfrost_submit@pan-unhandled-pagefault",
        about: "a job touches an address where nothing is and fails; the next one does not",
        expects: Expects::Clean,
        program: unhandled_pagefault,
    },
    Scenario {
        id: "P8",
        name: "panfrost_get_param@base-params",
        about: "read the GPU's parameters; an unknown one is an error",
        expects: Expects::Clean,
        program: get_param,
    },
    Scenario {
        id: "P9",
        name: "panfrost@heap-fault",
        about: "a heap grows by 2 MiB where the GPU touches it, once only; memory that runs out fails the job",
        expects: Expects::Clean,
        program: heap_fault,
    },
    Scenario {
        id: "P10",
        name: "panfrost@shrinker",
        about: "reclaim purges what nobody needs, and not what is busy, exported, or mapped for the kernel",
        expects: Expects::Vmaps,
        program: shrinker,
    },
    Scenario {
        id: "P11",
        name: "panfrost@madvise-vs-shrinker",
        about: "one thread takes its advice back again and again while another reclaims",
        expects: Expects::Clean,
        program: madvise_vs_shrinker,
    },
    Scenario {
        id: "P12",
        name: "panfrost@perfcnt",
        about: "take the counters, get samples, give them back; a second file is told to wait; close while enabled",
        expects: Expects::Vmaps,
        program: perfcnt,
    },
    Scenario {
        id: "P13",
        name: "panfrost@submit-contention",
        about: "two threads submit jobs over the same objects in opposite orders; one object twice is an error",
        expects: Expects::Clean,
        program: submit_contention,
    },
];

/// An open file of the GPU and a new object of a page in it: handle and GPU address.
fn gpu_object(world: &World) -> Outcome<(Fd, Handle, u64)> {
    let gpu = world.init.open(Driver::Panfrost)?;
    let (handle, address) = new_object(world, gpu)?;
    Ok((gpu, handle, address))
}

fn new_object(world: &World, gpu: Fd) -> Outcome<(Handle, u64)> {
    Ok(world.init.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?)
}

fn new_heap(world: &World, gpu: Fd, blocks: usize) -> Outcome<(Handle, u64)> {
    Ok(world.init.panfrost_create_bo(gpu, blocks * SZ_2M, PANFROST_BO_HEAP | PANFROST_BO_NOEXEC)?)
}

fn map_page(world: &World, gpu: Fd, handle: Handle) -> Outcome<u64> {
    let offset = world.init.panfrost_mmap_bo(gpu, handle)?;
    Ok(world.init.mmap(gpu, PAGE as u64, offset, MapFlags::SHARED)?)
}

fn unmap_page(world: &World, address: u64) -> Outcome {
    Ok(world.init.munmap(address, PAGE as u64)?)
}

/// The first bytes of an object.
fn first_bytes<const N: usize>(world: &World, gpu: Fd, handle: Handle) -> Outcome<[u8; N]> {
    let cpu = map_page(world, gpu, handle)?;
    let mut bytes = [0; N];
    for (address, byte) in (cpu..).zip(&mut bytes) {
        *byte = world.init.read_byte(address)?;
    }
    unmap_page(world, cpu)?;
    Ok(bytes)
}

/// Submits a job and waits for it; how it ended.
fn run_job(world: &World, gpu: Fd, job: PanfrostSubmit) -> Outcome<Option<Errno>> {
    let init = &world.init;
    let out = init.syncobj_create(gpu, false)?;
    init.panfrost_submit(gpu, &PanfrostSubmit { out_sync: Some(out), ..job })?;
    let error = init.syncobj_wait(gpu, out)?;
    init.syncobj_destroy(gpu, out)?;
    Ok(error)
}

/// Ends the use of a file.
fn close_gpu(world: &World, gpu: Fd, programs: &Programs) -> Outcome {
    programs.unmap(&world.init)?;
    Ok(world.init.close(gpu)?)
}

fn reclaim(world: &World) -> usize {
    kswapd(world.kernel.core(), usize::MAX)
}

fn gem_new(world: &World) -> Outcome {
    let init = &world.init;
    let (gpu, handle, address) = gpu_object(world)?;
    expect_error("an empty object", init.panfrost_create_bo(gpu, 0, PANFROST_BO_NOEXEC), Errno::EINVAL)?;
    expect_eq("the address, asked for", init.panfrost_get_bo_offset(gpu, handle)?, address)?;
    let cpu = map_page(world, gpu, handle)?;
    expect_eq("a byte of a new object", init.read_byte(cpu)?, 0)?;
    init.write_byte(cpu, 0xff)?;
    // Another file counts for itself.
    let (second, other, same_address) = gpu_object(world)?;
    expect_eq("handle and address in another file", (other, same_address), (handle, address))?;
    let theirs = map_page(world, second, other)?;
    init.write_byte(theirs, 1)?;
    expect_eq("the byte of the first file's object", init.read_byte(cpu)?, 0xff)?;
    unmap_page(world, cpu)?;
    init.gem_close(gpu, handle)?;
    expect_eq("handle and address, free again", new_object(world, gpu)?, (handle, address))?;
    expect_eq("bytes of other memory", first_bytes(world, gpu, handle)?, [0])?;
    init.close(second)?;
    expect_eq("the mapping keeps the object", init.read_byte(theirs)?, 1)?;
    unmap_page(world, theirs)?;
    Ok(init.close(gpu)?)
}

fn gem_prime_import(world: &World) -> Outcome {
    let init = &world.init;
    let (kms, dumb, buffer) = world.buffer_of(Driver::Vkms)?;
    let gpu = init.open(Driver::Panfrost)?;
    let import = init.prime_fd_to_handle(gpu, buffer)?;
    init.close(buffer)?;
    let from = init.panfrost_get_bo_offset(gpu, import)?;
    expect_eq("an address", from != 0, true)?;
    // What the display wrote is what the GPU reads.
    let offset = init.mode_map_dumb(kms, dumb)?;
    let cpu = world.map(kms, offset)?;
    init.write_byte(cpu + 3, 33)?;
    let programs = Programs::new(init, gpu)?;
    let (target, to) = new_object(world, gpu)?;
    let jc = programs.load(init, |chain| chain.copy(to, from, 4));
    expect_eq("the copy", run_job(world, gpu, programs.job(jc, &[target, import]))?, None)?;
    expect_eq("what was copied", first_bytes(world, gpu, target)?, [0, 0, 0, 33])?;
    world.init.munmap(cpu, super::world::BYTES)?;
    // A job has the last reference to the import: the scheduler gives it up.
    let waits = programs.load(init, |chain| chain.gate(1));
    init.panfrost_submit(gpu, &programs.job(waits, &[import]))?;
    init.gem_close(gpu, import)?;
    init.close(kms)?;
    world.kernel.panfrost().hw.open_gate(1);
    close_gpu(world, gpu, &programs)
}

fn submit(world: &World) -> Outcome {
    let init = &world.init;
    let (gpu, target, address) = gpu_object(world)?;
    let programs = Programs::new(init, gpu)?;
    let jc = programs.load(init, |chain| chain.null().write(address + 1, 42, 2));
    let out = init.syncobj_create(gpu, false)?;
    expect_error("wait without a fence", init.syncobj_wait(gpu, out), Errno::EINVAL)?;
    let job = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target]) };
    init.panfrost_submit(gpu, &job)?;
    expect_eq("the job", init.syncobj_wait(gpu, out)?, None)?;
    init.panfrost_wait_bo(gpu, target, WaitTimeout::Now)?;
    expect_eq("what it wrote", first_bytes(world, gpu, target)?, [0, 42, 42, 0])?;
    // Two fit into the GPU, two wait in the queue.
    let counts = programs.load(init, |chain| chain.gate(1).add(address, 1));
    for _ in 0..4 {
        init.panfrost_submit(gpu, &programs.job(counts, &[target]))?;
    }
    world.kernel.settle();
    world.kernel.panfrost().hw.open_gate(1);
    wait_for(init, gpu, target)?;
    expect_eq("what four jobs counted", first_bytes(world, gpu, target)?, [4])?;
    init.syncobj_destroy(gpu, out)?;
    close_gpu(world, gpu, &programs)
}

fn submit_error(world: &World) -> Outcome {
    let init = &world.init;
    let (gpu, target, _) = gpu_object(world)?;
    let programs = Programs::new(init, gpu)?;
    let jc = programs.load(init, |chain| chain.null());
    let (out, empty) = (init.syncobj_create(gpu, true)?, init.syncobj_create(gpu, false)?);
    let unknown = (Handle(77), SyncobjHandle(77));
    let good = PanfrostSubmit { out_sync: Some(out), ..programs.job(jc, &[target]) };
    for (what, bad, error) in [
        ("no chain", PanfrostSubmit { jc: 0, ..good.clone() }, Errno::EINVAL),
        ("bad requirements", PanfrostSubmit { requirements: 2, ..good.clone() }, Errno::EINVAL),
        ("a bad in-sync", PanfrostSubmit { in_syncs: vec![unknown.1], ..good.clone() }, Errno::ENOENT),
        ("an empty in-sync", PanfrostSubmit { in_syncs: vec![out, empty], ..good.clone() }, Errno::EINVAL),
        (
            "a bad object",
            PanfrostSubmit { bo_handles: vec![target, unknown.0], ..good.clone() },
            Errno::ENOENT,
        ),
        (
            "an object twice",
            PanfrostSubmit { bo_handles: vec![target, target], ..good.clone() },
            Errno::EALREADY,
        ),
        ("a bad out-sync", PanfrostSubmit { out_sync: Some(unknown.1), ..good.clone() }, Errno::ENODEV),
    ] {
        expect_error(what, init.panfrost_submit(gpu, &bad), error)?;
        expect_eq("no lock is held", lockdep::raw::is_quiet(), true)?;
        expect_eq("jobs", world.kernel.live().count("panfrost_job"), 0)?;
    }
    init.panfrost_submit(gpu, &good)?;
    expect_eq("the good one", init.syncobj_wait(gpu, out)?, None)?;
    expect_error("wait for what is not there", wait_for(init, gpu, unknown.0), Errno::ENOENT)?;
    close_gpu(world, gpu, &programs)
}

fn wait_for(process: &Process, gpu: Fd, handle: Handle) -> Result<(), Errno> {
    process.panfrost_wait_bo(gpu, handle, WaitTimeout::Forever)
}

fn submit_and_close(world: &World) -> Outcome {
    let (init, pfdev) = (&world.init, world.kernel.panfrost());
    let (gpu, at_work, address) = gpu_object(world)?;
    let (waiting, _) = new_object(world, gpu)?;
    let programs = Programs::new(init, gpu)?;
    // Nobody ever opens this gate.
    let long = programs.load(init, |chain| chain.gate(9).write(address, 1, 1));
    // Two fit into the GPU, two wait in the queue, and one waits in the other queue for the last of these.
    for object in [at_work, at_work, waiting, waiting] {
        init.panfrost_submit(gpu, &programs.job(long, &[object]))?;
    }
    let fragment = PanfrostSubmit { requirements: PANFROST_JD_REQ_FS, ..programs.job(long, &[waiting]) };
    init.panfrost_submit(gpu, &fragment)?;
    world.kernel.settle();
    let second = init.open(Driver::Panfrost)?;
    close_gpu(world, gpu, &programs)?;
    world.kernel.settle();
    expect_eq("jobs", world.kernel.live().count("panfrost_job"), 0)?;
    expect_eq("the GPU is idle", pfdev.is_idle(), true)?;
    let others = Programs::new(init, second)?;
    let jc = others.load(init, |chain| chain.null());
    expect_eq("somebody else's job", run_job(world, second, others.job(jc, &[]))?, None)?;
    close_gpu(world, second, &others)
}

fn reset(world: &World) -> Outcome {
    /// The slot of jobs that are not fragment jobs.
    const SLOT: usize = 1;
    let (init, pfdev) = (&world.init, world.kernel.panfrost());
    let (gpu, target, address) = gpu_object(world)?;
    let programs = Programs::new(init, gpu)?;
    let endless = programs.load(init, |chain| chain.null().forever());
    let wedged = programs.load(init, |chain| chain.wedge());
    let good = programs.load(init, |chain| chain.write(address, 6, 1));
    let out = init.syncobj_create(gpu, false)?;
    let booted = pfdev.hw.resets();
    expect_eq("a timeout without a job", pfdev.fire_timeout(SLOT), false)?;
    for (resets, bad) in (1..).zip([endless, wedged]) {
        let job = PanfrostSubmit { out_sync: Some(out), ..programs.job(bad, &[target]) };
        init.panfrost_submit(gpu, &job)?;
        world.kernel.settle();
        let busy = init.panfrost_wait_bo(gpu, target, WaitTimeout::Now);
        expect_error("the object of a job that does not end", busy, Errno::EBUSY)?;
        expect_eq("the timeout", pfdev.fire_timeout(SLOT), true)?;
        expect_eq("the job", init.syncobj_wait(gpu, out)?, Some(Errno::ECANCELED))?;
        expect_eq("resets", pfdev.hw.resets() - booted, resets)?;
        expect_eq("the next job", run_job(world, gpu, programs.job(good, &[target]))?, None)?;
    }
    expect_eq("what it wrote", first_bytes(world, gpu, target)?, [6])?;
    world.kernel.settle();
    expect_eq("a timeout with nobody late", pfdev.fire_timeout(SLOT), false)?;
    close_gpu(world, gpu, &programs)
}

fn unhandled_pagefault(world: &World) -> Outcome {
    let init = &world.init;
    let (gpu, target, address) = gpu_object(world)?;
    let programs = Programs::new(init, gpu)?;
    for nowhere in [0xdead_0000_u64, address + PAGE as u64] {
        programs.rewind();
        let jc = programs.load(init, |chain| chain.write(nowhere, 1, 1));
        // The chain itself can be nowhere, too; or it is no chain.
        for jc in [jc, nowhere, address] {
            let error = run_job(world, gpu, programs.job(jc, &[target]))?;
            expect_eq("the job", error, Some(Errno::EINVAL))?;
        }
    }
    programs.rewind();
    let (heap, base) = new_heap(world, gpu, 1)?;
    let jc = programs.load(init, |chain| chain.write(base, 9, 1).copy(address, base, 1));
    expect_eq("a fault that can be handled", run_job(world, gpu, programs.job(jc, &[target, heap]))?, None)?;
    expect_eq("what it wrote", first_bytes(world, gpu, target)?, [9])?;
    expect_eq("resets", world.kernel.panfrost().hw.resets(), 1)?;
    close_gpu(world, gpu, &programs)
}

fn get_param(world: &World) -> Outcome {
    let init = &world.init;
    let gpu = init.open(Driver::Panfrost)?;
    expect_eq("address spaces", init.panfrost_get_param(gpu, PanfrostParam::AsPresent)?, 0xff)?;
    expect_eq("job slots", init.panfrost_get_param(gpu, PanfrostParam::JsPresent)?, 7)?;
    expect_error("no parameter", init.panfrost_get_param(gpu, PanfrostParam::Unknown), Errno::EINVAL)?;
    Ok(init.close(gpu)?)
}

/// How much of a heap has been faulted in, in blocks.
fn grown(world: &World, gpu: Fd, heap: Handle) -> Outcome<usize> {
    // The handler counts after the GPU has gone on.
    world.kernel.settle();
    let object = world.object(gpu, heap)?;
    let size = to_panfrost_bo(&object.0).heap_rss_size();
    drop(object);
    Ok(size / SZ_2M)
}

fn heap_fault(world: &World) -> Outcome {
    let init = &world.init;
    let (gpu, target, address) = gpu_object(world)?;
    let programs = Programs::new(init, gpu)?;
    let (heap, base) = new_heap(world, gpu, 4)?;
    let far = base + 3 * SZ_2M as u64 - 1;
    expect_eq("blocks at first", grown(world, gpu, heap)?, 0)?;
    let jc = programs.load(init, |chain| {
        chain.write(base + 5, 1, 1).write(far, 2, 1).copy(address, base + 5, 1).copy(address + 1, far, 1)
    });
    let job = programs.job(jc, &[target, heap]);
    // Memory runs out in the middle of the first block.
    world.kernel.panfrost().fail_next_fault(100);
    expect_eq("a job without memory", run_job(world, gpu, job.clone())?, Some(Errno::EINVAL))?;
    for _ in 0..2 {
        expect_eq("the job", run_job(world, gpu, job.clone())?, None)?;
        expect_eq("blocks", grown(world, gpu, heap)?, 2)?;
        expect_eq("what it wrote", first_bytes(world, gpu, target)?, [1, 2, 0])?;
    }
    close_gpu(world, gpu, &programs)
}

fn shrinker(world: &World) -> Outcome {
    let (init, pfdev) = (&world.init, world.kernel.panfrost());
    let (gpu, idle, _) = gpu_object(world)?;
    let [(busy, _), (exported, _), (vmapped, _)] =
        [new_object(world, gpu)?, new_object(world, gpu)?, new_object(world, gpu)?];
    let cpu = map_page(world, gpu, idle)?;
    init.write_byte(cpu, 1)?;
    let buffer = world.export(gpu, exported)?;
    let object: Object = world.object(gpu, vmapped)?;
    let map = object.vmap_unlocked()?;
    let programs = Programs::new(init, gpu)?;
    let long = programs.load(init, |chain| chain.gate(1));
    init.panfrost_submit(gpu, &programs.job(long, &[busy]))?;
    for handle in [idle, busy, exported, vmapped] {
        expect_eq("it was there", init.panfrost_madvise(gpu, handle, DontNeed)?, true)?;
    }
    expect_eq("pages given back", reclaim(world), 1)?;
    expect_eq("a byte of what was purged", init.read_byte(cpu), Err(Signal::Bus))?;
    drop(map);
    drop(object);
    expect_eq("pages of what was mapped for the kernel", reclaim(world), 1)?;
    pfdev.hw.open_gate(1);
    wait_for(init, gpu, busy)?;
    world.kernel.settle();
    expect_eq("pages of what was busy", reclaim(world), 1)?;
    expect_eq("pages of what is exported", reclaim(world), 0)?;
    unmap_page(world, cpu)?;
    init.close(buffer)?;
    close_gpu(world, gpu, &programs)
}

fn madvise_vs_shrinker(world: &World) -> Outcome {
    const ROUNDS: usize = 60;
    let init = &world.init;
    let gpu = init.open(Driver::Panfrost)?;
    let core = world.kernel.core().clone();
    let adviser = init.spawn(move |thread| -> Result<usize, Errno> {
        let mut purged = 0;
        for _ in 0..ROUNDS {
            let (handle, _) = thread.panfrost_create_bo(gpu, PAGE, PANFROST_BO_NOEXEC)?;
            let was_there = thread.panfrost_madvise(gpu, handle, DontNeed)?;
            assert!(was_there, "nobody may purge what is needed");
            purged += usize::from(!thread.panfrost_madvise(gpu, handle, WillNeed)?);
            thread.gem_close(gpu, handle)?;
        }
        Ok(purged)
    })?;
    let freed: usize = (0..ROUNDS).map(|_| kswapd(&core, usize::MAX)).sum();
    let purged = adviser.wait()?;
    expect_eq("pages given back, and objects found purged", freed >= purged, true)?;
    Ok(init.close(gpu)?)
}

/// Two pages of the program's own for a sample, of which the second is never touched before.
fn sample_memory(world: &World) -> Outcome<(Fd, u64)> {
    let vgem = world.init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    let offset = world.init.mode_map_dumb(vgem, handle)?;
    Ok((vgem, world.init.mmap(vgem, 2 * PAGE as u64, offset, MapFlags::SHARED)?))
}

fn perfcnt(world: &World) -> Outcome {
    let init = &world.init;
    let (first, second) = (init.open(Driver::Panfrost)?, init.open(Driver::Panfrost)?);
    let (vgem, to) = sample_memory(world)?;
    expect_error("not enabled", init.panfrost_perfcnt_dump(first, to), Errno::EINVAL)?;
    init.panfrost_perfcnt_enable(first, true)?;
    expect_error("somebody has them", init.panfrost_perfcnt_enable(second, true), Errno::EBUSY)?;
    for sample in 1..=3 {
        init.panfrost_perfcnt_dump(first, to + 8)?;
        expect_eq("the first byte", init.read_byte(to + 8)?, sample)?;
        expect_eq("the last byte", init.read_byte(to + 7 + PERFCNT_SIZE as u64)?, sample)?;
    }
    expect_error("no such memory", init.panfrost_perfcnt_dump(first, 0x1000), Errno::EFAULT)?;
    init.panfrost_perfcnt_enable(first, false)?;
    init.panfrost_perfcnt_enable(second, true)?;
    init.close(second)?;
    expect_eq("closing gives them back", world.kernel.live().count("panfrost_gem_mapping"), 0)?;
    init.munmap(to, 2 * PAGE as u64)?;
    init.close(vgem)?;
    Ok(init.close(first)?)
}

fn submit_contention(world: &World) -> Outcome {
    const ROUNDS: u8 = 40;
    let init = &world.init;
    let (gpu, one, at_one) = gpu_object(world)?;
    let (two, at_two) = new_object(world, gpu)?;
    let submitter = |order: [Handle; 2]| {
        init.spawn(move |thread| -> Result<(), Errno> {
            let programs = Programs::new(thread, gpu)?;
            let jc = programs.load(thread, |chain| chain.add(at_one, 1).add(at_two, 2));
            for _ in 0..ROUNDS {
                thread.panfrost_submit(gpu, &programs.job(jc, &order))?;
            }
            wait_for(thread, gpu, programs.handle)?;
            programs.unmap(thread)
        })
    };
    let threads = [submitter([one, two])?, submitter([two, one])?];
    // Both, before one failure is passed on.
    let results = threads.map(|thread| thread.wait());
    results.into_iter().collect::<Result<(), Errno>>()?;
    let programs = Programs::new(init, gpu)?;
    let jc = programs.load(init, |chain| chain.null());
    expect_error("twice", init.panfrost_submit(gpu, &programs.job(jc, &[one, one])), Errno::EALREADY)?;
    expect_eq("what was counted in one", first_bytes(world, gpu, one)?, [2 * ROUNDS])?;
    expect_eq("what was counted in the other", first_bytes(world, gpu, two)?, [4 * ROUNDS])?;
    close_gpu(world, gpu, &programs)
}
