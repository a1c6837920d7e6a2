// SPDX-License-Identifier: GPL-2.0-only
//! Bugs of drivers that are not modelled: the sequence of the bug on the kernel's locks, and nothing else of the driver.
#![forbid(unsafe_code)]

use std::sync::Arc;

use lockdep::LockClass;
use lockdep::ReportKind::{AssertHeld, Circular, Depth, Recursive};
use lockdep::raw::{self, Acquire, LockMap};

use super::{Case, Ends, Expected, P2_C, RESV, Switch};
use crate::bug::Bug;
use crate::dma_buf::attach::{
    dma_buf_attach, dma_buf_detach, dma_buf_map_attachment_unlocked, dma_buf_unmap_attachment_unlocked,
};
use crate::dma_buf::core::{DmaBufData, DmaBufExportInfo, dma_buf_export, dma_buf_put};
use crate::dma_buf::fence::{dma_fence_begin_signalling, dma_fence_end_signalling};
use crate::dma_buf::resv::{
    DmaResv, RESERVATION_WW_CLASS, dma_resv_assert_held, dma_resv_lock, dma_resv_lock_ctx, dma_resv_trylock,
    dma_resv_unlock,
};
use crate::dma_buf::{DmaBuf, DmaBufAttachment, DmaBufOps, DmaDirection, SgTable};
use crate::drm::gem::{DrmGemObject, drm_gem_object_get, drm_gem_object_put};
use crate::kernel::KernelCore;
use crate::kernel::errno::{Errno, Result};
use crate::kernel::file::FileMode;
use crate::kernel::locking::{Mutex, RwSem, WwAcquireCtx, WwMutex, sleep_class};
use crate::kernel::mm::{Mm, mmput};
use crate::kernel::reclaim;
use crate::kernel::shmem::{PAGE_SIZE, ShmemFile};
use crate::kernel::wait::Completion;
use crate::kernel::workqueue::{Work, work_class};
use crate::scenario::world::{Failure, Outcome, World};
use crate::user::Driver;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "14",
        name: "TTM: last put of an import under other locks",
        switch: Switch::Bug(Bug::LastPutLocks, P2_C),
        expected: Expected::reports(&[Recursive], RESV, "dma_buf_unmap_attachment_unlocked"),
        program: last_put,
    },
    Case {
        id: "16",
        name: "ipu6: map takes mmap_lock",
        switch: Switch::Bug(Bug::MapTakesMmapLock, P2_C),
        expected: Expected::reports(&[Circular], "&mm->mmap_lock", "ipu6_pin_user_pages"),
        program: |world| world.kernel.kthread(map_camera_memory).map_err(Failure::from),
    },
    Case {
        id: "17",
        name: "amdgpu resumes under a lock the resume takes",
        switch: Switch::Bug(Bug::AttachResumesDevice, P2_C),
        expected: Expected::silence(
            "to wait for the worker that resumes the device is to wait for no lock",
            Ends::Done,
        ),
        program: |world| {
            world.kernel.kthread(attach_twice);
            Ok(())
        },
    },
    Case {
        id: "17-wait",
        name: "the same, told who waits for the resume",
        switch: Switch::BugWithout(Bug::AttachResumesDevice, P2_C, &[Bug::WaitsUnannotated]),
        expected: Expected::reports(&[Circular], "&dev->power", "pm_runtime_get_sync"),
        program: |world| {
            world.kernel.kthread(attach_twice);
            Ok(())
        },
    },
    Case {
        id: "19",
        name: "drm_exec frees first what it locked first",
        switch: Switch::Bug(Bug::ExecFreesFirst, P2_C),
        expected: Expected::silence(
            "the kernel's report is a false alarm: it keeps one entry for all locks of a context, named after the first",
            Ends::Done,
        ),
        program: |world| world.kernel.kthread(drm_exec_fini).map_err(Failure::from),
    },
    Case {
        id: "20",
        name: "eviction holds too many locks (kernel: 48)",
        switch: Switch::Bug(Bug::EvictsWithoutCtx, P2_C),
        expected: Expected { about: None, ..Expected::reports(&[Depth], "", "") },
        program: |world| {
            world.kernel.kthread(ttm_mem_evict);
            Ok(())
        },
    },
    Case {
        id: "25",
        name: "i915: error capture stops the machine",
        switch: Switch::Bug(Bug::CaptureStopsMachine, P2_C),
        expected: Expected::reports(&[Circular], "cpu_hotplug_lock", "stop_machine"),
        program: |world| world.kernel.kthread(capture_error).map_err(Failure::from),
    },
    Case {
        id: "27",
        name: "i915: objects are locked under vm->mutex",
        switch: Switch::Bug(Bug::EvictLocksUnderVm, P2_C),
        expected: Expected::reports(&[Circular], RESV, "i915_gem_evict_vm"),
        program: |world| world.kernel.kthread(bind_and_evict).map_err(Failure::from),
    },
    Case {
        id: "29",
        name: "panthor binds without the VM's lock",
        switch: Switch::Bug(Bug::GpuvmUnlocked, P2_C),
        expected: Expected::reports(&[AssertHeld], RESV, "drm_gpuvm_bo_obtain_prealloc"),
        program: |world| {
            world.kernel.kthread(|core| panthor_vm_prepare_map(core, &DmaResv::new()));
            Ok(())
        },
    },
    Case {
        id: "39",
        name: "etnaviv: submit blocks the recovery",
        switch: Switch::Bug(Bug::SubmitHoldsGpuLock, P2_C),
        expected: Expected::silence("to wait for a completion is to wait for no lock", Ends::Done),
        program: |world| {
            world.kernel.kthread(recover_and_submit);
            Ok(())
        },
    },
    Case {
        id: "39-wait",
        name: "the same, told who waits for the event",
        switch: Switch::BugWithout(Bug::SubmitHoldsGpuLock, P2_C, &[Bug::WaitsUnannotated]),
        expected: Expected::reports(&[Circular], "&gpu->event_free", "event_alloc"),
        program: |world| {
            world.kernel.kthread(recover_and_submit);
            Ok(())
        },
    },
];

