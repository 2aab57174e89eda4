//! `mach fetch`, and source packages that are given as URLs: ties downloads to roots and the area.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::digest;
use mach_core::distribution::Dist;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Options;
use mach_core::repo::checksum::{Algorithm, Checksum};
use mach_core::repo::url::Url;
use mach_core::repo::url::is_url;
use mach_core::rpm::source::Source;
use mach_roots::call::with_run;
use mach_roots::context::Context;
use mach_roots::provision;
use mach_roots::root::Set;
use mach_run::area::Area;
use mach_run::download::{Expect, check_file, download, gpgv};
use mach_run::progress::Progress;

use super::sources::{self, Call, Tools};
use crate::fetch::expand;
use crate::source;

/// Largest source package.
const LIMIT_BYTES: u64 = 8 << 30;

/// The arguments of `mach fetch`.
#[derive(Debug, Clone)]
pub struct Arguments {
    /// The spec.
    pub spec: PathBuf,
    /// Directory for the sources; `None`: beside the spec.
    pub into: Option<PathBuf>,
    /// `--sha256 NAME=HEX`.
    pub given: Vec<(String, Checksum)>,
}

/// Parses one `--sha256 NAME=HEX`. The error names the defect.
pub fn parse_given(text: &str) -> Result<(String, Checksum), String> {
    let pair = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    let (name, hex) = pair.ok_or_else(|| format!("{text:?}: write it as NAME=HEX"))?;
    Ok((name.to_owned(), Checksum::new(Algorithm::Sha256, hex)?))
}

/// Brings the sources of a spec and prints the path of each.
pub fn fetch(
    area: &Area,
    dist: &Dist,
    options: &Options,
    arguments: &Arguments,
) -> Result<(), Error> {
    let subject = arguments.spec.file_stem().unwrap_or_default().to_string_lossy();
    with_run(area, dist, options, subject, |context| bring(context, options, arguments))
}

fn bring(context: &Context<'_>, options: &Options, arguments: &Arguments) -> Result<(), Error> {
    let call = Call {
        spec: &arguments.spec,
        into: arguments.into.as_deref(),
        given: &arguments.given,
        network: options.fetching(),
    };
    let scratch = context.run.path.join("gpgv");
    let tools = Tools {
        expand: &|| {
            let root = provision::set(context, Set::Build)?;
            expand::expand(context, &root, &arguments.spec, options)
        },
        verify: &|signed, signature, keyrings| {
            gpgv::verify(signed, signature, keyrings, &scratch, Cause::Source)
        },
    };
    for one in sources::bring(&call, &tools, context.progress)? {
        context.progress.result(&one.path);
    }
    Ok(())
}

/// A source package by its path or its URL (`URL#sha256:HEX`), read and checked.
///
/// Files fetched from a URL are kept in the area's cache. It is taken from there when its digest is given
/// or nothing may be fetched; otherwise the server is asked again, as it may have another by now.
pub fn source_package(area: &Area, options: &Options, given: &str) -> Result<Source, Error> {
    if !is_url(given) {
        return source::rpm::read(Path::new(given));
    }
    let url = Url::parse(given).map_err(|why| {
        Error::new(Cause::Usage, why, "give a path, or a URL such as https://HOST/x.src.rpm")
    })?;
    let name =
        url.file_name().filter(|name| mach_core::rpm::source::is_plain(name)).ok_or_else(|| {
            let what = format!("{url} does not end in the name of a source package");
            Error::new(Cause::Usage, what, "give the URL of the .src.rpm itself")
        })?;
    let key: String = digest::of_bytes(url.as_str().as_bytes()).chars().take(16).collect();
    let directory = area.cache().join("sources").join(key);
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let path = directory.join(name);
    let mut expect = Expect::new(Cause::Source, LIMIT_BYTES);
    expect.checksums.extend(url.checksum().cloned());
    let is_known = !expect.checksums.is_empty() || options.offline;
    if !(is_known && path.exists() && check_file(&path, &expect).is_ok()) {
        demand_lock(&url, &expect)?;
        fetch_to(&url, &path, &expect, options)?;
    }
    let mut source = source::rpm::read(&path)?;
    source.url = Some(url.as_str().to_owned());
    Ok(source)
}

/// A file from an unauthenticated URL is accepted only with a digest.
fn demand_lock(url: &Url, expect: &Expect) -> Result<(), Error> {
    if url.is_https() || url.file_path().is_some() || !expect.checksums.is_empty() {
        return Ok(());
    }
    let what = format!("{url} would come over http, and no digest vouches for it");
    let remedy = "give its digest (URL#sha256:HEX), or an https URL";
    Err(Error::new(Cause::Source, what, remedy))
}

fn fetch_to(url: &Url, path: &Path, expect: &Expect, options: &Options) -> Result<(), Error> {
    let name = url.file_name().unwrap_or_default();
    let progress = Progress::new(name);
    let phase = progress.phase("fetch");
    let mut tick = |bytes: u64| {
        phase.line(Some(url.host()), &format!("{} MiB", bytes >> 20));
        phase.tick();
    };
    let fetched = download(url, path, expect, options.fetching(), &mut tick)?;
    phase.end(format!("{} KiB from {}", fetched.size_bytes.div_ceil(1024), url.host()));
    Ok(())
}

#[cfg(test)]
#[path = "verb_tests.rs"]
mod tests;
