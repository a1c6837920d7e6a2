// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Importers: attachments, and the device's view of a buffer.
//!
//! The functions without `_unlocked` want the reservation lock held, the others take it; what P0 does instead is said
//! in [`super::core`].
//!
//! Kernel counterpart: `drivers/dma-buf/dma-buf.c`, without `CONFIG_DMABUF_MOVE_NOTIFY`: a dynamic exporter's buffer is
//! pinned while it is mapped, also for importers that follow moves.

use core::any::Any;
use std::sync::Arc;

use super::core::DmaBuf;
use super::resv::{DmaResvUsage, dma_resv_assert_held, dma_resv_lock, dma_resv_unlock, dma_resv_wait};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, KPtr};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::reclaim;
use crate::kernel::shmem::{Pages, read_byte, write_byte};

/// `enum dma_data_direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaDirection {
    /// Both ways.
    Bidirectional,
    /// The device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
}

impl DmaDirection {
    pub(crate) fn writes(self) -> bool {
        !matches!(self, DmaDirection::FromDevice)
    }
}

/// `struct sg_table`: a buffer's pages as a device sees them.
pub struct SgTable {
    pages: Pages,
    live: Live,
}

impl SgTable {
    /// `drm_prime_pages_to_sg`: two allocations, the table and its list.
    ///
    /// # Errors
    /// -ENOMEM (injected).
    pub fn from_pages(core: &KernelCore, pages: Pages) -> Result<Arc<Self>> {
        reclaim::kmalloc()?;
        sg_alloc_table(core, pages)
    }

    /// How many pages it lists.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The pages, in order.
    #[must_use]
    pub fn page_list(&self) -> &Pages {
        &self.pages
    }

    /// The device reads a byte.
    #[must_use]
    pub fn read(&self, offset: usize) -> u8 {
        read_byte(&self.pages, offset)
    }

    /// The device writes a byte.
    pub fn write(&self, offset: usize, value: u8) {
        write_byte(&self.pages, offset, value);
    }
}

/// `sg_alloc_table`: a table whose head is part of something else; only its list is allocated.
///
/// # Errors
/// -ENOMEM (injected).
pub fn sg_alloc_table(core: &KernelCore, pages: Pages) -> Result<Arc<SgTable>> {
    reclaim::kmalloc()?;
    Ok(Arc::new(SgTable { pages, live: core.born("sg_table") }))
}

/// `sg_free_table` and `kfree`.
#[expect(clippy::needless_pass_by_value, reason = "the table is given up")]
pub fn sg_free_table(table: Arc<SgTable>) {
    table.live.freed();
}

/// `struct dma_buf_attach_ops`: an importer that can follow a buffer's moves.
pub trait ImporterOps: Send + Sync {
    /// The buffer moves: the mapping is no longer valid. The reservation lock is held.
    fn move_notify(&self, attach: &Arc<DmaBufAttachment>);
}

/// `struct dma_buf_attachment`.
pub struct DmaBufAttachment {
    /// The buffer. The attachment holds no reference of its own; its owner does.
    pub dmabuf: DmaBuf,
    /// The importing device.
    pub dev: &'static str,
    importer_ops: Option<&'static dyn ImporterOps>,
    sgt: KCell<Option<(Arc<SgTable>, DmaDirection)>>,
    /// `priv`: what the exporter hangs on it.
    pub(crate) private: KPtr<dyn Any + Send + Sync>,
    live: Live,
}

impl DmaBufAttachment {
    fn is_dynamic(&self) -> bool {
        self.importer_ops.is_some()
    }
}

/// `dma_buf_attach`.
///
/// # Errors
/// As [`dma_buf_dynamic_attach`].
pub fn dma_buf_attach(buf: &DmaBuf, dev: &'static str) -> Result<Arc<DmaBufAttachment>> {
    dma_buf_dynamic_attach(buf, dev, None)
}