/// 14: a job of an address space ends; the import that it used has no other user left.
fn last_put(world: &World) -> Outcome {
    let (_, _, buffer) = world.vgem_buffer()?;
    let vkms = world.init.open(Driver::Vkms)?;
    let imported = world.init.prime_fd_to_handle(vkms, buffer)?;
    let last = drm_gem_object_get(&world.object(vkms, imported)?.0);
    world.init.gem_close(vkms, imported)?;
    world.kernel.kthread(|core| {
        let vm = DmaResv::new();
        let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
        dma_resv_lock_ctx(&vm, &ctx)?;
        ttm_bo_put(core, last);
        dma_resv_unlock(&vm);
        ctx.fini();
        Ok(())
    })
}

fn ttm_bo_put(core: &KernelCore, bo: Arc<DrmGemObject>) {
    static DELAYED_DELETE: LockClass = work_class("(work_completion)(&bo->delayed_delete)");
    if core.has(Bug::LastPutLocks) {
        return drm_gem_object_put(bo);
    }
    core.system_wq.queue_work(&Work::once(&DELAYED_DELETE, move || drm_gem_object_put(bo)));
}

/// 16: the exporter of a camera, whose buffers are memory of the program.
struct Ipu6 {
    core: Arc<KernelCore>,
    mm: Arc<Mm>,
}

struct Ipu6DmaBufOps;

impl DmaBufOps for Ipu6DmaBufOps {
    fn attach(&self, buf: &DmaBuf, _attach: &Arc<DmaBufAttachment>) -> Result {
        let ipu6: Arc<Ipu6> = buf.private().ok_or(Errno::ENODEV)?;
        if !ipu6.core.has(Bug::MapTakesMmapLock) {
            ipu6_pin_user_pages(&ipu6);
        }
        Ok(())
    }

    fn map_dma_buf(&self, attach: &Arc<DmaBufAttachment>, _dir: DmaDirection) -> Result<Arc<SgTable>> {
        let ipu6: Arc<Ipu6> = attach.dmabuf.private().ok_or(Errno::ENODEV)?;
        if ipu6.core.has(Bug::MapTakesMmapLock) {
            ipu6_pin_user_pages(&ipu6);
        }
        SgTable::from_pages(&ipu6.core, ShmemFile::anonymous_pages(1)?)
    }

