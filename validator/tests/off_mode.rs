// SPDX-License-Identifier: MIT OR Apache-2.0
//! With the feature off our locks are parking_lot's: as much machine code for the same program, with the same calls,
//! and nothing of the validator in the binary.
//!
//! Cargo unifies the features of everything that is built together, so these programs are packages of a workspace of
//! their own, in a target folder of their own, in which nothing turns the feature on.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

/// With the features of lock_api that our crate asks for, so that both programs call one build of parking_lot.
const BARE_DEPENDENCIES: &str =
    "parking_lot = \"0.12\"\nlock_api = { version = \"0.4\", features = [\"arc_lock\"] }";

/// One program for both makers: what stands for `MAKER` is `lockdep::sync` or `parking_lot`.
const LIBRARY: &str = r#"
use MAKER as locks;
use locks::{Condvar, Mutex, MutexGuard, ReentrantMutex, RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard};
use std::time::Duration;

#[unsafe(no_mangle)]
pub fn mutex(lock: &Mutex<u64>) -> u64 { let mut guard = lock.lock(); *guard += 1; *guard }
#[unsafe(no_mangle)]
pub fn mutex_nest(a: &Mutex<u64>, b: &Mutex<u64>) -> u64 { let outer = a.lock(); *b.lock() + *outer }
#[unsafe(no_mangle)]
pub fn mutex_try(lock: &Mutex<u64>) -> Option<u64> { lock.try_lock().map(|guard| *guard) }
#[unsafe(no_mangle)]
pub fn mutex_timed(lock: &Mutex<u64>) -> bool { lock.try_lock_for(Duration::from_millis(1)).is_some() }
#[unsafe(no_mangle)]
pub fn mutex_mapped(lock: &Mutex<(u64, u64)>) { *MutexGuard::map(lock.lock(), |pair| &mut pair.1) = 1; }
#[unsafe(no_mangle)]
pub fn mutex_fair(lock: &Mutex<u64>) { MutexGuard::unlock_fair(lock.lock()); }
#[unsafe(no_mangle)]
pub fn rwlock_read(lock: &RwLock<u64>) -> u64 { *lock.read() }
#[unsafe(no_mangle)]
pub fn rwlock_read_recursive(lock: &RwLock<u64>) -> u64 { *lock.read_recursive() }
#[unsafe(no_mangle)]
pub fn rwlock_write(lock: &RwLock<u64>) { *lock.write() += 1; }
#[unsafe(no_mangle)]
pub fn rwlock_upgrade(lock: &RwLock<u64>) -> u64 {
    let mut writer = RwLockUpgradableReadGuard::upgrade(lock.upgradable_read());
    *writer += 1;
    *RwLockWriteGuard::downgrade(writer)
}
#[unsafe(no_mangle)]
pub fn reentrant(lock: &ReentrantMutex<u64>) -> u64 { let outer = lock.lock(); *lock.lock() + *outer }
#[unsafe(no_mangle)]
pub fn wait(condvar: &Condvar, guard: &mut MutexGuard<'_, u64>) { condvar.wait(guard); }
#[unsafe(no_mangle)]
pub fn notify(condvar: &Condvar) -> bool { condvar.notify_one() }
#[unsafe(no_mangle)]
pub fn sizes() -> [usize; 4] {
    [size_of::<Mutex<u8>>(), size_of::<RwLock<u8>>(), size_of::<ReentrantMutex<u8>>(), size_of::<Condvar>()]
}
"#;

const PROGRAM: &str = r#"
fn main() {
    let (mutex, other) = (lockdep::sync::Mutex::new(0), lockdep::sync::Mutex::new(0));
    let rwlock = lockdep::sync::RwLock::new(0);
    let v = lockdep::Validator::new();
    v.scope(|| {
        for _ in 0..2 {
            ours::mutex(&mutex);
            ours::rwlock_upgrade(&rwlock);
            // A finding, if anybody watched.
            drop((mutex.lock(), other.lock()));
            drop((other.lock(), mutex.lock()));
            lockdep::assert_held!(mutex);
            lockdep::might_lock(&rwlock);
        }
        lockdep::thread::spawn(|| ()).join().unwrap();
    });
    lockdep::global().on_report(|report| println!("{report}"));
    assert!(v.reports().is_empty() && !lockdep::ENABLED);
}
"#;

fn manifest(name: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n"
    )
}

