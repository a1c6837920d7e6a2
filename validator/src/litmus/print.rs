// SPDX-License-Identifier: MIT OR Apache-2.0
#![forbid(unsafe_code)]
//! A report as a litmus program that reproduces it: the smallest program with the same classes, modes and
//! contexts, whose last step breaks the same rule.
//!
//! Most locks become a `map` (a lock without a wait type), so that no other rule is in the way; class names
//! become words. What the report does not know (which thread switched which interrupt off, say) is chosen so
//! that nothing else is reported.

use std::fmt::Write;

use crate::event::{HeldAs, Mode};
use crate::limits::SUBCLASSES;
use crate::report::model::{Acquired, Edge, LockName, Report, ReportKind, Used};
use crate::ww::WwMisuse;

impl Report {
    /// A litmus program that reproduces this finding.
    ///
    /// ```
    /// let program = lockdep::litmus::parse("lock a : mutex\nt: lock a\nt: lock a #! recursive\n").unwrap();
    /// let report = program.run().reported.remove(0).report;
    /// let again = lockdep::litmus::parse(&report.to_litmus()).unwrap();
    /// assert!(again.run().as_expected());
    /// ```
    #[must_use]
    pub fn to_litmus(&self) -> String {
        let mut printer = Printer { kind: self.kind, locks: Vec::new(), steps: String::new(), tasks: 0 };
        printer.report(self);
        let mut text = format!("# {}\nname: {}\n", self.signature, self.summary);
        for (name, class, kind) in &printer.locks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "lock {name} : {kind} class={class}");
        }
        text + &printer.steps
    }
}

struct Printer {
    kind: ReportKind,
    /// Name in the program, class, kind word.
    locks: Vec<(String, String, &'static str)>,
    steps: String,
    tasks: usize,
}

impl Printer {
    fn report(&mut self, report: &Report) {
        match report.kind {
            ReportKind::Recursive if report.edges.is_empty() => self.recursive(report),
            ReportKind::Recursive | ReportKind::Circular => {
                for edge in report.edges.iter().filter(|edge| !edge.new) {
                    self.edge(edge, false);
                }
                if report.tags.contains(&"ordered") {
                    let last = self.tasks + 1;
                    self.step(&format!("t{last}"), "join t1");
                }
                for edge in report.edges.iter().filter(|edge| edge.new) {
                    self.edge(edge, true);
                }
            }
            ReportKind::IrqState => self.usages(report, true),
            ReportKind::IrqInversion => {
                self.quiet_edges(&report.edges);
                self.usages(report, true);
            }
            ReportKind::IrqOrder => {
                self.usages(report, false);
                self.quiet_edges(&report.edges);
            }
            ReportKind::WaitContext => self.wait_context(report),
            ReportKind::Exit => self.all_held(report, "exit"),
            ReportKind::UserReturn => self.all_held(report, "user_return"),
            ReportKind::Depth => self.depth(report.held.len()),
            ReportKind::WwApi => self.ww_api(report),
            ReportKind::Pin => self.pin(report),
            ReportKind::Key => self.key(report),
            _ => self.one_lock(report),
        }
    }

    /// The name of a lock in the program, declared on first use.
    fn lock(&mut self, lock: &LockName) -> String {
        // The order of objects is known of real locks only.
        self.declare(lock, if self.kind == ReportKind::Recursive { "mutex" } else { "map" })
    }

    fn declare(&mut self, lock: &LockName, kind: &'static str) -> String {
        let class = word(split_subclass(&lock.class).0);
        let base = format!("{class}@{:x}", lock.instance.0);
        if !self.locks.iter().any(|(name, ..)| *name == base) {
            self.locks.push((base.clone(), class, kind));
        }
        base
    }

    fn task(&mut self) -> String {
        self.tasks += 1;
        format!("t{}", self.tasks)
    }

    fn step(&mut self, task: &str, op: &str) {
        let _ = writeln!(self.steps, "{task}: {op}");
    }

    fn broken(&mut self, task: &str, op: &str) {
        let _ = writeln!(self.steps, "{task}: {op} #! {}", self.kind);
    }

    fn taking(&mut self, acquired: &Acquired) -> String {
        let name = self.lock(&acquired.lock);
        take(acquired, &name)
    }

    fn recursive(&mut self, report: &Report) {
        let (Some(conflict), Some(wanted)) = (&report.conflict, &report.wanted) else { return };
        let task = self.task();
        let (first, second) = (self.taking(conflict), self.taking(wanted));
        self.step(&task, &first);
        self.broken(&task, &second);
    }

