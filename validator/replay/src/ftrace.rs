// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line of a text trace, as `cat trace` prints it.
//!
//! ```text
//!             init-38      [001] ...1.     4.610296: lock_acquire: ffffffff81b0a450 try read lk_a
//! TASK (16 right-aligned)-PID  [CPU] FLAGS  TIME: EVENT: TEXT
//! ```
//!
//! `trace-cmd report` and `perf script` print the same events with other columns, and are understood too:
//!
//! ```text
//!             init-38    [001]     4.610296: lock_acquire:         0xffffffff81b0a450 lk_a
//! init    38 [001]     4.610296: lock:lock_acquire: 0xffffffff81b0a450 lk_a
//! ```
//!
//! The task name may hold anything, so the line is taken apart from the CPU column, the first `[digits]` with a
//! PID in front of it. The flags column may be missing (`options/irq-info` off) or one letter shorter (kernels
//! before 5.14), and a TGID column may stand before the CPU. Addresses may have `0x` in front.
//!
//! Nothing is copied and nothing is searched twice; a line that is not understood is an error, never skipped,
//! because a lost acquisition or release would make everything after it wrong.

use thiserror::Error;

use crate::lkx::{self, FullAcquire};

/// Why a line is not a line of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The columns that every event has.
    #[error("`TASK-PID [CPU]` is missing at its start")]
    NoTask,
    /// The flags column is something else.
    #[error("the column after the CPU is neither flags (`d..1.`) nor a time stamp")]
    Flags,
    /// No time stamp.
    #[error("a time stamp (`SECONDS.MICROSECONDS:`) is missing")]
    NoTime,
    /// No event.
    #[error("`EVENT:` is missing after the time stamp")]
    NoEvent,
    /// No address.
    #[error("a lock event must name the address of the lock, in hexadecimal")]
    NoAddress,
    /// The kernel hides addresses.
    #[error(
        "the kernel printed no address (`options/hash-ptr` off or `no_hash_pointers` makes it print them)"
    )]
    HiddenAddress,
    /// No name.
    #[error("a lock event must name the lock after its address")]
    NoName,
    /// A field that this event must have.
    #[error("the event must have `{0}`")]
    NoField(&'static str),
    /// The marker of lost events.
    #[error("`CPU:N [LOST M EVENTS]` expected")]
    Lost,
}

/// What a line can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A comment, a blank line, or the stack that belongs to the event before.
    Other,
    /// How many events the ring buffer held and how many were ever written to it.
    Entries {
        /// In the buffer, that is in this file.
        held: u64,
        /// Ever written.
        written: u64,
    },
    /// From here on events of this CPU are in the file; earlier ones were overwritten.
    BufferStarted,
    /// Events were lost here.
    Lost {
        /// The CPU.
        cpu: u32,
        /// How many, if the kernel knew.
        count: Option<u64>,
    },
    /// An event.
    Record(Record<'a>),
}

/// An event: the columns that all have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Name of the task, `<idle>` or `<...>`.
    pub task: &'a [u8],
    /// Thread id; 0 is the idle task of each CPU.
    pub pid: u32,
    /// The CPU.
    pub cpu: u32,
    /// The flags column, if there is one.
    pub flags: Option<Flags>,
    /// Name of the event, without a group.
    pub event: &'a [u8],
    /// The event's own text.
    pub text: &'a [u8],
}

/// The columns of the flags that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    irqs: u8,
    context: u8,
}

/// Where code runs, as the flags column says it. Each has a held stack of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A task.
    #[default]
    Task,
    /// A soft interrupt.
    SoftIrq,
    /// A hard interrupt on top of a task.
    HardIrq,
    /// A hard interrupt on top of a soft one.
    HardInSoft,
    /// A non-maskable interrupt: the kernel's lockdep does not follow locks in it.
    Nmi,
}

impl Flags {
    /// True if hard interrupts may come.
    #[must_use]
    pub const fn hard_on(self) -> bool {
        !matches!(self.irqs, b'd' | b'D')
    }

    /// True if bottom halves are not switched off. (In a soft interrupt they are without saying so.)
    #[must_use]
    pub const fn soft_on(self) -> bool {
        !matches!(self.irqs, b'b' | b'D') && matches!(self.context, b'.' | b'h')
    }

    /// The context column.
    #[must_use]
    pub const fn level(self) -> Level {
        match self.context {
            b's' => Level::SoftIrq,
            b'h' => Level::HardIrq,
            b'H' => Level::HardInSoft,
            b'z' | b'Z' => Level::Nmi,
            _ => Level::Task,
        }
    }

    /// True where a reader of a queued rwlock overtakes a waiting writer: in an interrupt of any kind, or with
    /// bottom halves off.
    #[must_use]
    pub const fn in_interrupt(self) -> bool {
        self.context != b'.' || matches!(self.irqs, b'b' | b'D')
    }

