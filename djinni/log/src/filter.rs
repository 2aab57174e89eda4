//! Filter of log events: `--log info,stage=debug`.

use std::fmt;
use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// A level for everything, and other levels for single targets.
///
/// A target is an event's module path, such as `djinni_sys::stage`. A directive names one part of
/// it (`stage`) or several (`djinnid::worker`); the directive with the longest name wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    default: LevelFilter,
    /// Longest name first.
    directives: Vec<(String, LevelFilter)>,
}

/// Error in a filter. Displays as a sentence with the directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    directive: String,
    reason: &'static str,
}

impl Default for Filter {
    fn default() -> Self {
        Filter { default: LevelFilter::INFO, directives: Vec::new() }
    }
}

impl Filter {
    /// Whether an event of this target and level is written.
    pub fn allows(&self, target: &str, level: &Level) -> bool {
        let named = self.directives.iter().find(|(name, _)| is_part_of(name, target));
        *level <= named.map_or(self.default, |(_, limit)| *limit)
    }

    /// The most verbose level that any target may have.
    pub fn most_verbose(&self) -> LevelFilter {
        let all = self.directives.iter().map(|(_, level)| *level);
        all.chain([self.default]).max().unwrap_or(self.default)
    }
}

/// Whether `name` is one or several whole parts of the module path `target`.
fn is_part_of(name: &str, target: &str) -> bool {
    let wanted: Vec<&str> = name.split("::").collect();
    let parts: Vec<&str> = target.split("::").collect();
    parts.windows(wanted.len()).any(|window| window == wanted)
}

impl FromStr for Filter {
    type Err = FilterError;

    /// Parses directives separated by commas: `LEVEL` or `TARGET=LEVEL`.
    ///
    /// # Errors
    /// The first directive that is not valid, and the reason.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Filter::default();
        for directive in text.split(',').map(str::trim) {
            let wrong = |reason| FilterError { directive: directive.to_owned(), reason };
            match directive.split_once('=') {
                None => filter.default = level(directive).map_err(wrong)?,
                Some((name, text)) => {
                    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                    if name.is_empty() || !name.chars().all(is_path) {
                        return Err(wrong("the target is not a module path"));
                    }
                    filter.directives.push((name.to_owned(), level(text).map_err(wrong)?));
                }
            }
        }
        filter.directives.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(filter)
    }
}

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    match text {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warning" | "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("the level is not one of off, error, warning, info, debug, trace"),
    }
}

/// As it is parsed: a program passes its own filter on to one it starts.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |level: &LevelFilter| level.to_string().to_lowercase();
        write!(f, "{}", name(&self.default))?;
        self.directives
            .iter()
            .try_for_each(|(target, level)| write!(f, ",{target}={}", name(level)))
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FilterError { directive, reason } = self;
        write!(f, "{directive:?}: {reason}: write for example 'info,stage=debug'")
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().unwrap()
    }

    #[test]
    fn the_default_is_information_and_worse() {
        let plain = Filter::default();
        assert!(plain.allows("djinnid::daemon", &Level::INFO));
        assert!(!plain.allows("djinnid::daemon", &Level::DEBUG));
    }

    #[test]
    fn a_directive_holds_for_its_target_alone() {
        let one = filter("warning,stage=debug");
        assert!(one.allows("djinni_sys::stage", &Level::DEBUG));
        assert!(one.allows("djinni_sys::stage::slots", &Level::DEBUG));
        assert!(!one.allows("djinni_sys::stages", &Level::DEBUG));
        assert!(!one.allows("djinnid::worker", &Level::INFO));
        assert_eq!(one.most_verbose(), LevelFilter::DEBUG);
    }

    #[test]
    fn the_longest_directive_wins_in_any_order() {
        for text in ["worker=error,djinnid::worker=trace", "djinnid::worker=trace,worker=error"] {
            assert!(filter(text).allows("djinnid::worker::holds", &Level::TRACE), "{text}");
            assert!(!filter(text).allows("other::worker", &Level::WARN), "{text}");
        }
    }

    #[test]
    fn a_filter_is_displayed_as_it_is_parsed() {
        for text in ["info", "off", "warn,stage=debug", "error,a::b=trace,c=off"] {
            assert_eq!(filter(text).to_string(), text);
        }
    }

    #[test]
    fn a_wrong_directive_is_named() {
        for (text, part) in [
            ("loud", "\"loud\": the level"),
            ("", "\"\": the level"),
            ("info,stage=", "\"stage=\": the level"),
            ("info,=debug", "the target"),
            ("st age=debug", "the target"),
            ("info,stage=debug,\u{1b}[2J", "the level"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }
}
