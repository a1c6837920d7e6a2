// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Copying between the kernel and a program's memory: each page that is not there faults, and a fault takes
//! `mmap_lock`. The validator is told so even where every page is there.
//!
//! Kernel counterpart: `include/linux/uaccess.h`, `might_fault()`.

use std::sync::Arc;

use super::errno::{Errno, Result};
use super::mm::{Mm, read_user, write_user};

/// `copy_to_user`.
///
/// # Errors
/// -EFAULT if there is no such memory; a part may have been copied.
#[track_caller]
pub fn copy_to_user(mm: &Arc<Mm>, to: u64, len: usize, from: impl Fn(usize) -> u8) -> Result {
    mm.mmap_lock().might_lock_read();
    for (address, at) in (to..).zip(0..len) {
        write_user(mm, address, from(at)).map_err(|_| Errno::EFAULT)?;
    }
    Ok(())
}

/// `copy_from_user`.
///
/// # Errors
/// -EFAULT if there is no such memory; a part may have been copied.
#[track_caller]
pub fn copy_from_user(mm: &Arc<Mm>, from: u64, len: usize, to: impl Fn(usize, u8)) -> Result {
    mm.mmap_lock().might_lock_read();
    for (address, at) in (from..).zip(0..len) {
        to(at, read_user(mm, address).map_err(|_| Errno::EFAULT)?);
    }
    Ok(())
}
