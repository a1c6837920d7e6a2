// SPDX-License-Identifier: GPL-2.0-only
//! The calls of a script: what each takes and gives, and the system call that it is. The parser and the interpreter
//! know no call but from here.
#![forbid(unsafe_code)]

use core::fmt;

use super::value::Value::{Driver, Fence, File, Handle, Mapping, Number, Text, Word};
use super::value::{Kind, Refusal, Value};
use crate::dma_buf::ioctl::{DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW, DMA_BUF_SYNC_WRITE};
use crate::dma_buf::udmabuf::UdmabufItem;
use crate::drm::gem_reservations::WaitTimeout;
use crate::drm::i915::{I915ExecObject, MmapType};
use crate::drm::lima::LIMA_BO_FLAG_HEAP;
use crate::drm::omapdrm::OMAP_BO_TILED;
use crate::drm::panfrost::drv::PanfrostMadv;
use crate::drm::panfrost::gem::{PANFROST_BO_HEAP, PANFROST_BO_NOEXEC};
use crate::drm::prime::DRM_RDWR;
use crate::drm::tegra::TegraMapping;
use crate::kernel::errno::Errno;
use crate::kernel::file::Fd;
use crate::kernel::memfd::Seals;
use crate::kernel::mm::{MapFlags, Signal};
use crate::kernel::poll::{PollEvents, PollTimeout};
use crate::media::videobuf2::{Memory, PlaneMemory};
use crate::misc::fastrpc::dsp::Method;
use crate::scenario::world::PAGE;
use crate::user::{Process, QueueBuffer};

/// A system call, or what programs do with memory.
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) takes: &'static [Param],
    pub(super) gives: Option<Kind>,
    pub(super) run: fn(&Process, &[Value]) -> Result<Value, Refusal>,
}

/// An argument.
pub(super) struct Param {
    pub(super) label: &'static str,
    pub(super) kind: Kind,
    pub(super) absent: Absent,
}

/// What an argument is if it is left out.
pub(super) enum Absent {
    /// That is a mistake.
    Mistake,
    /// As if this were written.
    Word(&'static str),
    /// Nothing.
    Nothing,
}

/// As the reference has it: `mmap FILE [LENGTH=256K] [OFFSET=0] [HOW=shared] -> mapping`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for Param { label, absent, .. } in self.takes {
            match absent {
                Absent::Mistake => write!(f, " {label}"),
                Absent::Word(word) => write!(f, " [{label}={word}]"),
                Absent::Nothing => write!(f, " [{label}]"),
            }?;
        }
        match self.gives {
            None => Ok(()),
            Some(Kind::Word(_)) => f.write_str(" -> word"),
            Some(kind) => write!(f, " -> {}", kind.name().trim_start_matches("a ")),
        }
    }
}

const fn need(label: &'static str, kind: Kind) -> Param {
    Param { label, kind, absent: Absent::Mistake }
}

const fn or(label: &'static str, kind: Kind, word: &'static str) -> Param {
    Param { label, kind, absent: Absent::Word(word) }
}

const fn may(label: &'static str, kind: Kind) -> Param {
    Param { label, kind, absent: Absent::Nothing }
}

const DRIVER: Param = need("DRIVER", Kind::Driver);
const FILE: Param = need("FILE", Kind::File);
const BUFFER: Param = need("BUFFER", Kind::File);
const HANDLE: Param = need("HANDLE", Kind::Handle);
const MAPPING: Param = need("MAPPING", Kind::Mapping);
const BYTES: Param = or("BYTES", Kind::Number, "256K");
const INDEX: Param = need("INDEX", Kind::Number);
const ACCESS: Param = need("ACCESS", Kind::Word(&["read", "write", "rw"]));
const PHASE: Param = need("PHASE", Kind::Word(&["start", "end"]));
const EVENTS: Kind = Kind::Word(&["none", "in", "out", "in|out", "err", "in|err", "out|err", "in|out|err"]);
const WAIT: Param = or("WAIT", Kind::Word(&["now", "wait"]), "now");
const SHARED: Param = or("HOW", Kind::Word(&["shared", "read-only", "private"]), "shared");
const MEMORY: Param = need("MEMORY", Kind::Word(&["mmap", "dmabuf", "userptr"]));
const HEAP: Param = or("KIND", Kind::Word(&["plain", "heap"]), "plain");
const SEAL: Param = need("SEAL", Kind::Word(&["seal", "shrink", "write"]));

