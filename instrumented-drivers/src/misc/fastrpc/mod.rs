// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! `fastrpc`: a program calls functions that run on a signal processor (DSP), with buffers as arguments. The driver
//! exports buffers ([`buf`]) and imports them ([`map`]); each call is a context ([`invoke`]) that the DSP answers from
//! an interrupt.
//!
//! # Locking
//!
//! | lock | kind | protects |
//! |---|---|---|
//! | `&buf->lock` | mutex | the attachments of a buffer |
//! | `&fl->lock` | spinlock | a session's maps and its pending calls |
//! | `&data->lock` | spinlock, taken in interrupts | the calls that the DSP knows by number, the sessions |
//!
//! A buffer has a reservation lock of its own.
//!
//! | callback, function | holds | takes |
//! |---|---|---|
//! | `attach`, `detach` | nothing | `buf->lock` |
//! | `map_dma_buf`, `unmap_dma_buf`, `vmap` | reservation lock (P0: nothing, the buffer's mutex for `vmap`) | nothing |
//! | `mmap` | P1: reservation lock, asserted; **P2: nothing, but still asserted** | nothing |
//! | `fastrpc_map_create` | nothing | reservation lock twice (attach, map), then `fl->lock` |
//! | `fastrpc_map_lookup` | nothing | `fl->lock` |
//! | `fastrpc_free_map` | nothing | reservation lock twice (unmap, detach), then `fl->lock` |
//! | `fastrpc_rpmsg_callback` | interrupt | `data->lock`, the completion |
//!
//! No order between them: each is dropped before the next is taken. Giving up a map takes sleeping locks, so the
//! interrupt that answers a call hands the call's last reference to a work item.
//!
//! * `(wq_completion)events` → `(work_completion)(&ctx->put_work)`: that one
//! * `(work_completion)(&ctx->put_work)` → `reservation_ww_class_mutex`, `&fl->lock`, `&data->lock`, `&buf->lock`: a call's
//!   maps are given up
//!
//! The assertion in `mmap` is what the patch series should have taken out here as everywhere else; the newest kernel has
//! it still. [`Bug::FastrpcMmapAssert`](crate::bug::Bug) is the switch.
//!
//! Kernel counterpart: `drivers/misc/fastrpc.c`. Not modelled: remote heaps, sessions of several domains, the lists that
//! the DSP sends back. A session that is closed looks at its maps under `fl->lock`, where the kernel takes no lock.

pub mod buf;
pub mod dsp;
mod invoke;
mod map;

pub use invoke::{fastrpc_invoke, fastrpc_req_mem_map, fastrpc_req_mem_unmap};

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::LockClass;

use self::dsp::Dsp;
use self::invoke::{FastrpcInvokeCtx, fastrpc_context_put, fastrpc_rpmsg_callback};
use self::map::{FastrpcMap, fastrpc_map_put};
use crate::kernel::KernelCore;
use crate::kernel::cell::{KCell, Kref};
use crate::kernel::errno::Result;
use crate::kernel::file::{Fd, File, FileMode, FileOps};
use crate::kernel::live::Live;
use crate::kernel::locking::{SpinLock, spin_class};
use crate::kernel::reclaim;

/// The name of the device and of the exporter.
pub const NAME: &str = "fastrpc";

static DATA_LOCK: LockClass = spin_class("&data->lock");
static FL_LOCK: LockClass = spin_class("&fl->lock");

/// Under `data->lock`.
#[derive(Default)]
struct Channel {
    last: u64,
    calls: BTreeMap<u64, Arc<FastrpcInvokeCtx>>,
    users: Vec<Arc<FastrpcUser>>,
}

/// `struct fastrpc_channel_ctx`: the way to the DSP.
pub struct FastrpcChannelCtx {
    core: Arc<KernelCore>,
    lock: SpinLock,
    channel: KCell<Channel>,
    dsp: Dsp,
}

