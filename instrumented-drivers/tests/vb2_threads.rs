// SPDX-License-Identifier: GPL-2.0-only
//! Cameras used by several threads at once: streaming, starting and stopping, mapping, exporting, importing, forking, all
//! on the same buffers. Seeded, so that a run can be repeated as far as threads can; bounded, so that it ends.
//! What a consumer has taken out of the queue it reads byte for byte as the camera wrote it.

mod vb2_common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::yield_now;

use instrumented_drivers::dma_buf::ioctl::DMA_BUF_SYNC_RW;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::kernel::poll::{PollEvents, PollTimeout};
use instrumented_drivers::media::videobuf2::Memory;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::stress::Random;
use instrumented_drivers::user::{Child, Driver, Process, QueueBuffer};

use vb2_common::{CAMERAS, FRAME, check_frame, map_plane, run};

const BUFFERS: usize = 4;
const LEN: u64 = FRAME as u64;

/// A camera that streams, and which of its buffers are out.
#[derive(Clone)]
struct Stream {
    process: Process,
    camera: Fd,
    out: Arc<Mutex<HashSet<usize>>>,
}

impl Stream {
    fn start(process: &Process, driver: Driver) -> Result<Self> {
        let camera = process.open(driver)?;
        process.set_nonblock(camera, true)?;
        process.reqbufs(camera, BUFFERS, Memory::Mmap)?;
        let stream = Stream { process: process.clone(), camera, out: Arc::default() };
        stream.restart()?;
        Ok(stream)
    }

    /// Ends the stream if there is one and begins another, with all buffers that nobody has.
    fn restart(&self) -> Result {
        let out = self.out.lock().unwrap();
        self.process.streamoff(self.camera)?;
        for index in (0..BUFFERS).filter(|index| !out.contains(index)) {
            self.process.qbuf(self.camera, &QueueBuffer::mmap(index))?;
        }
        self.process.streamon(self.camera)
    }

    /// Waits for a frame and takes it out: buffer and number.
    fn take(&self) -> Result<(usize, u32)> {
        loop {
            let ready = self.process.poll_with(self.camera, PollEvents::IN, PollTimeout::Forever)?;
            let mut out = self.out.lock().unwrap();
            match self.process.dqbuf(self.camera) {
                Ok(frame) => {
                    assert!(out.insert(frame.index), "a buffer was given out twice");
                    return Ok((frame.index, frame.sequence));
                }
                // Somebody else was faster, or the stream ended and will begin again.
                Err(Errno::EAGAIN | Errno::EINVAL) => drop(out),
                Err(error) => return Err(error),
            }
            if ready == PollEvents::ERR {
                yield_now();
            }
        }
    }

    fn give_back(&self, index: usize) -> Result {
        let mut out = self.out.lock().unwrap();
        assert!(out.remove(&index));
        self.process.qbuf(self.camera, &QueueBuffer::mmap(index))
    }
}

fn consume(stream: &Stream, frames: usize, random: &mut Random) -> Result {
    let process = &stream.process;
    let mapped: Vec<u64> = (0..BUFFERS).map(|index| map_plane(process, stream.camera, index, 0)).collect();
    for _ in 0..frames {
        let (index, sequence) = stream.take()?;
        check_frame(process, mapped[index], sequence, 0);
        if random.below(3) == 0 {
            let buffer = process.expbuf(stream.camera, index, 0)?;
            let address = process.mmap(buffer, LEN, 0, MapFlags::SHARED)?;
            process.close(buffer)?;
            check_frame(process, address, sequence, 0);
            process.munmap(address, LEN)?;
        }
        stream.give_back(index)?;
    }
    mapped.into_iter().try_for_each(|address| process.munmap(address, LEN))
}