    fn unmap_dma_buf(&self, _attach: &Arc<DmaBufAttachment>, table: Arc<SgTable>, _dir: DmaDirection) {
        crate::dma_buf::attach::sg_free_table(table);
    }

    fn release(&self, buf: &DmaBufData) {
        if let Some(ipu6) = buf.private::<Ipu6>() {
            mmput(&ipu6.mm);
        }
    }
}

fn ipu6_pin_user_pages(ipu6: &Ipu6) {
    ipu6.mm.mmap_lock().down_read();
    ipu6.mm.mmap_lock().up_read();
}

fn map_camera_memory(core: &Arc<KernelCore>) -> Result {
    let private = Arc::new(Ipu6 { core: core.clone(), mm: Mm::new(core) });
    let info = DmaBufExportInfo {
        exp_name: "ipu6",
        ops: &Ipu6DmaBufOps,
        size: PAGE_SIZE,
        mode: FileMode::READ_WRITE,
        resv: None,
        private,
        mapping: None,
    };
    let buf = dma_buf_export(core, info)?;
    let attach = dma_buf_attach(&buf, "i915")?;
    let table = dma_buf_map_attachment_unlocked(&attach, DmaDirection::Bidirectional)?;
    dma_buf_unmap_attachment_unlocked(&attach, table, DmaDirection::Bidirectional);
    dma_buf_detach(&buf, &attach);
    dma_buf_put(buf);
    Ok(())
}

/// 17: a device that is resumed by a worker. That it is awake already when somebody asks keeps the run from hanging.
struct Amdgpu {
    core: Arc<KernelCore>,
    resv: DmaResv,
    /// The resume, as something that is waited for.
    power: LockMap,
}

static POWER: LockClass = work_class("&dev->power");

fn attach_twice(core: &Arc<KernelCore>) {
    let adev = Amdgpu { core: core.clone(), resv: DmaResv::new(), power: LockMap::new(&POWER) };
    amdgpu_pmops_runtime_resume(&adev);
    dma_resv_lock(&adev.resv);
    amdgpu_dma_buf_attach(&adev);
    dma_resv_unlock(&adev.resv);
}

fn amdgpu_pmops_runtime_resume(adev: &Amdgpu) {
    let told = !adev.core.has(Bug::WaitsUnannotated);
    if told {
        raw::acquire(&adev.power, Acquire::WRITE);
    }
    dma_resv_lock(&adev.resv);
    dma_resv_unlock(&adev.resv);
    if told {
        raw::release(&adev.power);
    }
}

fn amdgpu_dma_buf_attach(adev: &Amdgpu) {
    if adev.core.has(Bug::AttachResumesDevice) {
        pm_runtime_get_sync(adev);
    }
}

fn pm_runtime_get_sync(adev: &Amdgpu) {
    if !adev.core.has(Bug::WaitsUnannotated) {
        raw::might_lock(&adev.power, Acquire::WRITE);
    }
}

/// 19: the objects of a job are unlocked, and nobody else has them any more.
fn drm_exec_fini(core: &Arc<KernelCore>) -> Result {
    let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
    let mut objects: Vec<Box<WwMutex>> =
        (0..3).map(|_| Box::new(WwMutex::new(&RESERVATION_WW_CLASS))).collect();
    for object in &objects {
        object.lock(Some(&ctx))?;
    }
    if !core.has(Bug::ExecFreesFirst) {
        objects.reverse();
    }
    for object in objects {
        object.unlock();
        object.destroy();
    }
    ctx.fini();
    Ok(())
}

/// 20: memory is short, and every buffer is locked by somebody or by this task. The kernel has room for 48 locks; our
/// validator reports at 1000.
fn ttm_mem_evict(core: &Arc<KernelCore>) {
    let buffers: Vec<_> = (0..1000).map(|_| WwMutex::new(&RESERVATION_WW_CLASS)).collect();
    let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
    let ticket = (!core.has(Bug::EvictsWithoutCtx)).then_some(&ctx);
    let locked = buffers.iter().filter(|buffer| buffer.trylock(ticket)).count();
    buffers.iter().take(locked).for_each(WwMutex::unlock);
    ctx.fini();
}

static ERROR_MUTEX: LockClass = sleep_class("&i915->gpu_error.mutex");
static CPU_HOTPLUG_LOCK: LockClass = sleep_class("cpu_hotplug_lock");

