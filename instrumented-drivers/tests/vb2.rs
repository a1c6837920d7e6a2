// SPDX-License-Identifier: GPL-2.0-only
//! A camera in use: what the program gets is what the camera took, through whatever mapping, and errors leave nothing
//! behind.

mod vb2_common;

use instrumented_drivers::dma_buf::DmaBuf;
use instrumented_drivers::functions;
use instrumented_drivers::kernel::errno::{Errno, Result};
use instrumented_drivers::kernel::fault::{Plan, inject};
use instrumented_drivers::kernel::file::Fd;
use instrumented_drivers::kernel::mm::{MapFlags, Signal};
use instrumented_drivers::kernel::poll::{PollEvents, PollTimeout};
use instrumented_drivers::media::videobuf2::{BufferState, Memory};
use instrumented_drivers::media::vivid::{Format, Pixels, test_pattern};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel, Process, QueueBuffer};
use lockdep::{RecordedOp, Validator};

use vb2_common::{CAMERAS, FRAME, check_frame, clean, map_plane};

#[test]
fn a_program_reads_what_the_camera_took_through_the_mapping_and_through_the_dma_buf() {
    for driver in CAMERAS {
        clean(|process| {
            let camera = process.open(driver)?;
            assert_eq!(process.reqbufs(camera, 3, Memory::Mmap)?, 3);
            let mapped: Vec<u64> = (0..3).map(|index| map_plane(process, camera, index, 0)).collect();
            let buffer = process.expbuf(camera, 1, 0)?;
            let exported = process.mmap(buffer, FRAME as u64, 0, MapFlags::SHARED)?;
            (0..3).try_for_each(|index| process.qbuf(camera, &QueueBuffer::mmap(index)))?;
            process.streamon(camera)?;
            for sequence in 0..7 {
                let got = process.dqbuf(camera)?;
                assert_eq!((got.index, got.sequence), (sequence as usize % 3, sequence), "in order");
                assert_eq!((got.state, got.planes[0].bytesused), (BufferState::Done, 160 * 90 * 2));
                check_frame(process, mapped[got.index], sequence, 0);
                if got.index == 1 {
                    check_frame(process, exported, sequence, 0);
                }
                process.qbuf(camera, &QueueBuffer::mmap(got.index))?;
            }
            process.streamoff(camera)?;
            for address in mapped {
                process.munmap(address, FRAME as u64)?;
            }
            process.munmap(exported, FRAME as u64)?;
            process.close(buffer)?;
            process.close(camera)
        });
    }
}

#[test]
fn a_picture_of_two_planes_is_mapped_plane_by_plane() {
    for driver in CAMERAS {
        clean(|process| {
            let camera = process.open(driver)?;
            let format = Format { width: 64, height: 64, pixels: Pixels::Nv16m };
            process.s_fmt(camera, format)?;
            process.reqbufs(camera, 2, Memory::Mmap)?;
            assert_eq!(process.s_fmt(camera, format), Err(Errno::EBUSY), "there are buffers");
            let planes = [map_plane(process, camera, 0, 0), map_plane(process, camera, 0, 1)];
            process.qbuf(camera, &QueueBuffer::mmap(0))?;
            process.streamon(camera)?;
            let got = process.dqbuf(camera)?;
            assert_eq!(got.planes.iter().map(|plane| plane.bytesused).collect::<Vec<_>>(), [4096, 4096]);
            for (number, plane) in planes.into_iter().enumerate() {
                for at in 0..4096 {
                    let byte = process.read_byte(plane + at as u64).unwrap();
                    assert_eq!(byte, test_pattern(0, number, at), "plane {number} byte {at}");
                }
            }
            process.close(camera)
        });
    }
}

#[test]
fn two_planes_in_one_dma_buf_share_its_attachment_and_two_buffers_have_one_each() {
    for driver in CAMERAS {
        clean(|process| {
            let heap = process.open(Driver::SystemHeap)?;
            let buffers = [process.dma_heap_alloc(heap, 65536)?, process.dma_heap_alloc(heap, 65536)?];
            let camera = process.open(driver)?;
            process.s_fmt(camera, Format { pixels: Pixels::Nv16m, ..Format::DEFAULT })?;
            process.reqbufs(camera, 2, Memory::DmaBuf)?;
            let attached = || buffers.map(|fd| DmaBuf::of(&process.peek(fd).unwrap()).unwrap().attachments());
            // The CPU maps, it does not attach.
            let one = usize::from(driver != Driver::VividVmalloc);
            let qbuf = |planes: [Fd; 2]| process.qbuf(camera, &QueueBuffer::dmabuf(0, &planes));
            let [first, second] = buffers;
            let cases =
                [([first, first], [one, 0]), ([first, second], [one, one]), ([second, second], [0, one])];
            process.streamon(camera)?;
            for (planes, expected) in cases {
                qbuf(planes)?;
                assert_eq!(attached(), expected);
                process.dqbuf(camera)?;
            }
            assert_eq!(qbuf([second, camera]), Err(Errno::EINVAL), "the other plane is no buffer");
            assert_eq!(
                process.qbuf(camera, &QueueBuffer::dmabuf(0, &[second])),
                Err(Errno::EINVAL),
                "one plane"
            );
            process.streamoff(camera)?;
            process.reqbufs(camera, 0, Memory::DmaBuf)?;
            assert_eq!(attached(), [0, 0]);
            Ok(())
        });
    }
}

