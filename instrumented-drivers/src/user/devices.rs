// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The devices of a kernel, which all its processes can open.

use std::sync::Arc;

use super::{Driver, VideoDevices};
use crate::dma_buf::heaps::DmaHeaps;
use crate::dma_buf::udmabuf::udmabuf_open;
use crate::drm::device::{DrmDevice, DrmDriver};
use crate::drm::file::drm_open;
use crate::drm::i915;
use crate::drm::lima::LimaDriver;
use crate::drm::omapdrm::OmapDriver;
use crate::drm::panfrost::PanfrostDriver;
use crate::drm::tegra::TegraDriver;
use crate::drm::vgem::VgemDriver;
use crate::drm::vkms::VkmsDriver;
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::File;
use crate::misc::fastrpc::{FastrpcChannelCtx, fastrpc_device_open};
use crate::misc::forwarding_importer::importer_open;

pub(super) struct Devices {
    drm: Vec<(Driver, Arc<DrmDevice>)>,
    pub(super) video: VideoDevices,
    heaps: DmaHeaps,
    pub(super) fastrpc: Arc<FastrpcChannelCtx>,
}

impl Devices {
    pub(super) fn probe(core: &Arc<KernelCore>) -> Arc<Self> {
        let drivers: [(Driver, &'static dyn DrmDriver); 8] = [
            (Driver::Vgem, &VgemDriver),
            (Driver::Vkms, &VkmsDriver),
            (Driver::Panfrost, &PanfrostDriver),
            (Driver::Lima, &LimaDriver),
            (Driver::Omapdrm, &OmapDriver),
            (Driver::Tegra, &TegraDriver),
            (Driver::I915, &i915::INTEGRATED),
            (Driver::I915Lmem, &i915::DISCRETE),
        ];
        Arc::new(Devices {
            drm: drivers
                .into_iter()
                .map(|(which, driver)| (which, DrmDevice::register(core, driver)))
                .collect(),
            video: VideoDevices::register(core),
            heaps: DmaHeaps::default(),
            fastrpc: FastrpcChannelCtx::probe(core),
        })
    }

    pub(super) fn drm(&self, driver: Driver) -> Option<&Arc<DrmDevice>> {
        self.drm.iter().find(|(other, _)| *other == driver).map(|(_, dev)| dev)
    }

    pub(super) fn open(&self, core: &Arc<KernelCore>, driver: Driver) -> Result<Arc<File>> {
        if let Some(dev) = self.drm(driver) {
            return drm_open(dev);
        }
        match driver {
            Driver::Importer => Ok(importer_open(core)),
            Driver::Udmabuf => Ok(udmabuf_open(core)),
            Driver::Fastrpc => fastrpc_device_open(&self.fastrpc),
            Driver::SystemHeap | Driver::CmaHeap => {
                self.heaps.dma_heap_open(core, driver.name()).ok_or(Errno::ENODEV)
            }
            _ => self.video.open(core, driver).ok_or(Errno::ENODEV),
        }
    }

    pub(super) fn abandon(&self) {
        self.video.abandon();
        self.fastrpc.abandon();
    }
}