impl FastrpcChannelCtx {
    /// `fastrpc_rpmsg_probe`: a DSP was found.
    #[must_use]
    pub fn probe(core: &Arc<KernelCore>) -> Arc<Self> {
        Arc::new_cyclic(|myself| FastrpcChannelCtx {
            core: core.clone(),
            lock: SpinLock::new(&DATA_LOCK),
            channel: KCell::new("the calls of a channel", Channel::default()),
            dsp: Dsp::new(&core.background, myself.clone(), fastrpc_rpmsg_callback),
        })
    }

    /// The processor on the other side.
    #[must_use]
    pub fn dsp(&self) -> &Dsp {
        &self.dsp
    }

    /// Cuts the circles of calls that were left in the middle; takes no lock.
    pub(crate) fn abandon(&self) {
        self.channel.try_with(|channel| *channel = Channel::default());
    }
}

/// `struct fastrpc_user`: a session of a program.
struct FastrpcUser {
    cctx: Arc<FastrpcChannelCtx>,
    lock: SpinLock,
    lists: KCell<Lists>,
    /// One for the open file, one for each call.
    refcount: Kref,
    live: Live,
}

/// Under `fl->lock`.
#[derive(Default)]
struct Lists {
    maps: Vec<Arc<FastrpcMap>>,
    pending: Vec<Arc<FastrpcInvokeCtx>>,
}

impl Lists {
    /// The map that an ioctl made of this descriptor.
    fn mapped(&self, fd: Fd) -> Option<Arc<FastrpcMap>> {
        self.maps.iter().find(|map| map.fd() == fd && map.is_mapped_by_ioctl()).cloned()
    }
}

fn fastrpc_user_get(fl: &Arc<FastrpcUser>) -> Arc<FastrpcUser> {
    fl.refcount.get();
    fl.clone()
}

fn fastrpc_user_put(fl: &FastrpcUser) {
    if fl.refcount.put() {
        fl.live.freed();
    }
}

/// An open file of the device.
pub struct FastrpcFile {
    fl: Arc<FastrpcUser>,
}

/// `fastrpc_device_open`.
///
/// # Errors
/// -ENOMEM (injected).
pub fn fastrpc_device_open(cctx: &Arc<FastrpcChannelCtx>) -> Result<Arc<File>> {
    reclaim::kmalloc()?;
    let fl = Arc::new(FastrpcUser {
        cctx: cctx.clone(),
        lock: SpinLock::new(&FL_LOCK),
        lists: KCell::new("the maps and calls of a session", Lists::default()),
        refcount: Kref::new(),
        live: cctx.core.born("fastrpc_user"),
    });
    let flags = cctx.lock.lock_irqsave();
    cctx.channel.with(|channel| channel.users.push(fl.clone()));
    cctx.lock.unlock_irqrestore(flags);
    Ok(File::new(&cctx.core, FileMode::READ_WRITE, FastrpcFile { fl }))
}

impl FileOps for FastrpcFile {
    fn release(&self, _file: &Arc<File>) {
        fastrpc_device_release(&self.fl);
    }
}

/// Calls that the DSP has not answered live on, with the maps they use.
fn fastrpc_device_release(fl: &Arc<FastrpcUser>) {
    let cctx = &fl.cctx;
    let flags = cctx.lock.lock_irqsave();
    cctx.channel.with(|channel| channel.users.retain(|user| !Arc::ptr_eq(user, fl)));
    cctx.lock.unlock_irqrestore(flags);
    fl.lock.lock();
    let (pending, maps) = fl.lists.with(|lists| {
        let mapped = |map: &&Arc<FastrpcMap>| map.is_mapped_by_ioctl();
        (core::mem::take(&mut lists.pending), lists.maps.iter().filter(mapped).cloned().collect::<Vec<_>>())
    });
    fl.lock.unlock();
    for ctx in pending {
        fastrpc_context_put(&ctx);
    }
    for map in maps {
        fastrpc_map_put(&map);
    }
    fastrpc_user_put(fl);
}

crate::kernel::opaque_debug!(FastrpcChannelCtx, FastrpcFile);