    fn parse(column: &[u8]) -> Option<Self> {
        let &[irqs, _, context, depth, ..] = column else { return None };
        let known = column.len() <= 6
            && matches!(irqs, b'.' | b'd' | b'b' | b'D' | b'X')
            && matches!(context, b'.' | b's' | b'h' | b'H' | b'z' | b'Z')
            && (depth == b'.' || depth.is_ascii_hexdigit() || depth == b'#');
        known.then_some(Flags { irqs, context })
    }
}

/// Takes a line apart.
///
/// # Errors
/// If it is no line of a trace.
pub fn parse(line: &[u8]) -> Result<Line<'_>, Malformed> {
    match line.first() {
        // A tab: the stack that `perf script` prints under an event.
        None | Some(b'\t') => Ok(Line::Other),
        Some(b'#') => Ok(comment(line)),
        Some(b'C') if line.starts_with(b"CPU:") => lost(line),
        // The head of `trace-cmd report`.
        Some(b'c') if line.starts_with(b"cpus=") => Ok(Line::Other),
        Some(b'v') if line.starts_with(b"version = ") => Ok(Line::Other),
        Some(b'C') if line.starts_with(b"CPU ") && line.ends_with(b" is empty") => Ok(Line::Other),
        Some(b'<') if line.starts_with(b"<stack trace>") => Ok(Line::Other),
        Some(b' ') if line.starts_with(b" => ") => Ok(Line::Other),
        _ => record(line).map(Line::Record),
    }
}

fn comment(line: &[u8]) -> Line<'_> {
    if let Some(rest) = line.strip_prefix(b"# entries-in-buffer/entries-written: ")
        && let (Some(held), rest) = number(rest)
        && let Some(rest) = rest.strip_prefix(b"/")
        && let (Some(written), _) = number(rest)
    {
        return Line::Entries { held, written };
    }
    if line.starts_with(b"##### CPU ") && line.ends_with(b" buffer started ####") {
        return Line::BufferStarted;
    }
    Line::Other
}

/// `CPU:1 [LOST 12 EVENTS]`, without a number if the kernel does not know it; `trace-cmd report` says
/// `CPU:1 [12 EVENTS DROPPED]`.
fn lost(line: &[u8]) -> Result<Line<'_>, Malformed> {
    let fields = || {
        let (cpu, rest) = number(line.strip_prefix(b"CPU:")?);
        let words = rest.strip_prefix(b" [")?.strip_suffix(b"]")?;
        let count = match words.strip_prefix(b"LOST ") {
            Some(words) => words.strip_suffix(b"EVENTS")?,
            None => words.strip_suffix(b"EVENTS DROPPED")?,
        };
        let count = count.trim_ascii();
        let (lost, rest) = number(count);
        (rest.is_empty() && lost.is_some() != count.is_empty()).then_some((u32::try_from(cpu?).ok()?, lost))
    };
    let (cpu, count) = fields().ok_or(Malformed::Lost)?;
    Ok(Line::Lost { cpu, count })
}

fn record(line: &[u8]) -> Result<Record<'_>, Malformed> {
    let (task, pid, cpu, rest) = task_column(line).ok_or(Malformed::NoTask)?;
    let (flags, rest) = flags_column(rest)?;
    let (event, text) = event_column(rest)?;
    Ok(Record { task, pid, cpu, flags, event, text })
}

/// Finds the CPU column; what is in front of it is the task and its PID.
fn task_column(line: &[u8]) -> Option<(&[u8], u32, u32, &[u8])> {
    for bracket in memchr::memchr_iter(b'[', line) {
        let (Some(cpu), rest) = number(&line[bracket + 1..]) else { continue };
        let Some(rest) = rest.strip_prefix(b"] ") else { continue };
        let front = without_tgid(line[..bracket].trim_ascii_end());
        let digits = front.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (name, pid) = front.split_at(front.len() - digits);
        // `perf script` has spaces between the name and the PID.
        let Some(name) = name.strip_suffix(b"-").or_else(|| name.strip_suffix(b" ")) else { continue };
        let (Some(pid), name) = (number(pid).0, name.trim_ascii()) else { continue };
        let (Ok(pid), Ok(cpu), false) = (u32::try_from(pid), u32::try_from(cpu), name.is_empty()) else {
            continue;
        };
        return Some((name, pid, cpu, rest));
    }
    None
}

/// Takes `(  TGID)` or `(-------)` off the end.
fn without_tgid(front: &[u8]) -> &[u8] {
    let Some(inner) = front.strip_suffix(b")") else { return front };
    match memchr::memrchr(b'(', inner) {
        Some(open) if inner[open + 1..].iter().all(|byte| matches!(byte, b' ' | b'-' | b'0'..=b'9')) => {
            inner[..open].trim_ascii_end()
        }
        _ => front,
    }
}

/// The flags, if there are any, and the time stamp; what is behind it.
fn flags_column(rest: &[u8]) -> Result<(Option<Flags>, &[u8]), Malformed> {
    let (word, behind) = word(rest);
    if let Some(time) = word.strip_suffix(b":") {
        return if is_time(time) { Ok((None, behind)) } else { Err(Malformed::NoTime) };
    }
    let flags = match (Flags::parse(word), is_time(word)) {
        (Some(flags), _) => flags,
        (None, false) if !word.is_empty() => return Err(Malformed::Flags),
        _ => return Err(Malformed::NoTime),
    };
    let (time, behind) = self::word(behind);
    match time.strip_suffix(b":") {
        Some(time) if is_time(time) => Ok((Some(flags), behind)),
        _ => Err(Malformed::NoTime),
    }
}

