// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: findings as data ([`model`]), and their renderings (text, JSON).
//!
//! Invariant: nothing here decides anything. A renderer sees a [`model::Report`] and no engine state.

pub mod model;

#[cfg(feature = "lockdep")]
mod json;
mod text;
