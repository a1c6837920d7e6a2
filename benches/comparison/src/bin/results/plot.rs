// SPDX-License-Identifier: MIT OR Apache-2.0
//! `benches/RESULTS.svg`: one row of the comparison as bars.

use std::path::Path;

use plotters::prelude::{
    BLUE, ChartBuilder, Color as _, IntoDrawingArea as _, IntoLogRange as _, Rectangle, SVGBackend, Text,
    WHITE,
};

use crate::Measured;
use crate::run::Result;

/// What is drawn.
const WORKLOAD: &str = "lock and unlock, depth 4";

/// One bar for each contender, nanoseconds on a logarithmic scale.
pub fn draw(file: &Path, measured: &Measured) -> Result<()> {
    let row = measured.rows.iter().find(|(workload, _)| workload == WORKLOAD);
    let (_, times) = row.ok_or_else(|| format!("nobody measured `{WORKLOAD}`"))?;
    let most = times.iter().copied().fold(1.0, f64::max);
    let area = SVGBackend::new(file, (900, 60 + 36 * u32::try_from(times.len())?)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .caption(format!("{WORKLOAD}: nanoseconds per pair"), ("sans-serif", 18))
        .x_label_area_size(24)
        .build_cartesian_2d((1.0..most * 8.0).log_scale(), 0.0..times.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    let bars = times.iter().rev().zip(measured.names.iter().rev()).enumerate();
    for (place, (&time, name)) in bars {
        let bottom = place as f64;
        let bar = Rectangle::new([(1.0, bottom + 0.15), (time, bottom + 0.85)], BLUE.mix(0.5).filled());
        let label = Text::new(format!("{name}: {time:.1}"), (time * 1.05, bottom + 0.7), ("sans-serif", 15));
        chart.plotting_area().draw(&bar)?;
        chart.plotting_area().draw(&label)?;
    }
    Ok(area.present()?)
}
