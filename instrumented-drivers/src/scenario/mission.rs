// SPDX-License-Identifier: GPL-2.0-only
//! The question this project was made for: what does a task hold when an exporter's `mmap` runs, and can that
//! deadlock?
//!
//! A [`Cell`] is one answer: a locking policy of the dma-buf core, a regime of the shmem helper, a driver that
//! exports, and a path on which a program reaches the exporter's `mmap`. The rule that the cells show: **the
//! dma-buf core does not hold the reservation lock around an exporter's `mmap`; exporters take it themselves.** The
//! dma-buf of a GEM object has the object's own reservation lock, so a core that holds it (P1) and an exporter
//! that takes it (all regimes but A) are one task that waits for itself.
#![forbid(unsafe_code)]

use core::fmt;

use lockdep::{PanicOn, Report, ReportKind, Validator};

use super::world::{BYTES, Failure, PAGE, World, expect_eq};
use super::{End, Run, Setup, judged, would_hang};
use crate::bug::Bug;
use crate::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use crate::kernel::file::Fd;
use crate::media::videobuf2::Memory;
use crate::policy::LockingPolicy;
use crate::user::Driver;

/// A driver that exports buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exporter {
    /// The virtual GEM provider.
    Vgem,
    /// The virtual display.
    Vkms,
    /// The driver of Mali GPUs.
    Panfrost,
    /// The driver of older Mali GPUs.
    Lima,
    /// The display of OMAP processors.
    Omapdrm,
    /// The display of Tegra processors.
    Tegra,
    /// Intel's graphics, objects in system memory.
    I915,
    /// Intel's graphics, objects in the card's memory.
    I915Lmem,
    /// Video buffers in contiguous memory.
    Vb2DmaContig,
    /// Video buffers in scattered memory.
    Vb2DmaSg,
    /// Video buffers from `vmalloc`.
    Vb2Vmalloc,
    /// The heap of scattered pages.
    SystemHeap,
    /// The heap of contiguous pages.
    CmaHeap,
    /// The program's own memory.
    Udmabuf,
    /// A signal processor's buffers.
    Fastrpc,
}

/// How a program comes to map a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapPath {
    /// It maps the dma-buf's own file.
    DmaBufFd,
    /// It maps the file of the exporting driver, at the buffer's offset.
    DriverFd,
    /// It imports the dma-buf into the exporting driver, which gives the same object back, then maps the dma-buf.
    SelfImportFd,
    /// It imports the dma-buf into another driver and maps it through that one, whose `mmap` forwards to the
    /// exporter's; then it exports it again and maps what it got.
    ForeignImportFd,
}

/// One combination of policy, regime, exporter and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// What the dma-buf core holds, and what the shmem helper takes.
    pub setup: Setup,
    /// Who exports.
    pub exporter: Exporter,
    /// How it is mapped.
    pub path: MapPath,
    /// The drivers are without the [bugs](Bug) of Linux 6.12.
    pub fixed: bool,
}

impl Exporter {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Vgem,
        Self::Vkms,
        Self::Panfrost,
        Self::Lima,
        Self::Omapdrm,
        Self::Tegra,
        Self::I915,
        Self::I915Lmem,
        Self::Vb2DmaContig,
        Self::Vb2DmaSg,
        Self::Vb2Vmalloc,
        Self::SystemHeap,
        Self::CmaHeap,
        Self::Udmabuf,
        Self::Fastrpc,
    ];

    /// The driver's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.driver().name()
    }

    const fn driver(self) -> Driver {
        match self {
            Self::Vgem => Driver::Vgem,
            Self::Vkms => Driver::Vkms,
            Self::Panfrost => Driver::Panfrost,
            Self::Lima => Driver::Lima,
            Self::Omapdrm => Driver::Omapdrm,
            Self::Tegra => Driver::Tegra,
            Self::I915 => Driver::I915,
            Self::I915Lmem => Driver::I915Lmem,
            Self::Vb2DmaContig => Driver::VividDmaContig,
            Self::Vb2DmaSg => Driver::VividDmaSg,
            Self::Vb2Vmalloc => Driver::VividVmalloc,
            Self::SystemHeap => Driver::SystemHeap,
            Self::CmaHeap => Driver::CmaHeap,
            Self::Udmabuf => Driver::Udmabuf,
            Self::Fastrpc => Driver::Fastrpc,
        }
    }

    /// Who imports from it.
    const fn importer(self) -> Driver {
        match self {
            Self::Vgem => Driver::Vkms,
            _ => Driver::Vgem,
        }
    }

    /// True if its buffers are objects of the shmem helper, whose locks depend on the regime.
    #[must_use]
    pub const fn is_shmem(self) -> bool {
        matches!(self, Self::Vgem | Self::Vkms | Self::Panfrost | Self::Lima)
    }

    /// True if its buffers are GEM objects.
    const fn is_gem(self) -> bool {
        self.is_shmem() || matches!(self, Self::Omapdrm | Self::Tegra | Self::I915 | Self::I915Lmem)
    }

    const fn is_camera(self) -> bool {
        matches!(self, Self::Vb2DmaContig | Self::Vb2DmaSg | Self::Vb2Vmalloc)
    }

    /// True if there is such a path: only a GEM driver imports what it has exported as the same object, and the
    /// devices that give a program buffers without hardware have nothing to map.
    #[must_use]
    pub const fn has(self, path: MapPath) -> bool {
        match path {
            MapPath::DmaBufFd | MapPath::ForeignImportFd => true,
            MapPath::DriverFd => self.is_gem() || self.is_camera(),
            MapPath::SelfImportFd => self.is_gem(),
        }
    }
}

