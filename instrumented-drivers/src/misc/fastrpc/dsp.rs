// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The signal processor: takes messages, works on the buffers they name, answers with an interrupt. A test can make it
//! pause between two messages.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::FastrpcChannelCtx;
use crate::dma_buf::SgTable;
use crate::kernel::irq;
use crate::kernel::kthread::{Background, Kthread};
use crate::kernel::shmem::PAGE_SIZE;

/// What the DSP is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Keep a buffer mapped.
    Map,
    /// Forget it.
    Unmap,
    /// Write this to the first byte of each page.
    Fill(u8),
    /// Something that it cannot do.
    Nonsense,
}

/// A call on its way.
pub(super) struct Message {
    pub(super) ctxid: u64,
    pub(super) method: Method,
    pub(super) buffers: Vec<Arc<SgTable>>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    paused: bool,
}

/// The processor.
pub struct Dsp {
    inbox: Mutex<Inbox>,
    thread: Arc<Kthread>,
}

/// Called in the interrupt: the call, and whether it was done.
type Callback = fn(&FastrpcChannelCtx, u64, bool);

impl Dsp {
    pub(super) fn new(background: &Background, cctx: Weak<FastrpcChannelCtx>, callback: Callback) -> Self {
        let thread = background.kthread("dsp", move || {
            if let Some(cctx) = cctx.upgrade() {
                run(&cctx, callback);
            }
        });
        Dsp { inbox: Mutex::default(), thread }
    }

    pub(super) fn send(&self, message: Message) {
        self.inbox.lock().messages.push_back(message);
        self.thread.poke();
    }

    /// It leaves further messages where they are.
    pub fn pause(&self) {
        self.inbox.lock().paused = true;
    }

    /// It takes them.
    pub fn go_on(&self) {
        self.inbox.lock().paused = false;
        self.thread.poke();
    }

    /// How many messages it has not taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inbox.lock().messages.len()
    }

    fn next(&self) -> Option<Message> {
        let mut inbox = self.inbox.lock();
        if inbox.paused { None } else { inbox.messages.pop_front() }
    }
}

fn run(cctx: &FastrpcChannelCtx, callback: Callback) {
    while let Some(Message { ctxid, method, buffers }) = cctx.dsp().next() {
        if let Method::Fill(value) = method {
            for buffer in &buffers {
                (0..buffer.pages()).for_each(|page| buffer.write(page * PAGE_SIZE, value));
            }
        }
        irq::hardirq_threaded(|| callback(cctx, ctxid, method != Method::Nonsense));
    }
}

crate::kernel::opaque_debug!(Dsp);
