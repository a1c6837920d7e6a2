// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::sync::{Condvar, RwLock};

fn main() {
    let lock = RwLock::new(0);
    Condvar::new().wait(&mut lock.write());
}
