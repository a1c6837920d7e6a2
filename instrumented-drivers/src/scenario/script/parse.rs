// SPDX-License-Identifier: GPL-2.0-only
//! Text to steps. Every mistake that can be seen without running is found here: unknown words, names without a value,
//! arguments that are missing, too many, or of another kind.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use lockdep::ReportKind;
use lockdep::litmus::ParseError;
use lockdep::litmus::words::Words;

use super::calls::{Absent, CALLS, Call};
use super::value::{Kind, Refusal, Value};
use super::{Finds, Only, Script};
use crate::drm::file::Handle;
use crate::drm::vgem::VgemFence;
use crate::kernel::file::Fd;
use crate::policy::{LockingPolicy, ShmemLocking};
use crate::user::Driver;

/// A line that does something.
pub(super) struct Step {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) act: Act,
}

/// What it does.
pub(super) enum Act {
    Call { call: &'static Call, args: Vec<Arg>, then: Then },
    Compare { name: String, with: Arg, equal: bool },
    For { name: String, numbers: core::ops::Range<u64>, body: Block },
    Fork(Block),
}

/// Steps of a child are run by another thread.
pub(super) type Block = Arc<[Step]>;

/// An argument.
pub(super) enum Arg {
    Name(String),
    Value(Value),
}

/// What becomes of a call's result.
pub(super) enum Then {
    Drop,
    Keep(String),
    /// There is none: it must fail like this.
    Fails(Refusal),
}

/// The kind of each name that has a value.
type Names = BTreeMap<String, Kind>;

type Result<T = ()> = core::result::Result<T, ParseError>;

pub(super) fn parse(text: &str) -> Result<Script> {
    let mut parser = Parser { finds: Vec::new(), open: Vec::new(), steps: Vec::new(), names: Names::new() };
    for (line, text) in (1..).zip(text.lines()) {
        let code = text.split('#').next().unwrap_or_default();
        let words = Words::new(line, code);
        if !words.peek().is_empty() {
            parser.line(words)?;
        }
    }
    if let Some(Open { line, column, what, .. }) = parser.open.pop() {
        let word = what.word();
        let message = format!("this `{word}` is never closed; expected a line with `}}`");
        return Err(ParseError { line, column, message });
    }
    Ok(Script { finds: parser.finds, steps: parser.steps.into() })
}

struct Parser {
    finds: Vec<Finds>,
    /// Blocks that are not closed yet, outermost first.
    open: Vec<Open>,
    /// Of the innermost block.
    steps: Vec<Step>,
    names: Names,
}

struct Open {
    line: u32,
    column: u32,
    what: Opener,
    /// Of the block around it.
    steps: Vec<Step>,
    names: Names,
}

enum Opener {
    For { name: String, numbers: core::ops::Range<u64> },
    Fork,
}

impl Opener {
    fn word(&self) -> &'static str {
        match self {
            Opener::For { .. } => "for",
            Opener::Fork => "fork",
        }
    }
}

impl Parser {
    fn line(&mut self, mut words: Words<'_>) -> Result {
        let first = words.next("a step")?;
        let column = words.column_of(first);
        let act = match first {
            "finds" => return self.finds(words),
            "for" => {
                let what = self.header(&mut words)?;
                return self.begin(words, column, what);
            }
            "fork" => return self.begin(words, column, Opener::Fork),
            "}" => self.close(&words, first)?,
            "expect" => self.expect(&mut words)?,
            name if words.peek() == "=" => {
                words.next("`=`")?;
                self.assign(name, &mut words)?
            }
            name => self.call(name, &mut words, Then::Drop)?,
        };
        words.end()?;
        self.steps.push(Step { line: words.line(), column, act });
        Ok(())
    }

