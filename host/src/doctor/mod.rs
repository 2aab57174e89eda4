//! `bhost check`: finds problems of this host and names remedies. It changes nothing.

mod files;
mod ids;
mod kernel;
mod tools;

use std::fmt;

use djinni_plan::places::Places;
use serde::Serialize;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No problem.
    Ok,
    /// Some features do not work.
    Warning,
    /// Djinni does not work.
    Error,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// Subject of the check.
    pub subject: String,
    /// Result of the check.
    pub found: String,
    /// Remedy; empty if there is no problem.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(subject: impl fmt::Display, found: impl fmt::Display) -> Self {
        Finding::new(Level::Ok, subject, found, None)
    }

    fn warning(
        subject: impl fmt::Display,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Finding::new(Level::Warning, subject, found, Some(remedy.to_string()))
    }

    fn error(
        subject: impl fmt::Display,
        found: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Finding::new(Level::Error, subject, found, Some(remedy.to_string()))
    }

    fn new(
        level: Level,
        subject: impl fmt::Display,
        found: impl fmt::Display,
        remedy: Option<String>,
    ) -> Self {
        Finding { level, subject: subject.to_string(), found: found.to_string(), remedy }
    }
}

/// Runs all checks.
pub fn check(places: &Places) -> Vec<Finding> {
    let mut findings = kernel::findings(places);
    findings.extend(tools::findings());
    findings.extend(files::findings(places));
    findings
}
