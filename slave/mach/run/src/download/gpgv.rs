//! Detached OpenPGP signatures, verified by the slave's `gpgv` in a cell of its own.
//!
//! The cell sees the signed file, the signature and the keys, read-only, and nothing else of the area;
//! it has no network, and `gpgv` is a plain user in it. mach uses its reports on `--status-fd`
//! (doc/DETAILS of GnuPG), not only its exit status.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::repo::keyring::Keyring;

use crate::cells::{self, LAYER, Program, Streams};
use crate::files::open_regular;

const PROGRAM: &str = "/usr/bin/gpgv";
/// The user `nobody`, which every slave has.
const USER: u32 = 65_534;
const SAID_LIMIT_BYTES: usize = 64 << 10;

/// The signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the primary key, upper case hex.
    pub fingerprint: String,
    /// The user id that the key says of itself.
    pub name: String,
}

/// Reason why a signature vouches for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureError {
    /// Made by this key, but for other bytes.
    Bad(String),
    /// Made by this key, which is not among those given.
    UnknownKey(String),
    /// The key had expired, or the signature has.
    Expired(String),
    /// The key was revoked.
    Revoked(String),
    /// The signature is of a kind that is not trusted (MD5, SHA-1) or not understood.
    Unusable(String),
    /// The file holds no signature.
    None,
}

/// The keyring in a file; `None` if it holds none, or is larger than keyrings are.
pub fn read_keyring(path: &Path) -> Option<Keyring> {
    const LIMIT_BYTES: u64 = 4 << 20;
    let mut bytes = Vec::new();
    open_regular(path).ok()?.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LIMIT_BYTES).then(|| Keyring::parse(&bytes)).flatten()
}

/// Verifies that one of `keyrings` signed the file `signed`, by the detached `signature`.
///
/// `scratch` is a directory that is not there yet, on the file system of `signed`; it goes again.
/// `cause` is the class of a failure. Every outcome but a good signature is a failure that says which
/// key is meant and which are trusted.
pub fn verify(
    signed: &Path,
    signature: &Path,
    keyrings: &[Keyring],
    scratch: &Path,
    cause: Cause,
) -> Result<Signer, Error> {
    if !Path::new(PROGRAM).exists() {
        let what = format!("cannot verify {}: this slave has no {PROGRAM}", signature.display());
        return Err(Error::new(cause, what, "use an image with the package gpgv"));
    }
    let outcome = ask(signed, signature, keyrings, scratch);
    let _ = fs::remove_dir_all(scratch);
    judge(&outcome?).map_err(|doubt| failure(&doubt, signed, signature, keyrings, cause))
}

/// Parses the status lines of `gpgv`.
fn ask(
    signed: &Path,
    signature: &Path,
    keyrings: &[Keyring],
    scratch: &Path,
) -> Result<String, Error> {
    fs::create_dir(scratch).on("make the directory", scratch)?;
    let shown = scratch.join("shown");
    fs::create_dir(&shown).on("make the directory", &shown)?;
    show(signed, &shown.join("signed"))?;
    show(signature, &shown.join("signature"))?;
    let mut argv: Vec<String> =
        [PROGRAM, "--status-fd", "1", "--weak-digest", "SHA1", "--homedir", cells::HOME]
            .map(str::to_owned)
            .into();
    for (number, keyring) in keyrings.iter().enumerate() {
        let path = shown.join(format!("keyring-{number}"));
        fs::write(&path, &keyring.binary).on("write", &path)?;
        readable(&path)?;
        argv.extend(["--keyring".to_owned(), format!("{LAYER}/keyring-{number}")]);
    }
    argv.extend(["signature", "signed"].map(|name| format!("{LAYER}/{name}")));
    let skeleton = scratch.join("skeleton");
    cells::make_skeleton(&skeleton, &[])?;
    let cell = cells::reader(&skeleton, &shown);
    let program = Program { user: Some(USER), ..Program::as_root(argv, cells::HOME) };
    let [out_path, err_path] = ["out", "err"].map(|name| scratch.join(name));
    let create = |path: &PathBuf| File::create(path).on("create", path);
    let streams = Streams::Files { out: create(&out_path)?, err: create(&err_path)? };
    cells::run(cell, &program, streams, &mut || ())?;
    let said = fs::read(&out_path).on("read", &out_path)?;
    let said = &said[..said.len().min(SAID_LIMIT_BYTES)];
    Ok(String::from_utf8_lossy(said).into_owned())
}

