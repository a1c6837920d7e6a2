// SPDX-License-Identifier: GPL-2.0-only
#![forbid(unsafe_code)]
//! What the GPU runs: chains of jobs in its memory. A program writes them into a buffer object, through its mapping,
//! and submits the GPU address of the first.
//!
//! A real job chain is of the same kind (a header with the address of the next job); what the jobs can do is ours.

/// Bytes of one job.
pub const JOB_SIZE: u64 = 64;

const OP: usize = 0;
const NEXT: usize = 8;
const TO: usize = 16;
const FROM: usize = 24;
const LEN: usize = 32;
/// Bytes of a job that mean something.
pub(super) const HEADER: usize = 40;

const NULL: u64 = 1;
const WRITE_VALUE: u64 = 2;
const COPY: u64 = 3;
const ADD: u64 = 4;
const GATE: u64 = 5;
const WEDGE: u64 = 6;

/// One job, read from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) op: Op,
    /// 0: it is the last.
    pub(super) next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Null,
    WriteValue { to: u64, value: u8, len: u64 },
    Copy { to: u64, from: u64, len: u64 },
    Add { to: u64, value: u8 },
    Gate(u64),
    Wedge,
}

impl Job {
    /// `None`: the GPU does not know such a job.
    pub(super) fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let (to, from, len) = (word(TO), word(FROM), word(LEN));
        let value = from.to_le_bytes()[0];
        let op = match word(OP) {
            NULL => Op::Null,
            WRITE_VALUE => Op::WriteValue { to, value, len },
            COPY => Op::Copy { to, from, len },
            ADD => Op::Add { to, value },
            GATE => Op::Gate(to),
            WEDGE => Op::Wedge,
            _ => return None,
        };
        Some(Job { op, next: word(NEXT) })
    }
}

/// A job chain under construction, for a given GPU address.
#[derive(Clone, Debug)]
pub struct JobChain {
    base: u64,
    bytes: Vec<u8>,
}

impl JobChain {
    /// An empty chain that will be written to this GPU address.
    #[must_use]
    pub const fn at(base: u64) -> Self {
        JobChain { base, bytes: Vec::new() }
    }

    fn job(mut self, op: u64, to: u64, from: u64, len: u64) -> Self {
        let here = self.base + self.bytes.len() as u64;
        if let Some(last) = self.bytes.len().checked_sub(JOB_SIZE as usize) {
            self.bytes[last + NEXT..last + NEXT + 8].copy_from_slice(&here.to_le_bytes());
        }
        let mut job = [0; JOB_SIZE as usize];
        for (at, word) in [(OP, op), (TO, to), (FROM, from), (LEN, len)] {
            job[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(&job);
        self
    }

    /// Does nothing.
    #[must_use]
    pub fn null(self) -> Self {
        self.job(NULL, 0, 0, 0)
    }

    /// Writes a value into `len` bytes.
    #[must_use]
    pub fn write(self, to: u64, value: u8, len: u64) -> Self {
        self.job(WRITE_VALUE, to, u64::from(value), len)
    }

    /// Copies `len` bytes.
    #[must_use]
    pub fn copy(self, to: u64, from: u64, len: u64) -> Self {
        self.job(COPY, to, from, len)
    }

    /// Adds to a 64-bit number in memory: reads it, and writes it back as a later, separate step.
    #[must_use]
    pub fn add(self, to: u64, value: u8) -> Self {
        self.job(ADD, to, u64::from(value), 0)
    }

    /// Waits until the test opens the gate of this number ([`open_gate`](super::Hw::open_gate)): a long job.
    #[must_use]
    pub fn gate(self, number: u64) -> Self {
        self.job(GATE, number, 0, 0)
    }

    /// Hangs in a way that only a reset of the GPU ends.
    #[must_use]
    pub fn wedge(self) -> Self {
        self.job(WEDGE, 0, 0, 0)
    }

    /// Makes the last job its own successor: the chain never ends, but can be stopped.
    #[must_use]
    pub fn forever(mut self) -> Self {
        if let Some(last) = self.bytes.len().checked_sub(JOB_SIZE as usize) {
            let address = self.base + last as u64;
            self.bytes[last + NEXT..last + NEXT + 8].copy_from_slice(&address.to_le_bytes());
        }
        self
    }

    /// What to write into memory.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER, JOB_SIZE, Job, JobChain, Op};

    fn jobs(chain: &JobChain) -> Vec<Option<Job>> {
        let size = usize::try_from(JOB_SIZE).unwrap();
        let headers =
            chain.bytes().chunks(size).map(|job| <&[u8; HEADER]>::try_from(&job[..HEADER]).unwrap());
        headers.map(Job::decode).collect()
    }

    #[test]
    fn a_chain_is_read_back_as_it_was_written() {
        let chain = JobChain::at(0x1000).write(7, 8, 9).copy(1, 2, 3).add(4, 5).gate(6).null();
        let expected = [
            Job { op: Op::WriteValue { to: 7, value: 8, len: 9 }, next: 0x1040 },
            Job { op: Op::Copy { to: 1, from: 2, len: 3 }, next: 0x1080 },
            Job { op: Op::Add { to: 4, value: 5 }, next: 0x10c0 },
            Job { op: Op::Gate(6), next: 0x1100 },
            Job { op: Op::Null, next: 0 },
        ];
        assert_eq!(jobs(&chain), expected.map(Some));
        let endless = jobs(&JobChain::at(0).null().wedge().forever());
        assert_eq!(endless[1], Some(Job { op: Op::Wedge, next: JOB_SIZE }), "its own successor");
    }

    #[test]
    fn zeroed_memory_is_no_job() {
        assert_eq!(Job::decode(&[0; HEADER]), None);
    }
}
