// SPDX-License-Identifier: GPL-2.0-only
//! What a script's names stand for, and what a call takes.
#![forbid(unsafe_code)]

use core::fmt;

use crate::drm::file::Handle;
use crate::drm::vgem::VgemFence;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::mm::Signal;
use crate::user::Driver;

/// What a name stands for, or an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    File(Fd),
    Handle(Handle),
    Fence(VgemFence),
    Mapping {
        address: u64,
        length: u64,
    },
    Number(u64),
    Driver(Driver),
    /// One of a few.
    Word(&'static str),
    Text(String),
    /// An argument that was left out.
    Nothing,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::File(fd) => write!(f, "{}", fd.0),
            Value::Handle(handle) => write!(f, "{}", handle.0),
            Value::Fence(fence) => write!(f, "{}", fence.0),
            Value::Mapping { address, length } => write!(f, "{address:#x}+{length:#x}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Driver(driver) => f.write_str(driver.name()),
            Value::Word(word) => f.write_str(word),
            Value::Text(text) => f.write_str(text),
            Value::Nothing => f.write_str("nothing"),
        }
    }
}

/// What a call takes in one place, or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Handle,
    Fence,
    Mapping,
    /// A file or a mapping: where a camera's frame goes.
    Target,
    Number,
    Driver,
    /// Any word.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Kind {
    /// In the middle of a sentence.
    pub(super) fn name(self) -> String {
        match self {
            Kind::File => "a file".into(),
            Kind::Handle => "a handle".into(),
            Kind::Fence => "a fence".into(),
            Kind::Mapping => "a mapping".into(),
            Kind::Target => "a file or a mapping".into(),
            Kind::Number => "a number".into(),
            Kind::Driver => "a driver".into(),
            Kind::Text => "a word".into(),
            Kind::Word(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// True if a name of this kind may stand where `wanted` is wanted.
    pub(super) fn is(self, wanted: Kind) -> bool {
        self == wanted || (wanted == Kind::Target && matches!(self, Kind::File | Kind::Mapping))
    }
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Errno(Errno),
    Signal(Signal),
}

impl Refusal {
    const SIGNALS: [Signal; 2] = [Signal::Segv, Signal::Bus];

    /// The error or signal of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let signal = Self::SIGNALS.into_iter().find(|signal| signal.to_string() == name);
        signal.map(Refusal::Signal).or_else(|| Errno::from_name(name).map(Refusal::Errno))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Errno(error) => f.write_str(error.name()),
            Refusal::Signal(signal) => write!(f, "{signal}"),
        }
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Refusal::Errno(error)
    }
}

impl From<Signal> for Refusal {
    fn from(signal: Signal) -> Self {
        Refusal::Signal(signal)
    }
}

macro_rules! gives {
    ($($type:ty: $from:ident => $value:expr;)*) => {
        $(impl From<$type> for Value {
            fn from($from: $type) -> Self {
                $value
            }
        })*
    };
}

gives! {
    (): _nothing => Value::Nothing;
    Fd: fd => Value::File(fd);
    Handle: handle => Value::Handle(handle);
    VgemFence: fence => Value::Fence(fence);
    u64: number => Value::Number(number);
    (u64, u64): part => Value::Mapping { address: part.0, length: part.1 };
    &'static str: word => Value::Word(word);
}