fn map_and_fork(stream: &Stream, rounds: usize, random: &mut Random) -> Result {
    let process = &stream.process;
    for _ in 0..rounds {
        let address = map_plane(process, stream.camera, random.below(BUFFERS), 0);
        process.read_byte(address + random.below(FRAME) as u64).expect("mapped");
        if random.below(4) == 0 {
            let at = address + random.below(FRAME) as u64;
            process.fork(move |child| child.read_byte(at))?.wait().expect("mapped in the child too");
        }
        let cut = 4096 * (1 + random.below(7) as u64);
        process.munmap(address + cut, LEN - cut)?;
        process.munmap(address, cut)?;
    }
    Ok(())
}

fn export(stream: &Stream, rounds: usize, random: &mut Random) -> Result {
    let process = &stream.process;
    for _ in 0..rounds {
        let buffer = process.expbuf(stream.camera, random.below(BUFFERS), 0)?;
        process.sync_start(buffer, DMA_BUF_SYNC_RW)?;
        let vgem = process.open(Driver::Vgem)?;
        let handle = process.prime_fd_to_handle(vgem, buffer)?;
        if random.below(2) == 0 {
            let offset = process.driver_map_offset(vgem, handle)?;
            let address = process.mmap(vgem, LEN, offset, MapFlags::SHARED)?;
            process.read_byte(address + random.below(FRAME) as u64).expect("mapped");
            process.munmap(address, LEN)?;
        }
        process.sync_end(buffer, DMA_BUF_SYNC_RW)?;
        if random.below(2) == 0 {
            process.gem_close(vgem, handle)?;
        }
        process.close(vgem)?;
        process.close(buffer)?;
    }
    Ok(())
}

fn spawn(
    stream: &Stream,
    (seed, thread): (u64, u64),
    work: impl FnOnce(&Stream, &mut Random) -> Result + Send + 'static,
) -> Result<Child<Result>> {
    let ours = stream.clone();
    stream.process.spawn(move |_| work(&ours, &mut Random::new(seed, thread)))
}

#[test]
fn streaming_mapping_and_exporting_at_once_loses_nothing() {
    for driver in CAMERAS {
        for seed in 0..3 {
            let reports = run(LockingPolicy::P2, ShmemLocking::C, |_, process| {
                let stream = Stream::start(process, driver)?;
                let workers = [
                    spawn(&stream, (seed, 1), |stream, random| consume(stream, 40, random))?,
                    spawn(&stream, (seed, 2), |stream, random| consume(stream, 40, random))?,
                    spawn(&stream, (seed, 3), |stream, random| map_and_fork(stream, 30, random))?,
                    spawn(&stream, (seed, 4), |stream, random| export(stream, 30, random))?,
                ];
                let mut random = Random::new(seed, 0);
                for _ in 0..10 {
                    for _ in 0..random.below(50) {
                        yield_now();
                    }
                    stream.restart()?;
                }
                workers.into_iter().try_for_each(Child::wait)?;
                process.close(stream.camera)
            });
            assert!(reports.is_empty(), "{} seed {seed}: {}", driver.name(), reports[0]);
        }
    }
}

