// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `struct file` and the table of a process's open files.
//!
//! A file counts its references itself; `fput` of the last one queues the release for the end of the system call
//! ([`super::task`]). So no driver's release ever runs under a lock of whoever put the file.
//!
//! Kernel counterpart: `fs/file_table.c`, `fs/file.c`. The table's own spinlock is not modelled.

use core::any::Any;
use core::fmt;
use std::sync::{Arc, OnceLock};

use super::cell::Kref;
use super::core_state::KernelCore;
use super::errno::{Errno, Result};
use super::live::Live;
use super::mm::{AddressSpace, VmArea};
use super::poll::{PollEvents, PollTable};
use super::task::task_work_add;

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fd(pub i32);

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// `struct file_operations`, and the private data of the file they work on.
pub trait FileOps: Any + Send + Sync {
    /// Maps the file. The caller holds the write side of `mmap_lock`.
    ///
    /// # Errors
    /// -ENODEV unless the file can be mapped.
    fn mmap(&self, _file: &Arc<File>, _vma: &mut VmArea) -> Result {
        Err(Errno::ENODEV)
    }

    /// Which events are there now; registers with the wait queues. A file without this is always ready.
    fn poll(&self, _file: &Arc<File>, _table: &mut PollTable) -> PollEvents {
        PollEvents::IN | PollEvents::OUT
    }

    /// The offset of the end of the file.
    ///
    /// # Errors
    /// -ESPIPE unless the file has one.
    fn llseek_end(&self) -> Result<u64> {
        Err(Errno::ESPIPE)
    }

    /// The last reference is gone.
    fn release(&self, _file: &Arc<File>) {}

    /// And so is the directory entry (runs after [`release`](Self::release)).
    fn d_release(&self) {}

    /// Cuts circles of references in a world that was left in the middle; takes no lock.
    fn abandon(&self) {}
}

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

impl FileMode {
    /// `O_RDONLY`.
    pub const READ: Self = FileMode { read: true, write: false };
    /// `O_RDWR`.
    pub const READ_WRITE: Self = FileMode { read: true, write: true };
}

/// `struct file`.
pub struct File {
    ops: Box<dyn FileOps>,
    /// What it was opened for.
    pub mode: FileMode,
    count: Kref,
    mapping: OnceLock<Arc<AddressSpace>>,
    live: Live,
}

impl File {
    /// An open file with one reference.
    pub(crate) fn new(core: &KernelCore, mode: FileMode, ops: impl FileOps) -> Arc<Self> {
        Arc::new(File {
            ops: Box::new(ops),
            mode,
            count: Kref::new(),
            mapping: OnceLock::new(),
            live: core.born("file"),
        })
    }

    pub(crate) fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// The private data, if the file is of this kind.
    #[must_use]
    pub fn private<T: FileOps>(&self) -> Option<&T> {
        (self.ops() as &dyn Any).downcast_ref()
    }

    /// The mappings of this file (`f_mapping`).
    #[must_use]
    pub fn mapping(&self) -> &Arc<AddressSpace> {
        self.mapping.get_or_init(Arc::default)
    }

    /// Lets this file share the mappings of another object (a device); only before it is used.
    pub(crate) fn set_mapping(&self, mapping: Arc<AddressSpace>) {
        let set = self.mapping.set(mapping);
        debug_assert!(set.is_ok(), "the file has been mapped already");
    }

    /// How many references there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.count()
    }

    pub(crate) fn abandon(&self) {
        self.ops.abandon();
    }
}

/// `get_file`.
#[track_caller]
pub fn get_file(file: &Arc<File>) -> Arc<File> {
    file.count.get();
    file.clone()
}

/// `fput`: drops a reference; the last one queues the release.
pub fn fput(file: Arc<File>) {
    if file.count.put() {
        task_work_add(move || ____fput(&file));
    }
}

fn ____fput(file: &Arc<File>) {
    file.ops.release(file);
    file.ops.d_release();
    file.live.freed();
}

const FIRST_FD: usize = 3;
const MAX_FDS: usize = 1 << 16;

