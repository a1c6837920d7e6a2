// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Read-side sections of RCU, as the validator sees them: a lock that is taken for reading, recursively, and has no place
//! in the order of locks. What counts is that no lock may sleep in one.
//!
//! Nothing is ever reclaimed here, so there is nothing to wait for. Kernel counterpart: `include/linux/rcupdate.h`.

use lockdep::raw::{self, Acquire, LockMap};
use lockdep::{LockClass, WaitType};

use crate::kernel::irq;

static RCU: LockClass = class("rcu_read_lock", WaitType::Config);
static RCU_MAP: LockMap = LockMap::new(&RCU);
static RCU_BH: LockClass = class("rcu_read_lock_bh", WaitType::Config);
static RCU_BH_MAP: LockMap = LockMap::new(&RCU_BH);
static RCU_SCHED: LockClass = class("rcu_read_lock_sched", WaitType::Spin);
static RCU_SCHED_MAP: LockMap = LockMap::new(&RCU_SCHED);

/// A section may begin anywhere; `inner` says what may be waited for inside.
const fn class(name: &'static str, inner: WaitType) -> LockClass {
    LockClass::new(name).strict().unchecked().waits_outer(WaitType::Free).waits(inner)
}

/// `rcu_read_lock`.
#[track_caller]
pub fn rcu_read_lock() {
    raw::acquire(&RCU_MAP, Acquire::RECURSIVE_READ);
}

/// `rcu_read_unlock`.
#[track_caller]
pub fn rcu_read_unlock() {
    raw::release(&RCU_MAP);
}

/// `rcu_read_lock_bh`: and no bottom half runs on this CPU meanwhile.
#[track_caller]
pub fn rcu_read_lock_bh() {
    irq::local_bh_disable();
    raw::acquire(&RCU_BH_MAP, Acquire::RECURSIVE_READ);
}

/// `rcu_read_unlock_bh`.
#[track_caller]
pub fn rcu_read_unlock_bh() {
    raw::release(&RCU_BH_MAP);
    irq::local_bh_enable();
}

/// `rcu_read_lock_sched`: and the scheduler takes the CPU away from nobody meanwhile.
#[track_caller]
pub fn rcu_read_lock_sched() {
    raw::acquire(&RCU_SCHED_MAP, Acquire::RECURSIVE_READ);
}

/// `rcu_read_unlock_sched`.
#[track_caller]
pub fn rcu_read_unlock_sched() {
    raw::release(&RCU_SCHED_MAP);
}
