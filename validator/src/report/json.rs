// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report as a JSON value: kind, severity, signature, summary, edges (both sides), held, text.

use serde_json::{Value, json};

use super::model::{Acquired, Edge, Report, Stack, Used};

impl Report {
    /// The report as one JSON object. Field names are those of [`Report`] and stay as they are.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.name(),
            "severity": self.severity.name(),
            "tags": self.tags,
            "signature": self.signature,
            "summary": self.summary,
            "task": &*self.task,
            "certain": self.certain,
            "wanted": self.wanted.as_ref().map(acquired),
            "conflict": self.conflict.as_ref().map(acquired),
            "edges": self.edges.iter().map(edge).collect::<Vec<_>>(),
            "usages": self.usages.iter().map(used).collect::<Vec<_>>(),
            "held": self.held.iter().map(acquired).collect::<Vec<_>>(),
            "stack": self.stack.as_deref().map(stack),
            "help": self.help,
            "text": self.to_string(),
        })
    }
}

fn acquired(acquired: &Acquired) -> Value {
    let mut value = json!({
        "class": acquired.lock.class,
        "instance": format!("{:#x}", acquired.lock.instance.0),
        "usage": acquired.lock.usage,
        "mode": acquired.mode.to_string(),
        "trylock": acquired.trylock,
        "function": acquired.site.function,
        "place": acquired.site.place.to_string(),
        "task": &*acquired.task,
    });
    // Not there in most settings, and it would be in every lock.
    if let Some(frames) = &acquired.stack {
        value["stack"] = stack(frames);
    }
    value
}

fn edge(edge: &Edge) -> Value {
    json!({
        "from": acquired(&edge.from),
        "to": acquired(&edge.to),
        "new": edge.new,
        "stack": edge.stack.as_deref().map(stack),
    })
}

fn used(used: &Used) -> Value {
    json!({ "state": used.state, "by": acquired(&used.by), "stack": used.stack.as_deref().map(stack) })
}

fn stack(stack: &Stack) -> Value {
    stack.frames.iter().map(|frame| json!({ "function": frame.function, "place": frame.place })).collect()
}
