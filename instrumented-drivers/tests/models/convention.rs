// SPDX-License-Identifier: GPL-2.0-only
//! The dma-buf locking convention, rule by rule: what a real kernel (6.12, lockdep) said when a vgem buffer was used
//! with the reservation lock in the wrong state, and that the model is told the same in the same function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use instrumented_drivers::dma_buf::access::{
    dma_buf_begin_cpu_access, dma_buf_end_cpu_access, dma_buf_vmap, dma_buf_vmap_unlocked, dma_buf_vunmap,
    dma_buf_vunmap_unlocked,
};
use instrumented_drivers::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_dynamic_attach, dma_buf_map_attachment,
    dma_buf_map_attachment_unlocked, dma_buf_move_notify, dma_buf_pin, dma_buf_unmap_attachment,
    dma_buf_unmap_attachment_unlocked, dma_buf_unpin,
};
use instrumented_drivers::dma_buf::core::{dma_buf_fd, dma_buf_put, get_dma_buf};
use instrumented_drivers::dma_buf::resv::{DmaResv, dma_resv_lock, dma_resv_unlock};
use instrumented_drivers::dma_buf::{DmaBuf, DmaBufAttachment, DmaDirection, ImporterOps};
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::file::FileTable;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::{Report, Validator};

const BOTH: DmaDirection = DmaDirection::Bidirectional;

struct Dynamic;

impl ImporterOps for Dynamic {
    fn move_notify(&self, _attach: &Arc<DmaBufAttachment>) {}
}

fn attach(buf: &DmaBuf) -> Arc<DmaBufAttachment> {
    dma_buf_attach(buf, "importer").unwrap()
}

fn held(buf: &DmaBuf, f: impl FnOnce()) {
    dma_resv_lock(buf.resv());
    f();
    dma_resv_unlock(buf.resv());
}

/// One use of a buffer, and `(kind, function)` of each finding of the real kernel.
struct Rule {
    name: &'static str,
    wrong: fn(&DmaBuf),
    found: &'static [Found],
}