fn access(word: &str) -> u64 {
    match word {
        "read" => DMA_BUF_SYNC_READ,
        "write" => DMA_BUF_SYNC_WRITE,
        _ => DMA_BUF_SYNC_RW,
    }
}

/// A set of events has a word, and the other way round.
const EVENT_BITS: [(&str, PollEvents); 3] =
    [("in", PollEvents::IN), ("out", PollEvents::OUT), ("err", PollEvents::ERR)];

fn events(word: &str) -> PollEvents {
    let named = EVENT_BITS.into_iter().filter(|(name, _)| word.split('|').any(|part| part == *name));
    named.fold(PollEvents::NONE, |all, (_, event)| all | event)
}

fn event_word(ready: PollEvents) -> &'static str {
    let Kind::Word(words) = EVENTS else { unreachable!("it is made of words") };
    words.iter().find(|word| events(word) == ready).copied().unwrap_or("none")
}

fn poll_timeout(word: &str) -> PollTimeout {
    if word == "wait" { PollTimeout::Forever } else { PollTimeout::Now }
}

fn map_flags(word: &str) -> MapFlags {
    match word {
        "private" => MapFlags::PRIVATE,
        "read-only" => MapFlags::SHARED_READ,
        _ => MapFlags::SHARED,
    }
}

fn memory(word: &str) -> Memory {
    match word {
        "mmap" => Memory::Mmap,
        "dmabuf" => Memory::DmaBuf,
        _ => Memory::UserPtr,
    }
}

fn seal(word: &str) -> Seals {
    match word {
        "shrink" => Seals::SHRINK,
        "write" => Seals::WRITE,
        _ => Seals::SEAL,
    }
}

fn mistyped(args: &[Value]) -> ! {
    unreachable!("the parser has checked each argument: {args:?}")
}

/// A number that may be too large for where it goes.
fn fit<T: TryFrom<u64>>(number: u64) -> Result<T, Errno> {
    T::try_from(number).map_err(|_| Errno::EINVAL)
}

fn touch(process: &Process, address: u64, length: u64, value: u8) -> Result<(), Signal> {
    (address..address + length).step_by(PAGE).try_for_each(|page| process.write_byte(page, value))
}

/// A buffer that the queue has allocated, or one of the program's: a dma-buf or memory.
fn queue_buffer(index: u64, target: &Value) -> Result<QueueBuffer, Errno> {
    let index = fit(index)?;
    Ok(match target {
        File(fd) => QueueBuffer::dmabuf(index, &[*fd]),
        Mapping { address, length } => QueueBuffer::userptr(index, &[(*address, fit(*length)?)]),
        _ => QueueBuffer::mmap(index),
    })
}

/// Where a buffer of the queue is in the camera's file.
fn querybuf(process: &Process, camera: Fd, index: u64) -> Result<u64, Errno> {
    match process.querybuf(camera, fit(index)?)?.planes[0].memory {
        PlaneMemory::Offset(offset) => Ok(offset),
        _ => Err(Errno::EINVAL),
    }
}

macro_rules! calls {
    ($($name:literal [$($takes:expr),*] ($process:ident $(, $arg:pat)*) $(-> $gives:expr)? => $body:expr;)*) => {
        /// Every call.
        pub(super) const CALLS: &[Call] = &[$(Call {
            name: $name,
            takes: &[$($takes),*],
            gives: { let gives: &[Kind] = &[$($gives)?]; gives.first().copied() },
            run: |$process, args| match args {
                [$($arg),*] => Ok(Value::from($body?)),
                _ => mistyped(args),
            },
        }),*];
    };
}

