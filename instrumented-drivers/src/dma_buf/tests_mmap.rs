// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What happens when somebody breaks the rule of `mmap`: a core that forgets the lock, one that holds it too long, an
//! importer that holds it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lockdep::Validator;

use super::DmaBuf;
use super::core::dma_buf_mmap;
use super::resv::{dma_resv_lock, dma_resv_unlock};
use crate::drm::prime::DRM_RDWR;
use crate::kernel::errno::Result;
use crate::kernel::file::{File, FileMode, FileOps, fput};
use crate::kernel::mm::{MapFlags, Mm, VmArea, mmput, vm_mmap_pgoff};
use crate::policy::{LockingPolicy, ShmemLocking};
use crate::user::{Driver, Kernel};

type Mmap = fn(&DmaBuf, &mut VmArea) -> Result;

/// A file that maps a buffer in its own way.
struct Broken(DmaBuf, Mmap);

impl FileOps for Broken {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        (self.1)(&self.0, vma)
    }
}

fn found(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    mmap: Mmap,
) -> Vec<(&'static str, Option<&'static str>)> {
    let validator = Validator::new();
    let kernel = Kernel::new(policy, shmem);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        validator.scope(|| {
            let process = kernel.process("init");
            let vgem = process.open(Driver::Vgem).unwrap();
            let handle = process.mode_create_dumb(vgem, 64, 64, 32).unwrap();
            let fd = process.prime_handle_to_fd(vgem, handle, DRM_RDWR).unwrap();
            let buf = DmaBuf::of(&process.peek(fd).unwrap()).unwrap();
            kernel.kthread(|core| {
                let file = File::new(core, FileMode::READ_WRITE, Broken(buf, mmap));
                let mm = Mm::new(core);
                vm_mmap_pgoff(&mm, &file, 4096, 0, MapFlags::SHARED).unwrap();
                mmput(&mm);
                fput(file);
            });
            process.exit();
            kernel.assert_no_leaks();
        });
    }));
    let reports = validator.reports();
    assert!(ended.is_ok() || reports.iter().any(lockdep::Report::is_certain), "ended by a finding only");
    let place = |report: &lockdep::Report| report.wanted.as_ref().and_then(|wanted| wanted.site.function);
    reports.iter().map(|report| (report.kind().name(), place(report))).collect()
}

fn without_the_lock(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    buf.ops.mmap(buf, vma)
}

fn under_the_lock(buf: &DmaBuf, vma: &mut VmArea) -> Result {
    dma_resv_lock(buf.resv());
    let result = dma_buf_mmap(buf, vma, 0);
    dma_resv_unlock(buf.resv());
    result
}

#[test]
fn a_p1_core_that_forgets_the_lock_is_told_by_the_exporter() {
    if lockdep::ENABLED {
        let told = [("assert-held", Some("drm_gem_dmabuf_mmap"))];
        assert_eq!(found(LockingPolicy::P1, ShmemLocking::A, without_the_lock), told);
    }
}

#[test]
fn the_exporter_asks_for_nothing_in_p0_and_p2() {
    for (policy, shmem) in [(LockingPolicy::P0, ShmemLocking::A), (LockingPolicy::P2, ShmemLocking::C)] {
        assert_eq!(found(policy, shmem, without_the_lock), []);
    }
}

/// A real 6.12 reports the second only; the first is this project's rule.
#[test]
fn an_importer_that_holds_the_lock_is_told_by_the_core_before_it_deadlocks() {
    if lockdep::ENABLED {
        let told = [("assert-not-held", Some("dma_buf_mmap")), ("recursive", Some("drm_gem_shmem_mmap"))];
        assert_eq!(found(LockingPolicy::P2, ShmemLocking::C, under_the_lock), told);
        // Without a lock of the exporter's own there is no deadlock; the rule is broken all the same.
        assert_eq!(found(LockingPolicy::P2, ShmemLocking::A, under_the_lock), told[..1]);
    }
}
