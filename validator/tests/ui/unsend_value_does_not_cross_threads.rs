// SPDX-License-Identifier: MIT OR Apache-2.0
use std::rc::Rc;

use lockdep::sync::Mutex;

static SHARED: Mutex<Option<Rc<u8>>> = Mutex::new(None);

fn main() {
    drop(SHARED.lock());
}