/// Makes a file visible in the cell: by a link where that can be, as sources are large.
fn show(path: &Path, at: &Path) -> Result<(), Error> {
    let readable_by_all = fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 4 != 0);
    if readable_by_all && fs::hard_link(path, at).is_ok() {
        return Ok(());
    }
    fs::copy(path, at).on("copy", path)?;
    readable(at)
}

fn readable(path: &Path) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).on("set the mode of", path)
}

/// The verdict out of status lines: one good signature, and none that is bad.
fn judge(said: &str) -> Result<Signer, SignatureError> {
    let (mut good, mut doubt, mut primary) = (None, None, String::new());
    for line in said.lines() {
        let Some(status) = line.strip_prefix("[GNUPG:] ") else {
            continue;
        };
        let words: Vec<&str> = status.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
        let rest = || words.get(2..).unwrap_or_default().join(" ");
        let key = || if rest().is_empty() { word(1) } else { format!("{} ({})", word(1), rest()) };
        match words[0] {
            "BADSIG" => return Err(SignatureError::Bad(key())),
            "GOODSIG" => good = Some(rest()),
            // The last field is the primary key, where the signature is by one of its subkeys.
            "VALIDSIG" => primary = if word(10).is_empty() { word(1) } else { word(10) },
            "EXPSIG" | "EXPKEYSIG" => doubt = Some(SignatureError::Expired(key())),
            "REVKEYSIG" => doubt = Some(SignatureError::Revoked(key())),
            "ERRSIG" if word(6) == "9" => {
                doubt = doubt.or(Some(SignatureError::UnknownKey(word(1))))
            }
            "ERRSIG" => doubt = doubt.or(Some(SignatureError::Unusable(word(1)))),
            _ => {}
        }
    }
    match good {
        Some(name) if !primary.is_empty() => Ok(Signer { fingerprint: primary, name }),
        _ => Err(doubt.unwrap_or(SignatureError::None)),
    }
}

fn failure(
    doubt: &SignatureError,
    signed: &Path,
    signature: &Path,
    keyrings: &[Keyring],
    cause: Cause,
) -> Error {
    let file = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (signed, signature) = (file(signed), file(signature));
    let (why, remedy) = match doubt {
        SignatureError::Bad(key) => (
            format!("{signature} is a BAD signature: key {key} made it for other bytes"),
            "one of the two was changed: trust neither until you know which",
        ),
        SignatureError::UnknownKey(key) => (
            format!("{signature} was made by key {key}, which is not among the trusted ones"),
            "find out whose key that is before you add it",
        ),
        SignatureError::Expired(key) => (
            format!("{signature} or its key {key} has expired"),
            "get the maker's present key, or a signature made anew",
        ),
        SignatureError::Revoked(key) => (
            format!("{signature} was made by key {key}, which its owner has revoked"),
            "get the maker's present key, and a signature made anew",
        ),
        SignatureError::Unusable(key) => (
            format!(
                "{signature}, by key {key}, is of a kind that vouches for nothing (MD5, SHA-1)"
            ),
            "ask for a signature with SHA-256, or give a digest",
        ),
        SignatureError::None => {
            (format!("{signature} holds no signature"), "get it again, or give a digest")
        }
    };
    let trusted = keyrings.iter().flat_map(|keyring| &keyring.fingerprints);
    let details = trusted.map(|fingerprint| format!("trusted: {fingerprint}")).collect();
    Error::new(cause, format!("{signed} cannot be trusted: {why}"), remedy).with_details(details)
}

#[cfg(test)]
#[path = "gpgv_tests.rs"]
mod tests;
