// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! A test body: the steps, and the notation in which the tables write them.
//!
//! Words, separated by spaces:
//!
//! | word | step |
//! |---|---|
//! | `+A`, `-A` | take, release lock A of the column's type |
//! | `s+A`, `s-A` | the same of a given type: `s` spinlock, `w` rwlock for writing, `r` rwlock for reading, `m` mutex, `W` rwsem for writing, `R` rwsem for reading, `t` rt-mutex, `p` raw spinlock, `l` local lock |
//! | `s+A^X1`, `s+A^o` | take, nested under a lock of the same type, under a wound/wait mutex |
//! | `init(A)` | initialise lock A of the column's type anew |
//! | `hard{ … }`, `raw{ … }`, `soft{ … }` | in a hard interrupt (threaded; not threaded), in a soft interrupt |
//! | `irq{ … }`, `off`, `on` | in an interrupt of the row's kind; that kind switched off, on |
//! | `hard-off hard-on soft-off soft-on` | interrupts, bottom halves switched off, on |
//! | `rcu{ … }`, `rcu_bh{ … }`, `rcu_sched{ … }` | in a read-side section |
//! | `reclaim{ … }`, `nofs{ … }`, `alloc`, `alloc-nofs` | in memory reclaim, in a scope that forbids the file system, allocations |
//! | `ctx(t)`, `ctx-other(t)`, `done(t)`, `fini(t)` | an acquire context of the mutexes' class, of another class |
//! | `lock(o)`, `lock(o,t)`, `slow(o,t)`, `try(o)`, `unlock(o)` | a wound/wait mutex; `=EDEADLK`, `=EALREADY`, `=busy` say what comes back if not success |
//! | `lock-int(o)`, `nest(o,t)` | without context but interruptible; without context but with `t` as nest lock |
//! | `bump(t)`, `younger(t2,t)`, `older(t2,t)`, `uncount(t)` | make `t` younger; make `t2` a copy of `t` that is younger or older; `t` forgets that it holds a lock |
//! | `raw(o)`, `unraw(o)`, `forget(o)`, `recall(o)` | take and release the mutex below `o`; tell only the validator that `o` was released, was taken by trylock |
//! | `own(o,t2)`, `disown(o)`, `stale(o)`, `is-stale(o)` | write `t2`, nothing, a stale value into the owner of `o`; check that the stale value is still there |
//!
//! A, B, C, D and X, Y, Z are classes; X1 and X2 are two locks of one class. Locks of different types are of
//! different classes.

/// A lock type, and for reader-writer locks the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Spin,
    WriteLock,
    ReadLock,
    Mutex,
    WriteSem,
    ReadSem,
    RtMutex,
    RawSpin,
    Local,
}

impl Kind {
    fn of(letter: char) -> Option<Kind> {
        Some(match letter {
            's' => Kind::Spin,
            'w' => Kind::WriteLock,
            'r' => Kind::ReadLock,
            'm' => Kind::Mutex,
            'W' => Kind::WriteSem,
            'R' => Kind::ReadSem,
            't' => Kind::RtMutex,
            'p' => Kind::RawSpin,
            'l' => Kind::Local,
            _ => return None,
        })
    }
}

/// One of the locks that there are of each type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    A,
    B,
    C,
    D,
    X1,
    X2,
    Y1,
    Y2,
    Z1,
    Z2,
}

impl Object {
    pub(super) const ALL: [Object; 10] = [
        Object::A,
        Object::B,
        Object::C,
        Object::D,
        Object::X1,
        Object::X2,
        Object::Y1,
        Object::Y2,
        Object::Z1,
        Object::Z2,
    ];

    /// The position of its class: A to D, then X to Z.
    pub(super) const fn class(self) -> usize {
        match self {
            Object::A => 0,
            Object::B => 1,
            Object::C => 2,
            Object::D => 3,
            Object::X1 | Object::X2 => 4,
            Object::Y1 | Object::Y2 => 5,
            Object::Z1 | Object::Z2 => 6,
        }
    }

    fn named(name: &str) -> Option<Object> {
        Object::ALL.into_iter().find(|object| format!("{object:?}") == name)
    }
}

/// A wound/wait mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ww {
    O,
    O2,
    O3,
}

/// An acquire context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ctx {
    T,
    T2,
}

/// What serialises a nesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Under {
    /// A lock of the same type.
    Same(Object),
    /// A wound/wait mutex.
    Ww(Ww),
}

