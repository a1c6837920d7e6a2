// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only concurrent part: threads, the class look-up, the chain caches, the engine behind one raw lock, and
//! the delivery of reports.
//!
//! | state | where | who writes it |
//! |---|---|---|
//! | held stack, chain key, per-thread chain cache | [`thread`] | its thread only |
//! | class and epoch, number in a lock | `hook/tag.rs` | whoever resolves it; any value is safe |
//! | keys → classes | [`classes`] | the slow path |
//! | clean chains | [`chains`] | the slow path |
//! | engine (graph, classes, findings made) | one `parking_lot` mutex, never watched | the slow path |
//! | stacks, reports, recorded events | a mutex each | the slow path |
//!
//! Lock order: engine, then class keys; each of the others is taken alone. Nothing is called out to (symbols,
//! sinks, user callbacks, stack capture) while one of them is held.
//!
//! Invariant: a chain key reaches a cache only after the engine validated the chain clean, so the caches are
//! filters in front of the engine and can be dropped at any time without changing a verdict.

mod chains;
mod classes;
pub(crate) mod contention;
mod fork;
mod known;
mod passing;
mod record;
mod sink;
pub(crate) mod slow;
mod stack;
mod thread;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::task::{Bits, mix};
use crate::engine::{Engine, Task};
use crate::event::Place;
use crate::hook::{LockClass, LockMap};
use crate::ids::{ClassId, TaskId};
use crate::recorded::{Recorded, RecordedOp};
use crate::report::model::Report;
use crate::settings::{PanicOn, Stacks};
use crate::stats::{Chain, Contention, Stats, UnorderedNesting};
use chains::Chains;
use classes::Registry;
use sink::Sink;
use stack::StackTable;

pub(crate) use passing::{Binding, End, ScopeId};
pub(crate) use sink::Verdict;
use thread::Entered;
pub(crate) use thread::Thread;

/// What the parts are made of that all threads share.
mod shared {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) use parking_lot::Mutex;

    pub(super) type Map<K, V> = dashmap::DashMap<K, V, rustc_hash::FxBuildHasher>;
}

/// How a validator works; fixed when it is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    watch: bool,
    record: bool,
    contention: bool,
    stacks: Stacks,
}

/// The shared part of a validator.
pub(crate) struct Inner {
    /// Different for every validator of the process; never 0.
    epoch: u32,
    config: Config,
    engine: Mutex<Engine>,
    registry: Registry,
    chains: Chains<Box<[Bits]>>,
    /// Two locks of one key were nested at least once: locks that go away matter.
    nests_instances: AtomicBool,
    /// For [`Stats`]; nobody decides by them.
    chain_lookups: AtomicU64,
    chain_hits: AtomicU64,
    stacks: StackTable,
    recorded: Mutex<Vec<Recorded>>,
    /// The events of a class share its name.
    recorded_names: Mutex<FxHashMap<ClassId, Arc<str>>>,
    measured: contention::Table,
    sink: Sink,
    tasks: AtomicU32,
}

// No user code runs while the state is being changed, so an unwinding panic finds it whole.
impl std::panic::RefUnwindSafe for Inner {}
impl std::panic::UnwindSafe for Inner {}

/// Every validator of the process, for classes that go away.
static VALIDATORS: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// The epoch of the newest validator.
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// The epoch after the last one. What locks and threads remember of a validator bears its epoch and outlives it, so none is
/// ever used again.
///
/// # Panics
/// After 2³² validators, each time.
fn next_epoch(last: &AtomicU32) -> u32 {
    let next = |last: u32| last.checked_add(1).filter(|epoch| *epoch != thread::NEVER);
    last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("more than 2^32 validators") + 1
}

impl Inner {
    fn new(config: Config, sink: Sink) -> Self {
        Inner {
            epoch: next_epoch(&EPOCH),
            config,
            engine: Mutex::new(Engine::new()),
            registry: Registry::default(),
            chains: Chains::default(),
            nests_instances: AtomicBool::new(false),
            chain_lookups: AtomicU64::new(0),
            chain_hits: AtomicU64::new(0),
            stacks: StackTable::default(),
            recorded: Mutex::default(),
            recorded_names: Mutex::default(),
            measured: contention::Table::default(),
            sink,
            tasks: AtomicU32::new(0),
        }
    }

