// SPDX-License-Identifier: MIT OR Apache-2.0
struct Mine;

impl lockdep::sync::Watched for Mine {
    fn __lockdep_map(&self) -> &lockdep::raw::LockMap {
        loop {}
    }
}

fn main() {}