/// A section that `}` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    HardIrq { threaded: bool },
    SoftIrq,
    Rcu,
    RcuBh,
    RcuSched,
    Reclaim,
    NoFs,
}

/// What a call is to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Success,
    Deadlock,
    Already,
    Busy,
}

/// A step with wound/wait mutexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WwOp {
    Ctx { ctx: Ctx, other_class: bool },
    Done(Ctx),
    Fini(Ctx),
    Lock { lock: Ww, ctx: Option<Ctx>, want: Want },
    Slow { lock: Ww, ctx: Ctx, want: Want },
    Try { lock: Ww, want: Want },
    LockInterruptible(Ww),
    LockNested(Ww, Ctx),
    Unlock(Ww),
    Bump(Ctx),
    Copy { to: Ctx, from: Ctx, younger: bool },
    Uncount(Ctx),
    Raw(Ww),
    Unraw(Ww),
    Forget(Ww),
    Recall(Ww),
    Own(Ww, Ctx),
    Disown(Ww),
    Stale(Ww),
    IsStale(Ww),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Lock { kind: Kind, object: Object, under: Option<Under> },
    Unlock { kind: Kind, object: Object },
    Init { kind: Kind, object: Object },
    Begin(Section),
    End(Section),
    HardIrqs(bool),
    SoftIrqs(bool),
    Alloc { may_enter_fs: bool },
    Ww(WwOp),
}

/// What the words without a type of their own mean in one cell of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// The column's lock type.
    pub(super) kind: Kind,
    /// The row's interrupt is the soft one.
    pub(super) soft: bool,
}

/// Reads a body.
///
/// # Panics
/// If the text is wrong: the tables are part of the program.
pub(super) fn parse(text: &str, cell: Cell) -> Vec<Op> {
    let mut sections = Vec::new();
    let mut steps = Vec::new();
    for word in text.split_whitespace() {
        let op = if word == "}" {
            sections.pop().map(Op::End)
        } else {
            plain(word, cell).or_else(|| lock_step(word, cell)).or_else(|| call(word, cell))
        };
        let op = op.unwrap_or_else(|| panic!("internal error: `{word}` in the test body `{text}`"));
        if let Op::Begin(section) = op {
            sections.push(section);
        }
        steps.push(op);
    }
    assert!(sections.is_empty(), "internal error: a section is left open in the test body `{text}`");
    steps
}

/// Words that stand for themselves.
fn plain(word: &str, cell: Cell) -> Option<Op> {
    let hard = Section::HardIrq { threaded: true };
    Some(match word {
        "hard{" => Op::Begin(hard),
        "raw{" => Op::Begin(Section::HardIrq { threaded: false }),
        "soft{" => Op::Begin(Section::SoftIrq),
        "irq{" => Op::Begin(if cell.soft { Section::SoftIrq } else { hard }),
        "rcu{" => Op::Begin(Section::Rcu),
        "rcu_bh{" => Op::Begin(Section::RcuBh),
        "rcu_sched{" => Op::Begin(Section::RcuSched),
        "reclaim{" => Op::Begin(Section::Reclaim),
        "nofs{" => Op::Begin(Section::NoFs),
        "off" | "on" if cell.soft => Op::SoftIrqs(word == "on"),
        "off" | "on" => Op::HardIrqs(word == "on"),
        "hard-off" => Op::HardIrqs(false),
        "hard-on" => Op::HardIrqs(true),
        "soft-off" => Op::SoftIrqs(false),
        "soft-on" => Op::SoftIrqs(true),
        "alloc" => Op::Alloc { may_enter_fs: true },
        "alloc-nofs" => Op::Alloc { may_enter_fs: false },
        _ => return None,
    })
}

/// `+A`, `s-A`, `s+Y1^X1`.
fn lock_step(word: &str, cell: Cell) -> Option<Op> {
    let (kind, rest) = match word.chars().next().and_then(Kind::of) {
        Some(kind) if word[1..].starts_with(['+', '-']) => (kind, &word[1..]),
        _ => (cell.kind, word),
    };
    if let Some(name) = rest.strip_prefix('-') {
        return Some(Op::Unlock { kind, object: Object::named(name)? });
    }
    let (name, under) = match rest.strip_prefix('+')?.split_once('^') {
        Some((name, under)) => {
            (name, Some(Object::named(under).map(Under::Same).or_else(|| ww(under).map(Under::Ww))?))
        }
        None => (&rest[1..], None),
    };
    Some(Op::Lock { kind, object: Object::named(name)?, under })
}

