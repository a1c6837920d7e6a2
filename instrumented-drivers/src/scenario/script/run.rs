// SPDX-License-Identifier: GPL-2.0-only
//! Runs the steps of a script, as a process that makes system calls.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use lockdep::litmus::ParseError;

use super::parse::{Act, Arg, Step, Then};
use super::value::Value;
use crate::user::Process;

/// A process at work, and what its names stand for.
pub(super) struct Task {
    process: Process,
    names: HashMap<String, Value>,
}

impl Task {
    pub(super) fn new(process: &Process) -> Self {
        Task { process: process.clone(), names: HashMap::new() }
    }

    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), ParseError> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), ParseError> {
        let error = |message| Err(ParseError { line: step.line, column: step.column, message });
        match &step.act {
            Act::Call { call, args, then } => {
                let args: Vec<Value> = args.iter().map(|arg| self.value(arg)).collect();
                match ((call.run)(&self.process, &args), then) {
                    (Ok(value), Then::Keep(name)) => {
                        self.names.insert(name.clone(), value);
                    }
                    (Ok(_), Then::Drop) => {}
                    (Err(refusal), Then::Fails(expected)) if refusal == *expected => {}
                    (Ok(_), Then::Fails(expected)) => {
                        return error(format!("`{}` succeeded; expected {expected}", call.name));
                    }
                    (Err(refusal), Then::Fails(expected)) => {
                        return error(format!("`{}` failed with {refusal}; expected {expected}", call.name));
                    }
                    (Err(refusal), _) => {
                        return error(format!(
                            "`{}` failed with {refusal}; expected it to succeed",
                            call.name
                        ));
                    }
                }
            }
            Act::Compare { name, with, equal } => {
                let (value, other) = (self.named(name), self.value(with));
                if (value == other) != *equal {
                    let not = if *equal { "" } else { "anything but " };
                    return error(format!("`{name}` is {value}; expected {not}{other}"));
                }
            }
            Act::For { name, numbers, body } => {
                for number in numbers.clone() {
                    self.names.insert(name.clone(), Value::Number(number));
                    self.run(body)?;
                }
            }
            Act::Fork(body) => {
                let (names, body) = (self.names.clone(), body.clone());
                let child =
                    self.process.fork(move |process| Task { process: process.clone(), names }.run(&body));
                return match child {
                    Ok(child) => child.wait(),
                    Err(errno) => {
                        error(format!("`fork` failed with {}; expected it to succeed", errno.name()))
                    }
                };
            }
        }
        Ok(())
    }

    fn value(&self, arg: &Arg) -> Value {
        match arg {
            Arg::Name(name) => self.named(name),
            Arg::Value(value) => value.clone(),
        }
    }

    fn named(&self, name: &str) -> Value {
        self.names
            .get(name)
            .cloned()
            .unwrap_or_else(|| unreachable!("the parser saw where `{name}` gets its value"))
    }
}
