// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A small exporter that writes down what is called and whether the reservation lock is held then: the table of
//! [`super::core`], also for a dynamic exporter and a dynamic importer, which no modelled driver is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockdep::Validator;
use parking_lot::Mutex;

use super::access::{
    dma_buf_begin_cpu_access, dma_buf_end_cpu_access, dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked,
    dmabuffs_dname,
};
use super::attach::{
    ImporterOps, dma_buf_attach, dma_buf_detach, dma_buf_dynamic_attach, dma_buf_map_attachment,
    dma_buf_map_attachment_unlocked, dma_buf_move_notify, dma_buf_pin, dma_buf_unmap_attachment,
    dma_buf_unmap_attachment_unlocked, dma_buf_unpin, sg_free_table,
};
use super::core::{DmaBufData, dma_buf_export, dma_buf_put};
use super::ioctl::{DmaBufIoctl, dma_buf_ioctl};
use super::resv::{dma_resv_lock, dma_resv_unlock};
use super::{DmaBuf, DmaBufAttachment, DmaBufExportInfo, DmaBufOps, DmaDirection, SgTable, Tail};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::fault::{Plan, inject};
use crate::kernel::file::{FileMode, fput};
use crate::kernel::mm::{MapFlags, Mm, mmput, vm_mmap_pgoff};
use crate::kernel::shmem::{IosysMap, PAGE_SIZE, Pages, ShmemFile};
use crate::kernel::task::syscall;
use crate::policy::{LockingPolicy, ShmemLocking};

const BOTH: DmaDirection = DmaDirection::Bidirectional;

struct Object {
    core: Arc<KernelCore>,
    pages: Pages,
    log: Mutex<Vec<String>>,
}

/// The exporter; `DYNAMIC`: it can move buffers. `BARE`: it cannot be mapped.
struct Exporter<const DYNAMIC: bool, const BARE: bool>;

fn object(buf: &DmaBufData) -> Arc<Object> {
    buf.private().expect("the object is there until release")
}

fn log(buf: &DmaBufData, what: &str) {
    let held = if buf.resv().is_held() { "+" } else { "-" };
    object(buf).log.lock().push(format!("{what}{held}"));
}

impl<const DYNAMIC: bool, const BARE: bool> DmaBufOps for Exporter<DYNAMIC, BARE> {
    fn attach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Result {
        log(buf, "attach");
        Ok(())
    }

    fn detach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Tail {
        log(buf, "detach");
        Tail::NONE
    }

    fn has_pin(&self) -> bool {
        DYNAMIC
    }

    fn pin(&self, attach: &Arc<DmaBufAttachment>) -> Result {
        log(&attach.dmabuf, "pin");
        Ok(())
    }

    fn unpin(&self, attach: &Arc<DmaBufAttachment>) {
        log(&attach.dmabuf, "unpin");
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        log(&attach.dmabuf, "map");
        let object = object(&attach.dmabuf);
        SgTable::from_pages(&object.core, object.pages.clone())
    }

    fn unmap_dma_buf(&self, attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        log(&attach.dmabuf, "unmap");
        sg_free_table(table);
    }

    fn begin_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        log(buf, "begin");
        Ok(())
    }

    fn end_cpu_access(&self, buf: &DmaBuf, _dir: DmaDirection) -> Result {
        log(buf, "end");
        Ok(())
    }

    fn has_mmap(&self) -> bool {
        !BARE
    }

    fn mmap(&self, buf: &DmaBuf, _vma: &mut crate::kernel::mm::VmArea) -> Result {
        log(buf, "mmap");
        Ok(())
    }

    fn has_vmap(&self) -> bool {
        !BARE
    }

    fn vmap(&self, buf: &DmaBuf) -> Result<IosysMap> {
        log(buf, "vmap");
        Ok(IosysMap(object(buf).pages.clone()))
    }

    fn vunmap(&self, buf: &DmaBuf, _map: &IosysMap) {
        log(buf, "vunmap");
    }

    fn release(&self, buf: &DmaBufData) {
        log(buf, "release");
    }
}

/// Runs `f` with a buffer of this exporter, then drops it; the log, release included.
fn calls(policy: LockingPolicy, ops: &'static dyn DmaBufOps, f: impl FnOnce(&DmaBuf)) -> String {
    let validator = Validator::new();
    let log = validator.scope(|| {
        let core = KernelCore::new(policy, ShmemLocking::A);
        let memory = ShmemFile::setup(PAGE_SIZE).unwrap();
        let pages = [memory.read_mapping_page(0).unwrap()].into();
        let object = Arc::new(Object { core: core.clone(), pages, log: Mutex::default() });
        syscall(|| {
            let info = DmaBufExportInfo {
                exp_name: "toy",
                ops,
                size: PAGE_SIZE,
                mode: FileMode::READ_WRITE,
                resv: None,
                private: object.clone(),
                mapping: None,
            };
            let buf = dma_buf_export(&core, info).unwrap();
            f(&buf);
            dma_buf_put(buf);
        });
        assert_eq!(core.live().all(), []);
        assert_eq!(core.warnings(), Vec::<String>::new());
        object.log.lock().join(" ")
    });
    assert_eq!(validator.reports(), []);
    log
}

static STATIC: Exporter<false, false> = Exporter;
static DYNAMIC: Exporter<true, false> = Exporter;
static BARE: Exporter<false, true> = Exporter;

static MOVES: AtomicUsize = AtomicUsize::new(0);

