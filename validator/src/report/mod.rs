// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: findings as data ([`model`]), and their renderings (text, JSON, source lines).
//!
//! Invariant: nothing here decides anything. A renderer sees a [`model::Report`] and no engine state.

pub mod model;

#[cfg(feature = "lockdep")]
mod json;
#[cfg(feature = "lockdep")]
mod source;
mod text;

#[cfg(feature = "lockdep")]
pub use source::WithSources;
