// SPDX-License-Identifier: GPL-2.0-only
//! Two tasks, once each, in every order that makes a difference: the races S5 and S6, the fences of V5 (bug 46), P11's
//! advice against the shrinker, U2's first access (bug 45).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::dma_buf::udmabuf::UdmabufItem;
use instrumented_drivers::drm::file::Handle;
use instrumented_drivers::drm::panfrost::drv::PanfrostMadv;
use instrumented_drivers::drm::panfrost::gem::PANFROST_BO_NOEXEC;
use instrumented_drivers::drm::prime::DRM_RDWR;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::interleave::{Explored, Task, explore};
use instrumented_drivers::kernel::memfd::Seals;
use instrumented_drivers::kernel::shrinker::kswapd;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process};
use lockdep::Validator;

const LIMIT: usize = 1000;

/// What each task was told, or what a run has led to.
type Told = Arc<Mutex<Vec<String>>>;

/// The open files that the tasks work on.
type Files = [Fd; 2];

/// Makes what the tasks work on.
type Prepare = fn(&Process) -> Files;

/// What a task does, and what it has to tell.
type Run = fn(&Process, &Kernel, Files) -> Result<String>;

/// Explores two tasks that `prepare` makes for each run in one kernel; `after` cleans up and says what came out of it.
/// The outcomes, sorted.
fn outcomes(
    limit: usize,
    prepare: impl Fn(&Process) -> Files,
    tasks: [Run; 2],
    after: impl Fn(&Process, &Kernel, Files) -> String,
) -> (Explored, BTreeSet<String>) {
    let validator = Validator::builder().print(false).build();
    let result = validator.scope(|| {
        let kernel = Arc::new(Kernel::new(LockingPolicy::P2, ShmemLocking::C));
        kernel.dma_resv_lockdep();
        let process = kernel.process("init");
        let told = Told::default();
        let current = Mutex::new([Fd(-1); 2]);
        let mut seen = BTreeSet::new();
        let begin = || {
            let files = prepare(&process);
            *current.lock().unwrap() = files;
            let task = |run: Run| -> Task {
                let (process, kernel, told) = (process.clone(), kernel.clone(), told.clone());
                Box::new(move || {
                    let said = run(&process, &kernel, files).expect("an error that is not allowed");
                    told.lock().unwrap().push(said);
                })
            };
            tasks.map(task).into()
        };
        let end = || {
            let mut said = core::mem::take(&mut *told.lock().unwrap());
            said.sort_unstable();
            said.push(after(&process, &kernel, *current.lock().unwrap()));
            seen.insert(said.join(", "));
        };
        let explored = explore(limit, begin, end);
        process.exit();
        kernel.settle();
        (explored, seen)
    });
    assert!(validator.reports().is_empty(), "{}", validator.reports()[0]);
    println!("{result:?}");
    result
}

/// The answer, or one of the errors that a race may end with.
fn allow<T>(result: Result<T>, allowed: Errno) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error == allowed => Ok(None),
        Err(error) => Err(error),
    }
}

fn nothing_left(process: &Process, kernel: &Kernel, [first, second]: Files) -> String {
    process.close(first).expect("the file is open");
    if second != first {
        process.close(second).expect("the file is open");
    }
    let alive: Vec<_> = kernel.live().all().into_iter().filter(|(kind, _)| *kind != "mm").collect();
    format!("alive {alive:?}")
}

fn create_export_close(process: &Process, _: &Kernel, [vgem, _]: Files) -> Result<String> {
    let own = process.mode_create_dumb(vgem, 8, 8, 32)?;
    let buffer = allow(process.prime_handle_to_fd(vgem, Handle(1), DRM_RDWR), Errno::ENOENT)?;
    buffer.iter().try_for_each(|buffer| process.close(*buffer))?;
    allow(process.gem_close(vgem, Handle(1)), Errno::EINVAL)?;
    if own != Handle(1) {
        allow(process.gem_close(vgem, own), Errno::EINVAL)?;
    }
    Ok(if buffer.is_some() { "exported" } else { "gone" }.to_owned())
}

