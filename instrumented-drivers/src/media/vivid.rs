// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `vivid`: a camera without hardware. Its thread fills the buffers with a test pattern, frame after frame.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&dev->mutex` | mutex | the device; it is the queue's lock too |
//! | `&dev->slock` | spinlock | the list of buffers that wait for a frame |
//!
//! The thread only tries the mutex: who stops the stream holds it and waits for the thread to end. It fills the buffer
//! in its own context and gives it back as a device would, in a softirq.
//!
//! * `&dev->mutex` → `&dev->slock`: a buffer is queued, or the stream ends
//!
//! # Time
//!
//! There is no clock, and nothing sleeps for a while. A frame is due when the stream starts, when a program asks for
//! one ([`vivid_tick`]), and when somebody goes to sleep until a buffer is filled: then time passes until the next
//! frame that finds a buffer. A frame that is due and finds no buffer is dropped, as a camera drops it.
//!
//! Kernel counterpart: `drivers/media/test-drivers/vivid/` (capture only). Differs: the real thread calls
//! `vb2_buffer_done` in its own context; which allocator is used is a choice when the device is made.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread;

use lockdep::LockClass;
use parking_lot::{Condvar, Mutex as Gate};

use super::videobuf2::core::MAX_BUFFERS;
use super::videobuf2::streaming::vb2_buffer_done;
use super::videobuf2::v4l2::{VideoDevice, VideoFile};
use super::videobuf2::{BufferState, Vb2Buffer, Vb2MemOps, Vb2Ops, Vb2Queue};
use crate::kernel::KernelCore;
use crate::kernel::cell::KCell;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::irq;
use crate::kernel::locking::{Mutex, SpinLock, sleep_class, spin_class, watched};

static DEV_MUTEX: LockClass = sleep_class("&dev->mutex");
static SLOCK: LockClass = spin_class("&dev->slock");

/// The name of the capture thread, as long as a task's name can be.
const THREAD: &str = "vivid-vid-c";

/// A picture's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// How the pixels lie in memory.
    pub pixels: Pixels,
}

/// How pixels lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// `YUYV`: one plane, two bytes a pixel.
    Yuyv,
    /// `NM16`: two planes, brightness and colour, a byte a pixel each.
    Nv16m,
}

impl Format {
    /// What the camera starts with.
    pub const DEFAULT: Self = Format { width: 160, height: 90, pixels: Pixels::Yuyv };

    /// The sizes of its planes.
    #[must_use]
    pub fn sizes(&self) -> Vec<usize> {
        let area = self.width * self.height;
        match self.pixels {
            Pixels::Yuyv => vec![2 * area],
            Pixels::Nv16m => vec![area, area],
        }
    }
}

/// The byte of a frame at an offset of a plane.
#[must_use]
pub const fn test_pattern(sequence: u32, plane: usize, offset: usize) -> u8 {
    // Different for each frame and plane, with a period that fits no page.
    ((offset % 251) as u8).wrapping_add((sequence as u8).wrapping_mul(59)).wrapping_add(plane as u8 * 101)
}

/// What the capture thread waits for.
#[derive(Default)]
struct Clock {
    /// Frames that are due.
    due: usize,
    /// Somebody sleeps until a buffer is filled.
    sleeper: bool,
    /// Buffers that wait for a frame; changes under `slock`.
    buffers: usize,
    /// `kthread_should_stop`.
    stop: bool,
    /// The thread is at a frame.
    busy: bool,
    /// Frames since the stream started, dropped ones too.
    sequence: u32,
    /// Filled buffers since the stream started.
    captured: usize,
}

/// `struct vivid_dev`, the part that captures.
pub struct VividDev {
    core: Arc<KernelCore>,
    mutex: Arc<Mutex>,
    slock: SpinLock,
    /// Under `slock`.
    vid_cap_active: KCell<VecDeque<Arc<Vb2Buffer>>>,
    queue: Vb2Queue,
    /// Under `mutex`.
    format: KCell<Format>,
    /// Under `mutex`.
    kthread_vid_cap: KCell<Option<lockdep::thread::JoinHandle<()>>>,
    clock: Gate<Clock>,
    ticked: Condvar,
    myself: Weak<Self>,
}

