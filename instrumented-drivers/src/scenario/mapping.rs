// SPDX-License-Identifier: GPL-2.0-only
//! IGT `prime_mmap`: a dma-buf is mapped, unmapped, forked, outlives its handle, and is mapped wrongly.
#![forbid(unsafe_code)]

use super::world::{BYTES, Failure, Handle, Outcome, PAGE, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE};
use crate::drm::i915::I915ExecObject;
use crate::drm::prime::DRM_RDWR;
use crate::kernel::errno::Errno;
use crate::kernel::fault::{Plan, inject};
use crate::kernel::file::Fd;
use crate::kernel::mm::MapFlags;
use crate::user::{Driver, Process};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "M1",
        name: "prime_mmap@test_correct",
        about: "fill through the DRM file, read through the dma-buf, and the other way round",
        expects: Expects::MapsDmaBuf,
        program: correct,
    },
    Scenario {
        id: "M2",
        name: "prime_mmap@test_map_unmap",
        about: "map, read, unmap, map again; at the end nobody uses the pages",
        expects: Expects::MapsDmaBuf,
        program: map_unmap,
    },
    Scenario {
        id: "M3",
        name: "prime_mmap@test_reprime",
        about: "close the dma-buf while it is mapped, export again, map again",
        expects: Expects::MapsDmaBuf,
        program: reprime,
    },
    Scenario {
        id: "M4",
        name: "prime_mmap@test_forked",
        about: "a child maps the dma-buf it has inherited, and one that was mapped before the fork",
        expects: Expects::MapsDmaBuf,
        program: forked,
    },
    Scenario {
        id: "M5",
        name: "prime_mmap@test_refcounting",
        about: "close the handle, then map: the dma-buf keeps the object",
        expects: Expects::MapsDmaBuf,
        program: refcounting,
    },
    Scenario {
        id: "M6",
        name: "prime_mmap@test_dup",
        about: "map a duplicate of the descriptor after the first is closed",
        expects: Expects::MapsDmaBuf,
        program: dup,
    },
    Scenario {
        id: "M7",
        name: "prime_mmap@test_errors",
        about: "bad flags, a closed handle, a closed descriptor, a mapping too long, one past the end",
        expects: Expects::Clean,
        program: errors,
    },
    Scenario {
        id: "M9",
        name: "prime_mmap@test_invalid_sync_flags",
        about: "SYNC with flags that do not exist is refused before any lock is taken",
        expects: Expects::Clean,
        program: invalid_sync_flags,
    },
    Scenario {
        id: "M10",
        name: "prime_mmap@test_aperture_limit",
        about: "two buffers are mapped at once: two reservation locks, never both held",
        expects: Expects::MapsDmaBuf,
        program: two_at_once,
    },
    Scenario {
        id: "M11",
        name: "prime_mmap_coherency@ioctl-errors",
        about: "the CPU and the GPU take turns, bracketed by SYNC; a SYNC that a signal interrupts is tried again",
        expects: Expects::Clean,
        program: bracketed_access,
    },
    Scenario {
        id: "M12",
        name: "prime_mmap_kms@buffer-sharing",
        about: "another process renders into a display's buffer that it was sent",
        expects: Expects::Clean,
        program: buffer_sharing,
    },
    Scenario {
        id: "close-orders",
        name: "ours@close-orders",
        about: "V1's file, dma-buf, mapping and handle are given up in each of the 24 orders; the object is freed once",
        expects: Expects::MapsDmaBuf,
        program: |world| close_orders(world, exported),
    },
    Scenario {
        id: "close-orders-import",
        name: "ours@close-orders-import",
        about: "the same for S1: of a file of the device that has the buffer from another one, which is closed",
        expects: Expects::Clean,
        program: |world| close_orders(world, self_imported),
    },
];

