// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Calls. A context has two references while the DSP is at it: the caller's and the DSP's. A caller that a signal
//! interrupts leaves its own behind with the session, so the last one may be dropped when the DSP answers, in an
//! interrupt; a work item does that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use lockdep::LockClass;

use super::dsp::{Message, Method};
use super::map::{FastrpcMap, fastrpc_map_create, fastrpc_map_put};
use super::{FastrpcChannelCtx, FastrpcFile, FastrpcUser, fastrpc_user_get, fastrpc_user_put};
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::{Fd, FileTable};
use crate::kernel::live::Live;
use crate::kernel::reclaim;
use crate::kernel::wait::Completion;
use crate::kernel::workqueue::{Work, work_class};

static PUT_WORK: LockClass = work_class("(work_completion)(&ctx->put_work)");

/// `struct fastrpc_invoke_ctx`.
pub(super) struct FastrpcInvokeCtx {
    fl: Arc<FastrpcUser>,
    ctxid: OnceLock<u64>,
    /// What the call uses; the caller's, then whoever frees the context.
    maps: KCell<Vec<Arc<FastrpcMap>>>,
    work: Completion,
    /// The DSP's answer: whether it could do what it was asked for.
    done: AtomicBool,
    put_work: OnceLock<Arc<Work>>,
    refcount: Kref,
    live: Live,
}

fn fastrpc_context_alloc(fl: &Arc<FastrpcUser>, maps: usize) -> Result<Arc<FastrpcInvokeCtx>> {
    reclaim::kmalloc()?;
    if maps > 0 {
        // The lists of maps and of overlaps.
        reclaim::kmalloc()?;
        reclaim::kmalloc()?;
    }
    let cctx = &fl.cctx;
    let ctx = Arc::new(FastrpcInvokeCtx {
        fl: fastrpc_user_get(fl),
        ctxid: OnceLock::new(),
        maps: KCell::new("the maps of a call", Vec::new()),
        work: Completion::new(&cctx.core.background),
        done: AtomicBool::new(false),
        put_work: OnceLock::new(),
        refcount: Kref::new(),
        live: cctx.core.born("fastrpc_invoke_ctx"),
    });
    let myself = Arc::downgrade(&ctx);
    ctx.put_work.get_or_init(|| {
        Work::new(&PUT_WORK, move || {
            if let Some(ctx) = myself.upgrade() {
                fastrpc_context_put_wq(&ctx);
            }
        })
    });
    fl.lock.lock();
    fl.lists.with(|lists| lists.pending.push(ctx.clone()));
    fl.lock.unlock();
    let flags = cctx.lock.lock_irqsave();
    cctx.channel.with(|channel| {
        channel.last += 1;
        channel.calls.insert(*ctx.ctxid.get_or_init(|| channel.last), ctx.clone());
    });
    cctx.lock.unlock_irqrestore(flags);
    Ok(ctx)
}

/// `fastrpc_context_put`. The last one sleeps.
pub(super) fn fastrpc_context_put(ctx: &FastrpcInvokeCtx) {
    if ctx.refcount.put() {
        fastrpc_context_free(ctx);
    }
}

fn fastrpc_context_free(ctx: &FastrpcInvokeCtx) {
    for map in ctx.maps.replace(Vec::new()) {
        fastrpc_map_put(&map);
    }
    let cctx = &ctx.fl.cctx;
    let flags = cctx.lock.lock_irqsave();
    cctx.channel.with(|channel| ctx.ctxid.get().and_then(|id| channel.calls.remove(id)));
    cctx.lock.unlock_irqrestore(flags);
    fastrpc_user_put(&ctx.fl);
    ctx.live.freed();
}

fn fastrpc_context_put_wq(ctx: &FastrpcInvokeCtx) {
    fastrpc_context_put(ctx);
}

/// `fastrpc_rpmsg_callback`: the DSP has answered; an interrupt.
pub(super) fn fastrpc_rpmsg_callback(cctx: &FastrpcChannelCtx, ctxid: u64, done: bool) {
    let flags = cctx.lock.lock_irqsave();
    let ctx = cctx.channel.with(|channel| channel.calls.get(&ctxid).cloned());
    cctx.lock.unlock_irqrestore(flags);
    let Some(ctx) = ctx else { return };
    ctx.done.store(done, Ordering::Release);
    ctx.work.complete();
    if let Some(work) = ctx.put_work.get() {
        cctx.core.system_wq.queue_work(work);
    }
}

