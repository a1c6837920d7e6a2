// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::sync::Mutex;

fn main() {
    let mutex = Mutex::new(0);
    let guard = mutex.lock();
    lockdep::assert_held!(guard);
}
