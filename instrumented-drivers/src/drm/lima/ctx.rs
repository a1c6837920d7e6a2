// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Contexts: a program's queues, one for each processor.
//!
//! Kernel counterpart: `lima_ctx.c`.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use super::hw::Pipe;
use super::{LimaDevice, LimaDrmPriv};
use crate::drm::file::DrmFile;
use crate::drm::sched::entity::{DrmSchedEntity, drm_sched_entity_destroy};
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::live::Live;
use crate::kernel::locking::{Mutex, sleep_class};
use crate::kernel::reclaim;

static MGR_LOCK: LockClass = sleep_class("&mgr->lock");

/// The number of a context in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimaCtxId(pub u32);

/// `struct lima_ctx`.
pub(super) struct LimaCtx {
    refcnt: Kref,
    entities: [Arc<DrmSchedEntity>; Pipe::ALL.len()],
    live: Live,
}

impl LimaCtx {
    pub(super) fn entity(&self, pipe: Pipe) -> &Arc<DrmSchedEntity> {
        &self.entities[pipe as usize]
    }
}

/// `struct lima_ctx_mgr`.
pub(super) struct LimaCtxMgr {
    lock: Mutex,
    handles: KCell<BTreeMap<u32, Arc<LimaCtx>>>,
}

impl LimaCtxMgr {
    pub(super) fn init() -> Self {
        LimaCtxMgr {
            lock: Mutex::new(&MGR_LOCK),
            handles: KCell::new("the contexts of a file", BTreeMap::new()),
        }
    }
}

fn alloc(dev: &LimaDevice) -> Result<Arc<LimaCtx>> {
    reclaim::kmalloc()?;
    Ok(Arc::new(LimaCtx {
        refcnt: Kref::new(),
        entities: Pipe::ALL.map(|pipe| DrmSchedEntity::init(&dev.pipe(pipe).base)),
        live: dev.core.born("lima_ctx"),
    }))
}

/// `lima_ctx_create`. The table of contexts has a lock of its own, which is not modelled; `mgr->lock` stands in for it.
///
/// # Errors
/// -ENODEV on another driver's file, -ENOMEM (injected).
pub fn lima_ctx_create(file: &DrmFile) -> Result<LimaCtxId> {
    let lima = LimaDrmPriv::of(file)?;
    let ctx = alloc(&lima.dev)?;
    let mgr = &lima.ctx_mgr;
    mgr.lock.lock();
    let id = mgr.handles.with(|handles| {
        let id = handles.last_key_value().map_or(1, |(last, _)| last + 1);
        handles.insert(id, ctx);
        id
    });
    mgr.lock.unlock();
    Ok(LimaCtxId(id))
}

/// The last reference: its jobs are waited for, or killed.
fn lima_ctx_put(ctx: &LimaCtx) {
    if ctx.refcnt.put() {
        ctx.entities.iter().for_each(|entity| drm_sched_entity_destroy(entity));
        ctx.live.freed();
    }
}

/// `lima_ctx_free`.
///
/// # Errors
/// -ENODEV on another driver's file, -EINVAL if there is none.
pub fn lima_ctx_free(file: &DrmFile, id: LimaCtxId) -> Result {
    let mgr = &LimaDrmPriv::of(file)?.ctx_mgr;
    mgr.lock.lock();
    let ctx = mgr.handles.with(|handles| handles.remove(&id.0));
    let result = ctx.map(|ctx| lima_ctx_put(&ctx)).ok_or(Errno::EINVAL);
    mgr.lock.unlock();
    result
}

/// `lima_ctx_get`, and `lima_ctx_put` once `f` is done.
pub(super) fn with_ctx<R>(
    mgr: &LimaCtxMgr,
    id: LimaCtxId,
    f: impl FnOnce(&LimaCtx) -> Result<R>,
) -> Result<R> {
    mgr.lock.lock();
    let ctx = mgr.handles.with(|handles| handles.get(&id.0).cloned());
    let ctx = ctx.inspect(|ctx| ctx.refcnt.get());
    mgr.lock.unlock();
    let ctx = ctx.ok_or(Errno::ENOENT)?;
    let result = f(&ctx);
    lima_ctx_put(&ctx);
    result
}

/// `lima_ctx_mgr_fini`: the file is closed.
pub(super) fn lima_ctx_mgr_fini(mgr: &LimaCtxMgr) {
    for ctx in mgr.handles.replace(BTreeMap::new()).into_values() {
        lima_ctx_put(&ctx);
    }
}
