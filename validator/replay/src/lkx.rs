// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form with all arguments of `lock_acquire()`: what a patched kernel prints when its trace is to be the ground
//! truth for a replay. Class, subclass, nest lock and kind of read need no annotation.
//!
//! ```text
//! lkx_acquire: ADDR key= sub= try= read= check= nest= wt=OUTER:INNER type= hi= si= hc= sc= … name=NAME
//! lkx_release: ADDR key= … name=NAME
//! ```
//!
//! `hi`/`si`: hard and soft interrupts enabled, `hc`/`sc`: in a hard or soft interrupt, as the kernel's lockdep sees
//! it. Other fields are skipped. The wait types are numbered as in a kernel without raw-lock nesting checks
//! (1 never waits, 2 spins, 3 sleeps).

use lockdep::engine::ClassDef;
use lockdep::{LockKind, Mode, WaitType};

use crate::ftrace::{Level, Malformed, address, hex};

/// One acquisition with all its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullAcquire<'a> {
    /// Address of the lock.
    pub address: u64,
    /// Address of the key.
    pub key: u64,
    /// 0 to 7.
    pub subclass: u8,
    /// A trylock.
    pub trylock: bool,
    /// Write, read or recursive read.
    pub mode: Mode,
    /// Subject to the order rules.
    pub check: bool,
    /// Address of the nest lock, 0 if there is none.
    pub nest: u64,
    /// Outer and inner wait type.
    pub waits: (WaitType, WaitType),
    /// Normal, per-CPU or override.
    pub kind: LockKind,
    /// Hard interrupts are enabled.
    pub hard_on: bool,
    /// Soft interrupts are enabled.
    pub soft_on: bool,
    /// Inside which interrupts.
    pub level: Level,
    /// Name of the key.
    pub name: &'a [u8],
}

impl FullAcquire<'_> {
    /// The class as the engine wants it, but for its name.
    pub(crate) fn class_def(&self) -> ClassDef {
        ClassDef { waits: self.waits, kind: self.kind, ..ClassDef::named("") }
    }
}

/// Reads the text of `lkx_acquire`.
///
/// # Errors
/// If a field is missing or has no sensible value.
pub fn acquire(text: &[u8]) -> Result<FullAcquire<'_>, Malformed> {
    let (address, rest) = address(text)?;
    let (fields, name) = split_name(rest)?;
    let digit = |key: &'static str, below: u8| {
        let value = value(fields, key)?;
        let digit = match value {
            [digit @ b'0'..=b'9'] => digit - b'0',
            _ => u8::MAX,
        };
        if digit < below { Ok(digit) } else { Err(Malformed::NoField(key)) }
    };
    let flag = |key: &'static str| Ok(digit(key, 2)? == 1);
    let number = |key: &'static str| hex(value(fields, key)?).ok_or(Malformed::NoField(key));
    Ok(FullAcquire {
        address,
        key: number("key=")?,
        subclass: digit("sub=", 8)?,
        trylock: flag("try=")?,
        mode: match digit("read=", 3)? {
            0 => Mode::Write,
            1 => Mode::Read,
            _ => Mode::RecursiveRead,
        },
        check: flag("check=")?,
        nest: number("nest=")?,
        waits: match value(fields, "wt=")? {
            [outer, b':', inner] => (wait(*outer)?, wait(*inner)?),
            _ => return Err(Malformed::NoField("wt=")),
        },
        kind: match digit("type=", 3)? {
            0 => LockKind::Normal,
            1 => LockKind::PerCpu,
            _ => LockKind::WaitOverride,
        },
        hard_on: flag("hi=")?,
        soft_on: flag("si=")?,
        level: match (flag("hc=")?, flag("sc=")?) {
            (false, false) => Level::Task,
            (false, true) => Level::SoftIrq,
            (true, false) => Level::HardIrq,
            (true, true) => Level::HardInSoft,
        },
        name,
    })
}

/// Reads the text of `lkx_release`: the address and the name of the lock.
///
/// # Errors
/// If one of them is missing.
pub fn release(text: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (address, rest) = address(text)?;
    Ok((address, split_name(rest)?.1))
}

/// The name is the last field, and the only one that may have spaces or `=` in it.
fn split_name(text: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let at = memchr::memmem::find(text, b" name=").ok_or(Malformed::NoField("name="))?;
    let name = &text[at + b" name=".len()..];
    if name.is_empty() { Err(Malformed::NoName) } else { Ok((&text[..at], name)) }
}

fn value<'a>(fields: &'a [u8], key: &'static str) -> Result<&'a [u8], Malformed> {
    fields
        .split(|byte| *byte == b' ')
        .find_map(|field| field.strip_prefix(key.as_bytes()))
        .ok_or(Malformed::NoField(key))
}

fn wait(digit: u8) -> Result<WaitType, Malformed> {
    match digit {
        b'0' => Ok(WaitType::Unchecked),
        b'1' => Ok(WaitType::Free),
        b'2' => Ok(WaitType::Spin),
        b'3' => Ok(WaitType::Sleep),
        _ => Err(Malformed::NoField("wt=")),
    }
}
