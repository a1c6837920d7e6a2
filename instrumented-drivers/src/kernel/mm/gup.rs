// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A driver gets hold of the pages of user memory.
//!
//! The kernel's quick way, without `mmap_lock`, is not modelled: the validator is told of that lock on both ways
//! (`might_lock_read`), so taking it always is the same to it.
//!
//! Kernel counterpart: `mm/gup.c`.

use std::sync::Arc;

use super::fault::handle_mm_fault;
use super::{Mm, PAGE};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::shmem::Page;

/// `pin_user_pages_fast` for writing: the pages from an address on, faulted in where they are missing. The caller must
/// hold nothing that is taken inside `mmap_lock`.
///
/// # Errors
/// -EFAULT if something of it is not mapped, or mapped by a driver, or not writable.
pub fn pin_user_pages_fast(mm: &Arc<Mm>, start: u64, count: usize) -> Result<Vec<Page>> {
    mm.mmap_lock.down_read();
    let pages = (start / PAGE..).take(count).map(|number| pin_user_page(mm, number * PAGE)).collect();
    mm.mmap_lock.up_read();
    pages
}

fn pin_user_page(mm: &Arc<Mm>, address: u64) -> Result<Page> {
    let vma = mm.find_vma(address).ok_or(Errno::EFAULT)?;
    if vma.pfnmap {
        return Err(Errno::EFAULT);
    }
    let present = || {
        let table = mm.page_table.lock();
        table.get(&(address / PAGE)).filter(|pte| pte.writable).map(|pte| pte.page.clone())
    };
    if let Some(page) = present() {
        return Ok(page);
    }
    handle_mm_fault(mm, &vma, address, true).map_err(|_| Errno::EFAULT)?;
    present().ok_or(Errno::EFAULT)
}
