// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be said about lock names, because the events do not say it.
//!
//! A name is a class. An annotation file says where that is not enough, one line for each name:
//!
//! ```text
//! # a comment
//! rcu_read_lock*: recursive-read, unchecked
//! &dentry->d_lock: subclass-on-nesting
//! reservation_ww_class_mutex: nest=reservation_ww_class_acquire
//! "name: with \"anything\" in it*": plain
//! order: read &mm->mmap_lock < fs_reclaim
//! ```
//!
//! | word | what it says |
//! |---|---|
//! | `recursive-read` | a `read` of it overtakes waiting writers (RCU, SRCU, seqcount readers) |
//! | `unchecked` | held and released, but subject to no order rule |
//! | `instance-class` | each static lock of the name is a class of its own (by address; others share the name) |
//! | `subclass-on-nesting` | taken while N others of the name are held, it is subclass N |
//! | `nest=NAME` | taken while a lock NAME is held, that one serialises it (a ww acquire context) |
//! | `plain` | none of these: takes back an earlier line |
//!
//! A name stands as the trace prints it, up to the last `: ` of the line; `*` at its start or end stands for
//! anything. In double quotes (`\"` and `\\` escaped) it is taken literally. The last line that fits a name
//! counts, and no other. `order:` declares an order that is known before the first event, as the kernel teaches
//! itself at boot; `read` and `read!` in front of a name make the hold shared and recursive.
//!
//! [`Annotations::builtin`] has what a Linux kernel needs.

use thiserror::Error;

use lockdep::Mode;

/// What is built in.
const BUILTIN: &str = include_str!("kernel.classes");

/// What one line says about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `recursive-read`
    pub recursive_read: bool,
    /// `unchecked`
    pub unchecked: bool,
    /// `instance-class`
    pub instance_class: bool,
    /// `subclass-on-nesting`
    pub subclass_on_nesting: bool,
    /// `nest=NAME`
    pub nest: Option<String>,
}

/// A declared order: names, outermost first, each with the mode of the hold.
pub type Order = Vec<(Mode, String)>;

/// A name, or what its start or end must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    open_start: bool,
    open_end: bool,
}

/// Everything that was said, in order.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    rules: Vec<(Pattern, Rule)>,
    orders: Vec<Order>,
}

/// Why a line of an annotation file is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct AnnotationError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: AnnotationReason,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnnotationReason {
    /// No separator.
    #[error("`NAME: WORD, WORD…` or `order: NAME < NAME…` expected")]
    Form,
    /// A word nobody knows.
    #[error(
        "unknown word `{0}`: recursive-read, unchecked, instance-class, subclass-on-nesting, nest=NAME or \
         plain expected"
    )]
    Word(String),
    /// A name that is empty.
    #[error("a name is missing")]
    NoName,
    /// A quote without its end.
    #[error("the closing quote of the name is missing")]
    Quote,
    /// An order of one.
    #[error("an order needs two names at least, with ` < ` between them")]
    ShortOrder,
    /// An order in a circle.
    #[error("`{0}` stands in this order twice")]
    Twice(String),
}

impl Annotations {
    /// Nothing is said: each name is a class, each read an ordinary one.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What a Linux kernel needs; see `kernel.classes` in the source of this crate.
    #[must_use]
    pub fn builtin() -> Self {
        let mut annotations = Self::none();
        if let Err(error) = annotations.add(BUILTIN) {
            unreachable!("the built-in annotations are wrong: {error}");
        }
        annotations
    }

    /// Adds the lines of a file to what was said before.
    ///
    /// # Errors
    /// If a line is wrong. Lines before it are added.
    pub fn add(&mut self, text: &str) -> Result<(), AnnotationError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                self.line(line).map_err(|reason| AnnotationError { line: index + 1, reason })?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), AnnotationReason> {
        if let Some(order) = line.strip_prefix("order:") {
            self.orders.push(parse_order(order)?);
            return Ok(());
        }
        let (pattern, words) = if line.starts_with('"') { quoted(line)? } else { bare(line)? };
        self.rules.push((pattern, parse_words(words)?));
        Ok(())
    }

    /// What is said about a name.
    #[must_use]
    pub fn rule(&self, name: &str) -> Rule {
        let fits = self.rules.iter().rev().find(|(pattern, _)| pattern.fits(name));
        fits.map(|(_, rule)| rule.clone()).unwrap_or_default()
    }

    /// The declared orders.
    #[must_use]
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }
}

impl Pattern {
    fn fits(&self, name: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => name == self.text,
            (false, true) => name.starts_with(&self.text),
            (true, false) => name.ends_with(&self.text),
            (true, true) => name.contains(&self.text),
        }
    }
}

fn bare(line: &str) -> Result<(Pattern, &str), AnnotationReason> {
    // A name may have `: ` in it, the words have not.
    let (name, words) = line.rsplit_once(": ").ok_or(AnnotationReason::Form)?;
    let name = name.trim_end();
    let (open_start, name) = name.strip_prefix('*').map_or((false, name), |rest| (true, rest));
    let (open_end, name) = name.strip_suffix('*').map_or((false, name), |rest| (true, rest));
    if name.is_empty() {
        return Err(AnnotationReason::NoName);
    }
    Ok((Pattern { text: name.to_owned(), open_start, open_end }, words))
}

fn quoted(line: &str) -> Result<(Pattern, &str), AnnotationReason> {
    let mut text = String::new();
    let mut chars = line.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => text.push(chars.next().ok_or(AnnotationReason::Quote)?.1),
            '"' if text.is_empty() => return Err(AnnotationReason::NoName),
            '"' => {
                let words = line[at + 1..].strip_prefix(':').ok_or(AnnotationReason::Form)?;
                return Ok((Pattern { text, open_start: false, open_end: false }, words));
            }
            _ => text.push(char),
        }
    }
    Err(AnnotationReason::Quote)
}

fn parse_words(words: &str) -> Result<Rule, AnnotationReason> {
    let mut rule = Rule::default();
    for word in words.split(',').map(str::trim) {
        match word {
            "recursive-read" => rule.recursive_read = true,
            "unchecked" => rule.unchecked = true,
            "instance-class" => rule.instance_class = true,
            "subclass-on-nesting" => rule.subclass_on_nesting = true,
            "plain" => {}
            _ => match word.strip_prefix("nest=") {
                Some("") => return Err(AnnotationReason::NoName),
                Some(nest) => rule.nest = Some(nest.to_owned()),
                None => return Err(AnnotationReason::Word(word.to_owned())),
            },
        }
    }
    Ok(rule)
}

fn parse_order(order: &str) -> Result<Order, AnnotationReason> {
    let mut items: Order = Vec::new();
    for item in order.split(" < ").map(str::trim) {
        let (mode, name) = if let Some(name) = item.strip_prefix("read! ") {
            (Mode::RecursiveRead, name)
        } else if let Some(name) = item.strip_prefix("read ") {
            (Mode::Read, name)
        } else {
            (Mode::Write, item)
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(AnnotationReason::NoName);
        }
        if items.iter().any(|(_, earlier)| earlier == name) {
            return Err(AnnotationReason::Twice(name.to_owned()));
        }
        items.push((mode, name.to_owned()));
    }
    if items.len() < 2 {
        return Err(AnnotationReason::ShortOrder);
    }
    Ok(items)
}
