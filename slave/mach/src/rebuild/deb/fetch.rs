//! Fetches a `.dsc` that is given as a URL, with all its files.

use std::fs;
use std::path::Path;

use mach_core::deb::dsc::{self, Dsc, SourceFile};
use mach_core::digest;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Network;
use mach_core::options::Options;
use mach_core::repo::checksum::{Algorithm, Checksum};
use mach_core::repo::url::Url;
use mach_core::repo::url::is_url;
use mach_run::area::Area;
use mach_run::download::{self, Expect};
use mach_run::progress::Progress;

use crate::source;

/// The source package at a path or a URL (`URL#sha256:HEX`), read and checked. What comes from a URL
/// is kept in the area's cache; the files are held to the digests in the `.dsc`.
pub fn source_package(area: &Area, options: &Options, given: &str) -> Result<Dsc, Error> {
    if !is_url(given) {
        return source::deb::read(Path::new(given));
    }
    let usage = |why: String| {
        Error::new(Cause::Usage, why, "give a path, or a URL such as https://HOST/x_1-1.dsc")
    };
    let url = Url::parse(given).map_err(usage)?;
    let name = url.file_name().filter(|name| mach_core::rpm::source::is_plain(name));
    let name = name.ok_or_else(|| usage(format!("{url} does not end in the name of a .dsc")))?;
    let key: String = digest::of_bytes(url.as_str().as_bytes()).chars().take(16).collect();
    let directory = area.cache().join("sources").join(key);
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let path = directory.join(name);
    let network = if options.offline { Network::Offline } else { Network::Allowed };
    let mut expect = Expect::new(Cause::Source, dsc::DSC_LIMIT_BYTES);
    expect.checksums.extend(url.checksum().cloned());
    let is_known = !expect.checksums.is_empty() || options.offline;
    let progress = Progress::new(name);
    if !(is_known && path.exists() && download::check_file(&path, &expect).is_ok()) {
        demand_digest(&url, &expect)?;
        let phase = progress.phase("fetch");
        let fetched = download::download(&url, &path, &expect, network, &mut |_| phase.tick())?;
        phase.end(format!("{} bytes from {}", fetched.size_bytes, url.host()));
    }
    let bytes = fs::read(&path).on("read", &path)?;
    let refuse = |why: String| {
        let what = format!("{url} is not a usable source package: {why}");
        Error::new(Cause::Source, what, "is it the URL of the .dsc itself?")
    };
    for file in dsc::parse(&bytes, &path).map_err(refuse)?.files {
        fetch_beside(&url, &file, &directory, network, &progress)?;
    }
    source::deb::read(&path)
}

/// A file from an unauthenticated URL is accepted only with a digest.
fn demand_digest(url: &Url, expect: &Expect) -> Result<(), Error> {
    if url.is_https() || url.file_path().is_some() || !expect.checksums.is_empty() {
        return Ok(());
    }
    let what = format!("{url} would come over http, and no digest vouches for it");
    let remedy = "give its digest (URL#sha256:HEX), or an https URL";
    Err(Error::new(Cause::Source, what, remedy))
}

fn fetch_beside(
    dsc: &Url,
    file: &SourceFile,
    directory: &Path,
    network: Network,
    progress: &Progress,
) -> Result<(), Error> {
    let refuse = |why: String| {
        let what = format!("{dsc}: its file {}: {why}", file.name);
        Error::new(Cause::Source, what, "give the URL of a whole source package")
    };
    let checksum = Checksum::new(Algorithm::Sha256, &file.sha256).map_err(refuse)?;
    let mut expect = Expect::new(Cause::Source, dsc::FILE_LIMIT_BYTES).with(checksum);
    expect.size_bytes = Some(file.size_bytes);
    let path = directory.join(&file.name);
    if path.exists() && download::check_file(&path, &expect).is_ok() {
        return Ok(());
    }
    // The digest of the .dsc is not that of its files.
    let whole = dsc.as_str().split('#').next().unwrap_or_default();
    let base = whole.rsplit_once('/').map_or(whole, |(base, _)| base);
    let url = Url::parse(&format!("{base}/{}", file.name)).map_err(refuse)?;
    let phase = progress.phase("fetch");
    let fetched = download::download(&url, &path, &expect, network, &mut |_| phase.tick())?;
    phase.end(format!("{}, {} KiB", file.name, fetched.size_bytes.div_ceil(1024)));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_dsc_are_brought_and_held_to_its_digests() {
        let directory = tempfile::tempdir().unwrap();
        let area = directory.path().join("area");
        fs::create_dir(&area).unwrap();
        let area = Area::open(&area).unwrap();
        let text = format!(
            "Format: 3.0 (native)\nSource: hello\nVersion: 1\nArchitecture: all\n\
             Checksums-Sha256:\n {} 3 hello_1.tar.xz\n",
            digest::of_bytes(b"tar")
        );
        let at = directory.path().join("hello_1.dsc");
        fs::write(&at, text).unwrap();
        let url = format!("file://{}", at.display());
        let tar = directory.path().join("hello_1.tar.xz");
        let read = || source_package(&area, &Options::default(), &url);
        assert!(read().is_err());
        fs::write(&tar, "rat").unwrap();
        assert!(read().is_err());
        fs::write(&tar, "tar").unwrap();
        assert_eq!(read().unwrap().files.len(), 1);
        fs::remove_file(&tar).unwrap();
        assert_eq!(read().unwrap().name, "hello");
        let plain = source_package(&area, &Options::default(), "http://127.0.0.1:1/hello_1.dsc");
        assert!(plain.unwrap_err().what.contains("no digest vouches"));
    }
}