/// The open files of a process.
#[derive(Default)]
pub struct FileTable(parking_lot::Mutex<Vec<Option<Arc<File>>>>);

impl FileTable {
    /// `fd_install` in the lowest free slot; takes over the reference.
    ///
    /// # Errors
    /// -EMFILE if the table is full; the reference is then put.
    pub fn install(&self, file: Arc<File>) -> Result<Fd> {
        let mut table = self.0.lock();
        let free = table.iter().position(Option::is_none).unwrap_or(table.len());
        if free >= MAX_FDS {
            drop(table);
            fput(file);
            return Err(Errno::EMFILE);
        }
        if free == table.len() {
            table.push(None);
        }
        table[free] = Some(file);
        let number = i32::try_from(free + FIRST_FD).map_err(|_| Errno::EMFILE)?;
        Ok(Fd(number))
    }

    /// `fget`: the file, with a reference of its own.
    ///
    /// # Errors
    /// -EBADF if it is not open.
    pub fn fget(&self, fd: Fd) -> Result<Arc<File>> {
        let table = self.0.lock();
        let file = slot(fd).and_then(|slot| table.get(slot)).and_then(Option::as_ref);
        file.map(get_file).ok_or(Errno::EBADF)
    }

    /// `close`.
    ///
    /// # Errors
    /// -EBADF if it is not open.
    pub fn close(&self, fd: Fd) -> Result {
        let file = slot(fd).and_then(|slot| self.0.lock().get_mut(slot).and_then(Option::take));
        fput(file.ok_or(Errno::EBADF)?);
        Ok(())
    }

    /// `exit_files`.
    pub(crate) fn close_all(&self) {
        let files = core::mem::take(&mut *self.0.lock());
        files.into_iter().flatten().for_each(fput);
    }

    /// `dup_fd`, for fork.
    pub(crate) fn dup(&self) -> Self {
        let table = self.0.lock();
        let copy = table.iter().map(|file| file.as_ref().map(get_file)).collect();
        FileTable(parking_lot::Mutex::new(copy))
    }
}

fn slot(fd: Fd) -> Option<usize> {
    usize::try_from(fd.0).ok()?.checked_sub(FIRST_FD)
}

super::opaque_debug!(File, FileTable);

#[cfg(test)]
mod tests {
    use super::{Errno, Fd, File, FileMode, FileOps, FileTable, fput};
    use crate::kernel::KernelCore;
    use crate::kernel::task::syscall;
    use crate::policy::{LockingPolicy, ShmemLocking};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Clone, Default)]
    struct Probe(Arc<AtomicUsize>);

    impl FileOps for Probe {
        fn release(&self, _file: &Arc<File>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_reference_is_released_once_and_at_the_end_of_the_system_call() {
        let core = KernelCore::new(LockingPolicy::P2, ShmemLocking::C);
        let probe = Probe::default();
        let table = FileTable::default();
        let fd = table.install(File::new(&core, FileMode::READ, probe.clone())).unwrap();
        let second = table.fget(fd).unwrap();
        table.close(fd).unwrap();
        assert_eq!(table.close(fd).unwrap_err(), Errno::EBADF);
        syscall(|| {
            fput(second);
            assert_eq!(probe.0.load(Ordering::Relaxed), 0, "deferred");
        });
        assert_eq!(probe.0.load(Ordering::Relaxed), 1);
        assert!(core.live().all().is_empty());
    }

    #[test]
    fn descriptors_start_above_the_standard_streams_and_are_reused() {
        let core = KernelCore::new(LockingPolicy::P2, ShmemLocking::C);
        let table = FileTable::default();
        let open = || table.install(File::new(&core, FileMode::READ, Probe::default())).unwrap();
        let (first, second) = (open(), open());
        assert_eq!((first, second), (Fd(3), Fd(4)));
        syscall(|| table.close(first).unwrap());
        assert_eq!(open(), first);
        assert_eq!(table.fget(Fd(-1)).unwrap_err(), Errno::EBADF);
        syscall(|| table.close_all());
        assert!(core.live().all().is_empty());
    }
}
