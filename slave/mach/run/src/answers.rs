//! Answers of solvers, kept by the digest of the question.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use mach_core::error::{Error, OnPath};
use mach_core::package::Resolution;

use crate::area::touch;
use crate::store::Store;

/// The answer that is kept under `key`, or that of `ask`, which is kept then.
pub fn once(
    store: Store<'_>,
    key: &str,
    ask: impl FnOnce() -> Result<Resolution, Error>,
) -> Result<Resolution, Error> {
    if let Some(known) = remembered(store, key) {
        return Ok(known);
    }
    let found = ask()?;
    remember(store, key, &found)?;
    Ok(found)
}

fn path_of(store: Store<'_>, key: &str) -> PathBuf {
    store.area.resolutions().join(format!("{key}.json"))
}

/// An answer that cannot be read is a cache miss.
fn remembered(store: Store<'_>, key: &str) -> Option<Resolution> {
    let path = path_of(store, key);
    let known = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    touch(&path);
    Some(known)
}

/// Stores an answer by an atomic rename, so that no process reads half of it.
fn remember(store: Store<'_>, key: &str, found: &Resolution) -> Result<(), Error> {
    let directory = store.area.resolutions();
    fs::create_dir_all(&directory).on("make the directory", &directory)?;
    let scratch = store.run.path.join("resolution");
    let text = serde_json::to_vec(found).map_err(std::io::Error::from).on("write", &scratch)?;
    let mut file = fs::File::create(&scratch).on("create", &scratch)?;
    file.write_all(&text).on("write", &scratch)?;
    let path = path_of(store, key);
    fs::rename(&scratch, &path).on("keep the resolution at", &path)
}
