// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What happens when somebody breaks the rule of `mmap`: a core that forgets the lock, one that holds it too long, an
//! importer that holds it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lockdep::Validator;

use super::DmaBuf;
use super::access::{dma_buf_vmap, dma_buf_vunmap};
use super::core::dma_buf_mmap;
use super::resv::{dma_resv_lock, dma_resv_unlock};
use super::udmabuf::UdmabufItem;
use crate::drm::prime::DRM_RDWR;
use crate::kernel::errno::Result;
use crate::kernel::file::{Fd, File, FileMode, FileOps, fput};
use crate::kernel::memfd::Seals;
use crate::kernel::mm::{MapFlags, Mm, VmArea, mmput, vm_mmap_pgoff};
use crate::media::videobuf2::Memory;
use crate::policy::{LockingPolicy, ShmemLocking};
use crate::user::{Driver, Kernel, Process};

type Mmap = fn(&DmaBuf, &mut VmArea) -> Result;

/// A file that maps a buffer in its own way.
struct Broken(DmaBuf, Mmap);

impl FileOps for Broken {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        (self.1)(&self.0, vma)
    }
}

/// A buffer of at least a page from this exporter.
fn buffer(process: &Process, exporter: Driver) -> Result<Fd> {
    let device = process.open(exporter)?;
    match exporter {
        Driver::SystemHeap | Driver::CmaHeap => process.dma_heap_alloc(device, 4096),
        Driver::Udmabuf => {
            let memfd = process.memfd_create(4096)?;
            process.add_seals(memfd, Seals::SHRINK)?;
            process.udmabuf_create(device, &[UdmabufItem { memfd, offset: 0, size: 4096 }])
        }
        _ if Driver::CAMERAS.contains(&exporter) => {
            process.reqbufs(device, 2, Memory::Mmap)?;
            process.expbuf(device, 0, 0)
        }
        Driver::Fastrpc => process.fastrpc_alloc_dma_buf(device, 4096),
        _ => {
            let handle = process.driver_create_buffer(device, 4096)?;
            process.prime_handle_to_fd(device, handle, DRM_RDWR)
        }
    }
}

fn found(
    policy: LockingPolicy,
    shmem: ShmemLocking,
    mmap: Mmap,
) -> Vec<(&'static str, Option<&'static str>)> {
    found_with(Driver::Vgem, policy, shmem, mmap)
}

fn found_with(
    exporter: Driver,
    policy: LockingPolicy,
    shmem: ShmemLocking,
    mmap: Mmap,
) -> Vec<(&'static str, Option<&'static str>)> {
    let validator = Validator::new();
    let kernel = Kernel::new(policy, shmem);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        validator.scope(|| {
            let process = kernel.process("init");
            let fd = buffer(&process, exporter).unwrap();
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

/// Maps it for the kernel; whatever `mmap` it is called from.
fn vmapped_without_the_lock(buf: &DmaBuf, _vma: &mut VmArea) -> Result {
    let map = dma_buf_vmap(buf)?;
    dma_buf_vunmap(buf, &map);
    Ok(())
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

/// The exporters, and where each asserts the lock under P1.
const EXPORTERS: [(Driver, &str); 15] = [
    (Driver::Vgem, "drm_gem_dmabuf_mmap"),
    (Driver::Vkms, "drm_gem_dmabuf_mmap"),
    (Driver::Panfrost, "drm_gem_dmabuf_mmap"),
    (Driver::Lima, "drm_gem_dmabuf_mmap"),
    (Driver::Omapdrm, "omap_gem_dmabuf_mmap"),
    (Driver::Tegra, "tegra_gem_prime_mmap"),
    (Driver::I915, "i915_gem_dmabuf_mmap"),
    (Driver::I915Lmem, "i915_gem_dmabuf_mmap"),
    (Driver::VividDmaContig, "vb2_dc_dmabuf_ops_mmap"),
    (Driver::VividDmaSg, "vb2_dma_sg_dmabuf_ops_mmap"),
    (Driver::VividVmalloc, "vb2_vmalloc_dmabuf_ops_mmap"),
    (Driver::SystemHeap, "system_heap_mmap"),
    (Driver::CmaHeap, "cma_heap_mmap"),
    (Driver::Udmabuf, "mmap_udmabuf"),
    (Driver::Fastrpc, "fastrpc_mmap"),
];

#[test]
fn each_exporter_tells_a_p1_core_that_forgets_the_lock() {
    if lockdep::ENABLED {
        for (exporter, function) in EXPORTERS {
            let told = found_with(exporter, LockingPolicy::P1, ShmemLocking::A, without_the_lock);
            assert_eq!(told, [("assert-held", Some(function))], "{}", exporter.name());
        }
    }
}

#[test]
fn udmabuf_and_the_core_ask_for_the_lock_around_vmap_since_p1() {
    if lockdep::ENABLED {
        for (policy, asked) in [
            (LockingPolicy::P0, &[][..]),
            (LockingPolicy::P1, &["dma_buf_vmap", "vmap_udmabuf", "dma_buf_vunmap", "vunmap_udmabuf"]),
            (LockingPolicy::P2, &["dma_buf_vmap", "vmap_udmabuf", "dma_buf_vunmap", "vunmap_udmabuf"]),
        ] {
            let told = found_with(Driver::Udmabuf, policy, ShmemLocking::C, vmapped_without_the_lock);
            let told: Vec<_> = told.into_iter().map(|(kind, at)| (kind, at.unwrap_or("?"))).collect();
            let expected: Vec<_> = asked.iter().map(|at| ("assert-held", *at)).collect();
            assert_eq!(told, expected, "{policy}");
        }
    }
}

/// All but the one that has a test of its own for what it forgot in P2.
#[test]
fn the_exporters_ask_for_nothing_in_p0_and_p2() {
    for (exporter, _) in EXPORTERS.into_iter().filter(|(exporter, _)| *exporter != Driver::Fastrpc) {
        for (policy, shmem) in [(LockingPolicy::P0, ShmemLocking::A), (LockingPolicy::P2, ShmemLocking::C)] {
            assert_eq!(found_with(exporter, policy, shmem, without_the_lock), [], "{}", exporter.name());
        }
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
