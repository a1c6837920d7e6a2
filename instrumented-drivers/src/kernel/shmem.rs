// SPDX-License-Identifier: GPL-2.0-only
//! Memory that is really shared: a shmem file is a memfd, and each mapping of it is a real mapping of the same pages.
//!
//! The bytes are reached as atomics through windows: the kernel's own (`vmap`, a device's DMA) and one for each
//! VMA that has faulted. What is written through one is read through all others, because it is the same memory.
//!
//! Whether a page is in the page cache is modelled on top: the first use allocates it (an event for the
//! validator), a later one does not, and truncation really punches the hole.
//!
//! Kernel counterpart: `mm/shmem.c`. The only unsafe code of this crate is in this file.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

use super::errno::{Errno, Result};
use super::reclaim;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// Rounds up to whole pages.
#[must_use]
pub const fn page_align(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_SIZE)
}

/// A mapping of a whole shmem file.
#[derive(Debug)]
pub(crate) struct Window(MmapRaw);

impl Window {
    fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is `len` bytes long, readable and writable, lives as long as `self`, and the file
        // below it never shrinks (a hole is punched, the size stays). All access to these pages in this process,
        // through whatever mapping, is by atomics.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().cast::<AtomicU8>(), self.0.len()) }
    }

    pub(crate) fn read(&self, offset: usize) -> u8 {
        self.bytes()[offset].load(Ordering::Relaxed)
    }

    pub(crate) fn write(&self, offset: usize, value: u8) {
        self.bytes()[offset].store(value, Ordering::Relaxed);
    }
}

/// A file in memory: the backing store of a buffer.
#[derive(Debug)]
pub struct ShmemFile {
    memfd: fs::File,
    /// The kernel's own view of all memory.
    direct: Window,
    in_cache: Vec<AtomicBool>,
}

impl ShmemFile {
    /// `shmem_file_setup`.
    ///
    /// # Errors
    /// -EINVAL for size 0, -ENOMEM if the host gives no memory.
    pub fn setup(size: usize) -> Result<Arc<Self>> {
        reclaim::kmalloc()?;
        if size == 0 || !size.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        Self::of_host("drm mm object", size, false)
    }

    fn of_host(name: &str, size: usize, in_cache: bool) -> Result<Arc<Self>> {
        let memfd = memfd_create(name, MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        ftruncate(&memfd, size as u64).map_err(std::io::Error::from)?;
        let memfd = fs::File::from(memfd);
        let direct = map(&memfd, size)?;
        let in_cache = (0..size / PAGE_SIZE).map(|_| AtomicBool::new(in_cache)).collect();
        Ok(Arc::new(ShmemFile { memfd, direct, in_cache }))
    }

    /// Zeroed pages that belong to no file. Asking the page allocator for them is the caller's business: it knows in
    /// which portions.
    pub(crate) fn anonymous_pages(count: usize) -> Result<Pages> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        let memory = Self::of_host("pages", count * PAGE_SIZE, true)?;
        Ok((0..count).map(|index| Page { memory: memory.clone(), index }).collect())
    }

    /// How many pages it has room for.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.in_cache.len()
    }

    /// `shmem_read_mapping_page`: the page, allocated (and zero) if it is not in the page cache.
    ///
    /// # Errors
    /// -ENOMEM if a failure was injected, -EINVAL past the end.
    pub fn read_mapping_page(self: &Arc<Self>, index: usize) -> Result<Page> {
        let in_cache = self.in_cache.get(index).ok_or(Errno::EINVAL)?;
        if !in_cache.load(Ordering::Acquire) {
            reclaim::alloc_page()?;
            in_cache.store(true, Ordering::Release);
        }
        Ok(Page { memory: self.clone(), index })
    }

    /// `shmem_truncate_range` over the whole file: all pages are given back.
    ///
    /// # Errors
    /// What the host says.
    pub fn truncate(&self) -> Result {
        for in_cache in &self.in_cache {
            in_cache.store(false, Ordering::Release);
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = (self.pages() * PAGE_SIZE) as u64;
        fallocate(&self.memfd, hole, 0, length).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// How many pages are in the page cache.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.in_cache.iter().filter(|page| page.load(Ordering::Relaxed)).count()
    }

    /// A further mapping of the same memory.
    pub(crate) fn window(&self) -> Result<Window> {
        map(&self.memfd, self.pages() * PAGE_SIZE)
    }
}