#[test]
fn a_buffer_of_which_a_plane_fails_is_attached_nowhere() {
    for driver in [Driver::VividDmaContig, Driver::VividDmaSg] {
        clean(|process| {
            let heap = process.open(Driver::SystemHeap)?;
            let buffers = [process.dma_heap_alloc(heap, 65536)?, process.dma_heap_alloc(heap, 65536)?];
            let camera = process.open(driver)?;
            process.s_fmt(camera, Format { pixels: Pixels::Nv16m, ..Format::DEFAULT })?;
            process.reqbufs(camera, 1, Memory::DmaBuf)?;
            let attached = || buffers.map(|fd| DmaBuf::of(&process.peek(fd).unwrap()).unwrap().attachments());
            let mut failures = 0;
            for n in 1.. {
                let qbuf = || process.qbuf(camera, &QueueBuffer::dmabuf(0, &buffers));
                if inject(Plan::allocation(n), qbuf).0.is_ok() {
                    break;
                }
                failures += 1;
                assert_eq!(attached(), [0, 0], "allocation {n}");
            }
            assert!(failures >= 2, "each plane needs memory: {failures}");
            assert_eq!(attached(), [1, 1]);
            process.reqbufs(camera, 0, Memory::DmaBuf).map(drop)
        });
    }
}

#[test]
fn poll_looks_at_the_filled_buffers_under_their_lock() {
    if !lockdep::ENABLED {
        return;
    }
    functions::register();
    let validator = Validator::builder().record(true).build();
    validator.scope(|| {
        let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
        let process = kernel.process("init");
        let camera = process.open(CAMERAS[0]).unwrap();
        process.reqbufs(camera, 2, Memory::Mmap).unwrap();
        process.qbuf(camera, &QueueBuffer::mmap(0)).unwrap();
        process.streamon(camera).unwrap();
        process.poll_with(camera, PollEvents::IN, PollTimeout::Now).unwrap();
        process.exit();
    });
    let recorded = validator.take_recorded();
    let taken = recorded.iter().filter(|event| matches!(event.op, RecordedOp::Acquire { .. }));
    let here = taken.filter(|event| event.site.function == Some("vb2_core_poll"));
    assert_eq!(here.map(|event| &*event.class).collect::<Vec<_>>(), ["&q->done_lock"]);
}

#[test]
fn poll_waits_for_a_frame_and_says_error_where_none_can_come() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        let poll = |timeout| process.poll_with(camera, PollEvents::IN, timeout);
        assert_eq!(poll(PollTimeout::Forever)?, PollEvents::ERR, "not streaming");
        process.reqbufs(camera, 2, Memory::Mmap)?;
        process.streamon(camera)?;
        assert_eq!(poll(PollTimeout::Forever)?, PollEvents::ERR, "nothing was ever queued");
        process.qbuf(camera, &QueueBuffer::mmap(0))?;
        process.camera_wait(camera, 1)?;
        assert_eq!(poll(PollTimeout::Now)?, PollEvents::IN, "the first frame is due at once");
        process.dqbuf(camera)?;
        process.qbuf(camera, &QueueBuffer::mmap(0))?;
        assert_eq!(poll(PollTimeout::Now)?, PollEvents::NONE, "no time has passed");
        assert_eq!(poll(PollTimeout::Signal), Err(Errno::EINTR));
        assert_eq!(poll(PollTimeout::Forever)?, PollEvents::IN, "time passes while somebody sleeps");
        assert_eq!(process.dqbuf(camera)?.sequence, 1);
        process.close(camera)
    });
}

