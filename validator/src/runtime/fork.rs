// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fork: the child must not inherit a validator lock that a thread held which does not exist there.
//!
//! Whoever takes a lock of the validator passes a gate first. A fork shuts the gate and waits until everybody is
//! out; both processes open it again after. So at the moment of the fork no validator lock is held and no thread
//! waits for one. The fast path takes no lock and needs no gate. Nothing of the user's (callbacks, standard error)
//! is waited for inside.
//!
//! Forks may overlap: the gate is open when the last one is through. A thread that forks from inside (only an
//! allocator or the closure of `with_engine` could) does not wait for itself.

#[cfg(unix)]
pub(super) use unix::{Gate, prepare_once};

#[cfg(not(unix))]
pub(super) use elsewhere::{Gate, prepare_once};

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::sync::Once;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// One fork under way; what is below counts the threads inside.
    const FORK: u32 = 1 << 20;

    static GATE: AtomicU32 = AtomicU32::new(0);

    thread_local! {
        /// This thread is inside.
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }

    /// A pass through the gate, until it is dropped. Inside another one it is nothing.
    #[must_use]
    pub(in crate::runtime) struct Gate {
        outermost: bool,
    }

    impl Gate {
        pub(in crate::runtime) fn pass() -> Self {
            if INSIDE.get() {
                return Gate { outermost: false };
            }
            // Acquire: what the thread that forked, and those before it, did inside is seen here.
            while GATE.fetch_add(1, Ordering::Acquire) >= FORK {
                GATE.fetch_sub(1, Ordering::Release);
                while GATE.load(Ordering::Relaxed) >= FORK {
                    std::thread::yield_now();
                }
            }
            INSIDE.set(true);
            Gate { outermost: true }
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            if self.outermost {
                INSIDE.set(false);
                // Release: pairs with the load in `before`.
                GATE.fetch_sub(1, Ordering::Release);
            }
        }
    }

    extern "C" fn before() {
        let myself = u32::from(INSIDE.get());
        GATE.fetch_add(FORK, Ordering::Acquire);
        while GATE.load(Ordering::Acquire) % FORK > myself {
            std::thread::yield_now();
        }
    }

    extern "C" fn after() {
        GATE.fetch_sub(FORK, Ordering::Release);
    }

    extern "C" fn after_in_child() {
        // Only this thread is left; whoever stood at the gate or forked, too, is gone.
        GATE.store(u32::from(INSIDE.get()), Ordering::Release);
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
    #[must_use]
    pub(in crate::runtime) struct Gate(());

    impl Gate {
        pub(in crate::runtime) fn pass() -> Self {
            Gate(())
        }
    }

    pub(in crate::runtime) fn prepare_once() {}
}
