// SPDX-License-Identifier: MIT OR Apache-2.0
use std::sync::Arc;

use lockdep::sync::Mutex;

fn main() {
    let guard = Arc::new(Mutex::new(0)).lock_arc();
    lockdep::thread::spawn(move || drop(guard));
}
