// SPDX-License-Identifier: GPL-2.0-only
//! Reads the text form of a sequence.

use core::fmt;
use core::str::FromStr;

use lockdep::Mode;

use super::{How, Op, Sequence, Step, TaskSequence};

/// More events than any recorded program has; a file that unfolds to more is a mistake, or worse.
const MOST_EVENTS: usize = 1_000_000;

/// Why a text is not a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for SequenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl core::error::Error for SequenceError {}

impl FromStr for Sequence {
    type Err = SequenceError;

    fn from_str(text: &str) -> Result<Self, SequenceError> {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.line(line).map_err(|reason| SequenceError { line: parser.number, reason })?;
        }
        if let Some(open) = parser.open.last() {
            return Err(SequenceError { line: open.line, reason: "this block is never closed".into() });
        }
        Ok(Sequence { tasks: parser.tasks })
    }
}

#[derive(Default)]
struct Parser {
    tasks: Vec<TaskSequence>,
    /// Blocks that are open, outermost first.
    open: Vec<Open>,
    /// Locks held in the current task.
    held: usize,
    /// The current line.
    number: usize,
}

struct Open {
    times: usize,
    /// Where in the task's steps the block starts.
    start: usize,
    /// How many locks were held there.
    held: usize,
    line: usize,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        self.number += 1;
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            return Ok(());
        }
        if let Some(task) = content.strip_prefix("task ") {
            return self.task(task.trim());
        }
        if let Some(rest) = content.strip_prefix("repeat ") {
            return self.repeat(rest);
        }
        if content == "}" {
            return self.close();
        }
        let depth = line.len() - line.trim_start_matches(' ').len();
        self.step(depth, content.parse()?)
    }

    fn task(&mut self, name: &str) -> Result<(), String> {
        if !self.open.is_empty() {
            return Err("a task cannot begin inside a repeated block".into());
        }
        self.held = 0;
        self.tasks.push(TaskSequence { task: name.into(), steps: Vec::new() });
        Ok(())
    }

    fn steps(&mut self) -> Result<&mut Vec<Step>, String> {
        match self.tasks.last_mut() {
            Some(task) => Ok(&mut task.steps),
            None => Err("there is no `task NAME` line before this one".into()),
        }
    }

    fn repeat(&mut self, rest: &str) -> Result<(), String> {
        let times = rest.strip_suffix('{').and_then(|times| times.trim().parse::<usize>().ok());
        let Some(times @ 1..) = times else {
            return Err(format!("`repeat {rest}` is not `repeat N {{` with N at least 1"));
        };
        let start = self.steps()?.len();
        self.open.push(Open { times, start, held: self.held, line: self.number });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Open { times, start, held, .. } =
            self.open.pop().ok_or("this `}` closes nothing, no block is open")?;
        if held != self.held {
            return Err(format!("the block begins with {held} locks held and ends with {}", self.held));
        }
        let steps = self.steps()?;
        let length = steps.len() - start;
        let total = length.checked_mul(times - 1).and_then(|more| more.checked_add(steps.len()));
        if total.is_none_or(|total| total > MOST_EVENTS) {
            return Err(format!("more than {MOST_EVENTS} events"));
        }
        let end = steps.len();
        for _ in 1..times {
            steps.extend_from_within(start..end);
        }
        Ok(())
    }

    fn step(&mut self, indent: usize, step: Step) -> Result<(), String> {
        if step.closes() {
            self.held = self.held.checked_sub(1).ok_or("a release, but no lock is held")?;
        }
        if indent != 2 * self.held {
            return Err(format!("indented by {indent}, but {} locks are held: {}", self.held, 2 * self.held));
        }
        if step.opens() {
            self.held += 1;
        }
        self.steps()?.push(step);
        Ok(())
    }
}

impl FromStr for Step {
    type Err = String;

    /// `+ CLASS #N MODE… @ FUNCTION`. A class name may have spaces in it, so it ends at the last ` #`.
    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{text}` is not `SIGN CLASS #N … @ FUNCTION`");
        let (sign, rest) = text.split_once(' ').ok_or_else(shape)?;
        let (lock, function) = rest.rsplit_once(" @ ").ok_or_else(shape)?;
        let (class, rest) = lock.rsplit_once(" #").ok_or_else(shape)?;
        let mut words = rest.split_whitespace();
        let instance = words.next().and_then(|word| word.parse().ok()).ok_or_else(shape)?;
        let op = match sign {
            "+" => Op::Acquire(how(&mut words)?),
            "-" => Op::Release,
            "~" => Op::Downgrade,
            _ => return Err(format!("`{sign}` is none of `+`, `-` and `~`")),
        };
        if let Some(word) = words.next() {
            return Err(format!("`{word}` is out of place"));
        }
        Ok(Step { op, class: class.trim().into(), instance, function: function.trim().into() })
    }
}

fn how<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<How, String> {
    let mode = match words.next() {
        Some("W") => Mode::Write,
        Some("R") => Mode::Read,
        Some("RR") => Mode::RecursiveRead,
        Some("U") => Mode::Upgradable,
        other => return Err(format!("`{}` is none of `W`, `R`, `RR` and `U`", other.unwrap_or_default())),
    };
    let mut how = How { mode, ..How::default() };
    for word in words {
        match (word, word.strip_prefix("sub=").and_then(|subclass| subclass.parse().ok())) {
            ("try", _) => how.trylock = true,
            ("nest", _) => how.nest = true,
            (_, Some(subclass)) => how.subclass = subclass,
            _ => return Err(format!("`{word}` is none of `try`, `sub=N` and `nest`")),
        }
    }
    Ok(how)
}
