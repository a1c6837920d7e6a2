// SPDX-License-Identifier: GPL-2.0-only
//! The lock order that a kernel records at boot: with it, the first violation is found when it happens for the first
//! time; without it, not before somebody has taken the locks in the right order, too.

use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::fence::{
    __dma_fence_might_wait, dma_fence_begin_signalling, dma_fence_end_signalling,
};
use instrumented_drivers::dma_buf::resv::{DmaResv, dma_resv_lock, dma_resv_unlock};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::reclaim::{self, fs_reclaim_acquire, fs_reclaim_release};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{ReportKind, Validator};

/// What a driver must not do with a reservation lock: the violation, and the right order, which others do.
struct Violation {
    name: &'static str,
    wrong: fn(&Process, &DmaResv, u64),
    right: fn(&Process, &DmaResv, Fd),
}

fn locked(resv: &DmaResv, f: impl FnOnce()) {
    dma_resv_lock(resv);
    f();
    dma_resv_unlock(resv);
}

fn in_reclaim(f: impl FnOnce()) {
    fs_reclaim_acquire();
    f();
    fs_reclaim_release();
}

fn signalling(f: impl FnOnce()) {
    let cookie = dma_fence_begin_signalling();
    f();
    dma_fence_end_signalling(cookie);
}

const VIOLATIONS: [Violation; 4] = [
    Violation {
        name: "a program's mappings are changed under a reservation lock",
        wrong: |process, resv, address| locked(resv, || process.munmap(address, 4096).unwrap()),
        right: |process, _, buffer| assert!(process.mmap(buffer, 4096, 0, MapFlags::SHARED).is_ok()),
    },
    Violation {
        name: "a shrinker waits for a reservation lock",
        wrong: |_, resv, _| in_reclaim(|| locked(resv, || ())),
        right: |_, resv, _| locked(resv, || reclaim::kmalloc().unwrap()),
    },
    Violation {
        name: "memory is asked for where a fence depends on it",
        wrong: |_, _, _| signalling(|| reclaim::kmalloc().unwrap()),
        right: |_, _, _| in_reclaim(__dma_fence_might_wait),
    },
    Violation {
        name: "a reservation lock is taken where a fence depends on it",
        wrong: |_, resv, _| signalling(|| locked(resv, || ())),
        right: |_, resv, _| locked(resv, __dma_fence_might_wait),
    },
];

/// What is found in a kernel that was primed or not, before and after the right order was seen.
fn found(violation: &Violation, primed: bool) -> [Vec<ReportKind>; 2] {
    let validator = Validator::builder().print(false).build();
    let kinds = || validator.reports().iter().map(lockdep::Report::kind).collect();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        if primed {
            kernel.dma_resv_lockdep();
        }
        let process = kernel.process("init");
        let vgem = process.open(Driver::Vgem).unwrap();
        let handle = process.mode_create_dumb(vgem, 256, 256, 32).unwrap();
        let buffer = process.prime_handle_to_fd(vgem, handle, DRM_RDWR).unwrap();
        let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
        let memory = process.memfd_create(4096).unwrap();
        let mapped = process.mmap(memory, 4096, 0, MapFlags::SHARED).unwrap();
        kernel.kthread(|_| (violation.wrong)(&process, buf.resv(), mapped));
        let first: Vec<_> = kinds();
        kernel.kthread(|_| (violation.right)(&process, buf.resv(), buffer));
        drop(buf);
        process.exit();
        kernel.assert_no_leaks();
        [first, kinds()]
    })
}

#[test]
fn a_primed_kernel_finds_the_first_violation_and_another_one_waits_for_the_right_order() {
    if !lockdep::ENABLED {
        return;
    }
    for violation in &VIOLATIONS {
        let circular = vec![ReportKind::Circular];
        assert_eq!(
            found(violation, true),
            [circular.clone(), circular.clone()],
            "primed: {}",
            violation.name
        );
        let unprimed = found(violation, false);
        assert_eq!(unprimed[0], [], "not primed: {}", violation.name);
        assert_eq!(unprimed[1], circular, "not primed, after the right order: {}", violation.name);
    }
}