impl MapPath {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::DmaBufFd, Self::DriverFd, Self::SelfImportFd, Self::ForeignImportFd];

    /// The path's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DmaBufFd => "dma-buf-fd",
            Self::DriverFd => "driver-fd",
            Self::SelfImportFd => "self-import-fd",
            Self::ForeignImportFd => "foreign-import-fd",
        }
    }
}

impl fmt::Display for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {} {}", self.setup, self.exporter, self.path))
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Cell {
    /// Every cell, in the order of a table: policy, regime, exporter, path.
    pub fn all() -> impl Iterator<Item = Cell> {
        Setup::all().flat_map(|setup| {
            Exporter::ALL.into_iter().flat_map(move |exporter| {
                let paths = MapPath::ALL.into_iter().filter(move |path| exporter.has(*path));
                paths.map(move |path| Cell { setup, exporter, path, fixed: false })
            })
        })
    }

    /// Runs it under a validator of its own, which stops it where it would wait for ever.
    #[must_use]
    pub fn run(&self) -> Outcome {
        self.run_with(false)
    }

    /// The same, and everything that is locked is written down.
    #[must_use]
    pub fn run_recorded(&self) -> Outcome {
        self.run_with(true)
    }

    fn run_with(&self, record: bool) -> Outcome {
        let watching = Validator::builder().panic_on(PanicOn::Certain).record(record).build();
        let run = if lockdep::ENABLED || !self.deadlocks() {
            judged(&watching, self.setup, |world| self.program(world))
        } else {
            would_hang()
        };
        Outcome { cell: *self, run }
    }

    /// Runs it with nobody watching. Where it [deadlocks](Self::deadlocks), this does not return.
    #[must_use]
    pub fn run_unwatched(&self) -> Outcome {
        let blind = Validator::builder().watch(false).build();
        Outcome { cell: *self, run: judged(&blind, self.setup, |world| self.program(world)) }
    }

    /// Create, export, import if the path says so, map, touch, unmap, close.
    pub(super) fn program(&self, world: &World) -> Result<(), Failure> {
        if self.fixed {
            Bug::ALL.into_iter().for_each(|bug| world.kernel.fix(bug));
        }
        if self.exporter.is_gem() { self.gem_program(world) } else { self.other_program(world) }
    }

    /// The same for an exporter whose buffers are no GEM objects.
    fn other_program(&self, world: &World) -> Result<(), Failure> {
        let init = &world.init;
        let driver = self.exporter.driver();
        let (device, buffer) = if self.exporter.is_camera() {
            let camera = init.open(driver)?;
            init.create_bufs(camera, 1, Memory::Mmap, &[usize::try_from(BYTES).unwrap_or_default()])?;
            (Some(camera), init.expbuf(camera, 0, 0)?)
        } else {
            (None, world.allocate(driver)?)
        };
        match (self.path, device) {
            (MapPath::DriverFd, Some(camera)) => touch(world, camera, world.frame_offset(camera, 0)?)?,
            (MapPath::ForeignImportFd, _) => self.through_importer(world, buffer)?,
            _ => touch_in_sync(world, buffer)?,
        }
        init.close(buffer)?;
        device.map_or(Ok(()), |camera| Ok(init.close(camera)?))
    }

    fn gem_program(&self, world: &World) -> Result<(), Failure> {
        let init = &world.init;
        let drm = init.open(self.exporter.driver())?;
        let handle = world.create(drm)?;
        match self.path {
            MapPath::DriverFd => {
                let offset = init.driver_map_offset(drm, handle)?;
                touch(world, drm, offset)?;
            }
            MapPath::DmaBufFd => {
                let buffer = world.export(drm, handle)?;
                touch_in_sync(world, buffer)?;
                init.close(buffer)?;
            }
            MapPath::SelfImportFd => {
                let buffer = world.export(drm, handle)?;
                expect_eq("the handle that comes back", init.prime_fd_to_handle(drm, buffer)?, handle)?;
                touch_in_sync(world, buffer)?;
                init.close(buffer)?;
            }
            MapPath::ForeignImportFd => {
                let buffer = world.export(drm, handle)?;
                self.through_importer(world, buffer)?;
                init.close(buffer)?;
            }
        }
        init.gem_close(drm, handle)?;
        Ok(init.close(drm)?)
    }

    fn through_importer(&self, world: &World, buffer: Fd) -> Result<(), Failure> {
        let init = &world.init;
        let drm = init.open(self.exporter.importer())?;
        let handle = init.prime_fd_to_handle(drm, buffer)?;
        // The importer's own file: its mmap forwards to dma_buf_mmap().
        let offset = init.driver_map_offset(drm, handle)?;
        touch(world, drm, offset)?;
        // Exported once more, it is the exporter's dma-buf.
        let again = world.export(drm, handle)?;
        touch_in_sync(world, again)?;
        init.close(again)?;
        init.gem_close(drm, handle)?;
        Ok(init.close(drm)?)
    }

    /// The verdict that is right for this cell; none: clean.
    #[must_use]
    pub fn expected_verdict(&self) -> Option<ReportKind> {
        weightiest(&self.expected())
    }

    /// True if the exporter's `mmap` waits for a lock that its own caller holds.
    #[must_use]
    pub fn deadlocks(&self) -> bool {
        // The driver's own file reaches the object without the dma-buf core.
        self.exporter.is_shmem() && self.setup.mmap_deadlocks() && self.path != MapPath::DriverFd
    }

    /// True if the exporter's `mmap` still asserts the lock that the core no longer holds.
    #[must_use]
    pub fn asserts_what_p1_held(&self) -> bool {
        self.exporter == Exporter::Fastrpc && self.setup.policy == LockingPolicy::P2 && !self.fixed
    }

    /// The kinds of finding that are right for this cell, in the order in which they are made.
    #[must_use]
    pub fn expected(&self) -> Vec<ReportKind> {
        // An importer of another device attaches, which pins; in B0 the helper asserts a lock that nobody takes.
        let pins = self.exporter.is_shmem() && self.path == MapPath::ForeignImportFd;
        let unlocked_pin = pins && self.setup.pin_is_unlocked();
        let pin = unlocked_pin.then_some(ReportKind::AssertHeld);
        let stale = self.asserts_what_p1_held().then_some(ReportKind::AssertHeld);
        let deadlock = self.deadlocks().then_some(ReportKind::Recursive);
        pin.into_iter().chain(stale).chain(deadlock).collect()
    }
}

