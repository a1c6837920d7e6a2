// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A buffer of a client inside the kernel: the console that is drawn before anybody opens the device.
//!
//! Kernel counterpart: `drivers/gpu/drm/drm_client.c`, without the framebuffer.

use std::sync::Arc;

use super::device::DrmDevice;
use super::gem::{
    DrmGemObject, drm_gem_object_put, drm_gem_vmap_unlocked, drm_gem_vunmap, drm_gem_vunmap_unlocked,
};
use crate::bug::Bug;
use crate::kernel::errno::Result;
use crate::kernel::shmem::IosysMap;

/// `struct drm_client_buffer`.
pub struct DrmClientBuffer {
    gem: Arc<DrmGemObject>,
    map: Option<IosysMap>,
}

/// `drm_client_buffer_create`.
///
/// # Errors
/// What the driver says.
pub fn drm_client_buffer_create(dev: &Arc<DrmDevice>, size: usize) -> Result<DrmClientBuffer> {
    Ok(DrmClientBuffer { gem: dev.driver.gem_create(dev, size)?, map: None })
}

/// `drm_client_buffer_vmap`: mapped for the kernel until the buffer is deleted.
///
/// # Errors
/// What the driver says.
pub fn drm_client_buffer_vmap(buffer: &mut DrmClientBuffer) -> Result<IosysMap> {
    let map = drm_gem_vmap_unlocked(&buffer.gem)?;
    buffer.map = Some(map.clone());
    Ok(map)
}

/// `drm_client_buffer_delete`.
pub fn drm_client_buffer_delete(buffer: DrmClientBuffer) {
    let DrmClientBuffer { gem, map } = buffer;
    match map {
        Some(map) if gem.dev.core.has(Bug::ClientVunmapsUnlocked) => drm_gem_vunmap(&gem, &map),
        Some(map) => drm_gem_vunmap_unlocked(&gem, &map),
        None => {}
    }
    drm_gem_object_put(gem);
}

crate::kernel::opaque_debug!(DrmClientBuffer);
