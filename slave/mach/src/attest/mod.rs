//! Attestations of a build: provenance and bills of materials.
//!
//! ```text
//! RUN-DIR | PACKAGE ──find──▶ record.json ──check──▶ Attested ──▶ provenance | SPDX | CycloneDX ──▶ JSON
//! ```
//!
//! Two builds of the same inputs give the same statement byte for byte: no clock, no random number, no
//! path of this slave goes into one, and the keys of its objects are in the order of their bytes. What
//! is true of one run only, its name and its times, is there when it is asked for.
//! `etc/doc/PROVENANCE.md` describes every field.
//!
//! Architecture invariant: a statement is made of the record and of files that have just been compared
//! with it; a file that is no longer what its record says is not attested.

mod cyclonedx;
mod find;
mod license;
mod provenance;
mod purl;
mod spdx;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use mach_core::error::{Error, OnPath};
use mach_run::area::Area;
use serde_json::Value;

use crate::record::Record;

/// Prefix of our URIs; `etc/doc/PROVENANCE.md` defines each.
const URI: &str = "urn:djinni:mach";

/// A build record whose files were compared with their digests.
#[derive(Debug, Clone, PartialEq)]
pub struct Attested {
    /// Its record.
    pub record: Record,
    /// Headers of its packages, by file name.
    pub headers: BTreeMap<String, Header>,
}

/// Header fields of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// One line.
    pub summary: Option<String>,
    /// As its maker wrote it.
    pub license: Option<String>,
    /// Home page.
    pub homepage: Option<String>,
    /// Build time that its header states: seconds since 1970.
    pub build_time: Option<u64>,
}

/// Forms of a bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3.
    Spdx,
    /// CycloneDX 1.6.
    CycloneDx,
}

/// The provenance of a build: an in-toto statement with SLSA's predicate. `of_this_run`: add the
/// name and the times of the run.
pub fn provenance(area: &Area, what: &str, of_this_run: bool) -> Result<String, Error> {
    let (directory, attested) = find::find(area, what)?;
    text(&directory, &provenance::statement(&attested, of_this_run))
}

/// The bill of materials of a build.
pub fn bill(area: &Area, what: &str, format: Format) -> Result<String, Error> {
    let (directory, attested) = find::find(area, what)?;
    let document = match format {
        Format::Spdx => spdx::document(&attested),
        Format::CycloneDx => cyclonedx::document(&attested),
    };
    text(&directory, &document)
}

/// The document as text, without the last line feed.
fn text(directory: &Path, document: &Value) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(document).map_err(std::io::Error::from);
    text.on("describe the build in", directory)
}

impl Attested {
    /// The moment that documents carry: the one that the packages do, seconds since 1970.
    fn moment(&self) -> u64 {
        let newest = || self.headers.values().filter_map(|header| header.build_time).max();
        self.record.source_date_epoch.or_else(newest).unwrap_or(0)
    }
}
