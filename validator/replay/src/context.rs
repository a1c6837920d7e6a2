// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which context an event happened.
//!
//! The flags column says it. Where there is none (`perf script`, `trace-cmd report`), the events that bracket an
//! interrupt on each CPU say it, and `irq_enable`/`irq_disable` whether hard interrupts are on; what is not recorded
//! stays unknown.
//!
//! *The end of a hard interrupt.* The kernel clears the context column a little before its lockdep does. Events of a
//! task that still has interrupts off after an event in an interrupt, with no switch of interrupts or of tasks on
//! that CPU between them, belong to the interrupt.

use rustc_hash::FxHashMap;

use crate::ftrace::{Level, Op, Record};
use crate::tasks::TaskKey;

/// Which interrupts may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Irqs {
    pub(crate) hard: bool,
    pub(crate) soft: bool,
}

/// The context of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Where {
    pub(crate) level: Level,
    pub(crate) irqs: Option<Irqs>,
    /// A reader of a queued rwlock overtakes a waiting writer here.
    pub(crate) in_interrupt: bool,
}

/// What is known about each CPU.
#[derive(Debug, Default)]
pub(crate) struct Cpus {
    cpus: FxHashMap<u32, Cpu>,
}

#[derive(Debug, Default)]
struct Cpu {
    /// The task whose interrupt is not known to have ended.
    tail: Option<TaskKey>,
    /// Without flags: brackets open.
    hard: u32,
    soft: u32,
    /// Without flags: what the last switch said.
    irqs_on: Option<bool>,
}

impl Cpus {
    /// Says where an event of this task happened.
    pub(crate) fn locate(&mut self, key: TaskKey, record: &Record<'_>, op: &Op<'_>) -> Where {
        let cpu = self.cpus.entry(record.cpu).or_default();
        let mut at = match record.flags {
            Some(flags) => Where {
                level: flags.level(),
                irqs: Some(Irqs { hard: flags.hard_on(), soft: flags.soft_on() }),
                in_interrupt: flags.in_interrupt(),
            },
            None => cpu.bracketed(record, op),
        };
        let irqs_on = at.irqs.is_none_or(|irqs| irqs.hard);
        let switched = matches!(op, Op::IrqEnable { .. } | Op::IrqDisable | Op::Switch);
        if at.level != Level::Task {
            cpu.tail = Some(key);
        } else if cpu.tail == Some(key) && !irqs_on && !switched {
            at.level = Level::HardIrq;
        } else {
            cpu.tail = None;
        }
        if let Some(irqs) = at.irqs.as_mut().filter(|_| at.level != Level::Task) {
            irqs.soft = false;
        }
        at
    }

    /// Events are missing.
    pub(crate) fn forget(&mut self) {
        self.cpus.clear();
    }
}

impl Cpu {
    fn bracketed(&mut self, record: &Record<'_>, op: &Op<'_>) -> Where {
        let bracket = Bracket::of(record.event);
        match (op, bracket) {
            (_, Some(Bracket { hard: true, enter: true })) => self.hard += 1,
            (_, Some(Bracket { hard: false, enter: true })) => self.soft += 1,
            (Op::IrqDisable, _) => self.irqs_on = Some(false),
            _ => {}
        }
        let level = match (self.hard > 0, self.soft > 0) {
            (false, false) => Level::Task,
            (false, true) => Level::SoftIrq,
            (true, false) => Level::HardIrq,
            (true, true) => Level::HardInSoft,
        };
        let hard = self.irqs_on.map(|on| on && self.hard == 0);
        match (op, bracket) {
            (_, Some(Bracket { hard: true, enter: false })) => self.hard = self.hard.saturating_sub(1),
            (_, Some(Bracket { hard: false, enter: false })) => self.soft = self.soft.saturating_sub(1),
            (Op::IrqEnable { .. }, _) => self.irqs_on = Some(true),
            _ => {}
        }
        // Whether bottom halves are on is not recorded.
        let irqs = hard.map(|hard| Irqs { hard, soft: false });
        Where { level, irqs, in_interrupt: level != Level::Task }
    }
}

/// The begin or end of an interrupt.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    hard: bool,
    enter: bool,
}

impl Bracket {
    fn of(event: &[u8]) -> Option<Self> {
        let (name, enter) = match event.strip_suffix(b"_entry") {
            Some(name) => (name, true),
            None => (event.strip_suffix(b"_exit")?, false),
        };
        let hard = match name {
            b"softirq" => false,
            b"irq_handler"
            | b"local_timer"
            | b"reschedule"
            | b"call_function"
            | b"call_function_single"
            | b"irq_work"
            | b"x86_platform_ipi"
            | b"error_apic"
            | b"spurious_apic"
            | b"thermal_apic"
            | b"threshold_apic"
            | b"deferred_error_apic"
            | b"ipi" => true,
            _ => return None,
        };
        Some(Bracket { hard, enter })
    }
}
