// SPDX-License-Identifier: GPL-2.0-only
//! Writes down which function every line of the models belongs to.
//!
//! A lock remembers the source line that took it, and a kernel developer wants to read a function name. The
//! compiler does not give one, so this script reads the sources and lists, for each file, the first line, last
//! line and name of every function. `src/functions.rs` includes the list and hands it to the validator.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("functions.rs");
    let table =
        table(&root).unwrap_or_else(|error| panic!("cannot list the functions of the models: {error}"));
    fs::write(target, table).expect("cannot write the list of functions");
}

/// The list as a Rust expression: `&[("file below src", &[(first line, last line, "name"), …]), …]`.
fn table(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    sources(root, &mut files)?;
    // The order of a directory listing is not the same everywhere; the build should be.
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(root).expect("it was found there").to_string_lossy();
        let text = fs::read_to_string(&file)?;
        // Something that is not Rust is the compiler's to report, with a better message than ours.
        let Ok(parsed) = syn::parse_file(&text) else { continue };
        let mut functions = Functions::default();
        functions.visit_file(&parsed);
        writeln!(table, "    ({name:?}, &{:?}),", functions.0).expect("a String takes everything");
    }
    table.push_str("]\n");
    Ok(table)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// First line, last line, name; an inner function follows the outer one.
#[derive(Default)]
struct Functions(Vec<(usize, usize, String)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.brace_token.span.close().end().line;
        // `r#type` is a function named `type`.
        let name = signature.ident.to_string().trim_start_matches("r#").to_owned();
        self.0.push((first, last, name));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