fn ww(name: &str) -> Option<Ww> {
    Some(match name {
        "o" => Ww::O,
        "o2" => Ww::O2,
        "o3" => Ww::O3,
        _ => return None,
    })
}

fn ctx(name: &str) -> Option<Ctx> {
    Some(match name {
        "t" => Ctx::T,
        "t2" => Ctx::T2,
        _ => return None,
    })
}

/// `name(argument)`, `name(argument,argument)=result`.
fn call(word: &str, cell: Cell) -> Option<Op> {
    let (name, rest) = word.split_once('(')?;
    let (arguments, result) = rest.split_once(')')?;
    let (first, second) = match arguments.split_once(',') {
        Some((first, second)) => (first, Some(second)),
        None => (arguments, None),
    };
    let want = match result {
        "" => Want::Success,
        "=EDEADLK" => Want::Deadlock,
        "=EALREADY" => Want::Already,
        "=busy" => Want::Busy,
        _ => return None,
    };
    if name == "init" {
        return Some(Op::Init { kind: cell.kind, object: Object::named(first)? });
    }
    Some(Op::Ww(match (name, second) {
        ("ctx", None) => WwOp::Ctx { ctx: ctx(first)?, other_class: false },
        ("ctx-other", None) => WwOp::Ctx { ctx: ctx(first)?, other_class: true },
        ("done", None) => WwOp::Done(ctx(first)?),
        ("fini", None) => WwOp::Fini(ctx(first)?),
        ("lock", None) => WwOp::Lock { lock: ww(first)?, ctx: None, want },
        ("lock", Some(second)) => WwOp::Lock { lock: ww(first)?, ctx: Some(ctx(second)?), want },
        ("slow", Some(second)) => WwOp::Slow { lock: ww(first)?, ctx: ctx(second)?, want },
        ("try", None) => WwOp::Try { lock: ww(first)?, want },
        ("lock-int", None) => WwOp::LockInterruptible(ww(first)?),
        ("nest", Some(second)) => WwOp::LockNested(ww(first)?, ctx(second)?),
        ("unlock", None) => WwOp::Unlock(ww(first)?),
        ("bump", None) => WwOp::Bump(ctx(first)?),
        ("younger", Some(second)) => WwOp::Copy { to: ctx(first)?, from: ctx(second)?, younger: true },
        ("older", Some(second)) => WwOp::Copy { to: ctx(first)?, from: ctx(second)?, younger: false },
        ("uncount", None) => WwOp::Uncount(ctx(first)?),
        ("raw", None) => WwOp::Raw(ww(first)?),
        ("unraw", None) => WwOp::Unraw(ww(first)?),
        ("forget", None) => WwOp::Forget(ww(first)?),
        ("recall", None) => WwOp::Recall(ww(first)?),
        ("own", Some(second)) => WwOp::Own(ww(first)?, ctx(second)?),
        ("disown", None) => WwOp::Disown(ww(first)?),
        ("stale", None) => WwOp::Stale(ww(first)?),
        ("is-stale", None) => WwOp::IsStale(ww(first)?),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { kind: Kind::Mutex, soft: true };

    #[test]
    fn a_body_is_read_with_the_cells_type_and_interrupt() {
        let steps = parse("irq{ +A -A } off s+X2^X1 on", CELL);
        let wanted = [
            Op::Begin(Section::SoftIrq),
            Op::Lock { kind: Kind::Mutex, object: Object::A, under: None },
            Op::Unlock { kind: Kind::Mutex, object: Object::A },
            Op::End(Section::SoftIrq),
            Op::SoftIrqs(false),
            Op::Lock { kind: Kind::Spin, object: Object::X2, under: Some(Under::Same(Object::X1)) },
            Op::SoftIrqs(true),
        ];
        assert_eq!(steps, wanted);
    }

    #[test]
    fn a_call_may_say_what_it_returns() {
        let lock = WwOp::Lock { lock: Ww::O2, ctx: Some(Ctx::T), want: Want::Deadlock };
        assert_eq!(parse("lock(o2,t)=EDEADLK", CELL), [Op::Ww(lock)]);
    }

    #[test]
    #[should_panic(expected = "internal error: `+E` in the test body `+E`")]
    fn a_word_that_means_nothing_is_noticed() {
        parse("+E", CELL);
    }

    #[test]
    #[should_panic(expected = "a section is left open")]
    fn an_open_section_is_noticed() {
        parse("hard{ +A", CELL);
    }
}
