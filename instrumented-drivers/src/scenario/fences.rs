// SPDX-License-Identifier: GPL-2.0-only
//! Fences on buffers as files, as poll sees them, and as the kernel's own tests use them.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::world::{Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::fence::{
    DmaFence, dma_fence_add_callback, dma_fence_context_alloc, dma_fence_remove_callback,
    dma_fence_set_error, dma_fence_signal, dma_fence_wait,
};
use crate::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW, DMA_BUF_SYNC_WRITE};
use crate::dma_buf::resv::{
    DmaResv, DmaResvUsage, dma_resv_add_fence, dma_resv_fences, dma_resv_fini, dma_resv_get_singleton,
    dma_resv_lock, dma_resv_reserve_fences, dma_resv_test_signaled, dma_resv_unlock, dma_resv_wait,
};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::user::Driver;
use lockdep::LockClass;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F1",
        name: "dmabuf_sync_file@export-basic",
        about: "the fences of a buffer as a file: none, a reader's, a writer's, for readers and for writers",
        expects: Expects::Clean,
        program: export_basic,
    },
    Scenario {
        id: "F2",
        name: "dmabuf_sync_file@export-multiwait",
        about: "a file of several fences is ready after the last of them; later ones are not in it",
        expects: Expects::Clean,
        program: export_multiwait,
    },
    Scenario {
        id: "F3",
        name: "dmabuf_sync_file@import-basic",
        about: "fences from files make another buffer busy, for writers or for everybody",
        expects: Expects::Clean,
        program: import_basic,
    },
    Scenario {
        id: "F4",
        name: "dmabuf@all-tests",
        about: "the kernel's tests of fences and reservations: each usage is added, listed, waited for",
        expects: Expects::Clean,
        program: |world| world.kernel.kthread(|core| selftests(core)),
    },
    Scenario {
        id: "F7",
        name: "vc4_dmabuf_poll@poll-write-waits-until-write-done",
        about: "poll for reading sleeps until the writer is done, poll for writing until everybody is",
        expects: Expects::Clean,
        program: poll_waits,
    },
];

/// A file of the buffer's fences is ready.
fn expect_signalled(world: &World, what: &str, sync_file: Fd, expected: bool) -> Outcome {
    let ready = world.init.poll(sync_file, PollEvents::IN)? == PollEvents::IN;
    expect_eq(what, ready, expected)
}

/// The files for a reader and for a writer are ready, or not.
fn expect_exports(world: &World, buffer: Fd, when: &str, reader: bool, writer: bool) -> Outcome {
    for (rw, expected) in [(DMA_BUF_SYNC_READ, reader), (DMA_BUF_SYNC_WRITE, writer)] {
        let file = world.init.export_sync_file(buffer, rw)?;
        expect_signalled(world, when, file, expected)?;
        world.init.close(file)?;
    }
    Ok(())
}

fn export_basic(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    expect_exports(world, buffer, "without a fence", true, true)?;
    for (write, readable) in [(false, true), (true, false)] {
        let fence = init.vgem_fence_attach(vgem, handle, write)?;
        expect_exports(world, buffer, "while it is used", readable, false)?;
        init.vgem_fence_signal(vgem, fence)?;
        expect_exports(world, buffer, "afterwards", true, true)?;
    }
    expect_error("no direction", init.export_sync_file(buffer, 0), Errno::EINVAL)?;
    [buffer, vgem].into_iter().try_for_each(|fd| Ok(init.close(fd)?))
}

fn export_multiwait(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let reader = || init.vgem_fence_attach(vgem, handle, false);
    let (first, second) = (reader()?, reader()?);
    let file = init.export_sync_file(buffer, DMA_BUF_SYNC_RW)?;
    let late = reader()?;
    init.vgem_fence_signal(vgem, second)?;
    expect_signalled(world, "while one of two still reads", file, false)?;
    init.vgem_fence_signal(vgem, first)?;
    expect_signalled(world, "while one reads that came later", file, true)?;
    init.vgem_fence_signal(vgem, late)?;
    [file, buffer, vgem].into_iter().try_for_each(|fd| Ok(init.close(fd)?))
}

fn import_basic(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let (vkms, _, other) = world.buffer_of(Driver::Vkms)?;
    for (rw, readable) in [(DMA_BUF_SYNC_READ, true), (DMA_BUF_SYNC_WRITE, false), (DMA_BUF_SYNC_RW, false)] {
        // Two fences in one file: it is unpacked on import.
        let fences = [false, false].map(|write| init.vgem_fence_attach(vgem, handle, write));
        let file = init.export_sync_file(buffer, DMA_BUF_SYNC_WRITE)?;
        init.import_sync_file(other, rw, file)?;
        for fence in fences {
            expect_exports(world, other, "while it is imported", readable, false)?;
            let ready = if readable { PollEvents::IN } else { PollEvents::NONE };
            expect_eq("poll", init.poll(other, PollEvents::IN | PollEvents::OUT)?, ready)?;
            init.vgem_fence_signal(vgem, fence?)?;
        }
        expect_exports(world, other, "afterwards", true, true)?;
        init.close(file)?;
    }
    expect_error("no sync file", init.import_sync_file(other, DMA_BUF_SYNC_READ, buffer), Errno::EINVAL)?;
    [buffer, other, vkms, vgem].into_iter().try_for_each(|fd| Ok(init.close(fd)?))
}

