// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Mappings of objects for single devices: for the display, which keeps them in a cache, and for jobs.
//!
//! A cached mapping has one reference from the cache and one from each user; it holds no reference to its object, whose
//! end takes it out of the cache.
//!
//! Kernel counterpart: `drivers/gpu/host1x/bus.c`, `drivers/gpu/drm/tegra/gem.c`, `plane.c`, `uapi.c`.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use lockdep::LockClass;

use super::gem::{tegra_bo_mmap, tegra_bo_munmap, to_tegra_bo};
use super::{fpriv, tegra};
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
    sg_free_table,
};
use crate::dma_buf::{DmaBufAttachment, DmaDirection, SgTable};
use crate::drm::file::{DrmFile, Handle};
use crate::drm::gem::{DrmGemObject, drm_gem_object_put};
use crate::drm::gem_handle::drm_gem_object_lookup;
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class};
use crate::kernel::reclaim;
use crate::kernel::shmem::PAGE_SIZE;

static CACHE_LOCK: LockClass = sleep_class("&cache->lock");
static BO_LOCK: LockClass = spin_class("&bo->lock");
static FPRIV_LOCK: LockClass = sleep_class("&fpriv->lock");

/// `struct host1x_bo`.
pub(super) struct Host1xBo {
    lock: SpinLock,
    mappings: KCell<Vec<Arc<Host1xBoMapping>>>,
}

impl Host1xBo {
    /// `host1x_bo_init`.
    pub(super) fn init() -> Self {
        Host1xBo {
            lock: SpinLock::new(&BO_LOCK),
            mappings: KCell::new("the mappings of an object", Vec::new()),
        }
    }
}

/// `struct host1x_bo_cache`.
pub(super) struct Host1xBoCache {
    lock: Mutex,
    mappings: KCell<Vec<Arc<Host1xBoMapping>>>,
}

impl Host1xBoCache {
    /// `host1x_bo_cache_init`.
    pub(super) fn init() -> Arc<Self> {
        Arc::new(Host1xBoCache {
            lock: Mutex::new(&CACHE_LOCK),
            mappings: KCell::new("the mappings of a cache", Vec::new()),
        })
    }
}

/// `struct host1x_bo_mapping`.
struct Host1xBoMapping {
    bo: Weak<DrmGemObject>,
    cache: Option<Arc<Host1xBoCache>>,
    /// Of an import.
    attach: Option<Arc<DmaBufAttachment>>,
    sgt: Arc<SgTable>,
    kref: Kref,
    live: Live,
}

fn forget(list: &KCell<Vec<Arc<Host1xBoMapping>>>, mapping: &Arc<Host1xBoMapping>) {
    list.with(|list| list.retain(|other| !Arc::ptr_eq(other, mapping)));
}

/// `tegra_bo_pin`: attaches and maps an import anew for this device.
fn tegra_bo_pin(
    device: &'static str,
    obj: &Arc<DrmGemObject>,
    cache: Option<&Arc<Host1xBoCache>>,
) -> Result<Arc<Host1xBoMapping>> {
    reclaim::kmalloc()?;
    let (attach, sgt) = match obj.import_attach() {
        Some(import) => {
            let buf = &import.dmabuf;
            let attach = dma_buf_attach(buf, device)?;
            let sgt = dma_buf_map_attachment_unlocked(&attach, DmaDirection::ToDevice)
                .inspect_err(|_| dma_buf_detach(buf, &attach))?;
            (Some(attach), sgt)
        }
        None => (None, SgTable::from_pages(&obj.dev.core, to_tegra_bo(obj).pages()?)?),
    };
    Ok(Arc::new(Host1xBoMapping {
        bo: Arc::downgrade(obj),
        cache: cache.cloned(),
        attach,
        sgt,
        kref: Kref::new(),
        live: obj.dev.core.born("host1x_bo_mapping"),
    }))
}

/// `tegra_bo_unpin`.
fn tegra_bo_unpin(mapping: &Host1xBoMapping) {
    match &mapping.attach {
        Some(attach) => {
            dma_buf_unmap_attachment_unlocked(attach, mapping.sgt.clone(), DmaDirection::ToDevice);
            dma_buf_detach(&attach.dmabuf, attach);
        }
        None => sg_free_table(mapping.sgt.clone()),
    }
    mapping.live.freed();
}