#[test]
fn a_frame_that_is_due_and_finds_no_buffer_is_dropped() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        process.reqbufs(camera, 2, Memory::Mmap)?;
        process.qbuf(camera, &QueueBuffer::mmap(0))?;
        process.streamon(camera)?;
        process.camera_wait(camera, 1)?;
        // Two frames without a buffer, then one with.
        process.camera_tick(camera)?;
        process.camera_tick(camera)?;
        process.camera_wait_idle(camera)?;
        assert_eq!(process.dqbuf(camera)?.sequence, 0);
        process.qbuf(camera, &QueueBuffer::mmap(1))?;
        let got = process.dqbuf(camera)?;
        assert_eq!((got.index, got.sequence), (1, 3), "two were dropped");
        process.close(camera)
    });
}

#[test]
fn a_queue_that_does_not_wait_says_again() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        process.set_nonblock(camera, true)?;
        assert_eq!(process.dqbuf(camera).unwrap_err(), Errno::EINVAL, "not streaming");
        process.reqbufs(camera, 2, Memory::Mmap)?;
        process.streamon(camera)?;
        assert_eq!(process.dqbuf(camera).unwrap_err(), Errno::EAGAIN);
        process.qbuf(camera, &QueueBuffer::mmap(1))?;
        process.camera_wait(camera, 1)?;
        assert_eq!(process.dqbuf(camera)?.index, 1);
        process.close(camera)
    });
}

#[test]
fn a_stream_can_end_with_buffers_at_every_stage_and_begin_again() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        process.reqbufs(camera, 4, Memory::Mmap)?;
        for _ in 0..2 {
            process.prepare_buf(camera, &QueueBuffer::mmap(3))?;
            assert!(process.querybuf(camera, 3)?.prepared);
            (0..3).try_for_each(|index| process.qbuf(camera, &QueueBuffer::mmap(index)))?;
            process.streamon(camera)?;
            process.streamon(camera)?;
            let first = process.dqbuf(camera)?;
            assert_eq!((first.index, first.sequence), (0, 0), "a stream begins with frame 0");
            process.camera_tick(camera)?;
            process.camera_wait(camera, 2)?;
            let states: Vec<_> =
                (0..4).map(|index| process.querybuf(camera, index).map(|info| info.state)).collect();
            use BufferState::{Active, Dequeued, Done};
            assert_eq!(states, [Ok(Dequeued), Ok(Done), Ok(Active), Ok(Dequeued)]);
            process.streamoff(camera)?;
            for index in 0..4 {
                let info = process.querybuf(camera, index)?;
                assert_eq!((info.state, info.prepared), (Dequeued, false), "buffer {index}");
            }
            process.streamoff(camera)?;
        }
        process.close(camera)
    });
}

#[test]
fn the_wrong_call_at_the_wrong_time_is_refused_and_leaves_everything_as_it_was() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        let mmap = QueueBuffer::mmap;
        assert_eq!(process.streamon(camera), Err(Errno::EINVAL), "no buffers");
        assert_eq!(process.qbuf(camera, &mmap(0)), Err(Errno::EINVAL), "no buffers");
        assert_eq!(process.reqbufs(camera, 2, Memory::Mmap)?, 2);
        assert_eq!(process.querybuf(camera, 2).unwrap_err(), Errno::EINVAL);
        assert_eq!(process.qbuf(camera, &QueueBuffer::dmabuf(0, &[])), Err(Errno::EINVAL), "another kind");
        assert_eq!(process.expbuf(camera, 0, 1).unwrap_err(), Errno::EINVAL, "no such plane");
        assert_eq!(process.expbuf(camera, 2, 0).unwrap_err(), Errno::EINVAL, "no such buffer");
        process.prepare_buf(camera, &mmap(0))?;
        assert_eq!(process.prepare_buf(camera, &mmap(0)), Err(Errno::EINVAL), "prepared already");
        process.qbuf(camera, &mmap(0))?;
        assert_eq!(process.qbuf(camera, &mmap(0)), Err(Errno::EINVAL), "queued already");
        assert_eq!(process.reqbufs(camera, 2, Memory::Mmap)?, 2, "not streaming yet");
        process.qbuf(camera, &mmap(0))?;
        process.streamon(camera)?;
        assert_eq!(process.reqbufs(camera, 0, Memory::Mmap), Err(Errno::EBUSY), "streaming");
        process.streamoff(camera)?;
        assert_eq!(process.create_bufs(camera, 1, Memory::UserPtr, &[FRAME]), Err(Errno::EINVAL));
        assert_eq!(process.create_bufs(camera, 1, Memory::Mmap, &[100]), Err(Errno::EINVAL), "too small");
        assert_eq!(process.create_bufs(camera, 2, Memory::Mmap, &[FRAME])?, (2, 2));
        assert_eq!(process.create_bufs(camera, 99, Memory::Mmap, &[FRAME])?, (4, 28), "the table is full");
        assert_eq!(process.create_bufs(camera, 1, Memory::Mmap, &[FRAME]), Err(Errno::ENOSPC));
        let vgem = process.open(Driver::Vgem)?;
        assert_eq!(process.streamon(vgem), Err(Errno::ENOTTY));
        process.close(vgem)?;
        process.close(camera)
    });
}

