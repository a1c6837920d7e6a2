// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fork: the child must not inherit a validator lock that a thread held which does not exist there.
//!
//! Every slow path passes a gate. Before a fork the gate is shut and the forking thread waits until everybody is
//! out; both processes open it again after. So at the moment of the fork no validator lock is held and no
//! thread waits for one. The fast path takes no lock and needs no gate.
//!
//! A thread that forks from inside the validator (a callback of a sink) is not waited for.

#[cfg(unix)]
pub(super) use unix::{Gate, prepare_once};

#[cfg(not(unix))]
pub(super) use elsewhere::{Gate, prepare_once};

#[cfg(unix)]
mod unix {
    use std::sync::Once;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::runtime::Thread;

    const SHUT: u32 = 1 << 31;

    /// Number of threads inside; the top bit while a fork is under way.
    static GATE: AtomicU32 = AtomicU32::new(0);

    /// A pass through the gate.
    pub(in crate::runtime) struct Gate(());

    impl Gate {
        pub(in crate::runtime) fn pass() -> Self {
            loop {
                if GATE.fetch_add(1, Ordering::Acquire) & SHUT == 0 {
                    return Gate(());
                }
                GATE.fetch_sub(1, Ordering::Release);
                while GATE.load(Ordering::Relaxed) & SHUT != 0 {
                    std::thread::yield_now();
                }
            }
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            GATE.fetch_sub(1, Ordering::Release);
        }
    }

    extern "C" fn before() {
        let inside = u32::from(Thread::is_busy());
        GATE.fetch_or(SHUT, Ordering::Acquire);
        while GATE.load(Ordering::Acquire) & !SHUT > inside {
            std::thread::yield_now();
        }
    }

    extern "C" fn after() {
        GATE.fetch_and(!SHUT, Ordering::Release);
    }

    extern "C" fn after_in_child() {
        // Only this thread is left; whoever stood at the gate is gone.
        GATE.store(u32::from(Thread::is_busy()), Ordering::Release);
    }

    /// Registers the handlers, once for the process.
    pub(in crate::runtime) fn prepare_once() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the handlers are functions of this program that live for ever and do not unwind.
            unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after_in_child)) };
        });
    }
}

#[cfg(not(unix))]
mod elsewhere {
    /// Nothing forks here.
    pub(in crate::runtime) struct Gate(());

    impl Gate {
        pub(in crate::runtime) fn pass() -> Self {
            Gate(())
        }
    }

    pub(in crate::runtime) fn prepare_once() {}
}
