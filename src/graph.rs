// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lockdep graph`: the order of lock classes that the scenarios teach.

mod order;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use instrumented_drivers::policy::{LockingPolicy, ShmemLocking};
use instrumented_drivers::scenario::Setup;
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};
use serde_json::json;

use crate::app::choice::{one_of, quiet_findings};
use crate::app::output::{Failure, Output, Status};
use crate::app::scenario::chosen;
use order::Order;

/// The order of lock classes that programs on the models teach.
///
/// Runs the scenarios under one policy and one regime and puts together what each of them taught: `a -> b` says
/// that a lock of class b was taken while one of class a was held. Only the pairs that imply the rest are written.
///
/// With --against FILE the learned order is compared with a documented one, in the same written form: what was
/// learned must follow from the document, and each documented pair must have been exercised.
///
/// Exit status: 0; with --against, 1 if the two differ; 2 for a mistake in the arguments or in the file.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Scenarios, by id or name; see `lockdep scenario --list` [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Policy of the dma-buf core: P0, P1 or P2 [default: P2]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Locks of the GEM shmem helper: A, B0, B or C [default: C]
    #[arg(long, value_name = "REGIME")]
    shmem: Option<String>,
    /// Compare with the order documented in this file
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    against: Option<PathBuf>,
    /// How the order is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// How an order is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each class, with the classes taken under it.
    #[default]
    Text,
    /// One JSON document: all pairs, and which of them imply the rest.
    Json,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Status, Failure> {
    let scenarios = chosen(&args.names)?;
    let Setup { policy, shmem } = Setup::LINUX_6_12;
    let setup = Setup {
        policy: one_of("policy", args.policy.as_deref(), &LockingPolicy::ALL)?.unwrap_or(policy),
        shmem: one_of("shmem regime", args.shmem.as_deref(), &ShmemLocking::ALL)?.unwrap_or(shmem),
    };
    let documented = args.against.as_ref().map(documented).transpose()?;
    quiet_findings();
    let mut learned = Order::default();
    for scenario in scenarios {
        for (earlier, later) in scenario.run(setup).order {
            learned.add(class(&earlier), class(&later));
        }
    }
    if let Some(documented) = documented {
        return compare(&learned, &documented, out);
    }
    let reduced = learned.reduced();
    match args.format {
        Format::Text => write!(out, "{reduced}")?,
        Format::Json => {
            let needed: BTreeSet<_> = reduced.pairs().collect();
            let pair = |(earlier, later)| json!({ "from": earlier, "to": later, "implied": !needed.contains(&(earlier, later)) });
            out.json(&json!({
                "policy": setup.policy.name(),
                "shmem": setup.shmem.name(),
                "classes": learned.classes(),
                "edges": learned.pairs().map(pair).collect::<Vec<_>>(),
            }))?;
        }
        Format::Dot => write!(out, "{}", reduced.to_dot())?,
        Format::Svg => writeln!(out, "{}", svg(&reduced)?)?,
    }
    Ok(Status::AsExpected)
}

/// The name of a class without the number that tells classes of one name apart: each run counts them anew.
fn class(name: &str) -> &str {
    name.split_once('#').map_or(name, |(name, _)| name)
}

fn documented(file: &PathBuf) -> Result<Order, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::user(format!("cannot read {}: {error}", file.display())))?;
    Order::parse(&text).map_err(|(line, what)| Failure::user(format!("{}:{line}: {what}", file.display())))
}

fn compare(learned: &Order, documented: &Order, out: &mut Output) -> Result<Status, Failure> {
    let unwritten = learned.reduced().beyond(documented);
    let unseen = documented.beyond(learned);
    if !unwritten.is_empty() {
        writeln!(out, "learned, and not documented:\n{unwritten}")?;
    }
    if !unseen.is_empty() {
        writeln!(out, "documented, and not learned:\n{unseen}")?;
    }
    if !unwritten.is_empty() || !unseen.is_empty() {
        return Ok(Status::Finding);
    }
    writeln!(out, "{} pairs learned, all documented", learned.pairs().count())?;
    Ok(Status::AsExpected)
}

fn svg(order: &Order) -> Result<String, Failure> {
    let parsed = DotParser::new(&order.to_dot()).process();
    let graph = parsed.map_err(|error| Failure::user(format!("internal error: {error}")))?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&graph);
    let mut picture = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut picture);
    Ok(picture.finalize())
}