/// 25: a CPU comes, a fence is signalled after an error, an error is captured.
fn capture_error(core: &Arc<KernelCore>) -> Result {
    let (error_mutex, hotplug) = (Mutex::new(&ERROR_MUTEX), RwSem::new(&CPU_HOTPLUG_LOCK));
    hotplug.down_write();
    reclaim::kmalloc()?;
    hotplug.up_write();
    let cookie = dma_fence_begin_signalling();
    error_mutex.lock();
    error_mutex.unlock();
    dma_fence_end_signalling(cookie);
    error_mutex.lock();
    if core.has(Bug::CaptureStopsMachine) {
        stop_machine(&hotplug);
    }
    error_mutex.unlock();
    Ok(())
}

fn stop_machine(hotplug: &RwSem) {
    hotplug.down_read();
    hotplug.up_read();
}

static VM_MUTEX: LockClass = sleep_class("&vm->mutex");

/// 27: an object is bound, under its lock and that of the address space; then another is to make room.
fn bind_and_evict(core: &Arc<KernelCore>) -> Result {
    let (vm_mutex, object) = (Mutex::new(&VM_MUTEX), DmaResv::new());
    let ctx = WwAcquireCtx::init(&RESERVATION_WW_CLASS);
    dma_resv_lock_ctx(&object, &ctx)?;
    vm_mutex.lock();
    vm_mutex.unlock();
    dma_resv_unlock(&object);
    ctx.fini();
    i915_gem_evict_vm(core, &vm_mutex, &object);
    Ok(())
}

fn i915_gem_evict_vm(core: &KernelCore, vm_mutex: &Mutex, object: &DmaResv) {
    vm_mutex.lock();
    if core.has(Bug::EvictLocksUnderVm) {
        dma_resv_lock(object);
    } else if !dma_resv_trylock(object) {
        // In the right order, once more.
        vm_mutex.unlock();
        dma_resv_lock(object);
        vm_mutex.lock();
    }
    dma_resv_unlock(object);
    vm_mutex.unlock();
}

/// 29.
fn panthor_vm_prepare_map(core: &KernelCore, vm: &DmaResv) {
    let unlocked = core.has(Bug::GpuvmUnlocked);
    if !unlocked {
        dma_resv_lock(vm);
    }
    drm_gpuvm_bo_obtain_prealloc(vm);
    if !unlocked {
        dma_resv_unlock(vm);
    }
}

fn drm_gpuvm_bo_obtain_prealloc(vm: &DmaResv) {
    dma_resv_assert_held(vm);
}

/// 39: a GPU with events, which jobs need. One is free when the job asks, which keeps the run from hanging.
struct EtnavivGpu {
    core: Arc<KernelCore>,
    lock: Mutex,
    event_free: Completion,
    /// The same, as something that is waited for.
    event_map: LockMap,
}

static GPU_LOCK: LockClass = sleep_class("&gpu->lock");
static EVENT_FREE: LockClass = LockClass::new("&gpu->event_free").strict();

fn recover_and_submit(core: &Arc<KernelCore>) {
    let gpu = EtnavivGpu {
        core: core.clone(),
        lock: Mutex::new(&GPU_LOCK),
        event_free: Completion::new(&core.background),
        event_map: LockMap::new(&EVENT_FREE),
    };
    etnaviv_gpu_recover_hang(&gpu);
    etnaviv_gpu_submit(&gpu);
}

fn etnaviv_gpu_recover_hang(gpu: &EtnavivGpu) {
    gpu.lock.lock();
    gpu.event_free.complete();
    if !gpu.core.has(Bug::WaitsUnannotated) {
        raw::complete(&gpu.event_map);
    }
    gpu.lock.unlock();
}

fn etnaviv_gpu_submit(gpu: &EtnavivGpu) {
    let late = !gpu.core.has(Bug::SubmitHoldsGpuLock);
    if late {
        event_alloc(gpu);
    }
    gpu.lock.lock();
    if !late {
        event_alloc(gpu);
    }
    gpu.lock.unlock();
}

fn event_alloc(gpu: &EtnavivGpu) {
    if !gpu.core.has(Bug::WaitsUnannotated) {
        raw::wait(&gpu.event_map);
    }
    gpu.event_free.wait();
}