/// `fastrpc_internal_invoke`.
fn fastrpc_internal_invoke(
    fl: &Arc<FastrpcUser>,
    method: Method,
    maps: usize,
    get_map: impl Fn(usize) -> Result<Arc<FastrpcMap>>,
) -> Result {
    let ctx = fastrpc_context_alloc(fl, maps)?;
    let result = fastrpc_get_args(&ctx, maps, get_map)
        .and_then(|()| fastrpc_invoke_send(&ctx, method))
        .and_then(|()| ctx.work.wait_interruptible());
    if result == Err(Errno::EINTR) {
        // The DSP may still be at it: the session keeps the call.
        return result;
    }
    fl.lock.lock();
    fl.lists.with(|lists| lists.pending.retain(|other| !Arc::ptr_eq(other, &ctx)));
    fl.lock.unlock();
    let done = ctx.done.load(Ordering::Acquire);
    fastrpc_context_put(&ctx);
    result.and(if done { Ok(()) } else { Err(Errno::EIO) })
}

/// `fastrpc_get_args`: what was mapped before an error goes with the context.
fn fastrpc_get_args(
    ctx: &FastrpcInvokeCtx,
    maps: usize,
    get_map: impl Fn(usize) -> Result<Arc<FastrpcMap>>,
) -> Result {
    for index in 0..maps {
        let map = get_map(index)?;
        ctx.maps.with(|list| list.push(map));
    }
    // The message for the DSP.
    reclaim::alloc_page()
}

fn fastrpc_invoke_send(ctx: &Arc<FastrpcInvokeCtx>, method: Method) -> Result {
    let ctxid = *ctx.ctxid.get().ok_or(Errno::EINVAL)?;
    let buffers = ctx.maps.with(|maps| maps.iter().map(|map| map.table.clone()).collect());
    ctx.refcount.get();
    ctx.fl.cctx.dsp.send(Message { ctxid, method, buffers });
    Ok(())
}

/// `fastrpc_invoke`: the DSP runs a function on these buffers.
///
/// # Errors
/// -EBADF, -EINVAL, -ENOMEM, -EINTR (injected): the DSP may still do it then; -EIO if the DSP cannot.
pub fn fastrpc_invoke(file: &FastrpcFile, files: &FileTable, method: Method, buffers: &[Fd]) -> Result {
    let fl = &file.fl;
    fastrpc_internal_invoke(fl, method, buffers.len(), |index| fastrpc_map_create(fl, files, buffers[index]))
}

/// `fastrpc_req_mem_map`: maps a buffer until it is unmapped or the session ends.
///
/// # Errors
/// As [`fastrpc_invoke`]; with -EINTR the buffer is not mapped.
pub fn fastrpc_req_mem_map(file: &FastrpcFile, files: &FileTable, fd: Fd) -> Result {
    let fl = &file.fl;
    let map = fastrpc_map_create(fl, files, fd)?;
    let result = fastrpc_internal_invoke(fl, Method::Map, 0, |_| Err(Errno::EINVAL));
    let again = map.is_mapped_by_ioctl();
    if result.is_ok() && !again {
        map.set_mapped_by_ioctl(true);
    } else {
        fastrpc_map_put(&map);
    }
    result
}

/// `fastrpc_req_mem_unmap`.
///
/// # Errors
/// -EINVAL if it is not mapped, or as [`fastrpc_invoke`]; it stays mapped then.
pub fn fastrpc_req_mem_unmap(file: &FastrpcFile, fd: Fd) -> Result {
    let fl = &file.fl;
    fl.lock.lock();
    let map = fl.lists.with(|lists| lists.mapped(fd));
    fl.lock.unlock();
    let map = map.ok_or(Errno::EINVAL)?;
    fastrpc_internal_invoke(fl, Method::Unmap, 0, |_| Err(Errno::EINVAL))?;
    map.set_mapped_by_ioctl(false);
    fastrpc_map_put(&map);
    Ok(())
}