fn poll_waits(world: &World) -> Outcome {
    let init = &world.init;
    for (write, events) in [(true, PollEvents::IN), (true, PollEvents::OUT), (false, PollEvents::OUT)] {
        let (vgem, handle, buffer) = world.vgem_buffer()?;
        let fence = init.vgem_fence_attach(vgem, handle, write)?;
        expect_eq("while it is used", init.poll(buffer, events)?, PollEvents::NONE)?;
        let waiter = init.spawn(move |thread| thread.poll_with(buffer, events, PollTimeout::Forever))?;
        init.vgem_fence_signal(vgem, fence)?;
        expect_eq("what the waiter was woken with", waiter.wait()?, events)?;
        [buffer, vgem].into_iter().try_for_each(|fd| init.close(fd))?;
    }
    Ok(())
}

static LOCK: LockClass = spin_class("&f->lock");

/// `mock_fence`.
fn mock_fence(core: &KernelCore) -> Arc<DmaFence> {
    DmaFence::new(core, Arc::new(SpinLock::new(&LOCK)), dma_fence_context_alloc(), 1)
}

fn selftests(core: &KernelCore) -> Outcome {
    fence(core)?;
    unwrap(core)?;
    use DmaResvUsage::{Bookkeep, Kernel, Read, Write};
    [Kernel, Write, Read, Bookkeep].into_iter().try_for_each(|usage| {
        let resv = DmaResv::new();
        let result = reservation(core, &resv, usage);
        dma_resv_fini(&resv);
        result
    })
}

/// `dma_fence`: signalled once, callbacks run once or are taken back, errors are kept.
fn fence(core: &KernelCore) -> Outcome {
    let fence = mock_fence(core);
    let seen = Arc::new(core::sync::atomic::AtomicUsize::new(0));
    let count = || {
        let seen = seen.clone();
        Box::new(move || {
            seen.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        })
    };
    dma_fence_add_callback(&fence, count())?;
    let taken_back = dma_fence_add_callback(&fence, count())?;
    expect_eq("it had not run", dma_fence_remove_callback(&fence, taken_back), true)?;
    dma_fence_set_error(&fence, Errno::EIO);
    dma_fence_signal(&fence)?;
    expect_eq("callbacks that ran", seen.load(core::sync::atomic::Ordering::Relaxed), 1)?;
    expect_eq("its error", fence.error(), Some(Errno::EIO))?;
    expect_error("a second signal", dma_fence_signal(&fence), Errno::EINVAL)?;
    expect_error("a late callback", dma_fence_add_callback(&fence, count()), Errno::ENOENT)?;
    Ok(dma_fence_wait(&fence, false)?)
}

/// `dma_fence_unwrap`: the fences in an array, and in an array of arrays.
fn unwrap(core: &KernelCore) -> Outcome {
    let parts = [mock_fence(core), mock_fence(core), mock_fence(core)];
    let [one, two, three] = parts.clone();
    let array = DmaFence::array(core, vec![DmaFence::array(core, vec![one, two])?, three])?;
    let inside = array.unwrap_all();
    expect_eq("fences inside", inside.len(), parts.len())?;
    for part in &parts {
        expect_eq("before the last part", array.is_signaled(), false)?;
        dma_fence_signal(part)?;
    }
    expect_eq("after it", array.is_signaled(), true)
}

/// `dma_resv`: sanitycheck, signaling, for_each, for_each_unlocked, get_fences for one usage.
fn reservation(core: &KernelCore, resv: &DmaResv, usage: DmaResvUsage) -> Outcome {
    let fence = mock_fence(core);
    dma_resv_lock(resv);
    let added = dma_resv_reserve_fences(resv, 1).map(|()| dma_resv_add_fence(resv, &fence, usage));
    let listed = dma_resv_fences(resv, usage);
    let smaller = dma_resv_fences(resv, DmaResvUsage::Kernel).len();
    dma_resv_unlock(resv);
    let checked: Result<()> = added;
    let result = checked.map_err(Into::into).and_then(|()| {
        expect_eq("listed under the lock", listed.len(), 1)?;
        expect_eq("for the kernel alone", smaller, usize::from(usage == DmaResvUsage::Kernel))?;
        expect_eq("listed without", resv.unsignaled(usage).len(), 1)?;
        expect_eq("signalled", dma_resv_test_signaled(resv, usage), false)?;
        let whole = dma_resv_get_singleton(core, resv, usage)?;
        expect_eq("as one", whole.is_some_and(|whole| Arc::ptr_eq(&whole, &fence)), true)
    });
    dma_fence_signal(&fence)?;
    result?;
    expect_eq("signalled afterwards", dma_resv_test_signaled(resv, usage), true)?;
    Ok(dma_resv_wait(resv, usage, true)?)
}