/// `host1x_bo_pin`: with a cache its lock is held throughout.
fn host1x_bo_pin(
    device: &'static str,
    obj: &Arc<DrmGemObject>,
    cache: Option<&Arc<Host1xBoCache>>,
) -> Result<Arc<Host1xBoMapping>> {
    let Some(cache) = cache else { return pin_and_list(device, obj, None) };
    cache.lock.lock();
    let known = cache.mappings.with(|list| {
        let fits = |mapping: &&Arc<Host1xBoMapping>| core::ptr::eq(mapping.bo.as_ptr(), Arc::as_ptr(obj));
        list.iter().find(fits).cloned()
    });
    let result = match known {
        Some(mapping) => {
            mapping.kref.get();
            Ok(mapping)
        }
        None => pin_and_list(device, obj, Some(cache)).inspect(|mapping| {
            cache.mappings.with(|list| list.push(mapping.clone()));
            mapping.kref.get();
        }),
    };
    cache.lock.unlock();
    result
}

#[track_caller]
fn pin_and_list(
    device: &'static str,
    obj: &Arc<DrmGemObject>,
    cache: Option<&Arc<Host1xBoCache>>,
) -> Result<Arc<Host1xBoMapping>> {
    let mapping = tegra_bo_pin(device, obj, cache)?;
    let bo = &to_tegra_bo(obj).base;
    bo.lock.lock();
    bo.mappings.with(|list| list.push(mapping.clone()));
    bo.lock.unlock();
    Ok(mapping)
}

/// `host1x_bo_unpin`. `obj` is the mapping's object; at its end nobody else has a reference to it.
fn host1x_bo_unpin(obj: &DrmGemObject, mapping: &Arc<Host1xBoMapping>) {
    if let Some(cache) = &mapping.cache {
        cache.lock.lock();
    }
    if mapping.kref.put() {
        __host1x_bo_unpin(obj, mapping);
    }
    if let Some(cache) = &mapping.cache {
        cache.lock.unlock();
    }
}

fn __host1x_bo_unpin(obj: &DrmGemObject, mapping: &Arc<Host1xBoMapping>) {
    if let Some(cache) = &mapping.cache {
        forget(&cache.mappings, mapping);
    }
    let bo = &to_tegra_bo(obj).base;
    bo.lock.lock();
    forget(&bo.mappings, mapping);
    bo.lock.unlock();
    tegra_bo_unpin(mapping);
}

/// The object ends: the caches forget it. Nobody uses a mapping any more.
pub(super) fn host1x_bo_clear_cached_mappings(obj: &DrmGemObject) {
    for mapping in to_tegra_bo(obj).base.mappings.get() {
        let core = &obj.dev.core;
        if !core.warn_on(mapping.cache.is_none(), "a stale mapping of a tegra object") {
            host1x_bo_unpin(obj, &mapping);
        }
    }
}

/// A frame that the display shows.
struct Frame {
    obj: Arc<DrmGemObject>,
    mapping: Arc<Host1xBoMapping>,
}

/// `struct tegra_drm_file`.
pub(super) struct TegraDrmFile {
    lock: Mutex,
    /// Under `lock`: the mappings for jobs.
    mappings: KCell<BTreeMap<u32, Frame>>,
    /// What this file has put on the display.
    frame: parking_lot::Mutex<Option<Frame>>,
}

impl Default for TegraDrmFile {
    fn default() -> Self {
        TegraDrmFile {
            lock: Mutex::new(&FPRIV_LOCK),
            mappings: KCell::new("the mappings of a tegra file", BTreeMap::new()),
            frame: parking_lot::Mutex::default(),
        }
    }
}

/// The number of a mapping for jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TegraMapping(pub u32);

fn lookup(file: &DrmFile, handle: Handle) -> Result<Arc<DrmGemObject>> {
    drm_gem_object_lookup(file, handle).ok_or(Errno::ENOENT)
}

fn put(frame: Frame) {
    host1x_bo_unpin(&frame.obj, &frame.mapping);
    drm_gem_object_put(frame.obj);
}

