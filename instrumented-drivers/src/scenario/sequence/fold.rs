// SPDX-License-Identifier: GPL-2.0-only
//! Finds blocks that stand several times in a row, the shortest first, as the recorded sequences are folded.

/// Longer blocks are written out, even if they repeat: they are read as the life of another buffer.
const LONGEST: usize = 24;

/// Some steps, and how often they stand in a row.
pub(super) struct Block<'a, T> {
    pub(super) steps: &'a [T],
    pub(super) times: usize,
}

pub(super) fn blocks<T: PartialEq>(mut rest: &[T]) -> impl Iterator<Item = Block<'_, T>> {
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let folded = (1..=LONGEST.min(rest.len())).map(|length| {
            let times = rest.chunks_exact(length).take_while(|chunk| *chunk == &rest[..length]).count();
            (length, times)
        });
        let (length, times) = folded.into_iter().find(|(_, times)| *times > 1).unwrap_or((1, 1));
        let steps = &rest[..length];
        rest = &rest[length * times..];
        Some(Block { steps, times })
    })
}
