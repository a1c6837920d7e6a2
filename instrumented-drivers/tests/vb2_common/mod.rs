// SPDX-License-Identifier: GPL-2.0-only
//! What the tests of the cameras share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::media::videobuf2::PlaneMemory;
use instrumented_drivers::media::vivid::test_pattern;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{Report, Validator};

/// The cameras, one for each allocator.
pub(crate) const CAMERAS: [Driver; 3] = Driver::CAMERAS;

/// Bytes of a plane of the format the camera starts with, in whole pages.
pub(crate) const FRAME: usize = 32768;

/// All policies with all regimes.
pub(crate) fn all() -> impl Iterator<Item = (LockingPolicy, ShmemLocking)> {
    LockingPolicy::ALL.into_iter().flat_map(|p| ShmemLocking::ALL.into_iter().map(move |s| (p, s)))
}

/// Runs a program in a primed kernel of its own, watched; nothing may be left behind. What was found.
#[track_caller]
pub(crate) fn run(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    program: impl FnOnce(&Kernel, &Process) -> Result,
) -> Vec<Report> {
    run_although(policy, shmem, &[], program)
}

/// The same; these warnings of the kernel are right.
#[track_caller]
pub(crate) fn run_although(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    warnings: &[&str],
    program: impl FnOnce(&Kernel, &Process) -> Result,
) -> Vec<Report> {
    let validator = Validator::new();
    validator.scope(|| {
        let kernel = Kernel::new(policy, shmem);
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        program(&kernel, &process).expect("no error is expected here");
        process.exit();
        assert!(lockdep::raw::is_quiet(), "locks are held at the end");
        assert_eq!(kernel.live().all(), [], "objects that were never freed");
        let others = kernel.warnings().into_iter().filter(|warning| !warnings.contains(&warning.as_str()));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new(), "kernel warnings");
    });
    validator.reports()
}

/// Runs it under every policy with the regime of today; nothing may be found.
#[track_caller]
pub(crate) fn clean(program: impl Fn(&Process) -> Result) {
    for policy in LockingPolicy::ALL {
        let reports = run(policy, ShmemLocking::C, |_, process| program(process));
        assert!(reports.is_empty(), "{policy}: {}", reports[0]);
    }
}

/// Maps a plane of an MMAP buffer, whole.
#[track_caller]
pub(crate) fn map_plane(process: &Process, camera: Fd, index: usize, plane: usize) -> u64 {
    let info = process.querybuf(camera, index).expect("the buffer exists");
    let PlaneMemory::Offset(offset) = info.planes[plane].memory else { panic!("not an MMAP buffer") };
    process
        .mmap(camera, info.planes[plane].length as u64, offset, MapFlags::SHARED)
        .expect("it can be mapped")
}

/// Asserts that the program reads this frame there.
#[track_caller]
pub(crate) fn check_frame(process: &Process, address: u64, sequence: u32, plane: usize) {
    let size = 160 * 90 * 2;
    for at in (0..size).step_by(37).chain([size - 1]) {
        let byte = process.read_byte(address + at as u64).expect("mapped");
        assert_eq!(byte, test_pattern(sequence, plane, at), "byte {at} of frame {sequence}");
    }
}