impl VividDev {
    /// `vivid_create_instance`, with this allocator.
    #[must_use]
    pub fn create_instance(core: &Arc<KernelCore>, mem_ops: &'static dyn Vb2MemOps) -> Arc<Self> {
        let mutex = Arc::new(Mutex::new(&DEV_MUTEX));
        Arc::new_cyclic(|myself: &Weak<Self>| VividDev {
            core: core.clone(),
            mutex: mutex.clone(),
            slock: SpinLock::new(&SLOCK),
            vid_cap_active: KCell::new("a camera's waiting buffers", VecDeque::new()),
            queue: Vb2Queue::new(core, myself.clone(), mem_ops, mutex),
            format: KCell::new("a camera's format", Format::DEFAULT),
            kthread_vid_cap: KCell::new("a camera's thread", None),
            clock: Gate::default(),
            ticked: Condvar::new(),
            myself: myself.clone(),
        })
    }

    /// How many buffers were filled since the stream started.
    #[must_use]
    pub fn captured(&self) -> usize {
        self.clock.lock().captured
    }

    /// Waits until so many buffers were filled since the stream started. For tests that do not want to dequeue them;
    /// does not let time pass.
    pub fn wait_captured(&self, count: usize) {
        let mut clock = self.clock.lock();
        while clock.captured < count && !clock.stop {
            self.ticked.wait(&mut clock);
        }
    }

    /// Waits until no frame is due; does not let time pass.
    pub fn wait_idle(&self) {
        let mut clock = self.clock.lock();
        while (clock.due > 0 || clock.busy) && !clock.stop {
            self.ticked.wait(&mut clock);
        }
    }

    /// Waits until somebody sleeps until a buffer is filled, and no frame can be taken.
    pub fn wait_sleeper(&self) {
        let mut clock = self.clock.lock();
        while !clock.sleeper && !clock.stop {
            self.ticked.wait(&mut clock);
        }
    }

    /// Ends the thread of a world that was left in the middle.
    pub(crate) fn abandon(&self) {
        self.with_clock(|clock| clock.stop = true);
    }

    fn with_clock(&self, f: impl FnOnce(&mut Clock)) {
        f(&mut self.clock.lock());
        self.ticked.notify_all();
    }

    /// Sleeps until a frame is due; false if the thread shall end instead.
    fn wait_for_frame(&self) -> bool {
        let mut clock = self.clock.lock();
        clock.busy = false;
        self.ticked.notify_all();
        while !clock.stop && clock.due == 0 && !(clock.sleeper && clock.buffers > 0) {
            self.ticked.wait(&mut clock);
        }
        if clock.due > 0 {
            clock.due -= 1;
        } else {
            clock.sleeper = false;
        }
        clock.busy = true;
        !clock.stop
    }
}

impl VideoDevice for VividDev {
    fn queue(&self) -> &Vb2Queue {
        &self.queue
    }
}

/// One more frame is due.
pub fn vivid_tick(dev: &VividDev) {
    dev.with_clock(|clock| clock.due += 1);
}

/// `VIDIOC_S_FMT`.
///
/// # Errors
/// -EBUSY while there are buffers, -EINVAL for an empty picture, -EINTR (injected).
pub fn vivid_s_fmt(file: &VideoFile<VividDev>, format: Format) -> Result {
    file.ioctl(|dev| {
        if dev.queue.num_buffers() > 0 {
            return Err(Errno::EBUSY);
        }
        if format.width == 0 || format.height == 0 {
            return Err(Errno::EINVAL);
        }
        dev.format.set(format);
        Ok(())
    })
}

impl Vb2Ops for VividDev {
    fn queue_setup(&self, count: &mut usize, sizes: &mut Vec<usize>) -> Result {
        vid_cap_queue_setup(self, count, sizes)
    }

    fn buf_prepare(&self, vb: &Vb2Buffer) -> Result {
        vid_cap_buf_prepare(self, vb)
    }

    fn buf_queue(&self, vb: &Arc<Vb2Buffer>) {
        vid_cap_buf_queue(self, vb);
    }

    fn start_streaming(&self, _count: usize) -> Result {
        vid_cap_start_streaming(self)
    }

    fn stop_streaming(&self) {
        vivid_stop_generating_vid_cap(self);
    }

    fn sleeper(&self, still_waits: &dyn Fn() -> bool) {
        self.with_clock(|clock| clock.sleeper |= still_waits());
    }
}

fn vid_cap_queue_setup(dev: &VividDev, count: &mut usize, sizes: &mut Vec<usize>) -> Result {
    let needed = dev.format.get().sizes();
    if sizes.is_empty() {
        *sizes = needed;
    } else if sizes.len() != needed.len() || sizes.iter().zip(&needed).any(|(given, needed)| given < needed) {
        return Err(Errno::EINVAL);
    }
    *count = (*count).min(MAX_BUFFERS);
    Ok(())
}