    fn edge(&mut self, edge: &Edge, broken: bool) {
        let task = self.task();
        let (from, to) = (&edge.from, &edge.to);
        // To the other rules an event is a lock like any other.
        let is_event = |lock: &LockName| lock.event && self.kind == ReportKind::Circular;
        let (from_event, to_event) = (is_event(&from.lock), is_event(&to.lock));
        let (first, second) = if from_event {
            (self.taking(to), format!("complete {}", self.declare(&from.lock, "event")))
        } else if to_event {
            (self.taking(from), format!("wait {}", self.declare(&to.lock, "event")))
        } else {
            (self.taking(from), self.taking(to))
        };
        self.step(&task, &first);
        if broken {
            self.broken(&task, &second);
        } else {
            self.step(&task, &second);
            for (lock, _) in
                [(&to.lock, to_event), (&from.lock, from_event)].iter().filter(|(_, event)| !event)
            {
                let name = self.lock(lock);
                self.step(&task, &format!("unlock {name}"));
            }
        }
    }

    /// Dependencies learned with interrupts off, so that they say nothing about usage; the new one last.
    fn quiet_edges(&mut self, edges: &[Edge]) {
        for broken in [false, true] {
            for edge in edges.iter().filter(|edge| edge.new == broken) {
                let task = format!("t{}", self.tasks + 1);
                self.step(&task, "irq_off");
                self.edge(edge, broken);
            }
        }
    }

    /// The two states that are at odds; the one made by the finding itself last.
    fn usages(&mut self, report: &Report, broken: bool) {
        let [inside, enabled] = report.usages.as_slice() else { return };
        let made_by = |used: &Used| {
            report.wanted.as_ref().is_some_and(|wanted| {
                (&wanted.lock.class, &wanted.site) == (&used.by.lock.class, &used.by.site)
            })
        };
        if made_by(inside) && !made_by(enabled) {
            self.usage(enabled, false);
            self.usage(inside, broken);
        } else {
            self.usage(inside, false);
            self.usage(enabled, broken);
        }
    }

    fn usage(&mut self, used: &Used, broken: bool) {
        let task = self.task();
        let take = self.taking(&used.by);
        let section = match used.state.as_str() {
            state if state.starts_with("IN-HARDIRQ") => Some("hardirq {"),
            state if state.starts_with("IN-SOFTIRQ") => Some("softirq {"),
            _ => None,
        };
        if let Some(section) = section {
            self.step(&task, section);
        }
        if broken {
            self.broken(&task, &take);
        } else {
            self.step(&task, &take);
        }
        let name = self.lock(&used.by.lock);
        self.step(&task, &format!("unlock {name}"));
        if section.is_some() {
            self.step(&task, "}");
        }
    }

    fn wait_context(&mut self, report: &Report) {
        let Some(wanted) = &report.wanted else { return };
        let kind = |lock: &LockName| match lock.waits {
            Some((_, 2)) => "raw_spin",
            Some((_, 3)) => "spin",
            _ => "mutex",
        };
        let task = self.task();
        let name = self.declare(&wanted.lock, kind(&wanted.lock));
        match &report.conflict {
            Some(conflict) => {
                let below = self.declare(&conflict.lock, kind(&conflict.lock));
                self.step(&task, &take(conflict, &below));
                self.broken(&task, &take(wanted, &name));
            }
            None => {
                let section = if kind(&wanted.lock) == "mutex" { "hardirq {" } else { "hardirq raw {" };
                self.step(&task, section);
                self.broken(&task, &take(wanted, &name));
                self.step(&task, "}");
            }
        }
    }

    fn all_held(&mut self, report: &Report, end: &str) {
        let task = self.task();
        for held in &report.held {
            let take = self.taking(held);
            self.step(&task, &take);
        }
        self.broken(&task, end);
    }

    fn depth(&mut self, locks: usize) {
        let task = self.task();
        for i in 0..locks {
            let name = format!("l{i}");
            self.locks.push((name.clone(), name.clone(), "map"));
            let op = format!("lock {name}");
            if i + 1 == locks { self.broken(&task, &op) } else { self.step(&task, &op) }
        }
    }

