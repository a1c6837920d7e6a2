// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! The bench on which a case runs: every lock type of the substrate with its ten locks, three wound/wait mutexes, and
//! the steps as calls of the substrate.
//!
//! Everything is done by one thread, as in the kernel; interrupts are simulated by saying that one begins. A step that
//! returns something else than the case says makes the case fail.

use lockdep::raw::{self, LockMap};
use lockdep::{LockClass, WaitType};

use super::program::{Ctx, Kind, Object, Op, Section, Under, Want, Ww, WwOp};
use crate::kernel::errno::{Errno, Result};
use crate::kernel::gfp::{self, Gfp, NoFsFlags};
use crate::kernel::irq;
use crate::kernel::locking::{
    self, LocalLock, Mutex, RawSpinLock, RtMutex, RwLock, RwSem, SpinLock, WwAcquireCtx, WwAlgorithm,
    WwClass, WwMutex,
};

/// The classes of one lock type: A, B, C, D, X, Y, Z.
type Classes = [LockClass; 7];

macro_rules! classes {
    ($make:path, $kind:literal) => {
        [
            $make(concat!($kind, "_A")),
            $make(concat!($kind, "_B")),
            $make(concat!($kind, "_C")),
            $make(concat!($kind, "_D")),
            $make(concat!($kind, "_X")),
            $make(concat!($kind, "_Y")),
            $make(concat!($kind, "_Z")),
        ]
    };
}

static SPIN: Classes = classes!(locking::spin_class, "lock");
static RWLOCK: Classes = classes!(locking::spin_class, "rwlock");
static MUTEX: Classes = classes!(locking::sleep_class, "mutex");
static RWSEM: Classes = classes!(locking::sleep_class, "rwsem");
static RTMUTEX: Classes = classes!(locking::sleep_class, "rtmutex");
static RAW_SPIN: Classes = classes!(locking::raw_spin_class, "raw_lock");
static LOCAL: Classes = classes!(locking::local_class, "local");

static WW_MUTEX: LockClass = locking::sleep_class("ww_lockdep_mutex");
static WW_ACQUIRE: LockClass = acquire_class("ww_lockdep_acquire");
static WW_CLASS: WwClass = WwClass::new(&WW_MUTEX, &WW_ACQUIRE, WwAlgorithm::WaitDie);
static OTHER_MUTEX: LockClass = locking::sleep_class("ww_other_mutex");
static OTHER_ACQUIRE: LockClass = acquire_class("ww_other_acquire");
static OTHER_CLASS: WwClass = WwClass::new(&OTHER_MUTEX, &OTHER_ACQUIRE, WwAlgorithm::WaitDie);

const fn acquire_class(name: &'static str) -> LockClass {
    LockClass::new(name).strict().waits(WaitType::Unchecked)
}

/// The ten locks of one type.
struct Set<T> {
    locks: [T; 10],
    classes: &'static Classes,
    make: fn(&'static LockClass) -> T,
}

impl<T> Set<T> {
    fn new(classes: &'static Classes, make: fn(&'static LockClass) -> T) -> Self {
        Set { locks: Object::ALL.map(|object| make(&classes[object.class()])), classes, make }
    }

    fn get(&self, object: Object) -> &T {
        &self.locks[object as usize]
    }

    /// The lock is initialised anew, where it is (kernel: `spin_lock_init` and its siblings).
    fn init(&mut self, object: Object) {
        let lock = &mut self.locks[object as usize];
        raw::freed(lock);
        *lock = (self.make)(&self.classes[object.class()]);
    }
}

/// All locks of a case, none of them held.
pub(super) struct Bench {
    /// Readers of rwlocks are recursive everywhere.
    recursive_readers: bool,
    spin: Set<SpinLock>,
    rwlock: Set<RwLock>,
    mutex: Set<Mutex>,
    rwsem: Set<RwSem>,
    rtmutex: Set<RtMutex>,
    raw_spin: Set<RawSpinLock>,
    local: Set<LocalLock>,
    ww: [WwMutex; 3],
    contexts: [Option<WwAcquireCtx>; 2],
    nofs: Vec<NoFsFlags>,
}

/// Why a case cannot go on: a call returned something else than it says.
pub(super) type Step = core::result::Result<(), String>;

