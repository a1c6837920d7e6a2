// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::LockClass;
use lockdep::sync::Mutex;

fn main() {
    let class = LockClass::new("local");
    let mutex = Mutex::with_class(&class, 0);
    drop(mutex.lock());
}
