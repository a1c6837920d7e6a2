// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a hold is there under one policy or regime and not under another.

use instrumented_drivers::policy::LockingPolicy::{self, P0, P1};
use instrumented_drivers::policy::ShmemLocking::{self, A, B, B0, C};
use instrumented_drivers::scenario::Setup;

use super::hold::Hold;

/// A kind of difference.
pub(crate) struct Reason {
    /// As in the snapshot.
    pub(crate) name: &'static str,
    /// Under which policies …
    policies: &'static [LockingPolicy],
    /// … and regimes.
    regimes: &'static [ShmemLocking],
    /// `+`, `-` or `stops`, class, function.
    holds: &'static [(&'static str, &'static str, &'static str)],
    /// Why.
    pub(crate) why: &'static str,
}

impl Reason {
    pub(crate) fn explains(&self, setup: Setup, line: &str, hold: &Hold) -> bool {
        self.policies.contains(&setup.policy)
            && self.regimes.contains(&setup.shmem)
            && self.holds.iter().any(|(begin, class, function)| {
                line.starts_with(begin) && hold.class == *class && hold.function == *function
            })
    }
}

const RESV: &str = "reservation_ww_class_mutex";
const PAGES: &str = "&shmem->pages_lock";

/// All there are.
pub(crate) const REASONS: &[Reason] = &[
    Reason {
        name: "mmap under the lock",
        policies: &[P1],
        regimes: &ShmemLocking::ALL,
        holds: &[("+", RESV, "dma_buf_mmap_internal"), ("+", RESV, "dma_buf_mmap")],
        why: "from 6.2 to 6.5 the core holds the buffer's lock around an exporter's mmap (`driver-locking-facts` §1.1)",
    },
    Reason {
        name: "mmap_lock with something in it",
        policies: &[P1],
        regimes: &ShmemLocking::ALL,
        holds: &[("+", "&mm->mmap_lock", "vm_mmap_pgoff")],
        why: "the exporter's mmap takes no lock, and a hold of mmap_lock alone is not kept in the recorded form",
    },
    Reason {
        name: "deadlock",
        policies: &[P1],
        regimes: &[B0, B, C],
        holds: &[("stops", RESV, "drm_gem_shmem_mmap")],
        why: "the helper wants the lock that the core holds; what comes after is not compared (§2.5)",
    },
    Reason {
        name: "map without the lock",
        policies: &[P0],
        regimes: &ShmemLocking::ALL,
        holds: &[
            ("-", RESV, "dma_buf_map_attachment_unlocked"),
            ("-", RESV, "dma_buf_unmap_attachment_unlocked"),
        ],
        why: "up to 6.1 an importer that is not dynamic maps and unmaps without any lock of the core's (§1.1)",
    },
    Reason {
        name: "map under the buffer's mutex",
        policies: &[P0],
        regimes: &ShmemLocking::ALL,
        holds: &[("+", "&dmabuf->lock", "vb2_vmalloc_dmabuf_ops_map")],
        why: "so the exporters of video buffers took that one (§2.9)",
    },
    Reason {
        name: "vmap under the buffer's mutex",
        policies: &[P0],
        regimes: &ShmemLocking::ALL,
        holds: &[
            ("+", "&dmabuf->lock", "dma_buf_vmap"),
            ("+", "&dmabuf->lock", "dma_buf_vunmap"),
            ("-", RESV, "dma_buf_vmap_unlocked"),
            ("-", RESV, "dma_buf_vunmap_unlocked"),
        ],
        why: "up to 6.1 the core has a mutex of its own around vmap and vunmap (§1.1)",
    },
    Reason {
        name: "name of the list's mutex",
        policies: &[P0],
        regimes: &ShmemLocking::ALL,
        holds: &[
            ("+", "db_list.lock", "dma_buf_export"),
            ("+", "db_list.lock", "dma_buf_file_release"),
            ("-", "debugfs_list_mutex", "dma_buf_export"),
            ("-", "debugfs_list_mutex", "dma_buf_file_release"),
        ],
        why: "the mutex of the list of all buffers was a member of it (§2.1)",
    },
    Reason {
        name: "the helper's own mutex",
        policies: &LockingPolicy::ALL,
        regimes: &[A],
        holds: &[
            ("+", PAGES, "drm_gem_shmem_get_pages"),
            ("+", PAGES, "drm_gem_shmem_put_pages"),
            ("+", PAGES, "drm_gem_shmem_vm_open"),
            ("+", PAGES, "drm_gem_shmem_fault"),
            ("-", RESV, "drm_gem_shmem_mmap"),
            ("-", RESV, "drm_gem_shmem_vm_open"),
            ("-", RESV, "drm_gem_shmem_vm_close"),
            ("-", RESV, "drm_gem_shmem_fault"),
            ("-", RESV, "drm_gem_shmem_free"),
        ],
        why: "before 6.6 pages_lock protects the pages, and nothing is taken to free an object without pages (§2.4)",
    },
    Reason {
        name: "pin without the core's lock",
        policies: &LockingPolicy::ALL,
        regimes: &[A, B0, B],
        holds: &[("-", RESV, "drm_gem_pin"), ("-", RESV, "drm_gem_unpin")],
        why: "only since 6.10 the GEM core takes the lock around pin and unpin (§2.4)",
    },
    Reason {
        name: "pin takes the lock itself",
        policies: &LockingPolicy::ALL,
        regimes: &[B],
        holds: &[("+", RESV, "drm_gem_shmem_pin"), ("+", RESV, "drm_gem_shmem_unpin")],
        why: "from 6.6 to 6.9 the helper's callbacks do; in B0 nobody does (§2.4)",
    },
];
