// SPDX-License-Identifier: GPL-2.0-only
//! The scenarios of cameras, heaps and udmabuf under every policy and regime, with and without the validator, and what the old code of `vb2_mmap` would
//! have been told.

mod vb2_common;

use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::media::videobuf2::v4l2::VideoDevice;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::{End, Scenario, Setup};
use instrumented_drivers::user::{Driver, QueueBuffer};
use lockdep::RecordedOp;

use vb2_common::{FRAME, run};

const IDS: [&str; 21] = [
    "vivid_mmap",
    "W1",
    "W2",
    "W3",
    "W4",
    "W5",
    "W6",
    "W7",
    "W8",
    "W8v",
    "heap",
    "udmabuf",
    "importer_heap",
    "importer_udmabuf",
    "heap_into_vgem",
    "udmabuf_into_vgem",
    "vivid_dmabuf_heap",
    "vivid_dmabuf_udmabuf",
    "H1",
    "H2",
    "U1",
];

#[test]
fn each_scenario_ends_as_stated_in_every_setup_and_leaves_nothing_behind() {
    for id in IDS {
        let scenario = Scenario::find(id).unwrap_or_else(|| panic!("no scenario {id}"));
        for setup in Setup::all() {
            let run = scenario.run(setup);
            if lockdep::ENABLED {
                assert!(
                    scenario.is_as_expected(setup, &run),
                    "{id} {setup}: {:?} {:?}",
                    run.end,
                    run.reports
                );
            } else {
                assert!(matches!(run.end, End::Done), "{id} {setup}: {:?}", run.end);
            }
        }
    }
}

#[test]
fn the_order_of_a_queues_locks_is_learned_and_never_the_other_way_round() {
    if !lockdep::ENABLED {
        return;
    }
    let learned = learned(&["W1", "W2", "W4", "W8"]);
    let has = |from: &str, to: &str| learned.contains(&(from.to_owned(), to.to_owned()));
    let order = [
        ("&dev->mutex", "&q->mmap_lock"),
        ("&dev->mutex", "&mm->mmap_lock"),
        ("&dev->mutex", "reservation_ww_class_mutex"),
        ("&dev->mutex", "&q->done_lock"),
        ("&dev->mutex", "&dev->slock"),
        ("&mm->mmap_lock", "&q->mmap_lock"),
        ("&q->mmap_lock", "reservation_ww_class_mutex"),
        ("&q->mmap_lock", "fs_reclaim"),
    ];
    for (from, to) in order {
        assert!(has(from, to), "{from} -> {to} is not in {learned:?}");
        assert!(!has(to, from), "{to} -> {from}");
    }
    for leaf in ["&q->done_lock", "&q->done_wq", "&dev->slock"] {
        assert!(learned.iter().all(|(from, _)| from != leaf), "something is taken under {leaf}");
    }
    assert!(!has("&mm->mmap_lock", "&dev->mutex"), "mmap must not take the queue's lock");
}

/// The dependencies that these scenarios teach under P2 and C.
fn learned(ids: &[&str]) -> Vec<(String, String)> {
    let mut learned = Vec::new();
    for id in ids {
        let scenario = Scenario::find(id).unwrap_or_else(|| panic!("no scenario {id}"));
        let recorded = scenario.run_recorded(Setup::LINUX_6_12).recorded;
        let mut held: Vec<(lockdep::ids::TaskId, lockdep::ids::Instance, String)> = Vec::new();
        for event in recorded {
            match event.op {
                RecordedOp::Acquire { .. } => {
                    let outer = held.iter().filter(|(task, ..)| *task == event.task);
                    learned.extend(outer.map(|(_, _, class)| (class.clone(), event.class.to_string())));
                    held.push((event.task, event.instance, event.class.to_string()));
                }
                RecordedOp::Release => {
                    let last = held
                        .iter()
                        .rposition(|(task, lock, _)| (*task, *lock) == (event.task, event.instance));
                    held.remove(last.expect("it was taken"));
                }
                RecordedOp::Downgrade => {}
            }
        }
    }
    learned.sort_unstable();
    learned.dedup();
    learned
}

#[test]
fn a_vb2_mmap_that_takes_the_queues_lock_is_circular_with_the_queueing_of_user_memory() {
    if !lockdep::ENABLED {
        return;
    }
    let kinds = |broken: bool| {
        let reports = run(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            let camera = kernel.video().get(Driver::VividVmalloc).expect("it is there");
            if broken {
                camera.queue().break_mmap_locking();
            }
            let fd = process.open(Driver::VividVmalloc)?;
            process.reqbufs(fd, 2, Memory::UserPtr)?;
            let memory = process.memfd_create(FRAME)?;
            let address = process.mmap(memory, FRAME as u64, 0, MapFlags::SHARED)?;
            process.qbuf(fd, &QueueBuffer::userptr(0, &[(address, FRAME)]))?;
            process.reqbufs(fd, 2, Memory::Mmap)?;
            let mapped = process.mmap(fd, FRAME as u64, 0, MapFlags::SHARED)?;
            process.munmap(mapped, FRAME as u64)?;
            process.close(fd)
        });
        reports.iter().map(|report| report.kind().name()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(false), [""; 0]);
    assert_eq!(kinds(true), ["circular"]);
}
