//! The index of a chain's packages, as apt reads one: `Packages`, and a `Release` that names it.

use std::fs::{self, File};
use std::path::Path;

use mach_core::deb::output;
use mach_core::digest;
use mach_core::distribution::CHAIN;
use mach_core::error::{Cause, Error, OnPath};
use mach_run::area::entries;
use mach_run::cells::{self, LAYER, Program, Streams};

use crate::context::Context;

const STANZA_LIMIT_BYTES: usize = 1 << 20;
/// Fields that only mach writes: a package's own are dropped.
const OURS: [&str; 5] = ["Filename", "Size", "SHA256", "MD5sum", "Status"];

/// Writes the index of all packages in `repository`, a directory of a chain.
///
/// Reads a package's control data in a cell, as a build has made it.
pub fn make(context: &Context<'_>, repository: &Path) -> Result<(), Error> {
    let mut text = String::new();
    for path in entries(repository)? {
        if path.extension().is_some_and(|extension| extension == "deb") {
            text += &stanza(context, &path)?;
        }
    }
    let packages = repository.join("Packages");
    fs::write(&packages, &text).on("write", &packages)?;
    let (sha256, size) = (digest::of_bytes(text.as_bytes()), text.len());
    let release = repository.join("Release");
    // apt wants a date; nothing depends on it.
    let date = "Sat, 01 Jan 2000 00:00:00 UTC";
    let text = format!(
        "Origin: {CHAIN}\nLabel: {CHAIN}\nDate: {date}\nSHA256:\n {sha256} {size} Packages\n"
    );
    fs::write(&release, text).on("write", &release)
}

/// A package's fields, with those by which apt finds it.
fn stanza(context: &Context<'_>, path: &Path) -> Result<String, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fields = fields(context, path)?;
    let mut file = File::open(path).on("open", path)?;
    let (sha256, size) = digest::of_reader(&mut file).on("read", path)?;
    Ok(format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sha256}\n\n", judged(&fields)))
}

/// The control fields of a package, as `dpkg-deb --field` prints them.
pub fn fields(context: &Context<'_>, path: &Path) -> Result<String, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refuse = |why: &str| {
        let what = format!("{name} is not a usable package: {why}");
        Error::new(
            Cause::Install,
            what,
            "correct debian/rules and debian/control; root.log has the details",
        )
    };
    let skeleton = context.run.path.join("reader");
    if !skeleton.exists() {
        cells::make_skeleton(&skeleton, &[])?;
    }
    let said = context.run.path.join("fields");
    let out = File::create(&said).on("create", &said)?;
    let shown = path.parent().unwrap_or(path);
    let cell = cells::reader(&skeleton, shown);
    let program =
        Program::as_root(["/usr/bin/dpkg-deb", "--field", &format!("{LAYER}/{name}")], cells::HOME);
    let streams = Streams::Files { out, err: context.open_root_log()? };
    let ended = cells::run(cell, &program, streams, &mut || ())?;
    let text = fs::read(&said).on("read", &said)?;
    if ended.status != 0 || text.len() > STANZA_LIMIT_BYTES {
        return Err(refuse("dpkg-deb cannot read it"));
    }
    let text = String::from_utf8(text).map_err(|_| refuse("its fields are not UTF-8"))?;
    match nevra_of(&text) {
        Some(nevra)
            if name.rsplit_once('.').map(|(stem, _)| stem) == Some(&without_epoch(&nevra)) =>
        {
            Ok(text)
        }
        Some(nevra) => Err(refuse(&format!("its control file names it {nevra}"))),
        None => Err(refuse("it has no name, version or architecture")),
    }
}

/// Name, version and architecture, joined by `_`, of a package's fields.
pub fn nevra_of(fields: &str) -> Option<String> {
    let field = |name: &str| {
        fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    };
    let nevra = format!("{}_{}_{}", field("Package")?, field("Version")?, field("Architecture")?);
    output::parts(&nevra).map(|_| nevra.clone())
}

/// Name of a package as it stands in a file's name.
fn without_epoch(nevra: &str) -> String {
    match output::parts(nevra) {
        Some((name, version, arch)) => {
            let version = version.split_once(':').map_or(version, |(_, version)| version);
            format!("{name}_{version}_{arch}")
        }
        None => String::new(),
    }
}

/// Fields without an empty line, which would begin another package, and without those that are ours.
fn judged(fields: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut dropping = false;
    for line in fields.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap_or_default();
            dropping = OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        }
        if !dropping {
            kept.push(line);
        }
    }
    kept.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FIELDS: &str = "Package: libx1\nVersion: 1:2-3\nArchitecture: amd64\nfilename: /etc/passwd\n \
                          more\nDescription: x\n y\n\nPackage: libc6\nSHA256: 00\n";

    #[test]
    fn a_package_cannot_speak_for_another() {
        let text = judged(FIELDS);
        assert!(!text.contains("\n\n") && !text.contains("passwd") && !text.contains("SHA256"));
        assert!(text.contains("Description: x\n y"));
    }

    #[test]
    fn a_name_is_read() {
        assert_eq!(nevra_of(FIELDS).unwrap(), "libx1_1:2-3_amd64");
        assert_eq!(without_epoch("libx1_1:2-3_amd64"), "libx1_2-3_amd64");
        assert_eq!(nevra_of("Package: ../x\nVersion: 1\nArchitecture: all\n"), None);
    }
}