impl Bench {
    pub(super) fn new(recursive_readers: bool) -> Self {
        Bench {
            recursive_readers,
            spin: Set::new(&SPIN, SpinLock::new),
            rwlock: Set::new(&RWLOCK, RwLock::new),
            mutex: Set::new(&MUTEX, Mutex::new),
            rwsem: Set::new(&RWSEM, RwSem::new),
            rtmutex: Set::new(&RTMUTEX, RtMutex::new),
            raw_spin: Set::new(&RAW_SPIN, RawSpinLock::new),
            local: Set::new(&LOCAL, LocalLock::new),
            ww: core::array::from_fn(|_| WwMutex::new(&WW_CLASS)),
            contexts: [None, None],
            nofs: Vec::new(),
        }
    }

    /// Does one step.
    pub(super) fn step(&mut self, op: Op) -> Step {
        match op {
            Op::Lock { kind, object, under: None } => self.lock(kind, object),
            Op::Lock { kind: _, object, under: Some(under) } => {
                self.spin.get(object).lock_nest_lock(self.nest(under));
            }
            Op::Unlock { kind, object } => self.unlock(kind, object),
            Op::Init { kind, object } => self.init(kind, object),
            Op::Begin(section) => self.begin(section),
            Op::End(section) => self.end(section),
            Op::HardIrqs(true) => irq::local_irq_enable(),
            Op::HardIrqs(false) => irq::local_irq_disable(),
            Op::SoftIrqs(true) => irq::local_bh_enable(),
            Op::SoftIrqs(false) => irq::local_bh_disable(),
            Op::Alloc { may_enter_fs: true } => gfp::might_alloc(Gfp::KERNEL),
            Op::Alloc { may_enter_fs: false } => gfp::might_alloc(Gfp::NOFS),
            Op::Ww(op) => return self.ww_step(op),
        }
        Ok(())
    }

    fn lock(&self, kind: Kind, object: Object) {
        match kind {
            Kind::Spin => self.spin.get(object).lock(),
            Kind::WriteLock => self.rwlock.get(object).write_lock(),
            Kind::ReadLock if self.recursive_readers => self.rwlock.get(object).read_lock_recursive(),
            Kind::ReadLock => self.rwlock.get(object).read_lock(),
            Kind::Mutex => self.mutex.get(object).lock(),
            Kind::WriteSem => self.rwsem.get(object).down_write(),
            Kind::ReadSem => self.rwsem.get(object).down_read(),
            Kind::RtMutex => self.rtmutex.get(object).lock(),
            Kind::RawSpin => self.raw_spin.get(object).lock(),
            Kind::Local => self.local.get(object).lock(),
        }
    }

    fn unlock(&self, kind: Kind, object: Object) {
        match kind {
            Kind::Spin => self.spin.get(object).unlock(),
            Kind::WriteLock => self.rwlock.get(object).write_unlock(),
            Kind::ReadLock => self.rwlock.get(object).read_unlock(),
            Kind::Mutex => self.mutex.get(object).unlock(),
            Kind::WriteSem => self.rwsem.get(object).up_write(),
            Kind::ReadSem => self.rwsem.get(object).up_read(),
            Kind::RtMutex => self.rtmutex.get(object).unlock(),
            Kind::RawSpin => self.raw_spin.get(object).unlock(),
            Kind::Local => self.local.get(object).unlock(),
        }
    }

    fn init(&mut self, kind: Kind, object: Object) {
        match kind {
            Kind::Spin => self.spin.init(object),
            Kind::WriteLock | Kind::ReadLock => self.rwlock.init(object),
            Kind::Mutex => self.mutex.init(object),
            Kind::WriteSem | Kind::ReadSem => self.rwsem.init(object),
            Kind::RtMutex => self.rtmutex.init(object),
            Kind::RawSpin => self.raw_spin.init(object),
            Kind::Local => self.local.init(object),
        }
    }

    /// What the validator knows a nest lock by. Only spinlocks are nested.
    fn nest(&self, under: Under) -> &LockMap {
        match under {
            Under::Same(object) => self.spin.get(object).map(),
            Under::Ww(lock) => self.ww[lock as usize].map(),
        }
    }

    fn begin(&mut self, section: Section) {
        match section {
            Section::HardIrq { threaded } => {
                irq::local_irq_disable();
                irq::irq_enter(threaded);
            }
            Section::SoftIrq => {
                irq::local_bh_disable();
                irq::local_irq_disable();
                irq::softirq_enter();
            }
            Section::Rcu => locking::rcu_read_lock(),
            Section::RcuBh => locking::rcu_read_lock_bh(),
            Section::RcuSched => locking::rcu_read_lock_sched(),
            Section::Reclaim => gfp::fs_reclaim_acquire(Gfp::KERNEL),
            Section::NoFs => self.nofs.push(gfp::memalloc_nofs_save()),
        }
    }