struct Importer;

impl ImporterOps for Importer {
    fn move_notify(&self, attach: &Arc<DmaBufAttachment>) {
        assert!(attach.dmabuf.resv().is_held());
        MOVES.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_held_in_each_callback_is_the_policys() {
    let everything = |buf: &DmaBuf| {
        let attach = dma_buf_attach(buf, "importer").unwrap();
        let table = dma_buf_map_attachment_unlocked(&attach, BOTH).unwrap();
        dma_buf_unmap_attachment_unlocked(&attach, table, BOTH);
        dma_buf_detach(buf, &attach);
        dma_buf_begin_cpu_access(buf, BOTH).unwrap();
        dma_buf_end_cpu_access(buf, BOTH).unwrap();
        let map = dma_buf_vmap_unlocked(buf).unwrap();
        dma_buf_vunmap_unlocked(buf, &map);
        let core = object(buf).core.clone();
        let mm = Mm::new(&core);
        vm_mmap_pgoff(&mm, buf.file(), PAGE_SIZE as u64, 0, MapFlags::SHARED).unwrap();
        mmput(&mm);
    };
    let outer = |map: &str, vmap: &str, mmap: &str| {
        format!("attach- map{map} unmap{map} detach- begin- end- vmap{vmap} vunmap{vmap} mmap{mmap} release-")
    };
    assert_eq!(calls(LockingPolicy::P0, &STATIC, everything), outer("-", "-", "-"));
    assert_eq!(calls(LockingPolicy::P1, &STATIC, everything), outer("+", "+", "+"));
    assert_eq!(calls(LockingPolicy::P2, &STATIC, everything), outer("+", "+", "-"));
}

#[test]
fn a_static_importer_of_a_dynamic_exporter_pins_and_maps_when_it_attaches() {
    for policy in LockingPolicy::ALL {
        let log = calls(policy, &DYNAMIC, |buf| {
            let attach = dma_buf_attach(buf, "importer").unwrap();
            let table = dma_buf_map_attachment_unlocked_or_held(&attach);
            assert_eq!(table.pages(), 1);
            dma_buf_detach(buf, &attach);
        });
        assert_eq!(log, "attach- pin+ map+ unmap+ unpin+ detach- release-", "{policy}");
    }
}

/// The mapping of the attachment, which is there already. P0 wants the lock held for a dynamic exporter.
fn dma_buf_map_attachment_unlocked_or_held(attach: &Arc<DmaBufAttachment>) -> Arc<SgTable> {
    dma_resv_lock(attach.dmabuf.resv());
    let table = dma_buf_map_attachment(attach, BOTH).unwrap();
    dma_buf_unmap_attachment(attach, table.clone(), BOTH);
    dma_resv_unlock(attach.dmabuf.resv());
    table
}

#[test]
fn a_dynamic_importer_is_told_of_moves_and_pins_by_itself() {
    let log = calls(LockingPolicy::P2, &DYNAMIC, |buf| {
        let attach = dma_buf_dynamic_attach(buf, "importer", Some(&Importer)).unwrap();
        let before = MOVES.load(Ordering::Relaxed);
        dma_resv_lock(buf.resv());
        dma_buf_move_notify(buf);
        dma_buf_pin(&attach).unwrap();
        let table = dma_buf_map_attachment(&attach, BOTH).unwrap();
        dma_buf_unmap_attachment(&attach, table, BOTH);
        dma_buf_unpin(&attach);
        dma_resv_unlock(buf.resv());
        assert_eq!(MOVES.load(Ordering::Relaxed), before + 1);
        dma_buf_detach(buf, &attach);
    });
    // Without the move notification compiled in, each mapping is pinned too.
    assert_eq!(log, "attach- pin+ pin+ map+ unmap+ unpin+ unpin+ detach- release-");
}

#[test]
fn a_buffer_that_cannot_be_mapped_is_unpinned_again() {
    let log = calls(LockingPolicy::P2, &DYNAMIC, |buf| {
        let attach = dma_buf_dynamic_attach(buf, "importer", Some(&Importer)).unwrap();
        let map = || dma_buf_map_attachment_unlocked(&attach, BOTH);
        assert_eq!(inject(Plan::allocation(1), map).0.err(), Some(Errno::ENOMEM));
        dma_buf_detach(buf, &attach);
    });
    assert_eq!(log, "attach- pin+ map+ unpin+ detach- release-");
}

#[test]
fn what_the_exporter_cannot_do_is_refused_by_the_core() {
    let log = calls(LockingPolicy::P2, &BARE, |buf| {
        assert_eq!(dma_buf_vmap_unlocked(buf).err(), Some(Errno::EINVAL));
        let mm = Mm::new(&object(buf).core);
        let mapped = vm_mmap_pgoff(&mm, buf.file(), PAGE_SIZE as u64, 0, MapFlags::SHARED);
        assert_eq!(mapped, Err(Errno::EINVAL));
        mmput(&mm);
    });
    assert_eq!(log, "release-");
}

#[test]
fn the_name_can_be_changed() {
    calls(LockingPolicy::P2, &STATIC, |buf| {
        assert_eq!(dmabuffs_dname(buf), None);
        for name in ["one", "two"] {
            let file = dma_buf_ioctl(buf, DmaBufIoctl::SetName(name.to_owned())).unwrap();
            file.into_iter().for_each(fput);
            assert_eq!(dmabuffs_dname(buf).as_deref(), Some(name));
        }
    });
}