    fn finds(&mut self, mut words: Words<'_>) -> Result {
        let mut kinds = Vec::new();
        while !words.peek().is_empty() && words.peek() != "if" {
            let word = words.next("a report kind")?.trim_end_matches(',');
            let Some(kind) = ReportKind::from_name(word) else {
                let names: Vec<_> = ReportKind::ALL.iter().map(|kind| kind.name()).collect();
                return words.error(
                    word,
                    format!("`{word}` is no report kind; expected one of: {}", names.join(" ")),
                );
            };
            kinds.push(kind);
        }
        if kinds.is_empty() {
            return words.error(words.peek(), "expected a report kind after `finds`");
        }
        let mut only = Vec::new();
        if words.peek() == "if" {
            words.next("`if`")?;
            only.push(Only::default());
            while !words.peek().is_empty() || only.last() == Some(&Only::default()) {
                let word = words.next("a policy or a shmem regime")?;
                let name = word.trim_end_matches(',');
                let Some(last) = only.last_mut() else { continue };
                match (name.parse::<LockingPolicy>(), name.parse::<ShmemLocking>()) {
                    (Ok(policy), _) if last.policy.is_none() => last.policy = Some(policy),
                    (_, Ok(shmem)) if last.shmem.is_none() => last.shmem = Some(shmem),
                    _ => {
                        let expected = "expected a policy (P0 P1 P2), a shmem regime (A B0 B C), or both";
                        return words.error(word, format!("{expected}, found `{name}`"));
                    }
                }
                if word.ends_with(',') {
                    only.push(Only::default());
                }
            }
        }
        self.finds.push(Finds { kinds, only });
        Ok(())
    }

    /// `for NAME in FIRST..LAST`, behind the first word.
    fn header(&mut self, words: &mut Words<'_>) -> Result<Opener> {
        let name = self.new_name(words, "the name of a number", Kind::Number)?;
        let (word, range) = (words.next("`in`")?, "`in` and a range such as `0..3`");
        if word != "in" {
            return words.error(word, format!("expected {range}, found `{word}`"));
        }
        let range = words.next("a range such as `0..3`")?;
        let ends = range.split_once("..").map(|(first, last)| (number(first), number(last)));
        let Some((Some(first), Some(last))) = ends else {
            return words.error(range, format!("expected a range such as `0..3`, found `{range}`"));
        };
        Ok(Opener::For { name, numbers: first..last })
    }

    fn begin(&mut self, mut words: Words<'_>, column: u32, what: Opener) -> Result {
        let brace = words.next("`{`")?;
        if brace != "{" {
            return words.error(brace, format!("expected `{{` after `{}`, found `{brace}`", what.word()));
        }
        words.end()?;
        let names = self.names.clone();
        if let Opener::For { name, .. } = &what {
            self.names.insert(name.clone(), Kind::Number);
        }
        let steps = core::mem::take(&mut self.steps);
        self.open.push(Open { line: words.line(), column, what, steps, names });
        Ok(())
    }

    fn close(&mut self, words: &Words<'_>, brace: &str) -> Result<Act> {
        let Some(open) = self.open.pop() else {
            return words.error(brace, "this `}` closes nothing, no block is open");
        };
        let body = core::mem::replace(&mut self.steps, open.steps).into();
        Ok(match open.what {
            // What its last round gave a value has it from now on, if there was a round.
            Opener::For { name, numbers } => {
                if numbers.is_empty() {
                    self.names = open.names;
                }
                Act::For { name, numbers, body }
            }
            Opener::Fork => {
                self.names = open.names;
                Act::Fork(body)
            }
        })
    }

    fn expect(&mut self, words: &mut Words<'_>) -> Result<Act> {
        let word = words.next("`ERROR: CALL` or `NAME == VALUE`")?;
        if let Some(error) = word.strip_suffix(':') {
            let Some(refusal) = Refusal::from_name(error) else {
                return words
                    .error(word, format!("`{error}` is no error; expected one such as EINVAL or SIGBUS"));
            };
            let name = words.next("a call")?;
            return self.call(name, words, Then::Fails(refusal));
        }
        let kind = self.known(words, word, None)?;
        let operator = words.next("`==` or `!=`")?;
        let equal = match operator {
            "==" => true,
            "!=" => false,
            other => return words.error(other, format!("expected `==` or `!=`, found `{other}`")),
        };
        let with = words.next(&kind.name())?;
        let with = self.argument(words, with, kind)?;
        Ok(Act::Compare { name: word.to_owned(), with, equal })
    }

    fn assign(&mut self, name: &str, words: &mut Words<'_>) -> Result<Act> {
        let word = words.next("a call")?;
        let act = self.call(word, words, Then::Keep(name.to_owned()))?;
        if let Act::Call { call: Call { gives: Some(kind), .. }, .. } = act {
            self.declare(words, name, *kind)?;
            return Ok(act);
        }
        words.error(word, format!("`{word}` gives nothing that `{name}` could be"))
    }

    fn new_name(&mut self, words: &mut Words<'_>, expected: &str, kind: Kind) -> Result<String> {
        let name = words.next(expected)?;
        self.declare(words, name, kind)?;
        Ok(name.to_owned())
    }

