// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the borrow checker refuses.

use lockdep::LockClass;
use lockdep::sync::Mutex;

fn a_class_lives_for_ever() {
    let class = LockClass::new("local");
    drop(Mutex::with_class(&class, 0).lock());
}

fn a_guard_does_not_outlive_the_lock() {
    let guard = {
        let mutex = Mutex::new(0);
        mutex.lock()
    };
    drop(guard);
}

fn nobody_else_has_access_while_it_is_locked() {
    let mut mutex = Mutex::new(0);
    let guard = mutex.lock();
    *mutex.get_mut() = 1;
    drop(guard);
}

fn main() {}