/// `tegra_drm_ioctl_channel_map`: maps an object for the device that runs jobs.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOENT, -ENOMEM (injected), or what the exporter of an import says.
pub fn tegra_channel_map(file: &DrmFile, handle: Handle) -> Result<TegraMapping> {
    let fpriv = fpriv(file)?;
    fpriv.lock.lock();
    let result = reclaim::kmalloc().and_then(|()| {
        let obj = lookup(file, handle)?;
        match host1x_bo_pin("vic", &obj, None) {
            Ok(mapping) => Ok(fpriv.mappings.with(|mappings| {
                let id = mappings.last_key_value().map_or(1, |(last, _)| last + 1);
                mappings.insert(id, Frame { obj, mapping });
                TegraMapping(id)
            })),
            Err(error) => {
                drm_gem_object_put(obj);
                Err(error)
            }
        }
    });
    fpriv.lock.unlock();
    result
}

/// `tegra_drm_ioctl_channel_unmap`.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL if there is no such mapping.
pub fn tegra_channel_unmap(file: &DrmFile, mapping: TegraMapping) -> Result {
    let fpriv = fpriv(file)?;
    fpriv.lock.lock();
    let frame = fpriv.mappings.with(|mappings| mappings.remove(&mapping.0));
    fpriv.lock.unlock();
    put(frame.ok_or(Errno::EINVAL)?);
    Ok(())
}

/// `tegra_drm_ioctl_channel_submit`: runs a job whose commands are in an object of this handle; here there is one: write
/// the first byte to the first byte of each page of that mapping.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL if there is no such mapping, -ENOENT, -ENOMEM (injected), or what the exporter
/// of an import says.
pub fn tegra_submit(file: &DrmFile, commands: Handle, target: TegraMapping) -> Result {
    let fpriv = fpriv(file)?;
    fpriv.lock.lock();
    let result =
        fpriv.mappings.with(|mappings| mappings.get(&target.0).map(|frame| frame.mapping.sgt.clone()));
    let result = result.ok_or(Errno::EINVAL).and_then(|target| {
        let gather = lookup(file, commands)?;
        let read = tegra_bo_mmap(&gather).map(|map| {
            let value = map.read(0);
            tegra_bo_munmap(&gather, &map);
            value
        });
        drm_gem_object_put(gather);
        let value = read?;
        (0..target.pages()).for_each(|page| target.write(page * PAGE_SIZE, value));
        Ok(())
    });
    fpriv.lock.unlock();
    result
}

/// `tegra_plane_prepare_fb`, `tegra_dc_pin`: this object is to be shown; the mapping of the last time is found again.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOENT, -ENOMEM (injected), or what the exporter of an import says.
pub fn tegra_plane_prepare_fb(file: &DrmFile, handle: Handle) -> Result {
    let fpriv = fpriv(file)?;
    let obj = lookup(file, handle)?;
    let mapping = match tegra_dc_pin(file, &obj) {
        Ok(mapping) => mapping,
        Err(error) => {
            drm_gem_object_put(obj);
            return Err(error);
        }
    };
    let old = fpriv.frame.lock().replace(Frame { obj, mapping });
    old.into_iter().for_each(put);
    Ok(())
}

fn tegra_dc_pin(file: &DrmFile, obj: &Arc<DrmGemObject>) -> Result<Arc<Host1xBoMapping>> {
    host1x_bo_pin("dc", obj, Some(&tegra(&file.dev).cache))
}

/// `tegra_plane_cleanup_fb`: it is shown no more.
///
/// # Errors
/// -ENODEV on another driver's file.
pub fn tegra_plane_cleanup_fb(file: &DrmFile) -> Result {
    let old = fpriv(file)?.frame.lock().take();
    old.into_iter().for_each(put);
    Ok(())
}

/// What the display shows for a byte of the frame; `None` without one.
///
/// # Errors
/// -ENODEV on another driver's file.
pub fn tegra_scanout(file: &DrmFile, offset: usize) -> Result<Option<u8>> {
    Ok(fpriv(file)?.frame.lock().as_ref().map(|frame| frame.mapping.sgt.read(offset)))
}

/// `tegra_drm_postclose`.
pub(super) fn tegra_drm_postclose(fpriv: &TegraDrmFile) {
    let frame = fpriv.frame.lock().take();
    frame.into_iter().for_each(put);
    fpriv.lock.lock();
    let mappings = fpriv.mappings.replace(BTreeMap::new());
    mappings.into_values().for_each(put);
    fpriv.lock.unlock();
}
