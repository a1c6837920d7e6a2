// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! Text to program. One item a line; an error names line, column, what was found and what was expected.
//!
//! Names are checked here (declared before use, sections closed by their task), so that running a program
//! cannot fail.

use std::collections::BTreeMap;

use super::program::{Expectation, How, LockDecl, LockType, Op, Prime, Program, Section, Step, Tracking};
use super::words::{ParseError, Words};
use crate::event::HeldAs;
use crate::report::model::ReportKind;

/// The locks that exist without a declaration once `prime: dma_resv` is given.
const BUILT_IN: [(&str, LockType); 3] =
    [("mmap_lock", LockType::RwSem), ("fs_reclaim", LockType::Map), ("fence", LockType::Map)];

/// Parses a program.
///
/// # Errors
/// The first mistake in the text.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut parser = Parser::default();
    for (line, text) in (1u32..).zip(text.lines()) {
        parser.line(line, text)?;
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    program: Program,
    sections: BTreeMap<String, Vec<u32>>,
    contexts: Vec<String>,
}

impl Parser {
    fn line(&mut self, line: u32, text: &str) -> Result<(), ParseError> {
        let (code, note) = match text.find('#') {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, ""),
        };
        let words = Words { line, text, rest: note };
        self.expectation(words)?;
        let mut words = Words { line, text, rest: code };
        if words.peek().is_empty() {
            return Ok(());
        }
        if words.peek() == "lock" {
            words.next("`lock`")?;
            return self.lock(words);
        }
        let Some((head, rest)) = code.split_once(':') else {
            let word = words.peek();
            return words.error(
                word,
                format!("expected `lock …`, `name: …`, `prime: …` or `TASK: OP`, found `{word}`"),
            );
        };
        words.rest = rest;
        match head.trim() {
            "name" => {
                self.program.name = Some(rest.trim().to_owned());
                Ok(())
            }
            "prime" => self.prime(words),
            task if task.split_whitespace().count() == 1 => self.step(task, words),
            other => words.error(head.trim_start(), format!("`{other}` is no task: a task is one word")),
        }
    }

    fn expectation(&mut self, words: Words<'_>) -> Result<(), ParseError> {
        let Some(kinds) = words.rest.strip_prefix("#!") else { return Ok(()) };
        let kinds = kinds.split_once(':').map_or(kinds, |(kinds, _note)| kinds);
        for part in kinds.split(',') {
            let word = part.trim();
            let Some(kind) = ReportKind::from_name(word) else {
                let names: Vec<_> = ReportKind::ALL.iter().map(|kind| kind.name()).collect();
                let at = if word.is_empty() { part } else { word };
                return words
                    .error(at, format!("`{word}` is no report kind; expected one of: {}", names.join(" ")));
            };
            self.program.expected.push(Expectation { line: words.line, kind });
        }
        Ok(())
    }

    fn prime(&mut self, mut words: Words<'_>) -> Result<(), ParseError> {
        if words.peek() == "dma_resv" {
            words.next("`dma_resv`")?;
            words.end()?;
            for (name, kind) in BUILT_IN {
                let (name, class, tracking) = (name.into(), name.into(), Tracking::Full);
                self.declare(LockDecl { name, kind, class, ordered: false, tracking });
            }
            self.program.primes.push(Prime::DmaResv);
            return Ok(());
        }
        let mut chain = vec![self.known(&mut words)?];
        while !words.peek().is_empty() {
            let less = words.next("`<`")?;
            if less != "<" {
                return words
                    .error(less, format!("expected `<` between the locks of an order, found `{less}`"));
            }
            chain.push(self.known(&mut words)?);
        }
        if chain.len() < 2 {
            return words.error(words.peek(), "expected `A < B`: an order needs two locks");
        }
        self.program.primes.push(Prime::Chain(chain));
        Ok(())
    }

    fn lock(&mut self, mut words: Words<'_>) -> Result<(), ParseError> {
        let Some((names, rest)) = words.rest.split_once(':') else {
            return words.error(
                words.peek(),
                "expected `lock NAME[, NAME…] : KIND [class=C] [order=index] [check=no|track=no]`",
            );
        };
        words.rest = rest;
        let word = words.next("a lock kind")?;
        let Some((_, kind)) = LockType::ALL.into_iter().find(|(name, _)| *name == word) else {
            let kinds: Vec<_> = LockType::ALL.iter().map(|(name, _)| *name).collect();
            return words
                .error(word, format!("`{word}` is no lock kind; expected one of: {}", kinds.join(" ")));
        };
        let (mut class, mut ordered, mut tracking) = (None, false, Tracking::Full);
        while !words.peek().is_empty() {
            let option = words.next("an option")?;
            match option.split_once('=') {
                Some(("class", name)) if !name.is_empty() => class = Some(name.to_owned()),
                Some(("order", "index")) => ordered = true,
                Some(("check", "no")) => tracking = Tracking::Unchecked,
                Some(("track", "no")) => tracking = Tracking::None,
                _ => {
                    let expected = "`class=NAME`, `order=index`, `check=no` or `track=no`";
                    return words.error(option, format!("expected {expected}, found `{option}`"));
                }
            }
        }
        for part in names.split(',') {
            let name = part.trim();
            if name.is_empty() || name.split_whitespace().count() > 1 {
                return words.error(part, "expected the name of a lock");
            }
            if self.find(name) {
                return words.error(name, format!("`{name}` is declared already"));
            }
            let class = class.clone().unwrap_or_else(|| name.to_owned());
            self.declare(LockDecl { name: name.to_owned(), kind, class, ordered, tracking });
        }
        Ok(())
    }

    fn declare(&mut self, lock: LockDecl) {
        if !self.find(&lock.name) {
            self.program.locks.push(lock);
        }
    }

    fn find(&self, name: &str) -> bool {
        self.program.locks.iter().any(|lock| lock.name == name)
    }

    /// A lock that is declared.
    fn known(&self, words: &mut Words<'_>) -> Result<String, ParseError> {
        let word = words.next("the name of a lock")?;
        self.named(words, word)
    }

    fn is_event(&self, word: &str) -> bool {
        self.program.locks.iter().any(|lock| lock.name == word && lock.kind == LockType::Event)
    }

    fn named(&self, words: &Words<'_>, word: &str) -> Result<String, ParseError> {
        if self.is_event(word) {
            return words
                .error(word, format!("`{word}` is an event: expected a lock, or `wait` or `complete`"));
        }
        if self.find(word) || self.contexts.iter().any(|name| name == word) {
            return Ok(word.to_owned());
        }
        words.error(word, format!("`{word}` is not declared; expected a lock from a `lock … : KIND` line"))
    }

    fn step(&mut self, task: &str, mut words: Words<'_>) -> Result<(), ParseError> {
        let op = self.op(task, &mut words)?;
        words.end()?;
        self.program.steps.push(Step { line: words.line, task: task.to_owned(), op });
        Ok(())
    }

    fn op(&mut self, task: &str, words: &mut Words<'_>) -> Result<Op, ParseError> {
        let word = words.next("an operation")?;
        let how = match word {
            "lock" | "write" => Some(How::Write),
            "read" => Some(How::Read),
            "read!" => Some(How::ReadRecursive),
            "try" => Some(How::Try),
            "tryread" => Some(How::TryRead),
            "tryread!" => Some(How::TryReadRecursive),
            "upread" => Some(How::Upgradable),
            "tryupread" => Some(How::TryUpgradable),
            "slow" => Some(How::Slow),
            _ => None,
        };
        if let Some(how) = how {
            return self.acquisition(how, words);
        }
        Ok(match word {
            "unlock" => Op::Unlock(self.known(words)?),
            "downgrade" => Op::Downgrade(self.known(words)?),
            "upgrade" => Op::Upgrade(self.known(words)?),
            "reclass" => self.reclass(words)?,
            "unregister" => Op::Unregister(self.class_name(words)?),
            "register" => Op::Register(self.class_name(words)?),
            "pin" => Op::Pin(self.known(words)?),
            "repin" => Op::Repin(self.known(words)?),
            "unpin" => Op::Unpin(self.known(words)?),
            "rcu" => Op::Rcu(self.some_known(words)?),
            "init" => Op::Init(self.known(words)?),
            "free" => Op::Free(self.known(words)?),
            "assert_held" => Op::AssertHeld(self.known(words)?, HeldAs::Any),
            "assert_read" => Op::AssertHeld(self.known(words)?, HeldAs::Read),
            "assert_write" => Op::AssertHeld(self.known(words)?, HeldAs::Write),
            "assert_not_held" => Op::AssertNotHeld(self.known(words)?),
            "might_lock" => Op::MightLock(self.known(words)?),
            "ctx" => self.context(words)?,
            "done" => Op::Done(self.known(words)?),
            "fini" => Op::Fini(self.known(words)?),
            "irq_off" => Op::Irq(false),
            "irq_on" => Op::Irq(true),
            "bh_off" => Op::Bh(false),
            "bh_on" => Op::Bh(true),
            "alloc" => Op::Alloc,
            "might_fault" => Op::MightFault,
            "wait_fence" => Op::WaitFence,
            "flush" => Op::Flush(words.next("the name of a work item")?.to_owned()),
            "wait" => Op::Wait(self.event(words)?),
            "complete" => Op::Complete(self.event(words)?),
            "spawn" => Op::Spawn(Self::other_task(task, words)?),
            "join" => Op::Join(Self::other_task(task, words)?),
            "exit" => Op::Exit,
            "user_return" => Op::UserReturn,
            "hardirq" | "softirq" | "reclaim" | "signalling" | "work" => self.begin(word, task, words)?,
            "}" => match self.sections.get_mut(task).and_then(Vec::pop) {
                Some(_) => Op::End,
                None => return words.error(word, format!("task `{task}` has no open section here")),
            },
            _ => {
                return words.error(
                    word,
                    format!(
                        "`{word}` is no operation; expected lock read upread try unlock downgrade upgrade reclass unregister register \
                         pin repin unpin rcu init free ctx done fini \
                         assert_held assert_not_held might_lock irq_off irq_on bh_off bh_on alloc might_fault \
                         wait_fence flush wait complete spawn join exit user_return, or a section"
                    ),
                );
            }
        })
    }

    /// An event that is declared.
    fn event(&self, words: &mut Words<'_>) -> Result<String, ParseError> {
        let word = words.next("the name of an event")?;
        if self.is_event(word) {
            return Ok(word.to_owned());
        }
        words.error(word, format!("`{word}` is no event; expected one from a `lock … : event` line"))
    }

    fn other_task(task: &str, words: &mut Words<'_>) -> Result<String, ParseError> {
        let other = words.next("the name of a task")?;
        if other == task {
            return words.error(other, format!("`{task}` cannot start itself or wait for itself"));
        }
        Ok(other.to_owned())
    }

    fn acquisition(&self, how: How, words: &mut Words<'_>) -> Result<Op, ParseError> {
        let lock = self.known(words)?;
        let (mut subclass, mut nest) = (0, None);
        while !words.peek().is_empty() {
            let option = words.next("an option")?;
            match option.split_once('=') {
                Some(("sub", number)) => subclass = Self::subclass(words, number)?,
                Some(("nest" | "ctx", name)) => nest = Some(self.named(words, name)?),
                _ => {
                    return words.error(
                        option,
                        format!("expected `sub=N`, `nest=LOCK` or `ctx=C`, found `{option}`"),
                    );
                }
            }
        }
        Ok(Op::Lock { lock, how, subclass, nest })
    }

    /// Any number that fits: one that is too large is for the rule `subclass` to find.
    fn subclass(words: &Words<'_>, number: &str) -> Result<u8, ParseError> {
        match number.parse() {
            Ok(subclass) => Ok(subclass),
            Err(_) => words.error(number, format!("`{number}` is no subclass; expected 0 to 7")),
        }
    }

    fn reclass(&self, words: &mut Words<'_>) -> Result<Op, ParseError> {
        let lock = self.known(words)?;
        let (mut class, mut subclass) = (None, 0);
        while !words.peek().is_empty() {
            let option = words.next("an option")?;
            match option.split_once('=') {
                Some(("class", name)) if !name.is_empty() => class = Some(name.to_owned()),
                Some(("sub", number)) => subclass = Self::subclass(words, number)?,
                _ => {
                    return words
                        .error(option, format!("expected `class=NAME` or `sub=N`, found `{option}`"));
                }
            }
        }
        Ok(Op::Reclass { lock, class, subclass })
    }

    /// A class of which a lock is declared.
    fn class_name(&self, words: &mut Words<'_>) -> Result<String, ParseError> {
        let word = words.next("the name of a class")?;
        if self.program.locks.iter().any(|lock| lock.class == word) {
            return Ok(word.to_owned());
        }
        words.error(
            word,
            format!("`{word}` is no class; expected the class of a lock from a `lock … : KIND` line"),
        )
    }

    fn some_known(&self, words: &mut Words<'_>) -> Result<Vec<String>, ParseError> {
        let mut names = vec![self.known(words)?];
        while !words.peek().is_empty() {
            names.push(self.known(words)?);
        }
        Ok(names)
    }

    fn context(&mut self, words: &mut Words<'_>) -> Result<Op, ParseError> {
        let name = words.next("the name of a context")?;
        let option = words.next("`class=W`")?;
        let Some(("class", class)) = option.split_once('=').filter(|(_, class)| !class.is_empty()) else {
            return words.error(option, format!("expected `class=W`, found `{option}`"));
        };
        if self.find(name) {
            return words.error(name, format!("`{name}` is a lock"));
        }
        if !self.contexts.iter().any(|known| known == name) {
            self.contexts.push(name.to_owned());
        }
        Ok(Op::Ctx { name: name.to_owned(), class: class.to_owned() })
    }

    fn begin(&mut self, word: &str, task: &str, words: &mut Words<'_>) -> Result<Op, ParseError> {
        let mut section = match word {
            "hardirq" => Section::HardIrq { threaded: true },
            "softirq" => Section::SoftIrq,
            "reclaim" => Section::Reclaim,
            "signalling" => Section::Signalling,
            _ => Section::Work(words.next("the name of a work item")?.to_owned()),
        };
        if word == "hardirq" && words.peek() == "raw" {
            words.next("`raw`")?;
            section = Section::HardIrq { threaded: false };
        }
        let brace = words.next("`{`")?;
        if brace != "{" {
            return words.error(brace, format!("expected `{{` after `{word}`, found `{brace}`"));
        }
        self.sections.entry(task.to_owned()).or_default().push(words.line);
        Ok(Op::Begin(section))
    }

    fn finish(self) -> Result<Program, ParseError> {
        for (task, open) in &self.sections {
            if let Some(line) = open.last() {
                let message = format!(
                    "the section that task `{task}` opens here is never closed; expected `{task}: }}`"
                );
                return Err(ParseError { line: *line, column: 1, message });
            }
        }
        Ok(self.program)
    }
}
