// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The GPU: what the driver's register accesses reach. Nothing here is the kernel's; it takes no kernel lock.
//!
//! An address space translates through the page table that the driver last told it to use.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::dma_buf::SgTable;
use crate::kernel::shmem::PAGE_SIZE;

/// Bytes in a page, for addresses.
pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// How many address spaces the GPU can use at one time.
pub const ADDRESS_SPACES: usize = 8;

/// One page of a buffer: the table that lists it and its place there.
#[derive(Clone)]
pub(super) struct GpuPte {
    pub(super) table: Arc<SgTable>,
    pub(super) index: usize,
}

/// A page table in the memory that CPU and GPU share: GPU page number → page.
#[derive(Default)]
pub(super) struct GpuPageTable(RwLock<BTreeMap<u64, GpuPte>>);

impl GpuPageTable {
    /// Enters the pages of a table from this page number on.
    pub(super) fn map(&self, first: u64, table: &Arc<SgTable>, indices: core::ops::Range<usize>) {
        let mut pages = self.0.write();
        for (at, index) in (first..).zip(indices) {
            pages.insert(at, GpuPte { table: table.clone(), index });
        }
    }

    /// Removes everything in this range.
    pub(super) fn unmap(&self, range: core::ops::Range<u64>) {
        self.0.write().retain(|page, _| !range.contains(page));
    }
}

/// A command to the MMU of one address space.
pub(super) enum AsCommand {
    /// `AS_COMMAND_UPDATE` after the translation table register was written; `None` switches it off.
    Update(Option<Arc<GpuPageTable>>),
    /// `AS_COMMAND_FLUSH_PT` or `FLUSH_MEM`: forgets what it knows of these addresses.
    Flush,
}

#[derive(Default)]
struct AddressSpace {
    table: Option<Arc<GpuPageTable>>,
}

#[derive(Default)]
struct State {
    spaces: [AddressSpace; ADDRESS_SPACES],
}

/// A GPU.
#[derive(Default)]
pub struct Hw {
    state: Mutex<State>,
}

impl Hw {
    /// Writes the command register of an address space.
    pub(super) fn as_command(&self, space: usize, command: AsCommand) {
        let mut state = self.state.lock();
        match command {
            AsCommand::Update(table) => state.spaces[space].table = table,
            AsCommand::Flush => {}
        }
    }
}

crate::kernel::opaque_debug!(Hw);
