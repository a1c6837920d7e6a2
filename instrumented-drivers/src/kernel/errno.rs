// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! Error numbers with the kernel's names.

use core::fmt;

/// An error number, as a system call would return it (without the minus).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

/// What a kernel function returns.
pub type Result<T = ()> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($number);)*

            /// The kernel's name, for example `EINVAL`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "E?",
                }
            }

            /// The error with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Errno::$name),)*
                    _ => None,
                }
            }

            const fn text(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "Unknown error",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Not permitted.";
    ENOENT = 2, "No such file, name or object.";
    ESRCH = 3, "Whoever asked for it is gone.";
    EINTR = 4, "Interrupted by a signal.";
    EIO = 5, "Input or output error.";
    EBADF = 9, "Not an open file.";
    EAGAIN = 11, "Not now.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Device or object busy.";
    ENODEV = 19, "No such device, or not an operation of it.";
    EINVAL = 22, "Invalid argument.";
    EMFILE = 24, "Too many open files.";
    ENOTTY = 25, "Not an ioctl of this file.";
    ENOSPC = 28, "No space left.";
    ESPIPE = 29, "Illegal seek.";
    EDEADLK = 35, "Deadlock avoided: release everything of this context and try again.";
    ENOSYS = 38, "The driver does not offer it.";
    EOVERFLOW = 75, "Value too large.";
    EBADFD = 77, "Not a file of the right kind.";
    EOPNOTSUPP = 95, "Operation not supported.";
    ETIMEDOUT = 110, "Timed out.";
    EALREADY = 114, "This context holds the lock already.";
    ECANCELED = 125, "Given up before it was done.";
}

impl Errno {
    /// The error of this number.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        Errno(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.text())
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    /// For what the host refuses (a memfd, a mapping): out of memory, or the host's own number.
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().map_or(Errno::ENOMEM, Errno)
    }
}
