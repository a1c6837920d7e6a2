// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs: their locks, their events, how they are made up, and their text as a litmus file.

use std::fmt::Write;

use lockdep::event::{Context, HeldAs, LockKind, Mode, WaitType};
use proptest::prelude::*;

pub(crate) const TASKS: usize = 3;

/// A key: what its locks have in common.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Its word in a litmus file, if there is one.
    pub(crate) word: Option<&'static str>,
    pub(crate) waits: WaitType,
    pub(crate) kind: LockKind,
    /// The kernel's rule on nesting within the class.
    pub(crate) strict: bool,
}

const fn key(name: &'static str, word: &'static str, waits: WaitType) -> Key {
    Key { name, word: Some(word), waits, kind: LockKind::Normal, strict: true }
}

pub(crate) const KEYS: [Key; 8] = [
    key("a", "map", WaitType::Unchecked),
    key("b", "map", WaitType::Unchecked),
    key("c", "map", WaitType::Unchecked),
    key("m", "mutex", WaitType::Sleep),
    key("s", "spin", WaitType::Config),
    Key { kind: LockKind::PerCpu, ..key("p", "local", WaitType::Config) },
    Key { kind: LockKind::WaitOverride, word: None, ..key("o", "", WaitType::Sleep) },
    Key { strict: false, word: None, ..key("n", "", WaitType::Unchecked) },
];

/// The key of each lock: some have two.
pub(crate) const LOCKS: [usize; 11] = [0, 1, 2, 2, 3, 3, 4, 5, 6, 7, 7];

/// A key and a subclass.
pub(crate) type Class = (usize, u8);

/// A lock is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taking {
    pub(crate) lock: usize,
    pub(crate) subclass: u8,
    pub(crate) mode: Mode,
    pub(crate) trylock: bool,
    pub(crate) check: bool,
    pub(crate) sync: bool,
    /// The lock that serialises the nesting.
    pub(crate) nest: Option<usize>,
}

impl Taking {
    pub(crate) const fn new(lock: usize, mode: Mode, trylock: bool) -> Self {
        Taking { lock, subclass: 0, mode, trylock, check: true, sync: false, nest: None }
    }

    pub(crate) fn class(self) -> Class {
        (LOCKS[self.lock], self.subclass)
    }
}

/// What a task does. "The n-th" is of the locks that it holds; what is not possible is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Take(Taking),
    Release(usize),
    ReleaseUnheld(usize),
    Downgrade(usize),
    /// An upgrade or a partial downgrade, whatever the mode allows.
    Convert(usize, bool),
    AssertHeld(usize, HeldAs),
    AssertNotHeld(usize),
    Free(usize),
    /// An interrupt; a hard one may be threaded.
    Enter(Context, bool),
    Leave,
    Enable(Context, bool),
    Exit,
    UserReturn,
}

/// An action and who does it.
pub(crate) type Step = (usize, Action);

pub(crate) fn step() -> impl Strategy<Value = Step> {
    (0..TASKS, action())
}

fn action() -> impl Strategy<Value = Action> {
    let lock = || 0..LOCKS.len();
    let nth = || 0..4usize;
    let how = prop_oneof![Just(HeldAs::Any), Just(HeldAs::Read), Just(HeldAs::Write)];
    let context = || prop_oneof![Just(Context::HardIrq), Just(Context::SoftIrq)];
    prop_oneof![
        24 => taking().prop_map(Action::Take),
        16 => nth().prop_map(Action::Release),
        1 => nth().prop_map(Action::Downgrade),
        3 => (nth(), prop::bool::weighted(0.8)).prop_map(|(nth, up)| Action::Convert(nth, up)),
        1 => lock().prop_map(Action::ReleaseUnheld),
        1 => (lock(), how).prop_map(|(lock, how)| Action::AssertHeld(lock, how)),
        1 => lock().prop_map(Action::AssertNotHeld),
        1 => lock().prop_map(Action::Free),
        4 => (context(), prop::bool::ANY).prop_map(|(context, threaded)| Action::Enter(context, threaded)),
        4 => Just(Action::Leave),
        4 => (context(), prop::bool::ANY).prop_map(|(context, on)| Action::Enable(context, on)),
        1 => Just(Action::Exit),
        1 => Just(Action::UserReturn),
    ]
}