    fn new_task(&self) -> Task {
        let id = TaskId(self.tasks.fetch_add(1, Ordering::Relaxed));
        let name = match std::thread::current().name() {
            Some(name) => name.into(),
            None => format!("thread-{}", id.0).into(),
        };
        Task::new(id, name, mix(0, u64::from(self.epoch)))
    }

    /// The class of a lock at a subclass, registered on first use.
    fn class_of(&self, map: &LockMap, subclass: u8) -> ClassId {
        self.registry.class_of(&self.engine, self.epoch, map, subclass)
    }
}

/// A validator: one order graph, and where its reports go.
///
/// There is one for the whole process, [`global`], which watches every thread. A validator of your own
/// watches the threads that run inside its [`scope`](Validator::scope) (and those they start with
/// [`crate::thread::spawn`]) instead, and collects its reports.
///
/// ```
/// use lockdep::{Validator, sync::Mutex};
///
/// let m = Mutex::new(0);
/// let v = Validator::new();
/// v.scope(|| *m.lock() += 1);
/// assert!(v.reports().is_empty());
/// ```
#[derive(Clone)]
pub struct Validator {
    inner: Arc<Inner>,
}

/// Prepares a [`Validator`] that differs from the default.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    print: bool,
    sources: bool,
    panic_on: PanicOn,
}

impl Builder {
    /// When a finding panics, at the place of the finding. Default: [`PanicOn::Certain`].
    pub const fn panic_on(mut self, when: PanicOn) -> Self {
        self.panic_on = when;
        self
    }

    /// Whether findings are printed on standard error. Default: no.
    pub const fn print(mut self, print: bool) -> Self {
        self.print = print;
        self
    }

    /// Whether printed findings show the source lines of their places, if the files are at hand. Default: yes.
    pub const fn sources(mut self, sources: bool) -> Self {
        self.sources = sources;
        self
    }

    /// Whether stacks are captured. Default: where something new is learned.
    pub const fn stacks(mut self, stacks: Stacks) -> Self {
        self.config.stacks = stacks;
        self
    }

    /// Whether every event is written down, for [`Validator::take_recorded`]. Slow. Default: no.
    pub const fn record(mut self, record: bool) -> Self {
        self.config.record = record;
        self
    }

    /// Whether it is measured how long locks are waited for and held, for [`Validator::contention`]. Slow. Default: no.
    pub const fn contention(mut self, measure: bool) -> Self {
        self.config.contention = measure;
        self
    }

    /// Whether it watches at all. Default: yes.
    pub const fn watch(mut self, watch: bool) -> Self {
        self.config.watch = watch;
        self
    }

    /// The validator.
    #[must_use]
    pub fn build(self) -> Validator {
        let sink = Sink::new(self.print, self.sources, self.panic_on);
        let inner = Arc::new(Inner::new(self.config, sink));
        inside(|| {
            let mut all = VALIDATORS.lock();
            all.retain(|known| known.strong_count() > 0);
            all.push(Arc::downgrade(&inner));
        });
        Validator { inner }
    }
}

impl Validator {
    /// A validator with an empty graph that collects its reports. It panics only instead of a certain hang.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Prepares a validator that differs from that.
    pub const fn builder() -> Builder {
        Builder {
            config: Config { watch: true, record: false, contention: false, stacks: Stacks::NewEdges },
            print: false,
            sources: true,
            panic_on: PanicOn::Certain,
        }
    }