    fn end(&mut self, section: Section) {
        match section {
            Section::HardIrq { .. } => {
                irq::irq_exit();
                irq::local_irq_enable();
            }
            Section::SoftIrq => {
                irq::softirq_exit();
                irq::local_irq_enable();
                irq::local_bh_enable();
            }
            Section::Rcu => locking::rcu_read_unlock(),
            Section::RcuBh => locking::rcu_read_unlock_bh(),
            Section::RcuSched => locking::rcu_read_unlock_sched(),
            Section::Reclaim => gfp::fs_reclaim_release(Gfp::KERNEL),
            Section::NoFs => {
                if let Some(flags) = self.nofs.pop() {
                    gfp::memalloc_nofs_restore(flags);
                }
            }
        }
    }

    fn ww_step(&mut self, op: WwOp) -> Step {
        match op {
            WwOp::Ctx { ctx, other_class } => {
                let class = if other_class { &OTHER_CLASS } else { &WW_CLASS };
                self.contexts[ctx as usize] = Some(WwAcquireCtx::init(class));
            }
            WwOp::Done(ctx) => self.ctx(ctx)?.done(),
            WwOp::Fini(ctx) => self.ctx(ctx)?.fini(),
            WwOp::Lock { lock, ctx, want } => {
                let ctx = ctx.map(|ctx| self.ctx(ctx)).transpose()?;
                return expect(want, self.ww[lock as usize].lock(ctx));
            }
            WwOp::Slow { lock, ctx, want } => {
                return expect(want, self.ww[lock as usize].lock_slow_interruptible(self.ctx(ctx)?));
            }
            WwOp::Try { lock, want } => {
                let got = self.ww[lock as usize].trylock(None);
                return expect(want, if got { Ok(()) } else { Err(Errno::EBUSY) });
            }
            WwOp::LockInterruptible(lock) => {
                return expect(Want::Success, self.ww[lock as usize].lock_interruptible(None));
            }
            WwOp::LockNested(lock, ctx) => self.ww[lock as usize].raw_lock_nest(self.ctx(ctx)?),
            WwOp::Unlock(lock) => self.ww[lock as usize].unlock(),
            WwOp::Bump(ctx) => self.ctx(ctx)?.bump(),
            WwOp::Copy { to, from, younger } => {
                self.contexts[to as usize] = Some(self.ctx(from)?.copy(younger));
            }
            WwOp::Uncount(ctx) => self.ctx(ctx)?.uncount(),
            op => return self.ww_surgery(op),
        }
        Ok(())
    }

    /// What no program does.
    fn ww_surgery(&self, op: WwOp) -> Step {
        match op {
            WwOp::Raw(lock) => self.ww[lock as usize].raw_lock(),
            WwOp::Unraw(lock) => self.ww[lock as usize].raw_unlock(),
            WwOp::Forget(lock) => self.ww[lock as usize].forget(),
            WwOp::Recall(lock) => self.ww[lock as usize].recall(),
            WwOp::Own(lock, ctx) => self.ww[lock as usize].set_owner(Some(self.ctx(ctx)?)),
            WwOp::Disown(lock) => self.ww[lock as usize].set_owner(None),
            WwOp::Stale(lock) => self.ww[lock as usize].set_stale(),
            WwOp::IsStale(lock) if !self.ww[lock as usize].is_stale() => {
                return Err("the context of a mutex was touched by a call without one".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn ctx(&self, ctx: Ctx) -> core::result::Result<&WwAcquireCtx, String> {
        self.contexts[ctx as usize].as_ref().ok_or_else(|| format!("internal error: {ctx:?} was not begun"))
    }
}

fn expect(want: Want, got: Result) -> Step {
    let wanted = match want {
        Want::Success => Ok(()),
        Want::Deadlock => Err(Errno::EDEADLK),
        Want::Already => Err(Errno::EALREADY),
        Want::Busy => Err(Errno::EBUSY),
    };
    if got == wanted { Ok(()) } else { Err(format!("a call returned {got:?} instead of {wanted:?}")) }
}

/// Forgets what a case leaves behind on this thread: switched-off interrupts, open sections.
pub(super) fn tidy_up() {
    irq::reset();
    gfp::reset();
}

/// Mutexes have numbers.
const _: () = assert!(Ww::O as usize == 0 && Ww::O3 as usize == 2);