const RULES: &[Rule] = &[
    Rule {
        name: "attach with the lock held",
        wrong: |buf| held(buf, || drop(attach(buf))),
        found: &[("recursive", "drm_gem_pin")],
    },
    Rule {
        name: "dynamic attach with the lock held",
        wrong: |buf| held(buf, || drop(dma_buf_dynamic_attach(buf, "importer", Some(&Dynamic)))),
        found: &[("recursive", "drm_gem_pin")],
    },
    Rule {
        name: "detach with the lock held",
        wrong: |buf| {
            let attach = attach(buf);
            held(buf, || dma_buf_detach(buf, &attach));
        },
        found: &[("recursive", "dma_buf_detach")],
    },
    Rule {
        name: "map without the lock",
        wrong: |buf| {
            let attach = attach(buf);
            let table = dma_buf_map_attachment(&attach, BOTH).unwrap();
            dma_buf_unmap_attachment_unlocked(&attach, table, BOTH);
            dma_buf_detach(buf, &attach);
        },
        found: &[("assert-held", "dma_buf_map_attachment")],
    },
    Rule {
        name: "unmap without the lock",
        wrong: |buf| {
            let attach = attach(buf);
            let table = dma_buf_map_attachment_unlocked(&attach, BOTH).unwrap();
            dma_buf_unmap_attachment(&attach, table, BOTH);
            dma_buf_detach(buf, &attach);
        },
        found: &[("assert-held", "dma_buf_unmap_attachment")],
    },
    Rule {
        name: "map_unlocked with the lock held",
        wrong: |buf| {
            let attach = attach(buf);
            held(buf, || drop(dma_buf_map_attachment_unlocked(&attach, BOTH)));
        },
        found: &[("recursive", "dma_buf_map_attachment_unlocked")],
    },
    Rule {
        name: "unmap_unlocked with the lock held",
        wrong: |buf| {
            let attach = attach(buf);
            let table = dma_buf_map_attachment_unlocked(&attach, BOTH).unwrap();
            held(buf, || dma_buf_unmap_attachment_unlocked(&attach, table, BOTH));
        },
        found: &[("recursive", "dma_buf_unmap_attachment_unlocked")],
    },
    Rule {
        name: "pin without the lock",
        wrong: |buf| {
            let attach = dma_buf_dynamic_attach(buf, "importer", Some(&Dynamic)).unwrap();
            dma_buf_pin(&attach).unwrap();
            dma_buf_detach(buf, &attach);
        },
        found: &[("assert-held", "dma_buf_pin")],
    },
    Rule {
        name: "unpin without the lock",
        wrong: |buf| {
            let attach = dma_buf_dynamic_attach(buf, "importer", Some(&Dynamic)).unwrap();
            held(buf, || dma_buf_pin(&attach).unwrap());
            dma_buf_unpin(&attach);
            dma_buf_detach(buf, &attach);
        },
        found: &[("assert-held", "dma_buf_unpin")],
    },
    Rule {
        name: "move_notify without the lock",
        wrong: dma_buf_move_notify,
        found: &[("assert-held", "dma_buf_move_notify")],
    },
    Rule {
        name: "begin_cpu_access with the lock held",
        wrong: |buf| held(buf, || dma_buf_begin_cpu_access(buf, BOTH).unwrap()),
        found: &[("recursive", "dma_buf_begin_cpu_access")],
    },
    Rule {
        name: "end_cpu_access with the lock held",
        wrong: |buf| held(buf, || dma_buf_end_cpu_access(buf, BOTH).unwrap()),
        found: &[("recursive", "dma_buf_end_cpu_access")],
    },
    Rule {
        name: "vmap without the lock",
        wrong: |buf| {
            let map = dma_buf_vmap(buf).unwrap();
            dma_buf_vunmap_unlocked(buf, &map);
        },
        found: &[
            ("assert-held", "dma_buf_vmap"),
            ("assert-held", "drm_gem_vmap"),
            ("assert-held", "drm_gem_shmem_vmap"),
            ("assert-held", "drm_gem_shmem_get_pages"),
        ],
    },
    Rule {
        name: "vunmap without the lock",
        wrong: |buf| {
            let map = dma_buf_vmap_unlocked(buf).unwrap();
            dma_buf_vunmap(buf, &map);
        },
        found: &[
            ("assert-held", "dma_buf_vunmap"),
            ("assert-held", "drm_gem_vunmap"),
            ("assert-held", "drm_gem_shmem_vunmap"),
            ("assert-held", "drm_gem_shmem_put_pages"),
        ],
    },
    Rule {
        name: "vmap_unlocked with the lock held",
        wrong: |buf| held(buf, || drop(dma_buf_vmap_unlocked(buf))),
        found: &[("recursive", "dma_buf_vmap_unlocked")],
    },
    Rule {
        name: "vunmap_unlocked with the lock held",
        wrong: |buf| {
            let map = dma_buf_vmap_unlocked(buf).unwrap();
            held(buf, || dma_buf_vunmap_unlocked(buf, &map));
        },
        found: &[("recursive", "dma_buf_vunmap_unlocked")],
    },
    Rule {
        name: "vmap_unlocked with another buffer's lock held",
        wrong: |buf| {
            let other = DmaResv::new();
            dma_resv_lock(&other);
            let map = dma_buf_vmap_unlocked(buf).unwrap();
            dma_resv_unlock(&other);
            dma_buf_vunmap_unlocked(buf, &map);
        },
        found: &[("recursive", "dma_buf_vmap_unlocked")],
    },
    Rule {
        name: "put with the lock held",
        wrong: |buf| held(buf, || dma_buf_put(get_dma_buf(buf))),
        found: &[],
    },
    Rule {
        name: "a descriptor with the lock held",
        wrong: |buf| {
            let files = FileTable::default();
            held(buf, || {
                let fd = dma_buf_fd(&files, get_dma_buf(buf)).unwrap();
                files.close(fd).unwrap();
            });
        },
        found: &[],
    },
    Rule {
        name: "everything right",
        wrong: |buf| {
            let attach = attach(buf);
            let table = dma_buf_map_attachment_unlocked(&attach, BOTH).unwrap();
            dma_buf_unmap_attachment_unlocked(&attach, table, BOTH);
            let map = dma_buf_vmap_unlocked(buf).unwrap();
            dma_buf_vunmap_unlocked(buf, &map);
            dma_buf_begin_cpu_access(buf, BOTH).unwrap();
            dma_buf_end_cpu_access(buf, BOTH).unwrap();
            dma_buf_detach(buf, &attach);
        },
        found: &[],
    },
];

type Found = (&'static str, &'static str);

fn found(report: &Report) -> Found {
    let wanted = report.wanted.as_ref().expect("each of these kinds wants a lock");
    (report.kind().name(), wanted.site.function.expect("the models' functions are known"))
}

/// Runs one wrong use in a world of its own.
fn run(rule: &Rule, policy: LockingPolicy) -> Vec<Found> {
    let validator = Validator::new();
    let kernel = Kernel::new(policy, ShmemLocking::C);
    // A certain hang ends in a panic; the finding has been made by then.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        validator.scope(|| {
            kernel.dma_resv_lockdep();
            let process = kernel.process("init");
            let dev = process.open(Driver::Vgem).unwrap();
            let handle = process.mode_create_dumb(dev, 64, 64, 32).unwrap();
            let fd = process.prime_handle_to_fd(dev, handle, DRM_RDWR).unwrap();
            let buf = DmaBuf::of(&process.peek(fd).unwrap()).unwrap();
            kernel.kthread(|_| (rule.wrong)(&buf));
            process.exit();
        });
    }))
    .is_ok();
    if ended {
        kernel.assert_no_leaks();
    }
    validator.reports().iter().map(found).collect()
}

#[test]
fn every_broken_rule_is_found_where_the_kernel_finds_it() {
    if !lockdep::ENABLED {
        return;
    }
    for rule in RULES {
        assert_eq!(run(rule, LockingPolicy::P2), rule.found, "{}", rule.name);
    }
}

#[test]
fn the_rules_but_that_of_mmap_are_the_same_under_p1() {
    if !lockdep::ENABLED {
        return;
    }
    for rule in RULES {
        assert_eq!(run(rule, LockingPolicy::P1), run(rule, LockingPolicy::P2), "{}", rule.name);
    }
}