calls! {
    "open" [DRIVER] (p, Driver(driver)) -> Kind::File => p.open(*driver);
    "close" [FILE] (p, File(fd)) => p.close(*fd);
    "dup" [FILE] (p, File(fd)) -> Kind::File => p.dup(*fd);
    "lseek_end" [FILE] (p, File(fd)) -> Kind::Number => p.lseek_end(*fd);
    "poll" [FILE, need("EVENTS", EVENTS), WAIT] (p, File(fd), Word(wanted), Word(wait)) -> EVENTS =>
        p.poll_with(*fd, events(wanted), poll_timeout(wait)).map(event_word);
    "memfd_create" [BYTES] (p, Number(bytes)) -> Kind::File => p.memfd_create(fit(*bytes)?);
    "add_seal" [FILE, SEAL] (p, File(fd), Word(which)) => p.add_seals(*fd, seal(which));
    "punch_hole" [FILE] (p, File(fd)) => p.punch_hole(*fd);

    "mmap" [FILE, or("LENGTH", Kind::Number, "256K"), or("OFFSET", Kind::Number, "0"), SHARED]
        (p, File(fd), Number(length), Number(offset), Word(how)) -> Kind::Mapping =>
        p.mmap(*fd, *length, *offset, map_flags(how)).map(|address| (address, *length));
    "munmap" [MAPPING, or("FROM", Kind::Number, "0"), may("LENGTH", Kind::Number)]
        (p, Mapping { address, length }, Number(from), part) =>
        p.munmap(address + from, if let Number(part) = part { *part } else { length.saturating_sub(*from) });
    "touch" [MAPPING, or("VALUE", Kind::Number, "1")] (p, Mapping { address, length }, Number(value)) =>
        touch(p, *address, *length, fit(*value)?);
    "read" [MAPPING, or("AT", Kind::Number, "0")] (p, Mapping { address, .. }, Number(at)) -> Kind::Number =>
        p.read_byte(address + at).map(u64::from);
    "write" [MAPPING, need("AT", Kind::Number), need("VALUE", Kind::Number)]
        (p, Mapping { address, .. }, Number(at), Number(value)) => p.write_byte(address + at, fit(*value)?);

    "create" [FILE, BYTES] (p, File(fd), Number(bytes)) -> Kind::Handle =>
        p.driver_create_buffer(*fd, fit(*bytes)?);
    "MODE_CREATE_DUMB" [FILE, need("WIDTH", Kind::Number), need("HEIGHT", Kind::Number), need("BPP", Kind::Number)]
        (p, File(fd), Number(width), Number(height), Number(bpp)) -> Kind::Handle =>
        p.mode_create_dumb(*fd, fit(*width)?, fit(*height)?, fit(*bpp)?);
    "MODE_MAP_DUMB" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::Number => p.mode_map_dumb(*fd, *handle);
    "map_offset" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::Number => p.driver_map_offset(*fd, *handle);
    "GEM_CLOSE" [FILE, HANDLE] (p, File(fd), Handle(handle)) => p.gem_close(*fd, *handle);
    "GEM_FLINK" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::Number =>
        p.gem_flink(*fd, *handle).map(u64::from);
    "GEM_OPEN" [FILE, need("NAME", Kind::Number)] (p, File(fd), Number(name)) -> Kind::Handle =>
        p.gem_open(*fd, fit(*name)?);
    "PRIME_HANDLE_TO_FD" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::File =>
        p.prime_handle_to_fd(*fd, *handle, DRM_RDWR);
    "PRIME_FD_TO_HANDLE" [FILE, BUFFER] (p, File(fd), File(buffer)) -> Kind::Handle =>
        p.prime_fd_to_handle(*fd, *buffer);

    "SYNC" [BUFFER, PHASE, ACCESS] (p, File(buffer), Word(phase), Word(rw)) =>
        if *phase == "start" { p.sync_start(*buffer, access(rw)) } else { p.sync_end(*buffer, access(rw)) };
    "EXPORT_SYNC_FILE" [BUFFER, ACCESS] (p, File(buffer), Word(rw)) -> Kind::File =>
        p.export_sync_file(*buffer, access(rw));
    "IMPORT_SYNC_FILE" [BUFFER, ACCESS, FILE] (p, File(buffer), Word(rw), File(sync_file)) =>
        p.import_sync_file(*buffer, access(rw), *sync_file);
    "SET_NAME" [BUFFER, need("NAME", Kind::Text)] (p, File(buffer), Text(name)) => p.set_name(*buffer, name);

    "DMA_HEAP_ALLOC" [FILE, BYTES] (p, File(heap), Number(bytes)) -> Kind::File =>
        p.dma_heap_alloc(*heap, fit(*bytes)?);
    "UDMABUF_CREATE" [FILE, need("MEMFD", Kind::File), or("OFFSET", Kind::Number, "0"), BYTES]
        (p, File(device), File(memfd), Number(offset), Number(bytes)) -> Kind::File =>
        p.udmabuf_create(*device, &[UdmabufItem { memfd: *memfd, offset: fit(*offset)?, size: fit(*bytes)? }]);
    "FASTRPC_ALLOC_DMA_BUFF" [FILE, BYTES] (p, File(fd), Number(bytes)) -> Kind::File =>
        p.fastrpc_alloc_dma_buf(*fd, fit(*bytes)?);
    "FASTRPC_MEM_MAP" [FILE, BUFFER] (p, File(fd), File(buffer)) => p.fastrpc_mem_map(*fd, *buffer);
    "FASTRPC_MEM_UNMAP" [FILE, BUFFER] (p, File(fd), File(buffer)) => p.fastrpc_mem_unmap(*fd, *buffer);
    "FASTRPC_INVOKE" [FILE, need("VALUE", Kind::Number), BUFFER] (p, File(fd), Number(value), File(buffer)) =>
        p.fastrpc_invoke(*fd, Method::Fill(fit(*value)?), &[*buffer]);
    "importer_set_buffer" [FILE, BUFFER] (p, File(fd), File(buffer)) => p.importer_set_buffer(*fd, *buffer);

    "VGEM_FENCE_ATTACH" [FILE, HANDLE, ACCESS] (p, File(fd), Handle(handle), Word(rw)) -> Kind::Fence =>
        p.vgem_fence_attach(*fd, *handle, *rw != "read");
    "VGEM_FENCE_SIGNAL" [FILE, need("FENCE", Kind::Fence)] (p, File(fd), Fence(fence)) =>
        p.vgem_fence_signal(*fd, *fence);
    "PANFROST_CREATE_BO" [FILE, BYTES, HEAP] (p, File(fd), Number(bytes), Word(kind)) -> Kind::Handle => {
        let flags = if *kind == "heap" { PANFROST_BO_HEAP | PANFROST_BO_NOEXEC } else { PANFROST_BO_NOEXEC };
        p.panfrost_create_bo(*fd, fit(*bytes)?, flags).map(|(handle, _)| handle)
    };
    "PANFROST_MMAP_BO" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::Number =>
        p.panfrost_mmap_bo(*fd, *handle);
    "PANFROST_MADVISE" [FILE, HANDLE, need("ADVICE", Kind::Word(&["willneed", "dontneed"]))]
        (p, File(fd), Handle(handle), Word(advice)) -> Kind::Number => {
        let madv = if *advice == "dontneed" { PanfrostMadv::DontNeed } else { PanfrostMadv::WillNeed };
        p.panfrost_madvise(*fd, *handle, madv).map(u64::from)
    };
    "PANFROST_WAIT_BO" [FILE, HANDLE] (p, File(fd), Handle(handle)) =>
        p.panfrost_wait_bo(*fd, *handle, WaitTimeout::Soon);
    "LIMA_GEM_CREATE" [FILE, BYTES, HEAP] (p, File(fd), Number(bytes), Word(kind)) -> Kind::Handle =>
        p.lima_gem_create(*fd, fit(*bytes)?, if *kind == "heap" { LIMA_BO_FLAG_HEAP } else { 0 });
    "LIMA_GEM_WAIT" [FILE, HANDLE, ACCESS] (p, File(fd), Handle(handle), Word(rw)) =>
        p.lima_gem_wait(*fd, *handle, *rw != "read", WaitTimeout::Soon);
    "I915_GEM_MMAP_OFFSET" [FILE, HANDLE, need("TYPE", Kind::Word(&["wb", "gtt"]))]
        (p, File(fd), Handle(handle), Word(kind)) -> Kind::Number =>
        p.i915_gem_mmap_offset(*fd, *handle, if *kind == "gtt" { MmapType::Gtt } else { MmapType::Wb });
    "I915_GEM_EXECBUFFER2" [FILE, HANDLE, need("VALUE", Kind::Number)]
        (p, File(fd), Handle(handle), Number(value)) =>
        p.i915_execbuffer(*fd, &[I915ExecObject { handle: *handle, write: true }], Some(fit(*value)?));
    "OMAP_GEM_NEW" [FILE, BYTES, or("KIND", Kind::Word(&["plain", "tiled"]), "plain")]
        (p, File(fd), Number(bytes), Word(kind)) -> Kind::Handle =>
        p.omap_gem_new(*fd, fit(*bytes)?, if *kind == "tiled" { OMAP_BO_TILED } else { 0 });
    "TEGRA_CHANNEL_MAP" [FILE, HANDLE] (p, File(fd), Handle(handle)) -> Kind::Number =>
        p.tegra_channel_map(*fd, *handle).map(|mapping| u64::from(mapping.0));
    "TEGRA_CHANNEL_UNMAP" [FILE, need("NUMBER", Kind::Number)] (p, File(fd), Number(mapping)) =>
        p.tegra_channel_unmap(*fd, TegraMapping(fit(*mapping)?));
    "TEGRA_CHANNEL_SUBMIT" [FILE, HANDLE, need("NUMBER", Kind::Number)]
        (p, File(fd), Handle(commands), Number(target)) =>
        p.tegra_submit(*fd, *commands, TegraMapping(fit(*target)?));
    "MODE_PAGE_FLIP" [FILE, HANDLE] (p, File(fd), Handle(handle)) => p.tegra_flip(*fd, Some(*handle));

    "nonblock" [FILE] (p, File(camera)) => p.set_nonblock(*camera, true);
    "REQBUFS" [FILE, need("COUNT", Kind::Number), MEMORY] (p, File(camera), Number(count), Word(kind))
        -> Kind::Number =>
        p.reqbufs(*camera, fit(*count)?, memory(kind)).map(|count| count as u64);
    "QUERYBUF" [FILE, INDEX] (p, File(camera), Number(index)) -> Kind::Number => querybuf(p, *camera, *index);
    "EXPBUF" [FILE, INDEX] (p, File(camera), Number(index)) -> Kind::File => p.expbuf(*camera, fit(*index)?, 0);
    "QBUF" [FILE, INDEX, may("TARGET", Kind::Target)] (p, File(camera), Number(index), target) =>
        p.qbuf(*camera, &queue_buffer(*index, target)?);
    "DQBUF" [FILE] (p, File(camera)) -> Kind::Number => p.dqbuf(*camera).map(|buffer| buffer.index as u64);
    "STREAMON" [FILE] (p, File(camera)) => p.streamon(*camera);
    "STREAMOFF" [FILE] (p, File(camera)) => p.streamoff(*camera);
    "tick" [FILE] (p, File(camera)) => p.camera_tick(*camera);
    "wait_frames" [FILE, need("COUNT", Kind::Number)] (p, File(camera), Number(count)) =>
        p.camera_wait(*camera, fit(*count)?);
}
