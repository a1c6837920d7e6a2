// SPDX-License-Identifier: GPL-2.0-only
//! IGT `sw_sync`: timelines, what is merged of their fences, several tasks on one, and a look at them meanwhile.
#![forbid(unsafe_code)]

use super::world::{Failure, Outcome, World, expect_eq, expect_error};
use super::{Expects, Scenario};
use crate::dma_buf::sw_sync::sync_info_debugfs_show;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::Fd;
use crate::kernel::poll::{PollEvents, PollTimeout};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "F5",
        name: "sw_sync@sync_multi_timeline_wait",
        about: "timelines, merged fences, producers and consumers, a timeline that is closed with fences on it",
        expects: Expects::Clean,
        program: timelines,
    },
    Scenario {
        id: "F6",
        name: "sw_sync@sync_info",
        about: "the list of timelines is read while their fences signal",
        expects: Expects::Clean,
        program: info_while_signalling,
    },
];

fn ready(world: &World, sync_file: Fd) -> Outcome<bool> {
    Ok(world.init.poll(sync_file, PollEvents::IN)? == PollEvents::IN)
}

fn timelines(world: &World) -> Outcome {
    let init = &world.init;
    let [one, two] = [init.sw_sync_open()?, init.sw_sync_open()?];
    let [first, later, other] = [
        init.sw_sync_create_fence(one, 1)?,
        init.sw_sync_create_fence(one, 5)?,
        init.sw_sync_create_fence(two, 1)?,
    ];
    let merged = init.sync_merge(first, other)?;
    let all = init.sync_merge(merged, later)?;
    expect_error("no sync file", init.sync_merge(first, one), Errno::EINVAL)?;
    expect_error("no timeline", init.sw_sync_inc(first, 1), Errno::ENOTTY)?;
    let files = [first, later, other, merged, all];
    for (timeline, by, expected) in [
        (one, 0, [false; 5]),
        (one, 1, [true, false, false, false, false]),
        (two, 3, [true, false, true, true, false]),
        (one, 4, [true; 5]),
    ] {
        init.sw_sync_inc(timeline, by)?;
        for (file, expected) in files.into_iter().zip(expected) {
            expect_eq("ready", ready(world, file)?, expected)?;
        }
    }
    let past = init.sw_sync_create_fence(one, 2)?;
    expect_eq("a number that is past", ready(world, past)?, true)?;
    let left = init.sw_sync_create_fence(two, 100)?;
    init.close(two)?;
    expect_eq("a fence of a timeline that is closed", ready(world, left)?, true)?;
    files.into_iter().chain([past, left, one]).try_for_each(|fd| init.close(fd))?;
    producers_and_consumer(world)
}

/// Each producer moves the timeline a step at a time; the consumer waits for the last one.
fn producers_and_consumer(world: &World) -> Outcome {
    const STEPS: u64 = 20;
    let init = &world.init;
    let timeline = init.sw_sync_open()?;
    let done = init.sw_sync_create_fence(timeline, 2 * STEPS)?;
    let producers = [(); 2]
        .map(|()| init.spawn(move |thread| (0..STEPS).try_for_each(|_| thread.sw_sync_inc(timeline, 1))));
    let woken = init.poll_with(done, PollEvents::IN, PollTimeout::Forever);
    producers.into_iter().try_for_each(|producer| producer.and_then(|producer| producer.wait()))?;
    expect_eq("what the consumer was woken with", woken?, PollEvents::IN)?;
    init.close(done)?;
    Ok(init.close(timeline)?)
}

fn info_while_signalling(world: &World) -> Outcome {
    const FENCES: u64 = 30;
    let init = &world.init;
    let timeline = init.sw_sync_open()?;
    let files: Result<Vec<Fd>> =
        (1..=FENCES).map(|number| init.sw_sync_create_fence(timeline, number)).collect();
    let files = files?;
    let signaller =
        init.spawn(move |thread| (0..FENCES).try_for_each(|_| thread.sw_sync_inc(timeline, 1)))?;
    let show = || world.kernel.kthread(|core| sync_info_debugfs_show(core));
    let looks: Vec<_> = (0..FENCES).flat_map(|_| show()).collect();
    signaller.wait()?;
    for (value, pending) in looks.into_iter().chain(show()) {
        expect_eq("numbers, past and to come", value + pending as u64, FENCES)?;
    }
    let shown = show();
    if shown != [(FENCES, 0)] {
        return Err(Failure::new(format!("at the end: {shown:?}")));
    }
    files.into_iter().chain([timeline]).try_for_each(|fd| Ok(init.close(fd)?))
}