/// A camera that takes pictures into other drivers' buffers, and a second process that reads them through an import of
/// its own.
fn relay(camera_driver: Driver, from: Driver, seed: u64) {
    let reports = run(LockingPolicy::P2, ShmemLocking::C, |kernel, process| {
        let exporter = process.open(from)?;
        let buffers: Vec<Fd> = if from == Driver::Vgem {
            (0..BUFFERS)
                .map(|_| {
                    let handle = process.mode_create_dumb(exporter, 256, 256, 32)?;
                    process.prime_handle_to_fd(exporter, handle, 2)
                })
                .collect::<Result<_>>()?
        } else if CAMERAS.contains(&from) {
            process.reqbufs(exporter, BUFFERS, Memory::Mmap)?;
            (0..BUFFERS).map(|index| process.expbuf(exporter, index, 0)).collect::<Result<_>>()?
        } else {
            (0..BUFFERS).map(|_| process.dma_heap_alloc(exporter, FRAME)).collect::<Result<_>>()?
        };
        let camera = process.open(camera_driver)?;
        process.reqbufs(camera, BUFFERS, Memory::DmaBuf)?;
        let reader = kernel.process("reader");
        let mut mapped = Vec::new();
        for fd in &buffers {
            let theirs = process.send_fd(*fd, &reader)?;
            let vgem = reader.open(Driver::Vgem)?;
            let handle = reader.prime_fd_to_handle(vgem, theirs)?;
            let offset = if from == Driver::Vgem {
                // The same device finds its own object again.
                reader.mode_map_dumb(vgem, handle)?
            } else {
                reader.driver_map_offset(vgem, handle)?
            };
            mapped.push(reader.mmap(vgem, LEN, offset, MapFlags::SHARED)?);
            reader.close(theirs)?;
        }
        let (to_reader, frames) = std::sync::mpsc::sync_channel::<(usize, u32)>(1);
        let (to_camera, returned) = std::sync::mpsc::channel::<usize>();
        let checked = reader.spawn(move |reader| {
            let mut count = 0;
            for (index, sequence) in frames {
                check_frame(reader, mapped[index], sequence, 0);
                count += 1;
                if to_camera.send(index).is_err() {
                    break;
                }
            }
            count
        })?;
        let queue = |index: usize| process.qbuf(camera, &QueueBuffer::dmabuf(index, &[buffers[index]]));
        (0..BUFFERS).try_for_each(queue)?;
        process.streamon(camera)?;
        let mut random = Random::new(seed, 9);
        let mut with_reader = 0;
        for _ in 0..30 {
            let frame = process.dqbuf(camera)?;
            to_reader.send((frame.index, frame.sequence)).expect("the reader reads");
            with_reader += 1;
            // Some frames pile up, so that both are at work; the camera keeps at least one buffer.
            while with_reader == BUFFERS || (with_reader > 0 && random.below(3) == 0) {
                queue(returned.recv().expect("the reader gives back"))?;
                with_reader -= 1;
            }
        }
        drop(to_reader);
        assert_eq!(checked.wait(), 30);
        process.streamoff(camera)?;
        reader.exit();
        Ok(())
    });
    assert!(reports.is_empty(), "{} {}: {}", camera_driver.name(), from.name(), reports[0]);
}

#[test]
fn what_the_camera_wrote_is_what_another_process_reads_through_its_import() {
    let exporters =
        [Driver::Vgem, Driver::SystemHeap, Driver::CmaHeap, Driver::VividVmalloc, Driver::VividDmaSg];
    for camera in CAMERAS {
        for (seed, from) in (0..).zip(exporters) {
            if camera != from {
                relay(camera, from, seed);
            }
        }
    }
}

#[test]
fn many_threads_may_ask_one_queue_for_frames_and_each_frame_goes_to_one() {
    for seed in 0..3 {
        let reports = run(LockingPolicy::P2, ShmemLocking::C, |_, process| {
            let stream = Stream::start(process, Driver::VividVmalloc)?;
            let taken = Arc::new(Mutex::new(Vec::new()));
            let workers: Vec<_> = (0..4)
                .map(|thread| {
                    let taken = taken.clone();
                    spawn(&stream, (seed, thread), move |stream, random| {
                        for _ in 0..25 {
                            let (index, sequence) = stream.take()?;
                            taken.lock().unwrap().push(sequence);
                            (0..random.below(20)).for_each(|_| yield_now());
                            stream.give_back(index)?;
                        }
                        Ok(())
                    })
                })
                .collect::<Result<_>>()?;
            workers.into_iter().try_for_each(Child::wait)?;
            let mut taken = taken.lock().unwrap().clone();
            assert_eq!(taken.len(), 100);
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), 100, "a frame was given to two threads");
            process.close(stream.camera)
        });
        assert!(reports.is_empty(), "seed {seed}: {}", reports[0]);
    }
}