fn is_time(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// The event's name (without the group that some tools print in front of it) and its text.
fn event_column(rest: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let rest = rest.trim_ascii_start();
    let (mut event, mut text) = ident(rest).ok_or(Malformed::NoEvent)?;
    if let Some((second, behind)) = ident(text).filter(|_| text.first() != Some(&b' ')) {
        (event, text) = (second, behind);
    }
    Ok((event, text.trim_ascii_start()))
}

/// `NAME:`, and what is behind it.
fn ident(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    (len > 0 && text.get(len) == Some(&b':')).then(|| (&text[..len], &text[len + 1..]))
}

/// The next run without spaces, and what is behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let len = memchr::memchr(b' ', text).unwrap_or(text.len());
    text.split_at(len)
}

/// A decimal number at the start; `None` if there is none or it is too large.
fn number(text: &[u8]) -> (Option<u64>, &[u8]) {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(len);
    let value = digits
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    (value.filter(|_| len > 0), rest)
}

/// What an event means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// `lock_acquire`: about to be waited for, or a trylock that succeeded.
    Acquire {
        /// Address of the lock.
        address: u64,
        /// A trylock.
        trylock: bool,
        /// Shared, of whatever kind.
        read: bool,
        /// The name given to the lock.
        name: &'a [u8],
    },
    /// `lock_release`.
    Release {
        /// Address of the lock.
        address: u64,
        /// The name given to the lock.
        name: &'a [u8],
    },
    /// `lkx_acquire`: an acquisition with all its arguments.
    FullAcquire(FullAcquire<'a>),
    /// Hard interrupts are switched on; by which function, if that is printed.
    IrqEnable {
        /// The function.
        caller: &'a [u8],
    },
    /// Hard interrupts are switched off.
    IrqDisable,
    /// The CPU goes over to another task.
    Switch,
    /// The task ends.
    Exit,
    /// A task is made.
    Fork {
        /// Its PID.
        child: u32,
    },
    /// The task wrote a marker, from user space.
    Marker,
    /// Anything else.
    Other,
}

impl<'a> Record<'a> {
    /// What the event means.
    ///
    /// # Errors
    /// If its text is not what this event prints.
    pub fn op(&self) -> Result<Op<'a>, Malformed> {
        match self.event {
            b"lock_acquire" => acquire(self.text),
            b"lock_release" => {
                let (address, name) = address(self.text)?;
                Ok(Op::Release { address, name: named(name)? })
            }
            b"lkx_acquire" => lkx::acquire(self.text).map(Op::FullAcquire),
            b"lkx_release" => {
                let (address, name) = lkx::release(self.text)?;
                Ok(Op::Release { address, name })
            }
            b"irq_enable" => Ok(Op::IrqEnable { caller: field(self.text, b"caller=").unwrap_or_default() }),
            b"irq_disable" => Ok(Op::IrqDisable),
            b"sched_switch" => Ok(Op::Switch),
            b"sched_process_exit" => Ok(Op::Exit),
            b"sched_process_fork" => {
                let child = field(self.text, b" child_pid=").and_then(|child| number(child).0);
                let child = child.and_then(|child| u32::try_from(child).ok());
                child.map(|child| Op::Fork { child }).ok_or(Malformed::NoField("child_pid="))
            }
            b"tracing_mark_write" => Ok(Op::Marker),
            _ => Ok(Op::Other),
        }
    }
}

fn acquire(text: &[u8]) -> Result<Op<'_>, Malformed> {
    let (address, rest) = address(text)?;
    let (trylock, rest) = flag(rest, b"try ");
    let (read, rest) = flag(rest, b"read ");
    Ok(Op::Acquire { address, trylock, read, name: named(rest)? })
}

fn flag<'a>(text: &'a [u8], word: &[u8]) -> (bool, &'a [u8]) {
    text.strip_prefix(word).map_or((false, text), |rest| (true, rest))
}

fn named(name: &[u8]) -> Result<&[u8], Malformed> {
    if name.is_empty() { Err(Malformed::NoName) } else { Ok(name) }
}

/// An address and what is behind the space after it.
pub(crate) fn address(text: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (word, rest) = word(text);
    if word.starts_with(b"(") && word.ends_with(b"ptrval____)") || word == b"(null)" {
        return Err(Malformed::HiddenAddress);
    }
    let value = hex(word).ok_or(Malformed::NoAddress)?;
    Ok((value, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// A hexadecimal number, all of it.
pub(crate) fn hex(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"0x").unwrap_or(word);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// What stands behind the last `key`, up to a space.
pub(crate) fn field<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::rfind(text, key)?;
    Some(word(&text[at + key.len()..]).0)
}
