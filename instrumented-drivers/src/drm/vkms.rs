// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `vkms`: a display driver without hardware; here, a second plain driver on the shmem helper.

use std::sync::Arc;

use super::device::{DrmDevice, DrmDriver};
use super::gem::DrmGemObject;
use super::gem_shmem_helper::{drm_gem_shmem_create, drm_gem_shmem_prime_import_sg_table};
use crate::dma_buf::{DmaBufAttachment, SgTable};
use crate::kernel::errno::Result;

/// `vkms_driver`.
#[derive(Debug)]
pub struct VkmsDriver;

impl DrmDriver for VkmsDriver {
    fn name(&self) -> &'static str {
        "vkms"
    }

    fn gem_create(&self, dev: &Arc<DrmDevice>, size: usize) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_create(dev, size)
    }

    fn gem_prime_import_sg_table(
        &self,
        dev: &Arc<DrmDevice>,
        attach: &Arc<DmaBufAttachment>,
        table: &Arc<SgTable>,
    ) -> Result<Arc<DrmGemObject>> {
        drm_gem_shmem_prime_import_sg_table(dev, attach, table)
    }
}
