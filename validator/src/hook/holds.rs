// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! The hooks for what can be done to a hold besides letting go of it, and for waits that are not for locks.
//!
//! Kernel counterpart: `lock_set_class()`, `lock_pin_lock()`, `rcu_dereference_check()`; for completions none.

use core::sync::atomic::{AtomicU16, Ordering};

use super::{Key, LockMap, held, raise};
use crate::event::{Event, PinOp, Place};
use crate::hook::{Held, LockClass};
use crate::runtime::{Thread, slow};

/// Turns a hold into one of this class (or of the one it has) and subclass, as if the lock had been released and taken
/// anew: what was taken under it is checked again. The lock itself stays in its class (kernel: `lock_set_class()`, where it
/// does not, and `lock_set_subclass()`).
///
/// # Panics
/// If that is a finding and the validator is set to panic on it. It has been done then.
#[track_caller]
pub fn reclass(map: &LockMap, class: Option<&'static LockClass>, subclass: u8) {
    let key = class.map_or(map.key(), Key::of_class);
    raise(slow::event_at(map, key, subclass, Place::caller(), |instance, class, place| Event::Reclass {
        instance,
        class,
        check: key.is_checked(),
        place,
    }));
}

/// What [`pin`] gives and [`unpin`] wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PinCookie(u16);

/// Says that the lock, which this thread holds, must stay held until [`unpin`]. Meanwhile this thread does not use the
/// fast path.
///
/// # Panics
/// If the thread does not hold it (`pin`) and the validator is set to panic on that.
#[track_caller]
pub fn pin(map: &LockMap) -> PinCookie {
    // Odd, so never 0.
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let cookie = NEXT.fetch_add(2, Ordering::Relaxed);
    pin_op(map, PinOp::Pin(cookie));
    PinCookie(cookie)
}

/// Sets a pin again that was lifted for a while.
///
/// # Panics
/// As [`pin`].
#[track_caller]
pub fn repin(map: &LockMap, cookie: PinCookie) {
    pin_op(map, PinOp::Repin(cookie.0));
}

/// Lifts a pin.
///
/// # Panics
/// If there is none, or not with this cookie (`pin`), and the validator is set to panic on that.
#[track_caller]
pub fn unpin(map: &LockMap, cookie: PinCookie) {
    pin_op(map, PinOp::Unpin(cookie.0));
}

#[track_caller]
fn pin_op(map: &LockMap, op: PinOp) {
    raise(slow::event(map, Place::caller(), |instance, class, place| Event::Pin {
        instance,
        class,
        op,
        place,
    }));
}

/// Reports `rcu` if this thread holds none of these: a read-side section, or a lock that writers of the same data hold
/// (kernel: the condition of `rcu_dereference_check()`).
#[track_caller]
pub fn assert_any_held(maps: &[&LockMap]) {
    if let Some(first) = maps.first()
        && maps.iter().all(|map| held(map) == Held::No)
    {
        raise(slow::event(first, Place::caller(), |instance, class, place| Event::RcuUnprotected {
            instance,
            class,
            place,
        }));
    }
}

/// Says that this thread is about to wait until an event happens, for as long as it takes. The map stands for the
/// event: it is never acquired.
///
/// # Panics
/// If that is a finding and the validator is set to panic on it.
#[track_caller]
pub fn wait(map: &LockMap) {
    if map.is_checked() {
        raise(slow::event(map, Place::caller(), |instance, class, place| Event::Wait {
            instance,
            class,
            place,
        }));
    }
}

/// Says that the event has happened, or is about to: nobody gets here who does not get the locks that this thread holds.
///
/// # Panics
/// As [`wait`].
#[track_caller]
pub fn complete(map: &LockMap) {
    if map.is_checked() && !Thread::holds_nothing() {
        raise(slow::event(map, Place::caller(), |instance, class, place| Event::Complete {
            instance,
            class,
            place,
        }));
    }
}
