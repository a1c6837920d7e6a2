// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes that come and go with what they belong to: a queue, a mounted file system, a plug-in.
//!
//! The class lies on the heap; who makes locks of it keeps it in memory, so the address that identifies it is not used
//! for another class while a lock bears it. When its owner drops it, every validator forgets the class: its
//! dependencies, its usage, and all chains (which are only a cache). Class numbers are never used again, so what a
//! thread still knows of a chain with the class in it can be true of no later one.
//!
//! Locks of such a class never take the fast path, and while a thread holds one its releases do not either: that is how
//! it is known who holds the class when it goes, at no cost to anybody else.
//!
//! What is lost: an order of two other classes that was only ever seen with a lock of this class taken between them. What is
//! left: about two hundred bytes for each class, for its number and its name.
//!
//! Kernel counterpart: `lockdep_register_key()`, `lockdep_unregister_key()`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use super::super::LockClass;
use crate::event::Place;
use crate::runtime::{inside, slow};

/// What a class on the heap has besides.
#[derive(Debug)]
pub(in crate::hook) struct Dynamic {
    name: Box<str>,
    registered: AtomicBool,
    /// How many locks of it are held, counted once for each thread.
    held: AtomicU32,
}

/// Classes by address, each with the number of locks that bear it.
static LENT: Mutex<BTreeMap<usize, (Arc<LockClass>, usize)>> = Mutex::new(BTreeMap::new());

/// The class that a lock bears. Not a reference: with the last lock the class goes too, while those who were handed the lock
/// to drop it have not returned yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassRef(*const LockClass);

// SAFETY: it is used as a `&LockClass`, which may be sent.
unsafe impl Send for ClassRef {}
// SAFETY: it is used as a `&LockClass`, which may be shared.
unsafe impl Sync for ClassRef {}

impl ClassRef {
    /// One that is in a static.
    pub(super) const fn to(class: &'static LockClass) -> Self {
        ClassRef(class)
    }

    pub(super) fn address(self) -> usize {
        self.0.addr()
    }
}

impl Deref for ClassRef {
    type Target = LockClass;

    fn deref(&self) -> &LockClass {
        // SAFETY: a static; or `LENT` keeps the class alive until the lock gives it back when it is dropped, and nobody
        // looks for the class of a lock after that.
        unsafe { &*self.0 }
    }
}

/// A class that goes away when this is dropped.
///
/// ```
/// use lockdep::{DynamicClass, LockClass, sync::Mutex};
///
/// static QUEUE: LockClass = LockClass::new("queue");
///
/// struct Queue { jobs: Mutex<Vec<u32>>, _class: DynamicClass }
///
/// impl Queue {
///     fn new(name: &str) -> Self {
///         let class = DynamicClass::new(name, &QUEUE);
///         Queue { jobs: Mutex::with_dynamic_class(&class, Vec::new()), _class: class }
///     }
/// }
///
/// let (mail, print) = (Queue::new("mail"), Queue::new("print")); // each obeys an order of its own
/// mail.jobs.lock().push(*print.jobs.lock().first().unwrap_or(&0));
/// ```
pub struct DynamicClass(Arc<LockClass>);

impl DynamicClass {
    /// A class of this name with the properties of `like`.
    #[must_use]
    pub fn new(name: &str, like: &LockClass) -> Self {
        let dynamic =
            Dynamic { name: name.into(), registered: AtomicBool::new(true), held: AtomicU32::new(0) };
        DynamicClass(Arc::new(like.with_dynamic(dynamic)))
    }

    /// The same as dropping it, with a place for the report.
    ///
    /// # Panics
    /// If a lock of it is held (`key`) and the validator is set to panic on that. The class is gone then.
    #[track_caller]
    pub fn unregister(self) {
        super::raise(self.remove(Place::caller()));
    }

    fn remove(&self, place: Place) -> Option<slow::Verdict> {
        let dynamic = self.0.dynamic()?;
        if !dynamic.registered.swap(false, Ordering::Relaxed) {
            return None;
        }
        let address = Arc::as_ptr(&self.0).addr();
        let verdict = slow::unregister(address, dynamic.held.load(Ordering::Relaxed), place);
        if inside(|| !LENT.lock().contains_key(&address)) {
            slow::forget_key(address);
        }
        verdict
    }

    /// The class, for one more lock, which gives it back with [`give_back`].
    pub(super) fn lend(&self) -> ClassRef {
        let class = ClassRef(Arc::as_ptr(&self.0));
        inside(|| LENT.lock().entry(class.address()).or_insert_with(|| (self.0.clone(), 0)).1 += 1);
        class
    }
}

impl Drop for DynamicClass {
    fn drop(&mut self) {
        // A destructor does not unwind.
        drop(self.remove(Place::Unknown));
    }
}

impl fmt::Debug for DynamicClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamicClass").field(&self.0.name()).finish()
    }
}

/// One lock of the class at this address is gone, and with it perhaps the class.
pub(super) fn give_back(address: usize) {
    let last = inside(|| {
        let mut lent = LENT.lock();
        let (_, locks) = lent.get_mut(&address)?;
        *locks -= 1;
        if *locks == 0 { lent.remove(&address) } else { None }
    });
    if let Some((class, _)) = last
        && class.dynamic().is_some_and(|dynamic| !dynamic.is_registered())
    {
        slow::forget_key(address);
    }
}

impl Dynamic {
    pub(in crate::hook) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }
}

/// A lock of the class is held by one thread, until this is dropped.
#[derive(Debug)]
pub(crate) struct Holding(Arc<LockClass>);

impl Holding {
    /// Begins to hold a lock of this class; none if the class is a static.
    pub(super) fn of(class: &LockClass) -> Option<Self> {
        class.dynamic()?;
        let (class, _) = LENT.lock().get(&core::ptr::from_ref(class).addr())?.clone();
        class.dynamic()?.held.fetch_add(1, Ordering::Relaxed);
        Some(Holding(class))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(dynamic) = self.0.dynamic() {
            dynamic.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
