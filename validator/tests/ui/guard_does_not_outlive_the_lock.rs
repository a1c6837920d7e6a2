// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::sync::Mutex;

fn main() {
    let guard = {
        let mutex = Mutex::new(0);
        mutex.lock()
    };
    drop(guard);
}
