// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole program on a public crate whose locks are replaced: `pool/`.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{self, Program, Result, cargo, output, package};

/// How often each of both runs; the median counts.
const TURNS: usize = 15;

/// Nanoseconds for a line of text, with parking_lot's locks and with ours: one thread, and four that share.
pub fn measure() -> Result<Vec<Program>> {
    let builds = [build(false)?, build(true)?];
    let program = |threads: &str| {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (build, samples) in builds.iter().zip(&mut samples) {
                samples.push(output(Command::new(build).arg(threads))?.trim().parse()?);
            }
        }
        let [off, on] = samples.map(run::median);
        Ok((format!("r2d2, threads, {threads}"), off, on))
    };
    ["1", "4"].into_iter().map(program).collect()
}

/// Builds the program; with our locks, on a copy of r2d2 of whose manifest one entry differs.
fn build(ours: bool) -> Result<PathBuf> {
    let target = package().join("target").join(if ours { "pool-ours" } else { "pool" });
    let folder = package().join("pool");
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--target-dir"]).arg(&target).current_dir(&folder);
    if ours {
        let copy = target.join("r2d2");
        copy_of_r2d2(&folder, &copy)?;
        let patch = format!("patch.crates-io.r2d2.path={:?}", copy);
        command.args(["--features", "lockdep", "--config", &patch]);
    }
    output(&mut command)?;
    Ok(target.join("release").join("pool"))
}

/// The source of r2d2 as cargo has it, with our locks for parking_lot's.
fn copy_of_r2d2(pool: &std::path::Path, copy: &std::path::Path) -> Result<()> {
    const THEIRS: &str = "[dependencies.parking_lot]\nversion = \"0.12\"";
    let metadata = output(cargo().args(["metadata", "--format-version=1"]).current_dir(pool))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().ok_or("cargo names no packages")?;
    let r2d2 = packages.iter().find(|package| package["name"] == "r2d2").ok_or("cargo has no r2d2")?;
    let manifest = PathBuf::from(r2d2["manifest_path"].as_str().ok_or("r2d2 has no manifest")?);
    let source = manifest.with_file_name("src");
    std::fs::create_dir_all(copy.join("src"))?;
    for file in std::fs::read_dir(source)? {
        let file = file?;
        std::fs::copy(file.path(), copy.join("src").join(file.file_name()))?;
    }
    let manifest = std::fs::read_to_string(manifest)?;
    if !manifest.contains(THEIRS) {
        return Err("r2d2 asks for parking_lot in another way than it did".into());
    }
    let ours = format!("[dependencies.parking_lot]\npackage = \"locks\"\npath = {:?}", pool.join("locks"));
    std::fs::write(copy.join("Cargo.toml"), manifest.replace(THEIRS, &ours))?;
    Ok(())
}