/// `dma_buf_dynamic_attach`: attaches a device. The caller must not hold the reservation lock.
///
/// # Errors
/// -ENOMEM (injected), or what the exporter says.
pub fn dma_buf_dynamic_attach(
    buf: &DmaBuf,
    dev: &'static str,
    importer_ops: Option<&'static dyn ImporterOps>,
) -> Result<Arc<DmaBufAttachment>> {
    reclaim::kmalloc()?;
    let attach = Arc::new(DmaBufAttachment {
        dmabuf: buf.clone(),
        dev,
        importer_ops,
        sgt: KCell::new("an attachment's mapping", None),
        private: KPtr::null(),
        live: buf.core.born("dma_buf_attachment"),
    });
    if let Err(error) = buf.enter("attach").attach(buf, &attach) {
        attach.live.freed();
        return Err(error);
    }
    dma_resv_lock(&buf.resv);
    buf.attachments.with(|list| list.push(attach.clone()));
    dma_resv_unlock(&buf.resv);
    if attach.is_dynamic() == buf.is_dynamic() {
        return Ok(attach);
    }
    // One side is dynamic and the other is not: the mapping is made now and kept.
    let locked = !buf.p0() || buf.is_dynamic();
    if locked {
        dma_resv_lock(&attach.dmabuf.resv);
    }
    let mapped = map_for_static_user(&attach);
    if locked {
        dma_resv_unlock(&attach.dmabuf.resv);
    }
    if let Err(error) = mapped {
        dma_buf_detach(buf, &attach);
        return Err(error);
    }
    Ok(attach)
}

fn map_for_static_user(attach: &Arc<DmaBufAttachment>) -> Result {
    let buf = &attach.dmabuf;
    if buf.is_dynamic() {
        buf.enter("pin").pin(attach)?;
    }
    match __map_dma_buf(attach, DmaDirection::Bidirectional) {
        Ok(table) => {
            attach.sgt.set(Some((table, DmaDirection::Bidirectional)));
            Ok(())
        }
        Err(error) => {
            if buf.is_dynamic() {
                buf.enter("unpin").unpin(attach);
            }
            Err(error)
        }
    }
}

/// `dma_buf_detach`. The caller must not hold the reservation lock.
pub fn dma_buf_detach(buf: &DmaBuf, attach: &Arc<DmaBufAttachment>) {
    if buf.p0() {
        if let Some((table, dir)) = attach.sgt.replace(None) {
            if buf.is_dynamic() {
                dma_resv_lock(&buf.resv);
            }
            buf.enter("unmap_dma_buf").unmap_dma_buf(attach, table, dir);
            if buf.is_dynamic() {
                buf.enter("unpin").unpin(attach);
                dma_resv_unlock(&buf.resv);
            }
        }
        dma_resv_lock(&buf.resv);
    } else {
        dma_resv_lock(&buf.resv);
        if let Some((table, dir)) = attach.sgt.replace(None) {
            buf.enter("unmap_dma_buf").unmap_dma_buf(attach, table, dir);
            if buf.is_dynamic() {
                buf.enter("unpin").unpin(attach);
            }
        }
    }
    buf.attachments.with(|list| list.retain(|other| !Arc::ptr_eq(other, attach)));
    dma_resv_unlock(&buf.resv);
    let tail = buf.enter("detach").detach(buf, attach);
    attach.live.freed();
    tail.finish();
}

/// `dma_buf_pin`: the reservation lock must be held, the importer must be dynamic.
///
/// # Errors
/// What the exporter says.
pub fn dma_buf_pin(attach: &Arc<DmaBufAttachment>) -> Result {
    let buf = &attach.dmabuf;
    buf.core.warn_on(!attach.is_dynamic(), "dma_buf_pin by an importer that is not dynamic");
    dma_resv_assert_held(&buf.resv);
    buf.enter("pin").pin(attach)
}

/// `dma_buf_unpin`.
pub fn dma_buf_unpin(attach: &Arc<DmaBufAttachment>) {
    let buf = &attach.dmabuf;
    buf.core.warn_on(!attach.is_dynamic(), "dma_buf_unpin by an importer that is not dynamic");
    dma_resv_assert_held(&buf.resv);
    buf.enter("unpin").unpin(attach);
}

