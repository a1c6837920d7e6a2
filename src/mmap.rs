// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep mmap`: who holds what when an exporter's `mmap` runs, under which policy, and what follows.
//!
//! Each cell runs under a validator of its own, so one cell's order of locks says nothing about another's. A cell
//! that would hang is stopped by its finding; `--prove-hang` shows that it does hang when nobody watches.

mod hang;
mod text;

use clap::Args as ClapArgs;
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::mission::{Cell, Exporter, MapPath, Outcome};
use serde_json::{Value, json};

use crate::app::choice::{one_of, quiet_findings};
use crate::app::output::{Failure, Format, Output, Status};
use hang::Proof;

/// Who holds which lock when an exporter's mmap runs, and what follows.
///
/// For each policy of the dma-buf core, each locking regime of the GEM shmem helper, each exporter and each path
/// to its mmap: what the task holds, the verdict of a validator of its own, and each distinct report once.
///
/// Exit status: 0 if every cell is as expected (a deadlock under P1 is expected, and marked so); with --policy, 1
/// if there is any finding; 2 for a mistake in the arguments.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Policy of the dma-buf core: P0 (up to Linux 6.1), P1 (6.2 to 6.5: it holds the reservation lock around
    /// mmap) or P2 (since 6.6: it does not) [default: all]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Locks of the GEM shmem helper: A (its own mutexes), B0 (the reservation lock, pin asserts it), B (pin
    /// takes it) or C (the GEM core takes it around pin) [default: all]
    #[arg(long, value_name = "REGIME")]
    shmem: Option<String>,
    /// Exporting driver: vgem, vkms, panfrost or lima (the shmem helper), omapdrm, tegra, i915 or i915-lmem (GEM objects of
    /// their own), vb2-dma-contig, vb2-dma-sg or vb2-vmalloc (video buffers), system-heap, cma-heap or udmabuf (buffers
    /// without a device), fastrpc (a signal processor) [default: all]
    #[arg(long, value_name = "NAME")]
    exporter: Option<String>,
    /// How the buffer is mapped: dma-buf-fd, driver-fd, self-import-fd or foreign-import-fd [default: all]
    #[arg(long, value_name = "NAME")]
    path: Option<String>,
    /// Run the drivers without their known mistakes: fastrpc's mmap asserts a lock that P2 no longer holds
    #[arg(long)]
    fixed: bool,
    /// Run each deadlock again in a process of its own in which nobody watches, and show that it hangs
    #[arg(long)]
    prove_hang: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Run the one cell that is chosen, with nobody watching: what --prove-hang starts
    #[arg(long, hide = true)]
    unwatched: bool,
}

/// The cells that were asked for.
struct Choice {
    policy: Option<LockingPolicy>,
    shmem: Option<ShmemLocking>,
    exporter: Option<Exporter>,
    path: Option<MapPath>,
    fixed: bool,
}

impl Choice {
    fn of(args: &Args) -> Result<Self, Failure> {
        Ok(Choice {
            policy: one_of("policy", args.policy.as_deref(), &LockingPolicy::ALL)?,
            shmem: one_of("shmem regime", args.shmem.as_deref(), &ShmemLocking::ALL)?,
            exporter: one_of("exporter", args.exporter.as_deref(), &Exporter::ALL)?,
            path: one_of("path", args.path.as_deref(), &MapPath::ALL)?,
            fixed: args.fixed,
        })
    }

    fn cells(&self) -> Vec<Cell> {
        let fits = |cell: &Cell| {
            self.policy.is_none_or(|policy| policy == cell.setup.policy)
                && self.shmem.is_none_or(|shmem| shmem == cell.setup.shmem)
                && self.exporter.is_none_or(|exporter| exporter == cell.exporter)
                && self.path.is_none_or(|path| path == cell.path)
        };
        Cell::all().filter(fits).map(|cell| Cell { fixed: self.fixed, ..cell }).collect()
    }
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let choice = Choice::of(args)?;
    let cells = choice.cells();
    if args.unwatched {
        return hang::child(&cells, out);
    }
    quiet_findings();
    let outcomes: Vec<Outcome> = cells.iter().map(Cell::run).collect();
    let proofs = if args.prove_hang { hang::prove(&cells)? } else { Vec::new() };
    match args.format {
        Format::Text => text::write(&outcomes, &proofs, out)?,
        Format::Json => out.json(&document(&outcomes, &proofs))?,
    }
    let hangs_as_expected = proofs.iter().all(Proof::is_as_expected);
    let good = if choice.policy.is_some() {
        outcomes.iter().all(|outcome| outcome.run.reports.is_empty() && outcome.is_as_expected())
    } else {
        outcomes.iter().all(Outcome::is_as_expected)
    };
    Ok(if good && hangs_as_expected { Status::AsExpected } else { Status::Finding })
}

fn document(outcomes: &[Outcome], proofs: &[Proof]) -> Value {
    let cells: Vec<Value> = outcomes.iter().map(|outcome| cell(outcome, proofs)).collect();
    json!({ "cells": cells })
}

fn cell(outcome: &Outcome, proofs: &[Proof]) -> Value {
    let Outcome { cell, run } = outcome;
    let held = outcome.held_in_mmap();
    let hang = proofs.iter().find(|proof| proof.cell == *cell).map(Proof::to_json);
    json!({
        "policy": cell.setup.policy.name(),
        "shmem": cell.setup.shmem.name(),
        "exporter": cell.exporter.name(),
        "path": cell.path.name(),
        "held_in_mmap": held,
        "verdict": outcome.verdict().map_or("clean", |kind| kind.name()),
        "expected": cell.expected_verdict().map_or("clean", |kind| kind.name()),
        "fixed": cell.fixed,
        "ok": outcome.is_as_expected(),
        "report": outcome.report().map(|report| report.to_json()),
        "findings": run.reports.iter().map(|report| report.to_json()).collect::<Vec<_>>(),
        "failure": run.failure().map(ToString::to_string),
        "hang": hang,
    })
}