fn taking() -> impl Strategy<Value = Taking> {
    let mode = prop_oneof![4 => Just(Mode::Write), 2 => Just(Mode::Read), 2 => Just(Mode::RecursiveRead),
        2 => Just(Mode::Upgradable)];
    let flag = prop::bool::weighted;
    let nest = prop::option::weighted(0.1, 0..LOCKS.len());
    let subclass = prop_oneof![5 => Just(0u8), 1 => Just(1)];
    (0..LOCKS.len(), subclass, mode, flag(0.2), flag(0.95), flag(0.03), nest).prop_map(
        |(lock, subclass, mode, trylock, check, sync, nest)| Taking {
            lock,
            subclass,
            mode,
            // Nobody tries and forgets.
            trylock: trylock && !sync,
            check,
            sync,
            nest,
        },
    )
}

/// The name of a lock in text.
fn name(lock: usize) -> String {
    let key = KEYS[LOCKS[lock]].name;
    let before = LOCKS[..lock].iter().filter(|known| **known == LOCKS[lock]).count();
    format!("{key}{}", before + 1)
}

/// One step in the words of the language, or a remark if it has none for it. The task holds these locks.
pub(crate) fn line(task: usize, action: Action, held: &[usize]) -> String {
    let held = |nth: usize| name(held[nth]);
    let text = match action {
        Action::Take(taking) => match words(taking) {
            Some(words) => words,
            None => return format!("# t{task}: {taking:?}"),
        },
        Action::Release(nth) => format!("unlock {}", held(nth)),
        Action::ReleaseUnheld(lock) => format!("unlock {}", name(lock)),
        Action::Downgrade(nth) => format!("downgrade {}", held(nth)),
        Action::Convert(nth, true) => format!("upgrade {}", held(nth)),
        Action::Convert(nth, false) => return format!("# t{task}: give up a part of {}", held(nth)),
        Action::AssertHeld(lock, HeldAs::Any) => format!("assert_held {}", name(lock)),
        Action::AssertHeld(lock, HeldAs::Read) => format!("assert_read {}", name(lock)),
        Action::AssertHeld(lock, HeldAs::Write) => format!("assert_write {}", name(lock)),
        Action::AssertNotHeld(lock) => format!("assert_not_held {}", name(lock)),
        Action::Free(lock) => format!("free {}", name(lock)),
        Action::Enter(Context::HardIrq, true) => "hardirq {".to_owned(),
        Action::Enter(Context::HardIrq, false) => "hardirq raw {".to_owned(),
        Action::Enter(Context::SoftIrq, _) => "softirq {".to_owned(),
        Action::Leave => "}".to_owned(),
        Action::Enable(context, on) => {
            let what = if context == Context::HardIrq { "irq" } else { "bh" };
            format!("{what}_{}", if on { "on" } else { "off" })
        }
        Action::Exit => "exit".to_owned(),
        Action::UserReturn => "user_return".to_owned(),
    };
    format!("t{task}: {text}")
}

fn words(taking: Taking) -> Option<String> {
    let word = match (taking.mode, taking.trylock) {
        (Mode::Write, false) => "lock",
        (Mode::Write, true) => "try",
        (Mode::Read, false) => "read",
        (Mode::Read, true) => "tryread",
        (Mode::RecursiveRead, false) => "read!",
        (Mode::RecursiveRead, true) => "tryread!",
        (Mode::Upgradable, false) => "upread",
        (Mode::Upgradable, true) => "tryupread",
    };
    let in_language = |lock: usize| KEYS[LOCKS[lock]].word.is_some();
    if !taking.check
        || taking.sync
        || ![Some(taking.lock), taking.nest].into_iter().flatten().all(in_language)
    {
        return None;
    }
    let mut text = format!("{word} {}", name(taking.lock));
    if taking.subclass > 0 {
        let _ = write!(text, " sub={}", taking.subclass);
    }
    if let Some(nest) = taking.nest {
        let _ = write!(text, " nest={}", name(nest));
    }
    Some(text)
}

/// The declarations, and lines that stand for steps.
pub(crate) fn litmus(lines: &[String]) -> String {
    let mut text = String::new();
    for lock in 0..LOCKS.len() {
        let key = &KEYS[LOCKS[lock]];
        let _ = match key.word {
            Some(word) => writeln!(text, "lock {} : {word} class={}", name(lock), key.name),
            None => writeln!(text, "# lock {}: {key:?}", name(lock)),
        };
    }
    text + &lines.join("\n") + "\n"
}