fn map(memfd: &fs::File, size: usize) -> Result<Window> {
    Ok(Window(MmapOptions::new().len(size).map_raw(memfd)?))
}

/// `struct page`: one page of a shmem file.
#[derive(Clone, Debug)]
pub struct Page {
    memory: Arc<ShmemFile>,
    index: usize,
}

impl Page {
    /// True if `self` follows directly behind `other` in physical memory.
    #[must_use]
    pub fn follows(&self, other: &Page) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory) && self.index == other.index + 1
    }

    /// The file it belongs to.
    #[must_use]
    pub fn memory(&self) -> &Arc<ShmemFile> {
        &self.memory
    }

    /// Its place in that file.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Reads a byte through the kernel's mapping.
    #[must_use]
    pub fn read(&self, offset: usize) -> u8 {
        self.memory.direct.read(self.index * PAGE_SIZE + offset)
    }

    /// Writes a byte through the kernel's mapping.
    pub fn write(&self, offset: usize, value: u8) {
        self.memory.direct.write(self.index * PAGE_SIZE + offset, value);
    }
}

/// The pages of a buffer in order: what `vmap` maps and what a scatter list lists.
pub type Pages = Arc<[Page]>;

/// Reads a byte of a buffer.
#[must_use]
pub fn read_byte(pages: &[Page], offset: usize) -> u8 {
    pages[offset / PAGE_SIZE].read(offset % PAGE_SIZE)
}

/// Writes a byte of a buffer.
pub fn write_byte(pages: &[Page], offset: usize, value: u8) {
    pages[offset / PAGE_SIZE].write(offset % PAGE_SIZE, value);
}

/// `struct iosys_map`: a buffer in the kernel's address space.
#[derive(Clone, Debug)]
pub struct IosysMap(pub(crate) Pages);

impl IosysMap {
    /// Reads a byte.
    #[must_use]
    pub fn read(&self, offset: usize) -> u8 {
        read_byte(&self.0, offset)
    }

    /// Writes a byte.
    pub fn write(&self, offset: usize, value: u8) {
        write_byte(&self.0, offset, value);
    }

    /// `iosys_map_is_equal`.
    #[must_use]
    pub fn is_equal(&self, other: &IosysMap) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, PAGE_SIZE, ShmemFile};

    #[test]
    fn what_one_mapping_writes_every_other_reads() {
        let file = ShmemFile::setup(2 * PAGE_SIZE).unwrap();
        let page = file.read_mapping_page(1).unwrap();
        let user = file.window().unwrap();
        user.write(PAGE_SIZE + 7, 42);
        assert_eq!(page.read(7), 42);
        page.write(8, 43);
        assert_eq!(user.read(PAGE_SIZE + 8), 43);
    }

    #[test]
    fn truncation_gives_the_pages_back_and_they_come_back_zeroed() {
        let file = ShmemFile::setup(PAGE_SIZE).unwrap();
        file.read_mapping_page(0).unwrap().write(0, 1);
        assert_eq!(file.resident(), 1);
        file.truncate().unwrap();
        assert_eq!(file.resident(), 0);
        assert_eq!(file.read_mapping_page(0).unwrap().read(0), 0);
    }

    #[test]
    fn there_is_no_page_past_the_end_and_no_empty_file() {
        let file = ShmemFile::setup(PAGE_SIZE).unwrap();
        assert_eq!(file.read_mapping_page(1).unwrap_err(), Errno::EINVAL);
        assert_eq!(ShmemFile::setup(0).unwrap_err(), Errno::EINVAL);
    }
}
