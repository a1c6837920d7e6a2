// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the type checker refuses.

use std::rc::Rc;
use std::sync::Arc;

use lockdep::sync::{Condvar, Mutex, ReentrantMutex, RwLock};

fn send<T: Send>(_: T) {}

fn a_guard_stays_in_its_thread() {
    send(Mutex::new(0).lock());
    send(RwLock::new(0).read());
    send(RwLock::new(0).upgradable_read());
    send(ReentrantMutex::new(0).lock());
    send(Arc::new(Mutex::new(0)).lock_arc());
}

static A_LOCK_DOES_NOT_MAKE_A_VALUE_SEND: Mutex<Option<Rc<u8>>> = Mutex::new(None);

fn a_condvar_wants_the_guard_of_a_mutex() {
    Condvar::new().wait(&mut RwLock::new(0).write());
}

fn an_assertion_wants_a_lock() {
    let mutex = Mutex::new(0);
    let guard = mutex.lock();
    lockdep::assert_held!(guard);
}

struct Mine;

impl lockdep::sync::Watched for Mine {
    fn __lockdep_map(&self) -> &lockdep::raw::LockMap {
        loop {}
    }
}

fn main() {}
