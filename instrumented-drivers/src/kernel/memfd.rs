// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `memfd_create`: a file in memory that a program owns. It is the user memory of the models, and what a udmabuf is
//! made of.
//!
//! Its inode lock protects the size and the seals: a truncation is a writer, and so is adding seals; who needs the
//! size to stay is a reader while it looks.
//!
//! Private mappings are refused: copy-on-write is not modelled. A hole that a truncation leaves is not taken out of
//! existing mappings.
//!
//! Kernel counterpart: `mm/memfd.c`, `mm/shmem.c`.

use core::ops::BitOr;
use std::sync::Arc;

use lockdep::LockClass;

use super::KernelCore;
use super::cell::KCell;
use super::errno::{Errno, Result};
use super::file::{File, FileMode, FileOps};
use super::locking::{RwSem, sleep_class};
use super::mm::{Signal, VmArea, VmFault, VmOperations};
use super::shmem::{PAGE_SIZE, Page, ShmemFile, page_align};

static INODE: LockClass = sleep_class("&sb->s_type->i_mutex_key");

/// What must not happen to a memfd any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seals(u32);

impl Seals {
    /// None.
    pub const NONE: Self = Seals(0);
    /// `F_SEAL_SEAL`: no further seal is added.
    pub const SEAL: Self = Seals(1);
    /// `F_SEAL_SHRINK`: it does not get smaller.
    pub const SHRINK: Self = Seals(2);
    /// `F_SEAL_WRITE`: it is not written any more.
    pub const WRITE: Self = Seals(8);

    /// True if all of `other` is in `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Seals {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Seals(self.0 | other.0)
    }
}

/// An open memfd.
pub struct MemfdFile {
    memory: Arc<ShmemFile>,
    inode: RwSem,
    seals: KCell<Seals>,
}

/// `memfd_create` and `ftruncate` to a size.
///
/// # Errors
/// -EINVAL for size 0, -ENOMEM (injected).
pub fn memfd_create(core: &KernelCore, size: usize) -> Result<Arc<File>> {
    let memory = ShmemFile::setup(page_align(size))?;
    let seals = KCell::new("the seals of a memfd", Seals::NONE);
    let memfd = MemfdFile { memory, inode: RwSem::new(&INODE), seals };
    Ok(File::new(core, FileMode::READ_WRITE, memfd))
}

impl MemfdFile {
    /// `inode_lock_shared`: size and seals stay until [`inode_unlock_shared`](Self::inode_unlock_shared).
    #[track_caller]
    pub(crate) fn inode_lock_shared(&self) {
        self.inode.down_read();
    }

    /// `inode_unlock_shared`.
    #[track_caller]
    pub(crate) fn inode_unlock_shared(&self) {
        self.inode.up_read();
    }

    /// `F_GET_SEALS`.
    #[must_use]
    pub fn seals(&self) -> Seals {
        self.seals.get()
    }

    /// In pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.memory.pages()
    }

    /// `memfd_pin_folios`: these pages, allocated where they are missing.
    ///
    /// # Errors
    /// -ENOMEM (injected), -EINVAL past the end.
    pub(crate) fn pin_folios(&self, first: usize, count: usize) -> Result<Vec<Page>> {
        (first..first + count).map(|index| self.memory.read_mapping_page(index)).collect()
    }
}

/// `F_ADD_SEALS`.
///
/// # Errors
/// -EINVAL on another kind of file, -EPERM if it is sealed against seals.
pub fn memfd_add_seals(file: &File, seals: Seals) -> Result {
    let memfd = file.private::<MemfdFile>().ok_or(Errno::EINVAL)?;
    memfd.inode.down_write();
    let result = memfd.seals.with(|old| {
        if old.contains(Seals::SEAL) {
            return Err(Errno::EPERM);
        }
        *old = *old | seals;
        Ok(())
    });
    memfd.inode.up_write();
    result
}

/// `fallocate(FALLOC_FL_PUNCH_HOLE)` over the whole file: its pages are given back, whoever has them pinned keeps his.
///
/// # Errors
/// -EINVAL on another kind of file, -EPERM if it is sealed against writing.
pub fn memfd_punch_hole(file: &File) -> Result {
    let memfd = file.private::<MemfdFile>().ok_or(Errno::EINVAL)?;
    memfd.inode.down_write();
    let result =
        if memfd.seals.get().contains(Seals::WRITE) { Err(Errno::EPERM) } else { memfd.memory.truncate() };
    memfd.inode.up_write();
    result
}

struct ShmemVmOps;

impl VmOperations for ShmemVmOps {
    fn fault(&self, vmf: &VmFault<'_>) -> core::result::Result<(), Signal> {
        let memory = vmf.vma.private::<ShmemFile>().ok_or(Signal::Bus)?;
        let index = usize::try_from(vmf.pgoff).map_err(|_| Signal::Bus)?;
        vmf.insert_page(&memory.read_mapping_page(index).map_err(|_| Signal::Bus)?)
    }
}

fn shmem_mmap(memory: &Arc<ShmemFile>, vma: &mut VmArea) -> Result {
    vma.private = Some(memory.clone());
    vma.ops = Some(&ShmemVmOps);
    Ok(())
}

/// The file that a driver's memory is, for mappings of it. No program has it open.
struct BackingFile(Arc<ShmemFile>);

impl FileOps for BackingFile {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        shmem_mmap(&self.0, vma)
    }
}

/// The file of this memory. (In C it is the same thing.)
pub(crate) fn backing_file(core: &KernelCore, memory: &Arc<ShmemFile>) -> Arc<File> {
    File::new(core, FileMode::READ_WRITE, BackingFile(memory.clone()))
}

impl FileOps for MemfdFile {
    fn mmap(&self, _file: &Arc<File>, vma: &mut VmArea) -> Result {
        if vma.is_cow() {
            return Err(Errno::EINVAL);
        }
        if vma.flags.write && self.seals.get().contains(Seals::WRITE) {
            return Err(Errno::EPERM);
        }
        shmem_mmap(&self.memory, vma)
    }

    fn llseek_end(&self) -> Result<u64> {
        Ok((self.pages() * PAGE_SIZE) as u64)
    }
}

super::opaque_debug!(MemfdFile);
