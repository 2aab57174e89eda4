//! Results on standard output: for people, or as JSON.

use serde::Serialize;

use crate::archive::ArchiveUpdate;
use crate::doctor::{Finding, Level};
use crate::image::{BuiltImage, ImageCheck, ImageEntry};
use crate::master::MasterStatus;

/// Prints `value` as JSON, or as formatted by `text`.
fn print<T: Serialize + ?Sized>(value: &T, json: bool, text: impl FnOnce(&T) -> String) {
    let output = match json {
        // It cannot fail: our types have no maps with keys other than strings.
        true => {
            let document = serde_json::to_string_pretty(value).unwrap_or_default();
            slave_api::printable_json(&document) + "\n"
        }
        false => slave_api::printable_lines(&text(value)),
    };
    write(output.as_bytes());
}

/// Writes results to standard output; a closed pipe (`| head`) has ended us by SIGPIPE.
pub fn write(output: &[u8]) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(output);
}

/// Result of an image build.
pub fn built(built: &BuiltImage, json: bool) {
    print(built, json, |built| {
        format!(
            "{}  {}  {}  {}\n",
            built.name,
            built.file.display(),
            mebibytes(Some(built.size_bytes)),
            built.digest
        )
    });
}

/// Additions to a share; failed sources also go to standard error.
pub fn added(added: &ArchiveUpdate, json: bool) {
    for one in &added.failed {
        eprintln!("bhost: {}: not added: {}", one.source, one.why);
    }
    print(added, json, |added| {
        let mut text = String::new();
        for one in &added.sources {
            text += &format!("{}\n", added.directory.join("sources").join(&one.file).display());
        }
        text
    });
}

/// All images.
pub fn images(images: &[ImageEntry], json: bool) {
    print(images, json, |images| {
        let rows = images.iter().map(|image| {
            let users =
                if image.used_by.is_empty() { "-".into() } else { image.used_by.join(", ") };
            let size = mebibytes(image.size_bytes);
            [image.name.clone(), image.format.into(), size, users, image.file.display().to_string()]
        });
        table(["NAME", "FORMAT", "SIZE", "USED BY", "FILE"], rows)
    });
}

/// Results of a verification.
pub fn verdicts(verdicts: &[ImageCheck], json: bool) {
    print(verdicts, json, |verdicts| {
        let line = |verdict: &ImageCheck| {
            format!(
                "{}: {}: {}\n",
                verdict.name,
                if verdict.good { "good" } else { "BAD" },
                verdict.finding
            )
        };
        verdicts.iter().map(line).collect()
    });
}

/// Findings of `bhost check`.
pub fn findings(findings: &[Finding], json: bool) {
    print(findings, json, |findings| {
        let line = |finding: &Finding| {
            let level = match finding.level {
                Level::Ok => "ok     ",
                Level::Warning => "WARNING",
                Level::Error => "ERROR  ",
            };
            let remedy = finding.remedy.as_ref().map(|remedy| format!("\n         -> {remedy}"));
            format!(
                "{level}  {}: {}{}\n",
                finding.subject,
                finding.found,
                remedy.unwrap_or_default()
            )
        };
        findings.iter().map(line).collect()
    });
}

/// The status of a master.
pub fn standing(standing: &MasterStatus, json: bool) {
    print(standing, json, |standing| {
        let container = match (standing.running, standing.answers) {
            (false, _) => "not running",
            (true, false) => "running, but bmaster does not answer",
            (true, true) => "running",
        };
        let mut text = format!("{}: {container}; djinnid: {}\n", standing.name, standing.djinnid);
        for session in &standing.sessions {
            let command = slave_api::printable(&session.command_line, COMMAND_LIMIT_CHARS);
            let user = slave_api::printable(&session.user, COMMAND_LIMIT_CHARS);
            text += &format!("  {}: {user}: {command}\n", session.slave);
        }
        let log = standing.log.iter().map(|log| format!("  log: {}\n", log.display()));
        text + &log.collect::<String>()
    });
}

const COMMAND_LIMIT_CHARS: usize = 80;

fn mebibytes(size_bytes: Option<u64>) -> String {
    size_bytes.map_or("missing".into(), |bytes| format!("{} MiB", bytes >> 20))
}

/// Rows under a heading, each column as wide as its widest cell.
fn table<const N: usize>(heading: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "long".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(table(["X", "Y"], rows.into_iter()), "X    Y\na    long\nbcd\n");
    }
}