#[test]
fn a_mapping_needs_the_right_offset_length_and_kind() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        let map = |len, offset, flags| process.mmap(camera, len, offset, flags);
        let len = FRAME as u64;
        assert_eq!(map(len, 0, MapFlags::SHARED), Err(Errno::EINVAL), "no buffers");
        process.reqbufs(camera, 2, Memory::Mmap)?;
        assert_eq!(map(len, 0, MapFlags::PRIVATE), Err(Errno::EINVAL));
        assert_eq!(map(len + 4096, 0, MapFlags::SHARED), Err(Errno::EINVAL), "longer than the plane");
        assert_eq!(map(len, 4096, MapFlags::SHARED), Err(Errno::EINVAL), "plane 1");
        assert_eq!(map(len, 2 * 8 * 4096, MapFlags::SHARED), Err(Errno::EINVAL), "buffer 2");
        let half = map(len / 2, 8 * 4096, MapFlags::SHARED_READ)?;
        assert_eq!(process.read_byte(half), Ok(0));
        assert_eq!(process.write_byte(half, 1), Err(Signal::Segv));
        assert!(process.querybuf(camera, 1)?.mapped && !process.querybuf(camera, 0)?.mapped);
        process.munmap(half, len / 2)?;
        assert!(!process.querybuf(camera, 1)?.mapped);
        process.reqbufs(camera, 2, Memory::UserPtr)?;
        assert_eq!(map(len, 0, MapFlags::SHARED), Err(Errno::EINVAL), "not the queue's memory");
        process.close(camera)
    });
}

#[test]
fn the_file_that_made_the_buffers_owns_the_queue() {
    clean(|process| {
        let camera = process.open(Driver::VividVmalloc)?;
        let other = process.open(Driver::VividVmalloc)?;
        process.reqbufs(camera, 2, Memory::Mmap)?;
        assert_eq!(process.reqbufs(other, 2, Memory::Mmap), Err(Errno::EBUSY));
        assert_eq!(process.streamon(other), Err(Errno::EBUSY));
        assert_eq!(process.qbuf(other, &QueueBuffer::mmap(0)), Err(Errno::EBUSY));
        assert_eq!(process.querybuf(other, 0)?.index, 0, "looking is free");
        process.close(other)?;
        assert_eq!(process.querybuf(camera, 1)?.index, 1, "closing the other changes nothing");
        let other = process.open(Driver::VividVmalloc)?;
        process.reqbufs(camera, 0, Memory::Mmap)?;
        assert_eq!(process.reqbufs(other, 2, Memory::Mmap)?, 2, "given up");
        process.close(camera)?;
        assert_eq!(process.querybuf(other, 1)?.index, 1);
        process.close(other)
    });
}

#[test]
fn a_file_that_is_closed_while_it_streams_leaves_nothing_behind() {
    for driver in CAMERAS {
        clean(|process| {
            let camera = process.open(driver)?;
            process.reqbufs(camera, 2, Memory::Mmap)?;
            process.qbuf(camera, &QueueBuffer::mmap(0))?;
            process.streamon(camera)?;
            process.camera_wait(camera, 1)?;
            process.close(camera)?;
            // And one that the end of the process closes.
            let camera = process.open(driver)?;
            process.reqbufs(camera, 2, Memory::Mmap)?;
            process.qbuf(camera, &QueueBuffer::mmap(1))?;
            process.streamon(camera)
        });
    }
}

#[test]
fn a_child_sees_the_frames_in_the_mapping_it_inherits() {
    for driver in CAMERAS {
        clean(|process: &Process| -> Result {
            let camera = process.open(driver)?;
            process.reqbufs(camera, 2, Memory::Mmap)?;
            let mapped = map_plane(process, camera, 0, 0);
            let child = process.fork(move |child| -> Result<u8> {
                child.qbuf(camera, &QueueBuffer::mmap(0))?;
                child.streamon(camera)?;
                let got = child.dqbuf(camera)?;
                check_frame(child, mapped, got.sequence, 0);
                child.streamoff(camera)?;
                Ok(child.read_byte(mapped + 5).unwrap())
            })?;
            assert_eq!(child.wait()?, test_pattern(0, 0, 5));
            check_frame(process, mapped, 0, 0);
            process.munmap(mapped + FRAME as u64 / 2, FRAME as u64 / 2)?;
            process.munmap(mapped, FRAME as u64 / 2)?;
            process.close(camera)
        });
    }
}