fn vid_cap_buf_prepare(dev: &VividDev, vb: &Vb2Buffer) -> Result {
    for (plane, needed) in dev.format.get().sizes().into_iter().enumerate() {
        if vb.plane_size(plane) < needed {
            return Err(Errno::EINVAL);
        }
        vb.set_plane_payload(plane, needed);
    }
    Ok(())
}

fn vid_cap_buf_queue(dev: &VividDev, vb: &Arc<Vb2Buffer>) {
    dev.slock.lock();
    dev.vid_cap_active.with(|active| active.push_back(vb.clone()));
    dev.with_clock(|clock| clock.buffers += 1);
    dev.slock.unlock();
}

fn vid_cap_start_streaming(dev: &VividDev) -> Result {
    let started = vivid_start_generating_vid_cap(dev);
    if started.is_err() {
        give_back_all(dev, BufferState::Queued);
    }
    started
}

fn vivid_start_generating_vid_cap(dev: &VividDev) -> Result {
    let myself = dev.myself.upgrade().ok_or(Errno::ENODEV)?;
    // The first frame is due at once.
    dev.with_clock(|clock| {
        *clock = Clock { due: 1, buffers: clock.buffers, ..Clock::default() };
    });
    let builder = thread::Builder::new().name(THREAD.to_owned());
    let thread = lockdep::thread::spawn_with(builder, move || watched(|| vivid_thread_vid_cap(&myself)));
    dev.kthread_vid_cap.set(Some(thread.map_err(|_| Errno::ENOMEM)?));
    Ok(())
}

/// The caller holds the mutex, which the thread therefore must not wait for.
fn vivid_stop_generating_vid_cap(dev: &VividDev) {
    give_back_all(dev, BufferState::Error);
    dev.with_clock(|clock| clock.stop = true);
    if let Some(thread) = dev.kthread_vid_cap.replace(None)
        && let Err(panic) = thread.join()
    {
        std::panic::resume_unwind(panic);
    }
}

fn give_back_all(dev: &VividDev, state: BufferState) {
    while let Some(vb) = next_active(dev) {
        vb2_buffer_done(&dev.queue, &vb, state);
    }
}

/// The buffer that has waited longest. What the kernel does in the middle of its functions.
#[track_caller]
fn next_active(dev: &VividDev) -> Option<Arc<Vb2Buffer>> {
    dev.slock.lock();
    let vb = dev.vid_cap_active.with(VecDeque::pop_front);
    if vb.is_some() {
        dev.clock.lock().buffers -= 1;
    }
    dev.slock.unlock();
    vb
}

fn vivid_thread_vid_cap(dev: &VividDev) {
    while dev.wait_for_frame() {
        while !dev.mutex.trylock() {
            if dev.clock.lock().stop {
                return;
            }
            thread::yield_now();
        }
        vivid_thread_vid_cap_tick(dev);
        dev.mutex.unlock();
    }
}

fn vivid_thread_vid_cap_tick(dev: &VividDev) {
    let sequence = {
        let mut clock = dev.clock.lock();
        clock.sequence += 1;
        clock.sequence - 1
    };
    let Some(vb) = next_active(dev) else { return };
    vb.set_sequence(sequence);
    let state = if vivid_fillbuff(dev, &vb, sequence) { BufferState::Done } else { BufferState::Error };
    // Under the clock, so that one frame serves everybody who sleeps now, and whoever comes too late for it asks for
    // the next one.
    dev.with_clock(|clock| {
        clock.sleeper = false;
        clock.captured += 1;
        irq::softirq(|| vb2_buffer_done(&dev.queue, &vb, state));
    });
}

/// Draws the frame; a device writes by itself where the allocator is one for devices. False if the buffer has no
/// memory.
fn vivid_fillbuff(dev: &VividDev, vb: &Vb2Buffer, sequence: u32) -> bool {
    dev.format.get().sizes().into_iter().enumerate().all(|(plane, size)| {
        let Some(memory) = vb.plane_memory(plane) else { return false };
        if let Some(table) = memory.cookie() {
            (0..size).for_each(|at| table.write(at, test_pattern(sequence, plane, at)));
        } else if let Some(map) = memory.vaddr() {
            (0..size).for_each(|at| map.write(at, test_pattern(sequence, plane, at)));
        } else {
            return false;
        }
        true
    })
}

impl VividDev {
    /// The kernel it is in.
    #[must_use]
    pub fn core(&self) -> &Arc<KernelCore> {
        &self.core
    }
}

crate::kernel::opaque_debug!(VividDev);
