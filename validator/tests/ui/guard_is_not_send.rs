// SPDX-License-Identifier: MIT OR Apache-2.0
use lockdep::sync::{Mutex, ReentrantMutex, RwLock};

fn send<T: Send>(_: T) {}

fn main() {
    let (mutex, rwlock, reentrant) = (Mutex::new(0), RwLock::new(0), ReentrantMutex::new(0));
    send(mutex.lock());
    send(rwlock.read());
    send(rwlock.upgradable_read());
    send(reentrant.lock());
}
