// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drivers do all day: a job of the GPU over 1, 8 and 64 objects, a frame of a camera, a page fault of a program;
//! and everything at once.
//! The same code with the validator off and on; the group names tell which this is. There is no "bare": the models stand
//! on no other locks.
//!
//! A job is submitted, run by the simulated GPU's thread, and waited for. A frame is taken out and its buffer is given
//! back. A fault is the first write to a page of a mapping.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use instrumented_drivers::drm::panfrost::submit::WaitTimeout;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::mm::{MapFlags, Signal};
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::Setup;
use instrumented_drivers::scenario::stress::Stress;
use instrumented_drivers::user::{Driver, Kernel, Process, Programs, QueueBuffer};
use lockdep::{PanicOn, Validator};

const MODE: &str = if lockdep::ENABLED { "on" } else { "off" };
const PAGE: u64 = 4096;

/// Runs `f` in a kernel of its own, which a validator watches if there is one.
fn in_kernel(f: impl FnOnce(&Process) -> Result) {
    let validator = Validator::builder().panic_on(PanicOn::Finding).build();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        kernel.dma_resv_lockdep();
        let process = kernel.process("bench");
        f(&process).expect("every call succeeds");
        process.exit();
        kernel.assert_no_leaks();
    });
    assert!(validator.reports().is_empty(), "{:?}", validator.reports());
}

fn submit(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("submit/{MODE}"));
    for objects in [1_usize, 8, 64] {
        in_kernel(|process| {
            let gpu = process.open(Driver::Panfrost)?;
            let programs = Programs::new(process, gpu)?;
            let jc = programs.load(process, |chain| chain.null());
            // The one with the chain is one of them.
            let others: Vec<Handle> = (1..objects)
                .map(|_| Ok(process.panfrost_create_bo(gpu, 4096, PANFROST_BO_NOEXEC)?.0))
                .collect::<Result<_>>()?;
            let job = programs.job(jc, &others);
            group.bench_function(BenchmarkId::new("objects", objects), |b| {
                b.iter(|| {
                    process.panfrost_submit(gpu, black_box(&job)).expect("it is a good job");
                    process.panfrost_wait_bo(gpu, programs.handle, WaitTimeout::Forever).expect("it ends");
                });
            });
            Ok(())
        });
    }
    group.finish();
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("frame/{MODE}"));
    for driver in Driver::CAMERAS {
        in_kernel(|process| {
            let camera = process.open(driver)?;
            let buffers = process.reqbufs(camera, 4, Memory::Mmap)?;
            (0..buffers).try_for_each(|index| process.qbuf(camera, &QueueBuffer::mmap(index)))?;
            process.streamon(camera)?;
            group.bench_function(driver.name(), |b| {
                b.iter(|| {
                    let frame = process.dqbuf(camera).expect("it streams");
                    process.qbuf(camera, &QueueBuffer::mmap(frame.index)).expect("it was taken out");
                });
            });
            process.streamoff(camera)
        });
    }
    group.finish();
}

fn fault(c: &mut Criterion) {
    const PAGES: u64 = 64;
    let mut group = c.benchmark_group(format!("fault/{MODE}"));
    group.throughput(Throughput::Elements(PAGES));
    for driver in [Driver::Vgem, Driver::Panfrost] {
        in_kernel(|process| {
            let drm = process.open(driver)?;
            let handle = process.driver_create_buffer(drm, u32::try_from(PAGES * PAGE).unwrap_or(0))?;
            let offset = process.driver_map_offset(drm, handle)?;
            let touch_all = || -> Result<Duration> {
                let address = process.mmap(drm, PAGES * PAGE, offset, MapFlags::SHARED)?;
                let start = Instant::now();
                let touched: core::result::Result<(), Signal> =
                    (0..PAGES).try_for_each(|page| process.write_byte(address + page * PAGE, 1));
                let elapsed = start.elapsed();
                process.munmap(address, PAGES * PAGE)?;
                touched.map(|()| elapsed).map_err(|_| Errno::EFAULT)
            };
            group.bench_function(driver.name(), |b| {
                b.iter_custom(|rounds| (0..rounds).map(|_| touch_all().expect("it can be mapped")).sum());
            });
            Ok(())
        });
    }
    group.finish();
}

/// A kernel, and what programs do to it at random on four threads, from its boot to its end: with all that is new. The
/// longer one is what `lockdep stress` does by default.
fn stress(c: &mut Criterion) {
    let progress: Arc<dyn Fn() + Send + Sync> = Arc::new(|| ());
    let mut group = c.benchmark_group(format!("stress/{MODE}"));
    group.sample_size(20);
    for operations in [400, 2000] {
        let stress = Stress { setup: Setup::LINUX_6_12, seed: 1, threads: 4, operations, faults: false };
        group.bench_function(BenchmarkId::new("operations", operations), |b| {
            b.iter(|| {
                let stressed = stress.run(&progress);
                assert!(stressed.is_clean(), "{stressed:?}");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, submit, frame, fault, stress);
criterion_main!(benches);
