// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Access to user memory: the page table first, then the page fault.
//!
//! A fault takes `mmap_lock` for reading (a trylock first, which nearly always succeeds) and keeps it while the
//! driver looks up the page.

use core::fmt;
use std::sync::Arc;

use super::{Mm, PAGE, Pte, VmArea};
use crate::kernel::shmem::{PAGE_SIZE, Page, Window};

/// What a task gets for a bad access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `SIGSEGV`: nothing is mapped there, or not for this.
    Segv,
    /// `SIGBUS`: it is mapped, but there is no page.
    Bus,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Segv => "SIGSEGV",
            Signal::Bus => "SIGBUS",
        })
    }
}

impl std::error::Error for Signal {}

type Outcome<T = ()> = core::result::Result<T, Signal>;

/// `struct vm_fault`: what is asked of a driver's fault handler.
pub struct VmFault<'a> {
    mm: &'a Arc<Mm>,
    /// The VMA.
    pub vma: &'a Arc<VmArea>,
    /// The page in the file.
    pub pgoff: u64,
    address: u64,
}

impl VmFault<'_> {
    /// `vmf_insert_pfn`: puts the page where it is missing.
    ///
    /// # Errors
    /// SIGBUS if the host refuses the mapping.
    pub fn insert_page(&self, page: &Page) -> Outcome {
        let window = self.window(page)?;
        let entry = Pte { page: page.clone(), window, writable: self.vma.flags.write };
        self.mm.page_table.lock().insert(self.address / PAGE, entry);
        Ok(())
    }

    /// The VMA's own mapping of the page's memory. It is kept for the memory that came first; pages of others are
    /// mapped each for itself.
    fn window(&self, page: &Page) -> Outcome<Arc<Window>> {
        if let Some((memory, window)) = self.vma.window.get()
            && Arc::ptr_eq(memory, page.memory())
        {
            return Ok(window.clone());
        }
        let window = Arc::new(page.memory().window().map_err(|_| Signal::Bus)?);
        // Another task may have been first, with the same memory or another one; then this one is used once.
        let _ = self.vma.window.set((page.memory().clone(), window.clone()));
        Ok(window)
    }
}

/// The page fault: finds the VMA and lets its driver insert the page.
///
/// # Errors
/// The signal for the task.
pub fn exc_page_fault(mm: &Arc<Mm>, address: u64, write: bool) -> Outcome {
    let vma = lock_mm_and_find_vma(mm, address)?;
    let result = handle_mm_fault(mm, &vma, address, write);
    mm.mmap_lock.up_read();
    result
}

/// Returns with `mmap_lock` held for reading, or fails without.
fn lock_mm_and_find_vma(mm: &Mm, address: u64) -> Outcome<Arc<VmArea>> {
    if !mm.mmap_lock.down_read_trylock() {
        mm.mmap_lock.down_read();
    }
    mm.find_vma(address).ok_or_else(|| {
        mm.mmap_lock.up_read();
        Signal::Segv
    })
}

pub(super) fn handle_mm_fault(mm: &Arc<Mm>, vma: &Arc<VmArea>, address: u64, write: bool) -> Outcome {
    if write && !vma.flags.write {
        return Err(Signal::Segv);
    }
    let ops = vma.ops.ok_or(Signal::Bus)?;
    let pgoff = vma.pgoff + (address - vma.start) / PAGE;
    ops.fault(&VmFault { mm, vma, pgoff, address })
}

/// What the hardware does: looks into the page table, faults if there is nothing.
fn walk(mm: &Arc<Mm>, address: u64, write: bool) -> Outcome<Pte> {
    loop {
        let entry = mm.page_table.lock().get(&(address / PAGE)).cloned();
        match entry {
            Some(pte) if !write || pte.writable => return Ok(pte),
            _ => exc_page_fault(mm, address, write)?,
        }
    }
}

fn offset(pte: &Pte, address: u64) -> usize {
    let in_page = (address % PAGE) as usize;
    pte.page.index() * PAGE_SIZE + in_page
}

/// Reads a byte of user memory.
///
/// # Errors
/// The signal for the task.
pub fn read_user(mm: &Arc<Mm>, address: u64) -> Outcome<u8> {
    let pte = walk(mm, address, false)?;
    Ok(pte.window.read(offset(&pte, address)))
}

/// Writes a byte of user memory.
///
/// # Errors
/// The signal for the task.
pub fn write_user(mm: &Arc<Mm>, address: u64, value: u8) -> Outcome {
    let pte = walk(mm, address, true)?;
    pte.window.write(offset(&pte, address), value);
    Ok(())
}

crate::kernel::opaque_debug!(VmFault<'_>);