/// Maps the whole buffer, writes and reads a byte of each page, unmaps it.
fn touch(world: &World, fd: Fd, offset: u64) -> Result<(), Failure> {
    let init = &world.init;
    let address = world.map(fd, offset)?;
    for page in (0..BYTES).step_by(PAGE) {
        let value = page.to_le_bytes()[1] | 1;
        init.write_byte(address + page, value)?;
        expect_eq("the byte just written", init.read_byte(address + page)?, value)?;
    }
    Ok(init.munmap(address, BYTES)?)
}

fn touch_in_sync(world: &World, buffer: Fd) -> Result<(), Failure> {
    world.init.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    touch(world, buffer, 0)?;
    Ok(world.init.sync_end(buffer, DMA_BUF_SYNC_RW)?)
}

/// The one of these that says most: a deadlock if there is one, else the first.
fn weightiest(kinds: &[ReportKind]) -> Option<ReportKind> {
    kinds.iter().copied().find(|kind| is_deadlock(*kind)).or_else(|| kinds.first().copied())
}

fn is_deadlock(kind: ReportKind) -> bool {
    matches!(kind, ReportKind::Recursive | ReportKind::Circular)
}

/// What became of a cell.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub cell: Cell,
    /// The judged run.
    pub run: Run,
}

impl Outcome {
    /// The locks that the task held when the exporter's `mmap` ran, outermost first; the longest list, if it ran
    /// more than once.
    #[must_use]
    pub fn held_in_mmap(&self) -> Vec<String> {
        let of_exporter = self.run.mmaps.iter().filter(|entry| entry.exporter == self.cell.exporter.name());
        of_exporter.map(|entry| entry.held.clone()).max_by_key(Vec::len).unwrap_or_default()
    }

    /// The kind of the report that counts; none: clean.
    #[must_use]
    pub fn verdict(&self) -> Option<ReportKind> {
        weightiest(&self.run.reported())
    }

    /// The report that the verdict is from.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        let verdict = self.verdict()?;
        self.run.reports.iter().find(|report| report.kind() == verdict)
    }

    /// True if the verdict is a deadlock.
    #[must_use]
    pub fn is_deadlock(&self) -> bool {
        self.verdict().is_some_and(is_deadlock)
    }

    /// True if exactly what is right for the cell was found, and the run ended as that makes it end.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let mapped = !self.run.mmaps.is_empty() || matches!(self.run.end, End::Stopped);
        mapped && self.run.is(&self.cell.expected(), self.cell.deadlocks())
    }
}
