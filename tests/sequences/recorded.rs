// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs run on the models and recorded, event by event against the kernel's.

use instrumented_drivers::scenario::sequence::{Sequence, as_extracted, compare, in_scope};
use instrumented_drivers::scenario::{End, Scenario, Setup};

/// What the models lock in this program, as Linux 6.12 would.
fn on_the_models(program: &str) -> Sequence {
    let scenario = Scenario::find(program).unwrap_or_else(|| panic!("no scenario {program}"));
    let run = scenario.run_recorded(Setup::LINUX_6_12);
    assert!(matches!(run.end, End::Done), "{:?}", run.end);
    assert!(run.reports.is_empty(), "{}", run.reports[0]);
    Sequence::from(&*run.recorded)
}

fn assert_same(program: &str) {
    let (_, kernel) = super::read(&super::folder().join(format!("{program}.seq")));
    let models = as_extracted(&on_the_models(program));
    if let Err(mismatch) = compare(&in_scope(&kernel), &models) {
        panic!("{program}: the models do not lock what the kernel does\n{mismatch}\nall of it:\n{models}");
    }
}

#[test]
fn vgem_handle_locks_what_the_kernel_locks() {
    assert_same("vgem_handle");
}

#[test]
fn vgem_export_locks_what_the_kernel_locks() {
    assert_same("vgem_export");
}

#[test]
fn vgem_self_import_locks_what_the_kernel_locks() {
    assert_same("vgem_self_import");
}

#[test]
fn vgem_into_vkms_locks_what_the_kernel_locks() {
    assert_same("vgem_into_vkms");
}

#[test]
fn vivid_mmap_locks_what_the_kernel_locks() {
    assert_same("vivid_mmap");
}

#[test]
fn vivid_dmabuf_heap_locks_what_the_kernel_locks() {
    assert_same("vivid_dmabuf_heap");
}

#[test]
fn vivid_dmabuf_udmabuf_locks_what_the_kernel_locks() {
    assert_same("vivid_dmabuf_udmabuf");
}

#[test]
fn heap_locks_what_the_kernel_locks() {
    assert_same("heap");
}

#[test]
fn udmabuf_locks_what_the_kernel_locks() {
    assert_same("udmabuf");
}

#[test]
fn heap_into_vgem_locks_what_the_kernel_locks() {
    assert_same("heap_into_vgem");
}

#[test]
fn udmabuf_into_vgem_locks_what_the_kernel_locks() {
    assert_same("udmabuf_into_vgem");
}

#[test]
fn importer_udmabuf_locks_what_the_kernel_locks() {
    assert_same("importer_udmabuf");
}

/// The kernel's forwarding driver kept the buffer beyond the end of the program; its release was recorded in the next
/// one, which gave the driver another buffer.
#[test]
fn importer_heap_locks_what_the_kernel_locks_and_releases_the_buffer_later() {
    let (_, mut kernel) = super::read(&super::folder().join("importer_heap.seq"));
    let (_, next) = super::read(&super::folder().join("importer_udmabuf.seq"));
    let release = &next.tasks[0].steps[2..];
    assert_eq!(release[0].to_string(), "+ debugfs_list_mutex #1 W @ dma_buf_file_release");
    kernel.tasks[0].steps.extend_from_slice(release);
    let models = as_extracted(&on_the_models("importer_heap"));
    assert_eq!(compare(&in_scope(&kernel), &models), Ok(()));
}

#[test]
fn importer_vgem_locks_what_its_parts_lock_in_the_kernel() {
    assert_same("importer_vgem");
}