/// Writes the workspace; gives its folder.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("off_mode");
    let validator = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lockdep = format!("lockdep = {{ path = {:?} }}", validator.display().to_string());
    let files = [
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\"ours\", \"bare\", \"program\"]\nresolver = \"3\"\n".to_owned(),
        ),
        ("ours/Cargo.toml", manifest("ours", &lockdep)),
        ("ours/src/lib.rs", LIBRARY.replace("MAKER", "lockdep::sync")),
        ("bare/Cargo.toml", manifest("bare", BARE_DEPENDENCIES)),
        ("bare/src/lib.rs", LIBRARY.replace("MAKER", "parking_lot")),
        ("program/Cargo.toml", manifest("program", &format!("{lockdep}\nours = {{ path = \"../ours\" }}"))),
        ("program/src/main.rs", PROGRAM.to_owned()),
    ];
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
    }
    // The same versions as here, and none that is not there already.
    let lock = validator.parent().expect("the root").join("Cargo.lock");
    std::fs::copy(lock, root.join("Cargo.lock")).expect("the lock file");
    root
}

fn cargo(root: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A function as the compiler left it: how long it is, and what it calls, in the order of its code.
#[derive(Debug)]
struct Function {
    length: usize,
    calls: Vec<String>,
}

impl Function {
    /// The same code, as far as the compiler's choice of registers and of the order of instructions lets us ask: the
    /// same calls in the same places, and not an instruction more.
    fn is_like(&self, other: &Function) -> bool {
        self.calls == other.calls && self.length.abs_diff(other.length) <= 3
    }
}

/// The functions of a package's library, by name.
fn functions(root: &Path, package: &str) -> BTreeMap<String, Function> {
    let path = root.join("target").join(format!("{package}.o"));
    let emit = format!("--emit=obj={}", path.display());
    cargo(root, &["rustc", "--offline", "--release", "-q", "-p", package, "--lib", "--", &emit]);
    let data = std::fs::read(path).expect("an object file");
    let file = object::File::parse(&*data).expect("an object file");
    let target = |target| match target {
        RelocationTarget::Symbol(index) => {
            let symbol = file.symbol_by_index(index).expect("a symbol");
            symbol.name().expect("a name").to_owned()
        }
        other => format!("{other:?}"),
    };
    let exported = |name: &&str| LIBRARY.contains(&format!("pub fn {name}("));
    file.sections()
        .filter_map(|section| {
            let name = section.name().ok()?.strip_prefix(".text.").filter(exported)?.to_owned();
            let length = section.data().expect("the code").len();
            let calls = section.relocations().map(|(_, what)| target(what.target())).collect();
            Some((name, Function { length, calls }))
        })
        .collect()
}

/// Names of the validator's parts in the symbols of a program, and of the packages that only they need.
fn validator_symbols(program: &Path) -> Vec<String> {
    const PARTS: [&str; 6] =
        ["7lockdep6engine", "7lockdep7runtime", "7lockdep4hook", "7lockdep6report", "7dashmap", "9once_cell"];
    let data = std::fs::read(program).expect("the program");
    let file = object::File::parse(&*data).expect("an executable");
    let names = file.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned));
    names.filter(|name| PARTS.iter().any(|part| name.contains(part))).collect()
}

#[test]
fn off_is_the_bare_lock() {
    let root = workspace();
    let (ours, bare) = (functions(&root, "ours"), functions(&root, "bare"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), bare.keys().collect::<Vec<_>>());
    assert_eq!(bare.len(), LIBRARY.matches("pub fn").count());
    let differing: Vec<_> = bare
        .iter()
        .filter(|(name, function)| !function.is_like(&ours[*name]))
        .map(|(name, function)| format!("{name}: bare {function:#?}, ours {:#?}", ours[name]))
        .collect();
    assert!(differing.is_empty(), "not the bare lock's code: {}", differing.join("\n"));
    assert!(bare["mutex"].length > 20 && bare["mutex"].calls.len() >= 2, "it looks at real code");

    cargo(&root, &["build", "--offline", "--release", "-q", "-p", "program"]);
    let program = root.join("target/release/program");
    assert_eq!(validator_symbols(&program), Vec::<String>::new());
    let output = Command::new(&program).env("LOCKDEP", "panic").output().expect("the program runs");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");

    // The search finds something where there is something: this program, with the feature on.
    if lockdep::ENABLED {
        lockdep::Validator::new().scope(|| drop(lockdep::sync::Mutex::new(()).lock()));
        assert!(!validator_symbols(&std::env::current_exe().expect("this program")).is_empty());
    }
}
