//! Fields of an event or a span as `key=value` text.

use std::fmt::Debug;

use tracing::field::{Field, Visit};

/// The message apart from the other fields.
#[derive(Debug, Default)]
pub struct Fields {
    message: String,
    pairs: Vec<(&'static str, String)>,
}

impl Fields {
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Names and values; values with blanks, quotes or `=` are in quotes.
    pub fn pairs(&self) -> &[(&'static str, String)] {
        &self.pairs
    }

    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        let is_plain = !value.is_empty() && !value.contains([' ', '"', '=', '\n', '\t']);
        let text = if is_plain { value.to_owned() } else { format!("{value:?}") };
        self.pairs.push((field.name(), text));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    /// Also for values recorded with `%`: their Debug is their Display.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, &format!("{value:?}"));
    }
}