    fn declare(&mut self, words: &Words<'_>, name: &str, kind: Kind) -> Result {
        let mut letters = name.chars();
        if !letters.next().is_some_and(char::is_alphabetic)
            || !letters.all(|letter| letter.is_alphanumeric() || letter == '_')
        {
            return words.error(
                name,
                format!("`{name}` is no name: expected a letter, then letters, digits and `_`"),
            );
        }
        match self.names.get(name) {
            Some(before) if *before != kind => {
                let (before, now) = (before.name(), kind.name());
                words.error(name, format!("`{name}` is {before}, it cannot become {now}"))
            }
            _ => {
                self.names.insert(name.to_owned(), kind);
                Ok(())
            }
        }
    }

    fn call(&self, name: &str, words: &mut Words<'_>, then: Then) -> Result<Act> {
        let Some(call) = CALLS.iter().find(|call| call.name == name) else {
            let names: Vec<&str> = CALLS.iter().map(|call| call.name).collect();
            let expected = "`finds`, `expect`, `for`, `fork` or a call";
            return words
                .error(name, format!("`{name}` is no call; expected {expected}: {}", names.join(" ")));
        };
        let mut args = Vec::new();
        for param in call.takes {
            let word = match (words.peek(), &param.absent) {
                ("", Absent::Nothing) => {
                    args.push(Arg::Value(Value::Nothing));
                    continue;
                }
                ("", Absent::Word(word)) => word,
                _ => words.next(&format!("{}, as in `{call}`", param.label))?,
            };
            args.push(self.argument(words, word, param.kind)?);
        }
        if !words.peek().is_empty() {
            let more = words.peek();
            return words.error(more, format!("expected the end of the line after `{call}`, found `{more}`"));
        }
        Ok(Act::Call { call, args, then })
    }

    fn argument(&self, words: &Words<'_>, word: &str, kind: Kind) -> Result<Arg> {
        let literal = number(word);
        if literal.is_none() && word.starts_with(|c: char| c.is_ascii_digit()) {
            return words.error(word, format!("`{word}` is no number; expected one such as 3, 0x10 or 256K"));
        }
        let value = match kind {
            Kind::Number => literal.map(Value::Number),
            // So that a script can say what nobody gave it.
            Kind::File => literal.and_then(|fd| i32::try_from(fd).ok()).map(|fd| Value::File(Fd(fd))),
            Kind::Handle => {
                literal.and_then(|name| u32::try_from(name).ok()).map(|name| Value::Handle(Handle(name)))
            }
            Kind::Fence => {
                literal.and_then(|name| u32::try_from(name).ok()).map(|name| Value::Fence(VgemFence(name)))
            }
            Kind::Driver => {
                let Some(driver) = Driver::ALL.into_iter().find(|driver| driver.name() == word) else {
                    let names = Driver::ALL.map(Driver::name).join(", ");
                    return words.error(word, format!("`{word}` is no driver; expected one of {names}"));
                };
                Some(Value::Driver(driver))
            }
            Kind::Text => Some(Value::Text(word.to_owned())),
            Kind::Word(choice) => choice.iter().find(|known| **known == word).map(|known| Value::Word(known)),
            _ => None,
        };
        match value {
            Some(value) => Ok(Arg::Value(value)),
            None => self.known(words, word, Some(kind)).map(|_| Arg::Name(word.to_owned())),
        }
    }

    /// The kind of a name that has a value; the one that is wanted, if one is.
    fn known(&self, words: &Words<'_>, word: &str, wanted: Option<Kind>) -> Result<Kind> {
        let fits = |kind: Kind| wanted.is_none_or(|wanted| kind.is(wanted));
        let expected = match wanted {
            Some(wanted) => wanted.name(),
            None => "a name with a value".into(),
        };
        match self.names.get(word) {
            Some(kind) if fits(*kind) => Ok(*kind),
            Some(kind) => words.error(word, format!("`{word}` is {}; expected {expected}", kind.name())),
            None => {
                let known: Vec<&str> = self
                    .names
                    .iter()
                    .filter(|(_, kind)| fits(**kind))
                    .map(|(name, _)| name.as_str())
                    .collect();
                let known = if known.is_empty() { String::new() } else { format!(": {}", known.join(" ")) };
                words.error(word, format!("`{word}` has no value here; expected {expected}{known}"))
            }
        }
    }
}

/// `12`, `0x10`, `256K`, `2M`.
fn number(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let (digits, unit) = match word.strip_suffix(['K', 'M']) {
        Some(digits) if word.ends_with('K') => (digits, 1 << 10),
        Some(digits) => (digits, 1 << 20),
        None => (word, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
