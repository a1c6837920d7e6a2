// SPDX-License-Identifier: GPL-2.0-only
//! Which lock each operation of the shmem helper and of the dma-buf core takes, and in which order, per policy and
//! regime: the table of the helper's documentation, event by event.

use std::sync::Arc;

use crate::common::export;
use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::dma_buf::DmaDirection::Bidirectional;
use instrumented_drivers::dma_buf::access::{dma_buf_vmap_unlocked, dma_buf_vunmap_unlocked};
use instrumented_drivers::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use instrumented_drivers::dma_buf::resv::{dma_resv_lock, dma_resv_unlock};
use instrumented_drivers::drm::file::DrmFile;
use instrumented_drivers::drm::gem::{
    DrmGemObject, drm_gem_object_put, drm_gem_pin, drm_gem_unpin, drm_gem_vmap_unlocked,
    drm_gem_vunmap_unlocked,
};
use instrumented_drivers::drm::gem_handle::drm_gem_object_lookup;
use instrumented_drivers::drm::gem_shmem_memory::{
    drm_gem_shmem_get_pages_sgt, drm_gem_shmem_madvise, drm_gem_shmem_purge,
};
use instrumented_drivers::policy::LockingPolicy::{self, P0, P1, P2};
use instrumented_drivers::policy::ShmemLocking::{self, A, B, C};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::{RecordedOp, Validator};

struct World {
    obj: Arc<DrmGemObject>,
    buf: DmaBuf,
}

/// The locks that `f` takes on an exported object, in order, `try` marked; without allocations.
fn taken(policy: LockingPolicy, shmem: ShmemLocking, f: impl FnOnce(&World)) -> String {
    let validator = Validator::builder().record(true).build();
    let mut names = Vec::new();
    validator.scope(|| {
        let kernel = Kernel::new(policy, shmem);
        let process = kernel.process("init");
        let (dev, handle, buffer) = export(&process, Driver::Vgem).unwrap();
        let buf = DmaBuf::of(&process.peek(buffer).unwrap()).unwrap();
        let file = process.peek(dev).unwrap();
        let obj = drm_gem_object_lookup(file.private::<DrmFile>().unwrap(), handle).unwrap();
        let world = World { obj, buf };
        drop(validator.take_recorded());
        kernel.kthread(|_| f(&world));
        names = validator
            .take_recorded()
            .into_iter()
            .filter_map(|event| match event.op {
                RecordedOp::Acquire { how } if &*event.class != "fs_reclaim" => {
                    Some((event.class, how.trylock))
                }
                _ => None,
            })
            .collect();
        kernel.kthread(|_| drm_gem_object_put(world.obj));
        process.exit();
        drop(world.buf);
        assert_eq!(kernel.live().all(), []);
    });
    assert_eq!(validator.reports(), []);
    let short = |class: &str| match class {
        "reservation_ww_class_mutex" => "resv",
        "&shmem->pages_lock" => "pages",
        "&shmem->vmap_lock" => "vmap",
        "&dmabuf->lock" => "dmabuf",
        "&mapping->i_mmap_rwsem" => "i_mmap",
        "&mgr->vm_lock" => "vm",
        other => panic!("unexpected {other}"),
    };
    let words =
        names.iter().map(|(class, tried)| format!("{}{}", if *tried { "try-" } else { "" }, short(class)));
    words.collect::<Vec<_>>().join(" ")
}

/// Takes the reservation lock where the caller has to, which is no business of the operation.
fn with_resv(world: &World, f: impl FnOnce()) {
    if world.obj.dev.core.shmem == A {
        return f();
    }
    dma_resv_lock(world.obj.resv());
    f();
    dma_resv_unlock(world.obj.resv());
}

fn check(operation: fn(&World), expected: &[(LockingPolicy, ShmemLocking, &str)]) {
    if !lockdep::ENABLED {
        return;
    }
    for (policy, shmem, locks) in expected {
        assert_eq!(taken(*policy, *shmem, operation), *locks, "{policy} {shmem}");
    }
}

#[test]
fn pin_and_unpin() {
    check(
        |world| {
            drm_gem_pin(&world.obj).unwrap();
            drm_gem_unpin(&world.obj).finish();
        },
        &[(P0, A, "pages pages"), (P2, A, "pages pages"), (P2, B, "resv resv"), (P2, C, "resv resv")],
    );
}

#[test]
fn vmap_and_vunmap_of_the_object() {
    check(
        |world| {
            let map = drm_gem_vmap_unlocked(&world.obj).unwrap();
            drm_gem_vunmap_unlocked(&world.obj, &map);
        },
        &[
            (P0, A, "vmap pages vmap pages"),
            (P1, A, "resv vmap pages resv vmap pages"),
            (P2, A, "resv vmap pages resv vmap pages"),
            (P2, B, "resv resv"),
            (P2, C, "resv resv"),
        ],
    );
}

#[test]
fn vmap_and_vunmap_of_the_buffer() {
    check(
        |world| {
            let map = dma_buf_vmap_unlocked(&world.buf).unwrap();
            let again = dma_buf_vmap_unlocked(&world.buf).unwrap();
            dma_buf_vunmap_unlocked(&world.buf, &again);
            dma_buf_vunmap_unlocked(&world.buf, &map);
        },
        &[
            (P0, A, "dmabuf vmap pages dmabuf dmabuf dmabuf vmap pages"),
            (P1, A, "resv vmap pages resv resv resv vmap pages"),
            (P2, C, "resv resv resv resv"),
        ],
    );
}

#[test]
fn attach_map_unmap_detach() {
    check(
        |world| {
            let attach = dma_buf_attach(&world.buf, "importer").unwrap();
            let table = dma_buf_map_attachment_unlocked(&attach, Bidirectional).unwrap();
            dma_buf_unmap_attachment_unlocked(&attach, table, Bidirectional);
            dma_buf_detach(&world.buf, &attach);
        },
        &[
            // P0 maps and unmaps without any lock.
            (P0, A, "pages resv resv pages"),
            (P1, A, "pages resv resv resv resv pages"),
            (P2, B, "resv resv resv resv resv resv"),
            (P2, C, "resv resv resv resv resv resv"),
        ],
    );
}

#[test]
fn scatter_table_advice_and_purge() {
    check(
        |world| {
            drop(drm_gem_shmem_get_pages_sgt(&world.obj).unwrap());
            with_resv(world, || assert!(drm_gem_shmem_madvise(&world.obj, 1)));
        },
        &[(P1, A, "pages pages"), (P2, B, "resv resv"), (P2, C, "resv resv")],
    );
}

#[test]
fn purging_in_a_only_tries() {
    let purge = |world: &World| {
        with_resv(world, || {
            // It is exported, which forbids it; the locks are the same.
            drm_gem_shmem_purge(&world.obj);
        });
    };
    for (policy, shmem, expected) in
        [(P1, A, "try-pages i_mmap vm"), (P2, B, "resv i_mmap vm"), (P2, C, "resv i_mmap vm")]
    {
        if lockdep::ENABLED {
            let pinned = |world: &World| {
                drm_gem_pin(&world.obj).unwrap();
                purge(world);
            };
            let locks = taken(policy, shmem, pinned);
            let (_pin, rest) = locks.split_once(' ').unwrap();
            assert_eq!(rest, expected, "{policy} {shmem}");
        }
    }
}
