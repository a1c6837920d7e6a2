// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lock types with parking_lot's interface that are watched by the validator.

mod mutex;

pub use mutex::{Mutex, MutexGuard, RawMutex};
