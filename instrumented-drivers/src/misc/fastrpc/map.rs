// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The importer: buffers as the DSP sees them, found again by descriptor and counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::{FastrpcUser, NAME};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use crate::dma_buf::core::{dma_buf_get, dma_buf_put};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaDirection, SgTable};
use crate::kernel::cell::Kref;
use crate::kernel::errno::Result;
use crate::kernel::file::{Fd, FileTable};
use crate::kernel::live::Live;
use crate::kernel::reclaim;

/// `struct fastrpc_map`.
pub(super) struct FastrpcMap {
    fl: Weak<FastrpcUser>,
    fd: Fd,
    buf: DmaBuf,
    attach: Arc<DmaBufAttachment>,
    /// What the DSP sees.
    pub(super) table: Arc<SgTable>,
    refcount: Kref,
    /// Its first reference is the ioctl's, not a call's.
    mapped_by_ioctl: AtomicBool,
    live: Live,
}

impl FastrpcMap {
    pub(super) fn fd(&self) -> Fd {
        self.fd
    }

    pub(super) fn is_mapped_by_ioctl(&self) -> bool {
        self.mapped_by_ioctl.load(Ordering::Relaxed)
    }

    pub(super) fn set_mapped_by_ioctl(&self, mapped: bool) {
        self.mapped_by_ioctl.store(mapped, Ordering::Relaxed);
    }
}

/// `fastrpc_map_lookup`, with a reference.
fn fastrpc_map_lookup(fl: &FastrpcUser, files: &FileTable, fd: Fd) -> Result<Option<Arc<FastrpcMap>>> {
    let buf = dma_buf_get(files, fd)?;
    fl.lock.lock();
    let found = fl.lists.with(|lists| {
        let fits = |map: &&Arc<FastrpcMap>| map.fd == fd && map.buf.is(&buf);
        lists.maps.iter().find(fits).filter(|map| map.refcount.get_unless_zero()).cloned()
    });
    fl.lock.unlock();
    dma_buf_put(buf);
    Ok(found)
}

/// `fastrpc_map_create`: a reference to the map of this buffer, which is made if there is none.
///
/// # Errors
/// -EBADF, -EINVAL if it is no buffer, -ENOMEM (injected), or what the exporter says.
pub(super) fn fastrpc_map_create(
    fl: &Arc<FastrpcUser>,
    files: &FileTable,
    fd: Fd,
) -> Result<Arc<FastrpcMap>> {
    if let Some(map) = fastrpc_map_lookup(fl, files, fd)? {
        return Ok(map);
    }
    reclaim::kmalloc()?;
    let buf = dma_buf_get(files, fd)?;
    let attach = match dma_buf_attach(&buf, NAME) {
        Ok(attach) => attach,
        Err(error) => {
            dma_buf_put(buf);
            return Err(error);
        }
    };
    let table = match dma_buf_map_attachment_unlocked(&attach, DmaDirection::Bidirectional) {
        Ok(table) => table,
        Err(error) => {
            dma_buf_detach(&buf, &attach);
            dma_buf_put(buf);
            return Err(error);
        }
    };
    let map = Arc::new(FastrpcMap {
        fl: Arc::downgrade(fl),
        fd,
        buf,
        attach,
        table,
        refcount: Kref::new(),
        mapped_by_ioctl: AtomicBool::new(false),
        live: fl.cctx.core.born("fastrpc_map"),
    });
    fl.lock.lock();
    fl.lists.with(|lists| lists.maps.push(map.clone()));
    fl.lock.unlock();
    Ok(map)
}

/// `fastrpc_map_put`. The last one sleeps: no spinlock may be held, no interrupt may be running.
pub(super) fn fastrpc_map_put(map: &Arc<FastrpcMap>) {
    if map.refcount.put() {
        fastrpc_free_map(map);
    }
}

fn fastrpc_free_map(map: &Arc<FastrpcMap>) {
    dma_buf_unmap_attachment_unlocked(&map.attach, map.table.clone(), DmaDirection::Bidirectional);
    dma_buf_detach(&map.buf, &map.attach);
    dma_buf_put(map.buf.clone());
    if let Some(fl) = map.fl.upgrade() {
        fl.lock.lock();
        fl.lists.with(|lists| lists.maps.retain(|other| !Arc::ptr_eq(other, map)));
        fl.lock.unlock();
    }
    map.live.freed();
}
