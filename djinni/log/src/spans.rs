//! Spans of a process: their fields, their reference counts, and the entered ones.

use std::collections::BTreeMap;

use crate::fields::Fields;

/// Numbers of spans are never used again.
#[derive(Debug, Default)]
pub struct Spans {
    last: u64,
    open: BTreeMap<u64, Open>,
    /// Outermost first.
    entered: Vec<u64>,
}

#[derive(Debug)]
struct Open {
    fields: Fields,
    holders: usize,
}

impl Spans {
    /// Number of the new span; its reference count is 1.
    pub fn add(&mut self, fields: Fields) -> u64 {
        self.last += 1;
        self.open.insert(self.last, Open { fields, holders: 1 });
        self.last
    }

    pub fn get(&mut self, number: u64) -> Option<&mut Fields> {
        self.open.get_mut(&number).map(|open| &mut open.fields)
    }

    pub fn enter(&mut self, number: u64) {
        self.entered.push(number);
    }

    pub fn exit(&mut self, number: u64) {
        if let Some(at) = self.entered.iter().rposition(|entered| *entered == number) {
            self.entered.remove(at);
        }
    }

    pub fn hold(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.holders += 1;
        }
    }

    /// Decrements the reference count; true when it reached 0 and the span is closed.
    pub fn release(&mut self, number: u64) -> bool {
        let Some(open) = self.open.get_mut(&number) else { return false };
        open.holders = open.holders.saturating_sub(1);
        open.holders == 0 && self.open.remove(&number).is_some()
    }

    /// Fields of the spans that are entered, innermost first.
    pub fn entered(&self) -> impl Iterator<Item = &(&'static str, String)> {
        let spans = self.entered.iter().rev().filter_map(|number| self.open.get(number));
        spans.flat_map(|open| open.fields.pairs())
    }
}
