// SPDX-License-Identifier: GPL-2.0-only
//! The scenarios of cameras, heaps and udmabuf under every policy and regime, with and without the validator, and what the old code of `vb2_mmap` would
//! have been told.

mod vb2_common;

use instrumented_drivers::bug::Bug;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::{End, Scenario, Setup};
use instrumented_drivers::user::{Driver, QueueBuffer};
use lockdep::RecordedOp;
use lockdep::ids::{Instance, TaskId};

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

/// An acquisition in a recorded scenario: the classes held around it, the class, the function.
struct Acquired {
    held: Vec<String>,
    class: String,
    function: &'static str,
}

/// Everything that a scenario acquires, task by task.
fn acquisitions(id: &str, policy: LockingPolicy) -> Vec<Acquired> {
    let scenario = Scenario::find(id).unwrap_or_else(|| panic!("no scenario {id}"));
    let setup = Setup { policy, shmem: ShmemLocking::C };
    let mut held: Vec<(TaskId, Instance, String)> = Vec::new();
    let mut found = Vec::new();
    for event in scenario.run_recorded(setup).recorded {
        let last = held.iter().rposition(|(task, lock, _)| (*task, *lock) == (event.task, event.instance));
        match (event.op, last) {
            (RecordedOp::Acquire { .. }, _) => {
                let around = held.iter().filter(|(task, ..)| *task == event.task);
                found.push(Acquired {
                    held: around.map(|(_, _, class)| class.clone()).collect(),
                    class: event.class.to_string(),
                    function: event.site.function.unwrap_or("?"),
                });
                held.push((event.task, event.instance, event.class.to_string()));
            }
            (RecordedOp::Release, Some(last)) => drop(held.remove(last)),
            (RecordedOp::Release, None) => panic!("{} is released and not held", event.class),
            (RecordedOp::Downgrade | RecordedOp::AssertHeld, _) => {}
        }
    }
    found
}

/// The dependencies that these scenarios teach under P2 and C.
fn learned(ids: &[&str]) -> Vec<(String, String)> {
    let all = ids.iter().flat_map(|id| acquisitions(id, LockingPolicy::P2));
    let mut learned: Vec<_> = all
        .flat_map(|Acquired { held, class, .. }| held.into_iter().map(move |outer| (outer, class.clone())))
        .collect();
    learned.sort_unstable();
    learned.dedup();
    learned
}

/// What is held around each acquisition of this class, and the function that acquired it.
fn acquired(id: &str, policy: LockingPolicy, class: &str) -> Vec<(Vec<String>, &'static str)> {
    let of_class = acquisitions(id, policy).into_iter().filter(|acquired| acquired.class == class);
    of_class.map(|Acquired { held, function, .. }| (held, function)).collect()
}

#[test]
fn in_p0_the_exporters_map_under_the_buffers_mutex_and_since_p1_under_the_reservation_lock() {
    if !lockdep::ENABLED {
        return;
    }
    let maps = ["vb2_dc_dmabuf_ops_map", "vb2_dma_sg_dmabuf_ops_map", "vb2_vmalloc_dmabuf_ops_map"];
    let mutex = |policy| acquired("W8", policy, "&dmabuf->lock");
    let p0 = mutex(LockingPolicy::P0);
    for map in maps {
        let held = p0.iter().find(|(_, function)| *function == map).map(|(held, _)| held.as_slice());
        let expected = ["&prime_fpriv->lock", "&dev->object_name_lock"].map(str::to_owned);
        assert_eq!(held, Some(&expected[..]), "{map}: no reservation lock around it in P0");
    }
    for policy in [LockingPolicy::P1, LockingPolicy::P2] {
        assert_eq!(mutex(policy), [], "{policy} has no such mutex");
    }
}

#[test]
fn a_memfds_seals_stay_while_its_pages_are_pinned() {
    if !lockdep::ENABLED {
        return;
    }
    let allocations = acquired("U1", LockingPolicy::P2, "fs_reclaim");
    let pinned = allocations.iter().filter(|(_, function)| *function == "__alloc_pages_noprof");
    let under_inode = |held: &[String]| held.iter().any(|class| class == "&sb->s_type->i_mutex_key");
    assert!(pinned.clone().any(|(held, _)| under_inode(held)), "{allocations:?}");
    let sealing = acquired("U1", LockingPolicy::P2, "&sb->s_type->i_mutex_key");
    let by = |name: &str| sealing.iter().any(|(_, function)| *function == name);
    assert!(by("memfd_add_seals") && by("udmabuf_pin_folios"), "{sealing:?}");
}

#[test]
fn a_vb2_mmap_that_takes_the_queues_lock_is_circular_with_the_queueing_of_user_memory() {
    if !lockdep::ENABLED {
        return;
    }
    let kinds = |broken: bool| {
        let reports = run(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
            if broken {
                kernel.break_with(Bug::Vb2MmapLocksQueue);
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