/// All of S5 against all of it has 47,602 orders, which take minutes: the first ones, unless `INTERLEAVINGS` allows more.
#[test]
fn s5_export_against_close_in_many_orders() {
    let limit = std::env::var("INTERLEAVINGS").map_or(LIMIT, |limit| limit.parse().expect("a number"));
    let tasks = [create_export_close as _; 2];
    let (explored, seen) = outcomes(limit, opened, tasks, nothing_left);
    assert!(explored.complete || explored.interleavings == limit, "{explored:?}");
    assert!(seen.iter().all(|outcome| outcome.ends_with("alive []")), "{seen:?}");
}

/// The steps of S5, each by itself.
const S5_STEPS: [Run; 3] = [
    |process, _, [vgem, _]| {
        let own = process.mode_create_dumb(vgem, 8, 8, 32)?;
        Ok(if own == Handle(1) { "created as 1" } else { "created" }.to_owned())
    },
    |process, _, [vgem, _]| {
        let buffer = allow(process.prime_handle_to_fd(vgem, Handle(1), DRM_RDWR), Errno::ENOENT)?;
        buffer.iter().try_for_each(|buffer| process.close(*buffer))?;
        Ok(if buffer.is_some() { "exported" } else { "gone" }.to_owned())
    },
    |process, _, [vgem, _]| {
        let closed = allow(process.gem_close(vgem, Handle(1)), Errno::EINVAL)?;
        Ok(if closed.is_some() { "closed" } else { "gone" }.to_owned())
    },
];

fn opened(process: &Process) -> Files {
    [process.open(Driver::Vgem).unwrap(); 2]
}

fn with_object_one(process: &Process) -> Files {
    let files = opened(process);
    assert_eq!(process.mode_create_dumb(files[0], 8, 8, 32), Ok(Handle(1)));
    files
}

/// Each step of S5 against each, and against all of it.
#[test]
fn s5_step_by_step_in_every_order() {
    let [create, export, close] = S5_STEPS;
    let cases: [(Prepare, Run, Run, &[&str]); 9] = [
        (with_object_one, create, create, &["created, created"]),
        (with_object_one, create, export, &["created, exported"]),
        (with_object_one, create, close, &["closed, created", "closed, created as 1"]),
        (with_object_one, export, export, &["exported, exported"]),
        (with_object_one, export, close, &["closed, exported", "closed, gone"]),
        (with_object_one, close, close, &["closed, gone"]),
        (
            opened,
            create_export_close,
            create,
            &["created as 1, exported", "created as 1, gone", "created, exported"],
        ),
        (opened, create_export_close, export, &["exported, exported", "exported, gone"]),
        (opened, create_export_close, close, &["closed, exported", "closed, gone", "exported, gone"]),
    ];
    for (number, (prepare, step, other, expected)) in cases.into_iter().enumerate() {
        let (explored, seen) = outcomes(LIMIT, prepare, [step, other], nothing_left);
        assert!(explored.complete && explored.interleavings >= 8, "{number}: {explored:?}");
        let expected: BTreeSet<_> = expected.iter().map(|told| format!("{told}, alive []")).collect();
        assert_eq!(seen, expected, "{number}");
    }
}

fn import_close(process: &Process, _: &Kernel, [buffer, vgem]: Files) -> Result<String> {
    let handle = process.prime_fd_to_handle(vgem, buffer)?;
    let closed = allow(process.gem_close(vgem, handle), Errno::EINVAL)?;
    Ok(if closed.is_some() { "closed" } else { "somebody else closed it" }.to_owned())
}

/// A buffer that nobody else has, and another file of its device.
fn exported(process: &Process) -> Files {
    let vgem = process.open(Driver::Vgem).unwrap();
    let handle = process.mode_create_dumb(vgem, 8, 8, 32).unwrap();
    let buffer = process.prime_handle_to_fd(vgem, handle, DRM_RDWR).unwrap();
    process.close(vgem).unwrap();
    [buffer, process.open(Driver::Vgem).unwrap()]
}

