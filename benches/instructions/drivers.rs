// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drivers do: the kernel's locks, and a page fault. There is no bare twin of these; they are compared with
//! themselves in the other mode, whose count stands here.
//!
//! The locks under a context are given back in the order in which they were taken, as drivers do it.

use instrumented_drivers::dma_buf::resv::RESERVATION_WW_CLASS;
use instrumented_drivers::kernel::errno::Result;
use instrumented_drivers::kernel::locking::{
    Mutex, RwSem, SpinLock, WwAcquireCtx, WwMutex, sleep_class, spin_class,
};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::{LockClass, Validator};

use super::traced::mark;

/// One thing that drivers do.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Does it so many times between two marks.
    pub(crate) run: fn(usize),
    /// What it costs with the feature off, as counted with rustc 1.95 for x86-64.
    pub(crate) off: u32,
    /// What it costs more with the feature on, counted in the same way.
    pub(crate) more: u32,
}

impl Row {
    /// What it may cost in this mode, at least and at most. Off: a twentieth to spare, because the C library moves memory
    /// differently on each processor; outside of that the model has changed, and both numbers have to be counted again.
    /// On: a quarter of what is ours to spare.
    pub(crate) fn bounds(&self) -> [f64; 2] {
        let [off, more] = [self.off, self.more].map(f64::from);
        if lockdep::ENABLED { [off, off + 1.25 * more] } else { [0.95 * off, 1.05 * off] }
    }
}

pub(crate) const ROWS: [Row; 7] = [
    Row { name: "kernel mutex", run: mutex, off: 104, more: 90 },
    Row { name: "kernel spinlock", run: spinlock, off: 104, more: 90 },
    Row { name: "kernel rw_semaphore, read", run: rwsem, off: 140, more: 104 },
    Row { name: "kernel ww_mutex", run: ww_mutex, off: 280, more: 87 },
    Row { name: "kernel ww_mutex, 8 under a context", run: ww_mutexes, off: 3603, more: 3766 },
    Row { name: "page fault, vgem", run: |times| fault(Driver::Vgem, times), off: 1749, more: 269 },
    Row { name: "page fault, panfrost", run: |times| fault(Driver::Panfrost, times), off: 1749, more: 269 },
];

/// The most that is asked for: there are so many pages to be touched.
pub(crate) const MOST: usize = 40;

/// So many times, after a few to learn from.
fn known(times: usize, f: impl Fn()) {
    (0..3).for_each(|_| f());
    mark();
    (0..times).for_each(|_| f());
    mark();
}

fn mutex(times: usize) {
    static CLASS: LockClass = sleep_class("a mutex");
    let lock = Mutex::new(&CLASS);
    known(times, || {
        lock.lock();
        lock.unlock();
    });
}

fn spinlock(times: usize) {
    static CLASS: LockClass = spin_class("a spinlock");
    let lock = SpinLock::new(&CLASS);
    known(times, || {
        lock.lock();
        lock.unlock();
    });
}

fn rwsem(times: usize) {
    static CLASS: LockClass = sleep_class("an rw_semaphore");
    let lock = RwSem::new(&CLASS);
    known(times, || {
        lock.down_read();
        lock.up_read();
    });
}

fn ww_mutex(times: usize) {
    let lock = WwMutex::new(&RESERVATION_WW_CLASS);
    known(times, || {
        lock.lock(None).expect("nobody has it");
        lock.unlock();
    });
}

fn ww_mutexes(times: usize) {
    let locks: [WwMutex; 8] = std::array::from_fn(|_| WwMutex::new(&RESERVATION_WW_CLASS));
    known(times, || {
        let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
        locks.iter().for_each(|lock| lock.lock(Some(&ctx)).expect("nobody else wants it"));
        ctx.done();
        locks.iter().for_each(WwMutex::unlock);
        ctx.fini();
    });
}

/// Writes to so many pages of a mapping for the first time.
fn fault(driver: Driver, times: usize) {
    const PAGE: u64 = 4096;
    const LEN: u64 = MOST as u64 * PAGE;
    let touch = |process: &Process, address: u64, pages: usize| {
        for page in 0..pages as u64 {
            process.write_byte(address + page * PAGE, 1).expect("it is mapped");
        }
    };
    let validator = Validator::new();
    let run = || -> Result {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("bench");
        let drm = process.open(driver)?;
        let handle = process.driver_create_buffer(drm, LEN as u32)?;
        let offset = process.driver_map_offset(drm, handle)?;
        let [learned, address] =
            [0; 2].map(|_: u64| process.mmap(drm, LEN, offset, MapFlags::SHARED).expect("it can be mapped"));
        touch(&process, learned, MOST);
        mark();
        touch(&process, address, times);
        mark();
        process.exit();
        Ok(())
    };
    validator.scope(run).expect("every call succeeds");
    assert!(validator.reports().is_empty());
}
