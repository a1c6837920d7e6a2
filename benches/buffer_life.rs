// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer's life on the driver models: create, export, import into a second driver, map, fault every page, unmap,
//! close. The same code with the validator off and on; the group name tells which this is.
//!
//! In an on build, "that nobody watches" is the same binary with a validator that watches nothing.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use instrumented_drivers::kernel::mm::MapFlags;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::user::{Driver, Kernel};
use lockdep::{PanicOn, Validator};

const SIZE: u64 = 256 * 1024;
const PAGE: u64 = 4096;

/// One life, from creation to the last close; nothing is left over.
fn life(kernel: &Kernel) {
    let process = kernel.process("bench");
    let run = || -> Result<(), instrumented_drivers::kernel::errno::Errno> {
        let exporter = process.open(Driver::Vgem)?;
        let importer = process.open(Driver::Vkms)?;
        let handle = process.mode_create_dumb(exporter, 256, 256, 32)?;
        let buffer = process.prime_handle_to_fd(exporter, handle, 0o2)?;
        let imported = process.prime_fd_to_handle(importer, buffer)?;
        let address = process.mmap(buffer, SIZE, 0, MapFlags::SHARED)?;
        process.sync_start(buffer, 3)?;
        for page in 0..SIZE / PAGE {
            process.write_byte(address + page * PAGE, 1).expect("the page is there");
        }
        process.sync_end(buffer, 3)?;
        process.munmap(address, SIZE)?;
        process.gem_close(importer, imported)?;
        process.gem_close(exporter, handle)?;
        for fd in [buffer, importer, exporter] {
            process.close(fd)?;
        }
        Ok(())
    };
    run().expect("every call succeeds");
    process.exit();
    kernel.assert_no_leaks();
}

fn buffer_life(c: &mut Criterion) {
    let mode = if lockdep::ENABLED { "on" } else { "off" };
    let mut group = c.benchmark_group(format!("buffer_life/{mode}"));
    let watchers = [("a life", true), ("a life that nobody watches", false)];
    // Off, there is only one kind of validator: none.
    for (name, watch) in watchers.into_iter().take(if lockdep::ENABLED { 2 } else { 1 }) {
        let validator = Validator::builder().watch(watch).panic_on(PanicOn::Finding).build();
        validator.scope(|| {
            let kernel = Kernel::new(LockingPolicy::P2, ShmemLocking::C);
            kernel.dma_resv_lockdep();
            life(&kernel);
            group.bench_function(name, |b| b.iter(|| life(black_box(&kernel))));
        });
        assert!(validator.reports().is_empty(), "{:?}", validator.reports());
    }
    group.finish();
}

criterion_group!(benches, buffer_life);
criterion_main!(benches);