    /// Runs `f` on this thread, watched by this validator and by no other.
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Unbind(bool);
        impl Drop for Unbind {
            fn drop(&mut self) {
                if self.0 {
                    Thread::unbind();
                }
            }
        }
        let _unbind = Unbind(Thread::bind(&self.inner));
        f()
    }

    /// The findings so far, each distinct one once; those of one thread in the order in which it made them.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let _quiet = Quiet::new();
        self.inner.sink.reports()
    }

    /// Has `callback` called with each finding from now on, on the thread that made it. Locks taken in the
    /// callback are not watched.
    pub fn on_report(&self, callback: impl Fn(&Report) + Send + Sync + 'static) {
        let _quiet = Quiet::new();
        self.inner.sink.add(Arc::new(callback));
    }

    /// Takes the events recorded since the last call (see [`Builder::record`]).
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        let _quiet = Quiet::new();
        std::mem::take(&mut *self.inner.recorded.lock())
    }

    /// The learned order: `(earlier class, later class)` names, in the order of learning, without repeats.
    #[must_use]
    pub fn dependencies(&self) -> Vec<(String, String)> {
        let _quiet = Quiet::new();
        let engine = self.inner.engine.lock();
        let name = |class| engine.classes().get(class).display_name();
        let mut pairs: Vec<_> = Vec::new();
        let mut seen = FxHashSet::default();
        for edge in engine.graph().edges() {
            if seen.insert((edge.from, edge.to)) {
                pairs.push((name(edge.from), name(edge.to)));
            }
        }
        pairs
    }

    /// Declares that locks of each of these classes come before those of the next one, so that whoever takes them the other
    /// way round is told, even if nobody was ever seen to take them in this order (kernel: what `dma_resv_lockdep()`
    /// teaches at boot).
    ///
    /// ```
    /// use lockdep::{LockClass, Validator, sync::Mutex};
    ///
    /// static TABLE: LockClass = LockClass::new("table");
    /// static ROW: LockClass = LockClass::new("row");
    ///
    /// let v = Validator::new();
    /// v.declare_order(&[&TABLE, &ROW]);
    /// let (table, row) = (Mutex::with_class(&TABLE, ()), Mutex::with_class(&ROW, ()));
    /// v.scope(|| drop((row.lock(), table.lock())));
    /// assert_eq!(v.reports().len(), usize::from(lockdep::ENABLED));
    /// ```
    ///
    /// # Panics
    /// If the order contradicts what was seen or declared before and the validator is set to panic on a finding.
    #[track_caller]
    pub fn declare_order(&self, order: &[&'static LockClass]) {
        if let Some(panic) = slow::declare(&self.inner, order, Place::caller()) {
            panic.raise();
        }
    }

    /// What it knows and has done, in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let engine = self.with_engine(Engine::stats);
        Stats {
            chains: self.inner.chains.set.len() as u64,
            chain_lookups: self.inner.chain_lookups.load(Ordering::Relaxed),
            chain_hits: self.inner.chain_hits.load(Ordering::Relaxed),
            stacks: self.inner.stacks.len() as u64,
            ..engine
        }
    }

    /// The chains that were seen, sorted: sequences of locks that break no rule. Chains whose verdict depends on which objects
    /// of a class they hold are not kept, and not listed.
    #[must_use]
    pub fn chains(&self) -> Vec<Chain> {
        let _quiet = Quiet::new();
        // One lock after the other.
        let known: Vec<Box<[Bits]>> = self.inner.chains.set.iter().map(|chain| chain.locks.clone()).collect();
        let engine = self.inner.engine.lock();
        let mut chains: Vec<Chain> = known.iter().map(|locks| engine.chain(locks)).collect();
        chains.sort();
        // They differed in what else is part of a chain: which interrupts were on.
        chains.dedup();
        chains
    }

    /// How locks were waited for and held, by class, the most contended first (see [`Builder::contention`]).
    #[must_use]
    pub fn contention(&self) -> Vec<Contention> {
        let _quiet = Quiet::new();
        self.inner.contention()
    }

    /// Classes of which locks were nested with nothing but the objects to say in which order.
    #[must_use]
    pub fn unordered_nestings(&self) -> Vec<UnorderedNesting> {
        self.with_engine(Engine::unordered_nestings)
    }

    /// What it has learned, as text: each class with its usage and the classes taken directly under it.
    #[must_use]
    pub fn dump(&self) -> String {
        self.with_engine(Engine::dump)
    }

    /// Looks at the engine. Locks taken in `f` are not watched; this validator must not be asked anything in it.
    pub fn with_engine<R>(&self, f: impl FnOnce(&Engine) -> R) -> R {
        let _quiet = Quiet::new();
        f(&self.inner.engine.lock())
    }
}