fn __map_dma_buf(attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>> {
    let buf = &attach.dmabuf;
    let table = buf.enter("map_dma_buf").map_dma_buf(attach, dir)?;
    if !attach.is_dynamic() {
        // Such an importer knows nothing of fences: the moves of the buffer are waited for here, under the lock.
        if let Err(error) = dma_resv_wait(&buf.resv, DmaResvUsage::Kernel, true) {
            buf.enter("unmap_dma_buf").unmap_dma_buf(attach, table, dir);
            return Err(error);
        }
    }
    Ok(table)
}

/// `dma_buf_map_attachment`: the reservation lock must be held (P0: if somebody is dynamic).
///
/// # Errors
/// -EBUSY if it is mapped for another direction, -EINTR (injected), or what the exporter says.
pub fn dma_buf_map_attachment(attach: &Arc<DmaBufAttachment>, dir: DmaDirection) -> Result<Arc<SgTable>> {
    let buf = &attach.dmabuf;
    if !buf.p0() || attach.is_dynamic() || buf.is_dynamic() {
        dma_resv_assert_held(&buf.resv);
    }
    if let Some((table, mapped)) = attach.sgt.get() {
        let fits = mapped == dir || mapped == DmaDirection::Bidirectional;
        return if fits { Ok(table) } else { Err(Errno::EBUSY) };
    }
    if buf.is_dynamic() {
        buf.enter("pin").pin(attach)?;
    }
    let table = __map_dma_buf(attach, dir);
    match &table {
        Ok(table) if buf.ops.cache_sgt_mapping() => attach.sgt.set(Some((table.clone(), dir))),
        Err(_) if buf.is_dynamic() => buf.enter("unpin").unpin(attach),
        _ => {}
    }
    table
}

/// `dma_buf_map_attachment_unlocked`: takes the lock itself (P0 has no such function; it maps without a lock).
///
/// # Errors
/// As [`dma_buf_map_attachment`].
pub fn dma_buf_map_attachment_unlocked(
    attach: &Arc<DmaBufAttachment>,
    dir: DmaDirection,
) -> Result<Arc<SgTable>> {
    if attach.dmabuf.p0() {
        return dma_buf_map_attachment(attach, dir);
    }
    dma_resv_lock(&attach.dmabuf.resv);
    let table = dma_buf_map_attachment(attach, dir);
    dma_resv_unlock(&attach.dmabuf.resv);
    table
}

/// `dma_buf_unmap_attachment`: as for mapping. A cached mapping stays.
pub fn dma_buf_unmap_attachment(attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, dir: DmaDirection) {
    let buf = &attach.dmabuf;
    if !buf.p0() || attach.is_dynamic() || buf.is_dynamic() {
        dma_resv_assert_held(&buf.resv);
    }
    if attach.sgt.with(|cached| cached.as_ref().is_some_and(|(cached, _)| Arc::ptr_eq(cached, &table))) {
        return;
    }
    buf.enter("unmap_dma_buf").unmap_dma_buf(attach, table, dir);
    if buf.is_dynamic() {
        buf.enter("unpin").unpin(attach);
    }
}

/// `dma_buf_unmap_attachment_unlocked`: takes the lock itself. Ends in a jump to the unlock.
#[track_caller]
pub fn dma_buf_unmap_attachment_unlocked(
    attach: &Arc<DmaBufAttachment>,
    table: Arc<SgTable>,
    dir: DmaDirection,
) {
    if attach.dmabuf.p0() {
        return dma_buf_unmap_attachment(attach, table, dir);
    }
    crate::kernel::own(|| {
        dma_resv_lock(&attach.dmabuf.resv);
        dma_buf_unmap_attachment(attach, table, dir);
    });
    dma_resv_unlock(&attach.dmabuf.resv);
}

/// `dma_buf_move_notify`: the exporter moves the buffer; the reservation lock must be held.
pub fn dma_buf_move_notify(buf: &DmaBuf) {
    dma_resv_assert_held(&buf.resv);
    for attach in buf.attachments.get() {
        if let Some(ops) = attach.importer_ops {
            ops.move_notify(&attach);
        }
    }
}

crate::kernel::opaque_debug!(SgTable, DmaBufAttachment);
