// SPDX-License-Identifier: GPL-2.0-only
//! A signal processor's driver: the assertion it forgot, calls that outlive their callers, maps that are found again.

use crate::common::{LEN, clean, export, found, kinds, survives_everything, takers};
use instrumented_drivers::bug::Bug;
use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, inject};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::misc::fastrpc::dsp::Method;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};

const SIZE: usize = LEN as usize;

fn buffer(process: &Process) -> Result<(Fd, Fd)> {
    let session = process.open(Driver::Fastrpc)?;
    Ok((session, process.fastrpc_alloc_dma_buf(session, SIZE)?))
}

fn map(process: &Process) -> Result {
    let (_, buffer) = buffer(process)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    assert_eq!(process.read_byte(address), Ok(0));
    process.munmap(address, LEN)
}

#[test]
fn mmap_asserts_under_p2_what_only_p1_holds_unless_it_is_fixed() {
    for policy in LockingPolicy::ALL {
        for fixed in [false, true] {
            let reports = found(policy, ShmemLocking::C, |kernel, process| {
                if fixed {
                    kernel.fix(Bug::FastrpcMmapAssert);
                }
                map(process).unwrap();
            });
            let expected: &[&str] = match policy {
                LockingPolicy::P2 if !fixed && lockdep::ENABLED => &["assert-held"],
                _ => &[],
            };
            assert_eq!(kinds(&reports), expected, "{policy} {fixed}");
            for report in &reports {
                assert_eq!(report.wanted.as_ref().unwrap().site.function, Some("fastrpc_mmap"));
            }
        }
    }
}

#[test]
fn a_device_is_attached_and_detached_under_the_buffers_mutex() {
    if !lockdep::ENABLED {
        return;
    }
    let taken = takers("&buf->lock", |process| {
        let (_, buffer) = buffer(process)?;
        let vgem = process.open(Driver::Vgem)?;
        let import = process.prime_fd_to_handle(vgem, buffer)?;
        process.gem_close(vgem, import)
    });
    assert_eq!(taken, ["fastrpc_dma_buf_attach", "fastrpc_dma_buf_detatch"]);
}

#[test]
fn a_sessions_maps_are_looked_at_and_changed_under_its_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let taken = takers("&fl->lock", |process| {
        let (session, buffer) = buffer(process)?;
        process.fastrpc_mem_map(session, buffer)
    });
    let call = ["fastrpc_context_alloc", "fastrpc_internal_invoke"];
    let maps = taken.into_iter().filter(|function| !call.contains(function)).collect::<Vec<_>>();
    let end = ["fastrpc_device_release", "fastrpc_free_map"];
    assert_eq!(maps, [&["fastrpc_map_lookup", "fastrpc_map_create"][..], &end].concat());
}

#[test]
fn a_call_finds_the_map_of_the_session_and_makes_one_for_itself_only_if_there_is_none() {
    clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let (session, buffer) = buffer(process).unwrap();
        let maps = || kernel.live().count("fastrpc_map");
        process.fastrpc_invoke(session, Method::Fill(1), &[buffer, buffer]).unwrap();
        kernel.settle();
        assert_eq!(maps(), 0, "gone with the call");
        process.fastrpc_mem_map(session, buffer).unwrap();
        process.fastrpc_mem_map(session, buffer).unwrap();
        assert_eq!(maps(), 1, "the same one");
        process.fastrpc_invoke(session, Method::Fill(2), &[buffer]).unwrap();
        let other = process.dup(buffer).unwrap();
        process.fastrpc_mem_map(session, other).unwrap();
        assert_eq!(maps(), 2, "another descriptor is another map");
        kernel.settle();
        process.fastrpc_mem_unmap(session, buffer).unwrap();
        assert_eq!(process.fastrpc_mem_unmap(session, buffer), Err(Errno::EINVAL));
        assert_eq!(maps(), 1, "the other goes with the session");
    });
}

#[test]
fn the_dsp_refuses_nonsense_and_the_call_leaves_nothing_behind() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let (session, buffer) = buffer(process).unwrap();
        assert_eq!(process.fastrpc_invoke(session, Method::Nonsense, &[buffer]), Err(Errno::EIO));
        assert_eq!(process.fastrpc_invoke(session, Method::Fill(1), &[session]), Err(Errno::EINVAL));
        assert_eq!(process.fastrpc_invoke(buffer, Method::Fill(1), &[]), Err(Errno::ENOTTY));
        assert_eq!(process.fastrpc_alloc_dma_buf(session, 0), Err(Errno::EINVAL));
    });
}

