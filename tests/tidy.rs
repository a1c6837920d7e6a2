// SPDX-License-Identifier: MIT OR Apache-2.0
//! The house rules that a compiler does not check.

use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every source file of the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["src", "validator", "instrumented-drivers", "tests", "benches"] {
        walk(&Path::new(ROOT).join(folder), &mut files);
    }
    assert!(files.len() > 30, "found only {} files", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable source file");
            (path.strip_prefix(ROOT).expect("below the root").to_owned(), text)
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The part of a file before its unit tests.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_starts_with_its_licence() {
    let problems: Vec<_> = sources()
        .iter()
        .filter_map(|(path, text)| {
            let licence =
                if path.starts_with("instrumented-drivers") { "GPL-2.0-only" } else { "MIT OR Apache-2.0" };
            let wanted = format!("// SPDX-License-Identifier: {licence}\n");
            (!text.starts_with(&wanted))
                .then(|| format!("{}: the first line is not {wanted:?}", path.display()))
        })
        .collect();
    assert_none(&problems);
}

#[test]
fn every_module_says_what_it_is() {
    let problems: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "ui"))
        .filter(|(_, text)| {
            !text
                .lines()
                .skip(1)
                .find(|line| !line.starts_with("#!"))
                .is_some_and(|line| line.starts_with("//!"))
        })
        .map(|(path, _)| format!("{}: no module header", path.display()))
        .collect();
    assert_none(&problems);
}

/// The direction of dependencies inside the validator: a module may use only what stands at or left of it.
#[test]
fn dependencies_point_one_way() {
    let rules: [(&str, &[&str]); 5] = [
        (
            "validator/src/engine",
            &["crate::runtime", "crate::hook", "crate::sync", "crate::litmus", "crate::thread"],
        ),
        (
            "validator/src/report",
            &["crate::runtime", "crate::hook", "crate::sync", "crate::engine", "crate::litmus"],
        ),
        ("validator/src/event.rs", &["crate::engine", "crate::runtime", "crate::hook", "crate::report"]),
        ("validator/src/litmus", &["crate::runtime", "crate::hook", "crate::sync"]),
        ("validator/src/runtime", &["crate::sync", "crate::litmus"]),
    ];
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (folder, forbidden) in rules {
            if !path.starts_with(folder) {
                continue;
            }
            for (number, line) in (1..).zip(code(&text).lines()) {
                let line = line.trim_start();
                if line.starts_with("//") {
                    continue;
                }
                if let Some(word) = forbidden.iter().find(|word| line.contains(*word)) {
                    problems.push(format!("{}:{number}: uses {word}", path.display()));
                }
            }
        }
    }
    assert_none(&problems);
}

/// The engine has no thread, no lock, no clock, no thread-local and no output.
#[test]
fn the_engine_is_pure() {
    let forbidden = [
        "std::thread",
        "std::sync::Mutex",
        "std::sync::atomic",
        "parking_lot",
        "thread_local",
        "std::time",
        "println!",
    ];
    let mut problems = Vec::new();
    for (path, text) in sources() {
        if !path.starts_with("validator/src/engine") {
            continue;
        }
        if !text.contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{}: does not forbid unsafe code", path.display()));
        }
        for (number, line) in (1..).zip(code(&text).lines()) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            if let Some(word) = forbidden.iter().find(|word| line.contains(*word)) {
                problems.push(format!("{}:{number}: {word}", path.display()));
            }
            if line.trim_start().trim_start_matches("pub ").starts_with("static ") {
                problems.push(format!("{}:{number}: a static", path.display()));
            }
        }
    }
    assert_none(&problems);
}

/// A rule's word is its file's name, and its kind is shown by the corpus.
#[test]
fn every_rule_has_a_file_and_a_litmus_test() {
    let corpus: String = std::fs::read_dir(Path::new(ROOT).join("tests/litmus"))
        .expect("the corpus")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a readable file"))
        .collect();
    let folder = Path::new(ROOT).join("validator/src/engine/check");
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the rules") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().replace('_', "-");
        if name == "mod" {
            continue;
        }
        if lockdep::ReportKind::from_name(&name).is_none() {
            problems.push(format!("{}: `{name}` is no report kind", path.display()));
        }
        let shown = corpus.lines().filter_map(|line| line.split_once("#!")).any(|(_, kinds)| {
            let kinds = kinds.split(':').next().unwrap_or_default();
            kinds.split(',').any(|kind| kind.trim() == name)
        });
        // More locks than a person would write down; it has a test of its own.
        if !shown && name != "depth" {
            problems.push(format!("{name}: no litmus file expects it"));
        }
    }
    assert_none(&problems);
}

#[test]
fn no_file_is_too_long_to_read() {
    let problems: Vec<_> = sources()
        .iter()
        .map(|(path, text)| (path, code(text).lines().count()))
        .filter(|(_, lines)| *lines > 620)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none(&problems);
}

/// What must not be left behind. Each word is put together here, so that this file does not trip over itself.
#[test]
fn nothing_is_left_behind() {
    let words = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ig", "nore"].concat(),
        ["db", "g!("].concat(),
        ["FIX", "ME"].concat(),
        ["thread::sl", "eep"].concat(),
    ];
    let mut problems = Vec::new();
    for (path, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                problems.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn the_top_level_is_as_designed() {
    let known = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "validator",
        "instrumented-drivers",
        "tests",
        "benches",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "target",
    ];
    let problems: Vec<_> = std::fs::read_dir(ROOT)
        .expect("the root")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !known.contains(&name.as_str()))
        .collect();
    assert_none(&problems);
}

/// The map in ARCHITECTURE.md names only what exists.
#[test]
fn architecture_names_existing_paths() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let paths: Vec<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && (word.ends_with(".rs") || word.ends_with('/')))
        .collect();
    assert!(paths.len() > 20, "only {} paths", paths.len());
    let problems: Vec<_> =
        paths.into_iter().filter(|path| !Path::new(ROOT).join(path).exists()).map(str::to_owned).collect();
    assert_none(&problems);
}