#[test]
fn s6_import_against_close_in_every_order() {
    let (explored, seen) = outcomes(LIMIT, exported, [import_close; 2], nothing_left);
    assert!(explored.complete && explored.interleavings >= 200, "{explored:?}");
    assert!(seen.iter().all(|outcome| outcome.ends_with("alive []")), "{seen:?}");
    assert!(seen.iter().any(|outcome| outcome.contains("somebody else")), "{seen:?}");
}

/// Each looks for a conflict before it takes the lock, and not again under it.
#[test]
fn v5_two_writers_fences_exclude_each_other_in_some_orders_only() {
    let attach = |process: &Process, _: &Kernel, [vgem, _]: Files| {
        let fence = allow(process.vgem_fence_attach(vgem, Handle(1), true), Errno::EBUSY)?;
        Ok(if fence.is_some() { "writes" } else { "busy" }.to_owned())
    };
    let prepare = |process: &Process| {
        let vgem = process.open(Driver::Vgem).unwrap();
        assert_eq!(process.mode_create_dumb(vgem, 8, 8, 32), Ok(Handle(1)));
        [vgem; 2]
    };
    let (explored, seen) = outcomes(LIMIT, prepare, [attach; 2], nothing_left);
    assert!(explored.complete && explored.interleavings >= 60, "{explored:?}");
    let expected = ["busy, writes, alive []", "writes, writes, alive []"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn p11_advice_against_the_shrinker_in_every_order() {
    let keep = |process: &Process, _: &Kernel, [gpu, _]: Files| {
        let was_there = process.panfrost_madvise(gpu, Handle(1), PanfrostMadv::WillNeed)?;
        Ok(if was_there { "kept" } else { "lost" }.to_owned())
    };
    let reclaim =
        |_: &Process, kernel: &Kernel, _: Files| Ok(format!("{} freed", kswapd(kernel.core(), usize::MAX)));
    let prepare = |process: &Process| {
        let gpu = process.open(Driver::Panfrost).unwrap();
        let (handle, _) = process.panfrost_create_bo(gpu, 4096, PANFROST_BO_NOEXEC).unwrap();
        assert_eq!(handle, Handle(1));
        assert_eq!(process.panfrost_madvise(gpu, handle, PanfrostMadv::DontNeed), Ok(true));
        [gpu; 2]
    };
    let after = |process: &Process, kernel: &Kernel, [gpu, _]: Files| {
        process.close(gpu).unwrap();
        format!("objects {}", kernel.live().count("drm_gem_object"))
    };
    let (explored, seen) = outcomes(LIMIT, prepare, [keep, reclaim], after);
    assert!(explored.complete && explored.interleavings >= 6, "{explored:?}");
    let expected = ["0 freed, kept, objects 0", "1 freed, lost, objects 0"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Each may find no table and make one; the one that is stored first is lost, as in the kernel.
#[test]
fn u2_the_first_access_by_two_tasks_loses_a_table_in_some_orders() {
    let access = |process: &Process, _: &Kernel, [buffer, _]: Files| {
        process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        process.sync_end(buffer, DMA_BUF_SYNC_RW).map(|()| "synced".to_owned())
    };
    let prepare = |process: &Process| {
        let device = process.open(Driver::Udmabuf).unwrap();
        let memfd = process.memfd_create(4096).unwrap();
        process.add_seals(memfd, Seals::SHRINK).unwrap();
        let buffer = process.udmabuf_create(device, &[UdmabufItem { memfd, offset: 0, size: 4096 }]).unwrap();
        [device, memfd].into_iter().for_each(|fd| process.close(fd).unwrap());
        [buffer; 2]
    };
    let lost_before = Mutex::new(0);
    let after = |process: &Process, kernel: &Kernel, [buffer, _]: Files| {
        process.close(buffer).unwrap();
        let lost = kernel.live().count("sg_table");
        let before = core::mem::replace(&mut *lost_before.lock().unwrap(), lost);
        format!("{} lost", lost - before)
    };
    let (explored, seen) = outcomes(LIMIT, prepare, [access; 2], after);
    assert!(explored.complete && explored.interleavings >= 400, "{explored:?}");
    assert_eq!(
        seen.iter().map(String::as_str).collect::<Vec<_>>(),
        ["synced, synced, 0 lost", "synced, synced, 1 lost"]
    );
}
