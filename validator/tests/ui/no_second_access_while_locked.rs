// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::sync::Mutex;

fn main() {
    let mut mutex = Mutex::new(0);
    let guard = mutex.lock();
    *mutex.get_mut() = 1;
    drop(guard);
}