    /// The shortest way to each misuse; how it really came about is not in the report.
    fn ww_api(&mut self, report: &Report) {
        let (Some(wanted), Some(misuse)) = (&report.wanted, report.misuse) else { return };
        let class = word(&wanted.lock.class);
        let class = class.strip_suffix("_acquire").unwrap_or(&class);
        // One context that is told to back off at `o2`, and holds `o` then.
        let told = "u: ctx older\nu: lock o2 ctx=older\nu: lock o3 ctx=older\nt: ctx c\nt: lock o ctx=c\nt: lock o2 ctx=c\n";
        let (before, last) = match misuse {
            WwMisuse::StaleContext => {
                ("t: ctx c\nt: lock o ctx=c\nt: ctx other class=other\n", "try o ctx=other")
            }
            WwMisuse::AfterDone => ("t: ctx c\nt: done c\n", "lock o ctx=c"),
            WwMisuse::WrongLock => (told, "lock o4 ctx=c"),
            WwMisuse::StillHolding => (told, "slow o2 ctx=c"),
            WwMisuse::WrongClass => ("t: ctx c class=other\n", "lock o ctx=c"),
            WwMisuse::IgnoredBackOff => (told, "lock o3 ctx=c"),
            WwMisuse::UnneededSlow => ("t: ctx c\n", "slow o ctx=c"),
            // The count goes wrong because another task begins the context anew.
            WwMisuse::Unbalanced => ("t: ctx c\nt: lock o ctx=c\nu: ctx c\n", "unlock o"),
            WwMisuse::FiniHolding => ("t: ctx c\nu: ctx c\nu: lock o ctx=c\n", "fini c"),
            WwMisuse::DoneTwice => ("t: ctx c\nt: done c\n", "done c"),
            WwMisuse::Destroyed => ("t: free o\n", "lock o"),
            WwMisuse::DestroyedLocked => ("u: lock o\n", "free o"),
        };
        let used =
            |name: &&str| before.lines().chain([last]).any(|line| line.split(' ').any(|word| word == *name));
        for name in ["o", "o2", "o3", "o4"].iter().filter(|name| used(name)) {
            self.locks.push(((*name).to_owned(), class.to_owned(), "ww"));
        }
        for line in before.lines() {
            let own = line.contains(": ctx ") && !line.contains("class=");
            let _ =
                writeln!(self.steps, "{line}{}", if own { format!(" class={class}") } else { String::new() });
        }
        self.broken("t", last);
    }

    /// The class goes away while a lock is held, or before one is taken.
    fn key(&mut self, report: &Report) {
        let Some(wanted) = &report.wanted else { return };
        let task = self.task();
        let name = self.lock(&wanted.lock);
        let unregister = format!("unregister {}", word(split_subclass(&wanted.lock.class).0));
        if let Some(conflict) = &report.conflict {
            self.step(&task, &take(conflict, &name));
            self.broken(&task, &unregister);
        } else {
            let lock = format!("lock {name}");
            self.step(&task, &lock);
            self.step(&task, &format!("unlock {name}"));
            self.step(&task, &unregister);
            self.broken(&task, &lock);
        }
    }

    /// The shortest way to a misused pin; how it really came about is not in the report.
    fn pin(&mut self, report: &Report) {
        let Some(wanted) = &report.wanted else { return };
        let task = self.task();
        let name = self.lock(&wanted.lock);
        let Some(conflict) = &report.conflict else { return self.broken(&task, &format!("pin {name}")) };
        self.step(&task, &take(conflict, &name));
        self.step(&task, &format!("pin {name}"));
        self.broken(&task, &format!("unlock {name}"));
    }

    /// The rules that are about one lock and, perhaps, how it is held.
    fn one_lock(&mut self, report: &Report) {
        let Some(wanted) = &report.wanted else { return };
        let task = self.task();
        let name = self.lock(&wanted.lock);
        if let Some(conflict) = &report.conflict {
            self.step(&task, &take(conflict, &name));
        }
        let op = match (report.kind, report.asserted) {
            (ReportKind::Balance, _) => format!("unlock {name}"),
            (ReportKind::Freed, _) => format!("free {name}"),
            (ReportKind::Rcu, _) => format!("rcu {name}"),
            (ReportKind::Subclass, _) => format!("lock {name} sub={SUBCLASSES}"),
            (ReportKind::AssertNotHeld, _) => format!("assert_not_held {name}"),
            (ReportKind::AssertHeld, Some(HeldAs::Read)) => format!("assert_read {name}"),
            (ReportKind::AssertHeld, Some(HeldAs::Write)) => format!("assert_write {name}"),
            (ReportKind::AssertHeld, _) => format!("assert_held {name}"),
            _ => {
                self.locks.push(("nest".to_owned(), "nest".to_owned(), "map"));
                format!("{} nest=nest", take(wanted, &name))
            }
        };
        self.broken(&task, &op);
    }
}

/// A class name without its subclass, and the subclass.
fn split_subclass(class: &str) -> (&str, Option<&str>) {
    match class.rsplit_once('/') {
        Some((name, subclass)) if matches!(subclass.as_bytes(), [b'1'..=b'7']) => (name, Some(subclass)),
        _ => (class, None),
    }
}

/// A class name as one word of the language.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || ":,=#{}@".contains(c) { '_' } else { c }).collect()
}

fn take(acquired: &Acquired, name: &str) -> String {
    let verb = match (acquired.mode, acquired.trylock) {
        (Mode::Write, false) => "lock",
        (Mode::Write, true) => "try",
        (Mode::Read, false) => "read",
        (Mode::Read, true) => "tryread",
        (Mode::RecursiveRead, false) => "read!",
        (Mode::RecursiveRead, true) => "tryread!",
        (Mode::Upgradable, false) => "upread",
        (Mode::Upgradable, true) => "tryupread",
    };
    match split_subclass(&acquired.lock.class).1 {
        Some(subclass) => format!("{verb} {name} sub={subclass}"),
        None => format!("{verb} {name}"),
    }
}