/// Runs `f`, which takes a lock that belongs to no one validator: locks that are taken meanwhile (by the allocator)
/// must not come back here, and a fork has to wait. Does not make this thread known to anybody.
pub(crate) fn inside<R>(f: impl FnOnce() -> R) -> R {
    let _entered = Thread::enter_existing();
    let _gate = fork::Pass::new();
    Thread::unwatched(f)
}

/// While a lock of the validator is held on behalf of its user: locks that are taken meanwhile (by the allocator)
/// must not come back here, and a fork has to wait.
struct Quiet {
    _gate: fork::Pass,
    _entered: Option<Entered>,
}

impl Quiet {
    fn new() -> Self {
        let _entered = Thread::enter();
        Quiet { _gate: fork::Pass::new(), _entered }
    }
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("epoch", &self.inner.epoch).finish_non_exhaustive()
    }
}

/// The validator that watches every thread of the process that no other one watches.
///
/// The environment variable `LOCKDEP` says what it does with a finding: `panic` (the default: print it, then
/// panic where it was made), `warn` (print it and go on), `off` (watch nothing). `LOCKDEP_STACKS` is `new-edges`
/// (the default), `off` or `full` (see [`Stacks`]), `LOCKDEP_SOURCES` is `on` (the default: print the source lines of a finding's places, if the
/// files are at hand) or `off`.
#[must_use]
pub fn global() -> &'static Validator {
    static GLOBAL: OnceCell<Validator> = OnceCell::new();
    // What is locked while it is being made (by the allocator) must not ask for it.
    GLOBAL.get().unwrap_or_else(|| {
        Thread::unwatched(|| {
            // Two threads may come here at once. A fork waits for neither: what takes time, and speaks, is done before.
            let made = from_environment().build();
            let _gate = fork::Pass::new();
            GLOBAL.get_or_init(|| made)
        })
    })
}

/// What the environment says of the validator for the whole process.
fn from_environment() -> Builder {
    let setting = std::env::var("LOCKDEP").unwrap_or_default();
    let builder = match setting.as_str() {
        "" | "panic" => Validator::builder().print(true).panic_on(PanicOn::Finding),
        "warn" => Validator::builder().print(true).panic_on(PanicOn::Never),
        "off" => Validator::builder().watch(false),
        other => {
            eprintln!("lockdep: LOCKDEP={other}: not one of panic, warn, off; taking panic");
            Validator::builder().print(true).panic_on(PanicOn::Finding)
        }
    };
    let stacks = match std::env::var("LOCKDEP_STACKS").unwrap_or_default().as_str() {
        "" | "new-edges" => Stacks::NewEdges,
        "off" => Stacks::Off,
        "full" => Stacks::Full,
        other => {
            eprintln!("lockdep: LOCKDEP_STACKS={other}: not one of off, new-edges, full; taking new-edges");
            Stacks::NewEdges
        }
    };
    let sources = std::env::var("LOCKDEP_SOURCES").as_deref() != Ok("off");
    builder.stacks(stacks).sources(sources)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{AtomicU32, Ordering, next_epoch, thread};

    #[test]
    fn no_epoch_is_used_twice_though_there_are_no_more() {
        let last = AtomicU32::new(0);
        assert_eq!([(); 3].map(|()| next_epoch(&last)), [1, 2, 3]);
        last.store(thread::NEVER - 2, Ordering::Relaxed);
        assert_eq!(next_epoch(&last), thread::NEVER - 1);
        for _ in 0..4 {
            catch_unwind(AssertUnwindSafe(|| next_epoch(&last))).unwrap_err();
        }
    }
}
