// SPDX-License-Identifier: MIT OR Apache-2.0
//! The locks of the contender that this program is built as.

/// Takes them all in the same way: `$unwrap` is for those that may be poisoned.
macro_rules! locks {
    ($maker:path $(, $unwrap:ident)?) => {
        use $maker as maker;

        pub struct Mutex(maker::Mutex<u64>);
        pub struct RwLock(maker::RwLock<u64>);

        impl Mutex {
            #[inline(always)]
            #[track_caller]
            pub fn new() -> Self {
                Mutex(maker::Mutex::new(0))
            }

            #[inline(always)]
            #[track_caller]
            pub fn lock(&self) -> maker::MutexGuard<'_, u64> {
                self.0.lock()$(.$unwrap())?
            }
        }

        impl RwLock {
            #[inline(always)]
            #[track_caller]
            pub fn new() -> Self {
                RwLock(maker::RwLock::new(0))
            }

            #[inline(always)]
            #[track_caller]
            pub fn read(&self) -> maker::RwLockReadGuard<'_, u64> {
                self.0.read()$(.$unwrap())?
            }
        }
    };
}

#[cfg(feature = "std")]
locks!(std::sync, unwrap);
#[cfg(feature = "parking-lot")]
locks!(parking_lot);
#[cfg(feature = "parking-lot-detection")]
locks!(parking_lot);
#[cfg(feature = "lockdep-off")]
locks!(lockdep::sync);
#[cfg(feature = "tracing-mutex")]
locks!(tracing_mutex::parkinglot::tracing);
#[cfg(feature = "deloxide")]
locks!(deloxide);
#[cfg(feature = "no-deadlocks")]
locks!(no_deadlocks, unwrap);

impl Mutex {
    /// A lock that is like no other: of a class of its own for those who have classes.
    pub fn unheard_of() -> Self {
        #[cfg(feature = "lockdep-off")]
        return Mutex(lockdep::sync::Mutex::with_class(
            Box::leak(Box::new(lockdep::LockClass::new("new"))),
            0,
        ));
        #[cfg(not(feature = "lockdep-off"))]
        Mutex::new()
    }
}

/// Whatever has to be switched on.
pub fn start() {
    #[cfg(feature = "deloxide")]
    deloxide::Deloxide::new()
        .callback(|deadlock| panic!("there is no deadlock here: {deadlock:?}"))
        .start()
        .expect("it starts");
}