/// The work item drops the last reference: the interrupt must not, for the map's end sleeps.
#[test]
fn an_answer_that_comes_too_late_frees_the_call_and_its_maps_in_a_work_item() {
    for closes_first in [false, true] {
        clean(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let (session, buffer) = buffer(process).unwrap();
            let calls = || kernel.live().count("fastrpc_invoke_ctx");
            let dsp = kernel.fastrpc().dsp();
            dsp.pause();
            let call = || process.fastrpc_invoke(session, Method::Fill(3), &[buffer]);
            assert_eq!(inject(Plan::interrupt(1), call).0, Err(Errno::EINTR));
            assert_eq!((dsp.waiting(), calls()), (1, 1));
            if closes_first {
                process.close(session).unwrap();
                assert_eq!(calls(), 1, "the DSP's reference");
                dsp.go_on();
                kernel.settle();
            } else {
                dsp.go_on();
                kernel.settle();
                assert_eq!(calls(), 1, "the session's reference");
                process.close(session).unwrap();
            }
            assert_eq!((calls(), kernel.live().count("fastrpc_map")), (0, 0));
            assert_eq!(kernel.live().count("fastrpc_user"), 0);
        });
    }
}

#[test]
fn a_dsp_writes_into_a_foreign_buffer_and_another_device_into_its_own() {
    clean(LockingPolicy::P2, ShmemLocking::C, |_, process| {
        let session = process.open(Driver::Fastrpc).unwrap();
        let heap = process.open(Driver::SystemHeap).unwrap();
        let foreign = process.dma_heap_alloc(heap, SIZE).unwrap();
        let address = process.mmap(foreign, LEN, 0, MapFlags::SHARED).unwrap();
        process.fastrpc_mem_map(session, foreign).unwrap();
        process.fastrpc_invoke(session, Method::Fill(5), &[foreign]).unwrap();
        assert_eq!(process.read_byte(address + LEN - 4096), Ok(5));
        let own = process.fastrpc_alloc_dma_buf(session, SIZE).unwrap();
        let vgem = process.open(Driver::Vgem).unwrap();
        let handle = process.prime_fd_to_handle(vgem, own).unwrap();
        process.gem_close(vgem, handle).unwrap();
    });
}

#[test]
fn calls_from_two_threads_on_one_buffer_are_all_answered() {
    for policy in LockingPolicy::ALL {
        clean(policy, ShmemLocking::C, |kernel, process| {
            let (session, buffer) = buffer(process).unwrap();
            let work = move |task: &Process| {
                for value in 0..20 {
                    task.fastrpc_invoke(session, Method::Fill(value), &[buffer]).unwrap();
                }
            };
            let threads = [process.spawn(work).unwrap(), process.spawn(work).unwrap()];
            threads.into_iter().for_each(|thread| thread.wait());
            kernel.settle();
            assert_eq!(kernel.live().count("fastrpc_invoke_ctx"), 0);
        });
    }
}

fn life(kernel: &Kernel, process: &Process) -> Result {
    kernel.fix(Bug::FastrpcMmapAssert);
    let (session, buffer) = buffer(process)?;
    process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
    let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
    process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
    process.fastrpc_mem_map(session, buffer)?;
    let second = process.open(Driver::Fastrpc)?;
    process.fastrpc_invoke(second, Method::Fill(1), &[buffer])?;
    process.fastrpc_invoke(session, Method::Fill(2), &[buffer])?;
    process.fastrpc_mem_unmap(session, buffer)?;
    let vgem = process.open(Driver::Vgem)?;
    process.prime_fd_to_handle(vgem, buffer)?;
    process.munmap(address, LEN)
}

/// A foreign buffer, whose exporter may fail to map it.
fn foreign_life(_: &Kernel, process: &Process) -> Result {
    let (_, _, buffer) = export(process, Driver::Vgem)?;
    let session = process.open(Driver::Fastrpc)?;
    process.fastrpc_mem_map(session, buffer)?;
    process.fastrpc_mem_unmap(session, buffer)
}

#[test]
fn every_failure_is_survived() {
    for policy in LockingPolicy::ALL {
        for (life, interruptible) in [(life as fn(&Kernel, &Process) -> Result, 6), (foreign_life, 2)] {
            let seen = survives_everything((policy, ShmemLocking::C), false, life);
            assert!(seen.interruptible >= interruptible && seen.allocations >= 30, "{seen:?}");
        }
    }
}
