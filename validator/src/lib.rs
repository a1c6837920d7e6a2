// SPDX-License-Identifier: MIT OR Apache-2.0
//! A runtime lock validator: it learns in which order lock *classes* are taken and proves from one harmless
//! run that a deadlock is possible in another.
//!
//! ```
//! use lockdep::{Validator, sync::Mutex};
//!
//! let accounts = Mutex::new(());
//! let journal = Mutex::new(());
//! let v = Validator::new();
//! v.scope(|| {
//!     drop((accounts.lock(), journal.lock())); // order: accounts, then journal
//!     drop((journal.lock(), accounts.lock())); // the other way round, later: nobody hangs
//! });
//! if lockdep::ENABLED {
//!     assert_eq!(v.reports()[0].kind().name(), "circular");
//! } else {
//!     assert!(v.reports().is_empty());
//! }
//! ```
//!
//! The feature `lockdep` switches the validator on; turn it on in tests. Off, every hook is an empty inline
//! function and every per-lock field is zero-sized.

pub mod event;
pub mod hook;
pub mod ids;
pub mod limits;
mod macros;
pub mod places;
pub mod recorded;
pub mod report;
pub mod settings;
pub mod stats;
pub mod sync;
pub mod thread;
pub mod ww;

#[cfg(feature = "lockdep")]
pub mod engine;
#[cfg(feature = "lockdep")]
pub mod litmus;
#[cfg(feature = "lockdep")]
mod runtime;
#[cfg(not(feature = "lockdep"))]
#[path = "runtime/disabled.rs"]
mod runtime;

pub use event::{Context, HeldAs, LockKind, Mode, Place, WaitType};
pub use hook as raw;
pub use hook::{DynamicClass, LockClass};
pub use recorded::{Recorded, RecordedOp};
pub use report::model::{Report, ReportKind, Severity};
pub use runtime::{Builder, Validator, global};
pub use settings::{PanicOn, Stacks};
pub use stats::{Stats, dump};
pub use sync::might_lock;

/// True if this build records and judges lock operations (feature `lockdep`).
pub const ENABLED: bool = cfg!(feature = "lockdep");