fn correct(world: &World) -> Outcome {
    let init = &world.init;
    let vgem = init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    let through_drm = world.map(vgem, init.mode_map_dumb(vgem, handle)?)?;
    world.fill(through_drm, 3)?;
    let buffer = world.export(vgem, handle)?;
    let through_buffer = world.map(buffer, 0)?;
    world.check(through_buffer, 3)?;
    world.fill(through_buffer, 4)?;
    world.check(through_drm, 4)?;
    init.munmap(through_drm, BYTES)?;
    init.munmap(through_buffer, BYTES)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn map_unmap(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let obj = world.object(vgem, handle)?;
    for round in 0..2 {
        let address = world.map(buffer, 0)?;
        expect_eq("users of the pages while mapped", obj.pages_use_count(), 1)?;
        world.check(address, round)?;
        world.fill(address, round + 1)?;
        init.munmap(address, BYTES)?;
        expect_eq("users of the pages while not mapped", obj.pages_use_count(), 0)?;
    }
    drop(obj);
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn reprime(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let first = world.map(buffer, 0)?;
    world.fill(first, 5)?;
    init.close(buffer)?;
    world.check(first, 5)?;
    init.munmap(first, BYTES)?;
    let buffer = world.export(vgem, handle)?;
    let second = world.map(buffer, 0)?;
    world.check(second, 5)?;
    init.munmap(second, BYTES)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn forked(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let before = world.map(buffer, 0)?;
    world.fill(before, 6)?;
    let child = init.fork(move |child| -> Result<(u8, u8), Failure> {
        let own = child.mmap(buffer, BYTES, 0, MapFlags::SHARED)?;
        child.write_byte(own, 60)?;
        let read = (child.read_byte(before)?, child.read_byte(own + BYTES - 1)?);
        child.munmap(own, BYTES)?;
        Ok(read)
    })?;
    init.close(buffer)?;
    expect_eq("what the child read", child.wait()?, (60, 6))?;
    expect_eq("what the child wrote", init.read_byte(before)?, 60)?;
    init.munmap(before, BYTES)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn refcounting(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    init.gem_close(vgem, handle)?;
    let address = world.map(buffer, 0)?;
    init.close(buffer)?;
    world.fill(address, 1)?;
    world.check(address, 1)?;
    init.munmap(address, BYTES)?;
    Ok(init.close(vgem)?)
}

fn dup(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    let copy = init.dup(buffer)?;
    init.close(buffer)?;
    let address = world.map(copy, 0)?;
    world.fill(address, 9)?;
    init.close(copy)?;
    world.check(address, 9)?;
    init.munmap(address, BYTES)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn errors(world: &World) -> Outcome {
    let init = &world.init;
    let vgem = init.open(Driver::Vgem)?;
    let handle = world.create(vgem)?;
    let map = |fd, len, offset| init.mmap(fd, len, offset, MapFlags::SHARED);
    expect_error("flags", init.prime_handle_to_fd(vgem, handle, u32::MAX), Errno::EINVAL)?;
    let buffer = world.export(vgem, handle)?;
    expect_error("twice the size", map(buffer, 2 * BYTES, 0), Errno::EINVAL)?;
    expect_error("past the end", map(buffer, BYTES, BYTES), Errno::EINVAL)?;
    expect_error("across the end", map(buffer, BYTES, BYTES / 2), Errno::EINVAL)?;
    expect_error("no length", map(buffer, 0, 0), Errno::EINVAL)?;
    let offset = init.mode_map_dumb(vgem, handle)?;
    expect_error("twice the size, DRM file", map(vgem, 2 * BYTES, offset), Errno::EINVAL)?;
    let other = init.open(Driver::Vgem)?;
    expect_error("a file without the handle", map(other, BYTES, offset), Errno::EACCES)?;
    init.close(other)?;
    init.close(buffer)?;
    expect_error("a closed descriptor", map(buffer, BYTES, 0), Errno::EBADF)?;
    init.gem_close(vgem, handle)?;
    expect_error("a closed handle", init.prime_handle_to_fd(vgem, handle, DRM_RDWR), Errno::ENOENT)?;
    expect_error("closed twice", init.gem_close(vgem, handle), Errno::EINVAL)?;
    Ok(init.close(vgem)?)
}

fn invalid_sync_flags(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, handle, buffer) = world.vgem_buffer()?;
    for flags in [u64::MAX, 0, 8] {
        expect_error("SYNC", init.sync(buffer, flags), Errno::EINVAL)?;
    }
    expect_error("SYNC of a DRM file", init.sync(vgem, 1), Errno::ENOTTY)?;
    init.close(buffer)?;
    init.gem_close(vgem, handle)?;
    Ok(init.close(vgem)?)
}

fn two_at_once(world: &World) -> Outcome {
    let init = &world.init;
    let (vgem, first_handle, first) = world.vgem_buffer()?;
    let second_handle = world.create(vgem)?;
    let second = world.export(vgem, second_handle)?;
    let (one, two) = (world.map(first, 0)?, world.map(second, 0)?);
    world.fill(one, 1)?;
    world.fill(two, 2)?;
    world.check(one, 1)?;
    world.check(two, 2)?;
    for (address, buffer, handle) in [(one, first, first_handle), (two, second, second_handle)] {
        init.munmap(address, BYTES)?;
        init.close(buffer)?;
        init.gem_close(vgem, handle)?;
    }
    Ok(init.close(vgem)?)
}

/// A system call that a signal interrupts is made again, as the C library does. Here a signal comes each time.
fn restarted(call: impl Fn() -> Result<(), Errno>) -> Outcome {
    let (first, seen) = inject(Plan::interrupt(1), &call);
    if seen.interruptible > 0 {
        expect_error("an interrupted call", first, Errno::EINTR)?;
        call()?;
    }
    Ok(())
}

fn bracketed_access(world: &World) -> Outcome {
    let init = &world.init;
    let (i915, handle, buffer) = world.buffer_of(Driver::I915)?;
    let address = world.map(buffer, 0)?;
    for value in 1..=3 {
        restarted(|| init.sync_start(buffer, DMA_BUF_SYNC_WRITE))?;
        init.write_byte(address, value)?;
        restarted(|| init.sync_end(buffer, DMA_BUF_SYNC_WRITE))?;
        init.i915_execbuffer(i915, &[I915ExecObject { handle, write: true }], Some(value + 10))?;
        restarted(|| init.sync_start(buffer, DMA_BUF_SYNC_READ))?;
        expect_eq("what the GPU wrote", init.read_byte(address)?, value + 10)?;
        restarted(|| init.sync_end(buffer, DMA_BUF_SYNC_READ))?;
    }
    init.munmap(address, BYTES)?;
    init.close(buffer)?;
    init.gem_close(i915, handle)?;
    Ok(init.close(i915)?)
}

fn buffer_sharing(world: &World) -> Outcome {
    let init = &world.init;
    let (display, handle, buffer) = world.buffer_of(Driver::I915)?;
    let renderer = world.kernel.process("renderer");
    let rendered = render(init, buffer, &renderer);
    renderer.exit();
    rendered?;
    init.close(buffer)?;
    let address = world.map(display, init.mode_map_dumb(display, handle)?)?;
    world.check(address, 7)?;
    init.munmap(address, BYTES)?;
    init.gem_close(display, handle)?;
    Ok(init.close(display)?)
}

fn render(display: &Process, buffer: Fd, renderer: &Process) -> Outcome {
    let buffer = display.send_fd(buffer, renderer)?;
    let address = renderer.mmap(buffer, BYTES, 0, MapFlags::SHARED)?;
    renderer.sync_start(buffer, DMA_BUF_SYNC_WRITE)?;
    for byte in (address..address + BYTES).step_by(PAGE).flat_map(|page| [page, page + PAGE as u64 - 1]) {
        renderer.write_byte(byte, 7)?;
    }
    Ok(renderer.sync_end(buffer, DMA_BUF_SYNC_WRITE)?)
}

/// The four things that keep an object.
struct Kept {
    file: Fd,
    buffer: Fd,
    address: u64,
    handle: Handle,
}

fn exported(world: &World) -> Outcome<Kept> {
    let (file, handle, buffer) = world.vgem_buffer()?;
    Ok(Kept { file, buffer, address: world.map(buffer, 0)?, handle })
}

fn self_imported(world: &World) -> Outcome<Kept> {
    let init = &world.init;
    let (first, _, buffer) = world.vgem_buffer()?;
    let file = init.open(Driver::Vgem)?;
    let handle = init.prime_fd_to_handle(file, buffer)?;
    init.close(first)?;
    Ok(Kept { file, buffer, address: world.map(file, init.mode_map_dumb(file, handle)?)?, handle })
}

fn close_orders(world: &World, start: fn(&World) -> Outcome<Kept>) -> Outcome {
    for order in 0..24 {
        give_up(world, &start(world)?, order)?;
        let alive = world.kernel.live().all();
        if !alive.iter().all(|(kind, _)| *kind == "mm") {
            return Err(Failure::new(format!("alive after order {order}: {alive:?}")));
        }
    }
    Ok(())
}

/// Gives up the four things in the order with this number: each digit chooses among those that are left.
fn give_up(world: &World, kept: &Kept, mut order: usize) -> Outcome {
    let init = &world.init;
    let &Kept { file, buffer, address, handle } = kept;
    init.write_byte(address, 1)?;
    let mut left = vec!["file", "buffer", "mapping", "handle"];
    while !left.is_empty() {
        let choice = order % left.len();
        order /= left.len();
        match left.remove(choice) {
            // The handles of a file go with it.
            "handle" if !left.contains(&"file") => {
                expect_error("a handle of a closed file", init.gem_close(file, handle), Errno::EBADF)?;
            }
            "handle" => init.gem_close(file, handle)?,
            "file" => init.close(file)?,
            "buffer" => init.close(buffer)?,
            _ => init.munmap(address, BYTES)?,
        }
        if left.contains(&"mapping") {
            expect_eq("a byte that is still mapped", init.read_byte(address)?, 1)?;
        }
    }
    Ok(())
}
