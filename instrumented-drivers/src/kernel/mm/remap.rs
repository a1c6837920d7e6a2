// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A driver maps all pages of a VMA at once, in its `mmap`: there will be no page fault.
//!
//! Kernel counterpart: `remap_pfn_range()`, `vm_map_pages()`, `remap_vmalloc_range()`.

use std::collections::HashMap;
use std::sync::Arc;

use super::{PAGE, Pte, VmArea};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::shmem::Page;

/// Maps `pages`, from the first one on, to the whole VMA. Call it last in a driver's `mmap`: a mapping that fails
/// afterwards would leave the entries behind.
///
/// # Errors
/// -EINVAL if the VMA is longer, -ENOMEM if the host refuses the mapping.
pub fn remap_pages(vma: &mut VmArea, pages: &[Page]) -> Result {
    let mm = vma.mm.upgrade().ok_or(Errno::EINVAL)?;
    let count = usize::try_from(vma.pages()).map_err(|_| Errno::EINVAL)?;
    let pages = pages.get(..count).ok_or(Errno::EINVAL)?;
    // One mapping of the host for each piece of memory that the pages come from.
    let mut windows = HashMap::new();
    let mut entries = Vec::with_capacity(count);
    for (number, page) in (vma.start / PAGE..).zip(pages) {
        let window = match windows.get(&Arc::as_ptr(page.memory())) {
            Some(window) => Arc::clone(window),
            None => {
                let window = Arc::new(page.memory().window()?);
                windows.insert(Arc::as_ptr(page.memory()), window.clone());
                window
            }
        };
        entries.push((number, Pte { page: page.clone(), window, writable: vma.flags.write }));
    }
    mm.page_table.lock().extend(entries);
    // A fork copies the entries, for no fault would bring them back.
    vma.pfnmap = true;
    Ok(())
}
