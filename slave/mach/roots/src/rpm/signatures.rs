//! Packages whose repository says that they are signed: each by a key that the dist names for it.
//!
//! The slave's `rpmkeys` looks, in a cell that sees the packages and the keys of one repository and has
//! a database of keys of its own: neither the keys of the slave nor those of a root vouch for
//! anything. `_pkgverify_level all` makes it refuse what bears no signature.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mach_core::distribution::Repository;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::package::Package;
use mach_core::repo::keyring::Keyring;
use mach_run::cells::{self, Program, Streams};

use crate::context::Context;
use crate::context::PackageFile;
use crate::rpm::install::place_below;
use crate::rpm::metadata::keyrings;

/// `$1`: where the keys are; then the packages.
const SCRIPT: &str = r#"keys=$1; shift
for key in "$keys"/*.asc; do rpmkeys --dbpath /tmp/keys --import "$key" || exit 3; done
exec rpmkeys --dbpath /tmp/keys --define '_pkgverify_level all' --checksig -v -- "$@""#;
const NO_KEYS: i32 = 3;

/// Verdict of `rpmkeys` on one package.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// A good signature by one of the keys.
    Signed,
    /// No signature at all.
    Unsigned,
    /// Signed, but by none of the keys; how rpm names the signature.
    Unknown(String),
    /// A signature or a digest that is wrong; rpm's own line.
    Bad(String),
}

/// Holds those of `packages` to signatures whose repository asks for them; `files` in the same order.
pub fn check(
    context: &Context<'_>,
    packages: &[&Package],
    files: &[PackageFile],
) -> Result<(), Error> {
    for repository in context.dist.repositories.iter().filter(|one| one.check_packages) {
        let both = packages.iter().zip(files);
        let own = both.filter(|(package, _)| package.repository == repository.name);
        let own: Vec<(&Package, &PackageFile)> =
            own.map(|(package, file)| (*package, file)).collect();
        if !own.is_empty() {
            check_of(context, repository, &own)?;
        }
    }
    Ok(())
}

fn check_of(
    context: &Context<'_>,
    repository: &Repository,
    packages: &[(&Package, &PackageFile)],
) -> Result<(), Error> {
    let trusted = keyrings(repository)?;
    let places: Vec<String> =
        packages.iter().map(|(_, file)| place_below(cells::REPOSITORIES, file)).collect();
    let scratch = context.run.directory("signed")?;
    let said = ask(context, &scratch, &trusted, &places);
    let _ = fs::remove_dir_all(&scratch);
    let (status, said) = said?;
    if status == NO_KEYS {
        let what = format!("repository {}: rpm cannot use its keys", repository.name);
        return Err(Error::new(Cause::Root, what, "correct 'keys' in the dist; read root.log"));
    }
    for ((package, _), place) in packages.iter().zip(&places) {
        match judge(&said, place) {
            Verdict::Signed => {}
            verdict => return Err(failure(repository, package, &trusted, &verdict)),
        }
    }
    match status {
        0 => Ok(()),
        _ => {
            let what = format!("rpmkeys ended with {status} for repository {}", repository.name);
            Err(Error::new(Cause::Root, what, "read root.log"))
        }
    }
}

/// Output and exit status of `rpmkeys`.
fn ask(
    context: &Context<'_>,
    scratch: &Path,
    trusted: &[Keyring],
    places: &[String],
) -> Result<(i32, String), Error> {
    let [skeleton, keys, out] = ["skeleton", "keys", "said"].map(|name| scratch.join(name));
    cells::make_skeleton(&skeleton, &[])?;
    fs::create_dir(&keys).on("make the directory", &keys)?;
    let armored = trusted.iter().flat_map(Keyring::armored);
    for (number, text) in armored.enumerate() {
        let path = keys.join(format!("{number:04}.asc"));
        fs::write(&path, text).on("write", &path)?;
    }
    let named = |state: &crate::context::RepositoryState| (state.name.clone(), state.path.clone());
    let mut shown: Vec<(String, PathBuf)> = context.repositories.iter().map(named).collect();
    if context.area.packages().is_dir() {
        shown.push((mach_core::distribution::FETCHED.to_owned(), context.area.packages()));
    }
    let cell = cells::solver(&skeleton, &shown, &keys, false);
    let argv = ["/bin/sh", "-c", SCRIPT, "sh", cells::STATE].map(str::to_owned);
    let argv = argv.into_iter().chain(places.iter().cloned());
    let program = Program::as_root(argv.collect::<Vec<_>>(), cells::HOME);
    let file = File::create(&out).on("create", &out)?;
    let streams = Streams::Files { out: file, err: context.open_root_log()? };
    let status = cells::run(cell, &program, streams, &mut || ())?.status;
    let said = fs::read(&out).on("read", &out)?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Verdict on the package at `place` in the output of `rpmkeys --checksig -v`.
///
/// Its lines are those of rpm 4 (`Header V4 EdDSA/SHA256 Signature, key ID d629b714: OK`) and of rpm 6
/// (`… signature, key fingerprint: 51b4…: OK`).
fn judge(said: &str, place: &str) -> Verdict {
    let own = format!("{place}:");
    let lines = said.lines().skip_while(|line| *line != own).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    let ends = |line: &&&str, end: &str| line.ends_with(end);
    let of_signature = |line: &&&str| line.to_ascii_lowercase().contains(" signature");
    if let Some(bad) = lines.iter().find(|line| line.contains(": BAD")) {
        return Verdict::Bad((*bad).to_owned());
    }
    let signatures: Vec<&&str> = lines.iter().filter(of_signature).collect();
    if let Some(unknown) =
        signatures.iter().find(|line| !ends(line, ": OK") && !ends(line, ": NOTFOUND"))
    {
        return Verdict::Unknown((**unknown).to_owned());
    }
    match signatures.iter().any(|line| ends(line, ": OK")) {
        true => Verdict::Signed,
        false => Verdict::Unsigned,
    }
}

fn failure(
    repository: &Repository,
    package: &Package,
    trusted: &[Keyring],
    verdict: &Verdict,
) -> Error {
    let why = match verdict {
        Verdict::Bad(line) => format!("its signature is BAD: {line}"),
        Verdict::Unknown(line) => format!("it is signed by none of the keys of the dist: {line}"),
        Verdict::Signed | Verdict::Unsigned => "it is not signed".to_owned(),
    };
    let what =
        format!("{} of repository {} cannot be trusted: {why}", package.nevra, repository.name);
    let what = what.replace(char::is_control, "?");
    let remedy = "have it signed by a key of the dist, add the key to 'keys' once you know whose it is, \
                  or say 'gpgcheck = false' if the metadata vouch for it";
    let trusted = trusted.iter().flat_map(|keyring| &keyring.fingerprints);
    let details = trusted.map(|fingerprint| format!("trusted: {fingerprint}")).collect();
    Error::new(Cause::Root, what, remedy).with_details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "/r/good.rpm:\n\
        \x20   Header V4 EdDSA/SHA256 Signature, key ID d629b714: OK\n\
        \x20   Header SHA256 digest: OK\n\
        /r/six.rpm:\n\
        \x20   Header OpenPGP V4 EdDSA/SHA256 signature, key fingerprint: 51b4e6e0: OK\n\
        \x20   Header OpenPGP DSA signature: NOTFOUND\n\
        /r/other.rpm:\n\
        \x20   Header V4 RSA/SHA512 Signature, key ID fa9565ac: NOKEY\n\
        \x20   RSA signature: NOTFOUND\n\
        /r/none.rpm:\n\
        \x20   Header RSA signature: NOTFOUND\n\
        \x20   Payload SHA256 digest: OK\n\
        /r/bad.rpm:\n\
        \x20   Header V4 EdDSA/SHA256 Signature, key ID d629b714: OK\n\
        \x20   Payload SHA256 digest: BAD (Expected 96 != 36)\n";

    #[test]
    fn each_package_is_judged_by_its_own_lines() {
        assert_eq!(judge(SAID, "/r/good.rpm"), Verdict::Signed);
        assert_eq!(judge(SAID, "/r/six.rpm"), Verdict::Signed);
        assert_eq!(judge(SAID, "/r/none.rpm"), Verdict::Unsigned);
        assert!(
            matches!(judge(SAID, "/r/other.rpm"), Verdict::Unknown(line) if line.contains("fa9565ac"))
        );
        assert!(matches!(judge(SAID, "/r/bad.rpm"), Verdict::Bad(_)));
    }

    #[test]
    fn what_nothing_is_said_of_is_not_signed() {
        assert_eq!(judge(SAID, "/r/absent.rpm"), Verdict::Unsigned);
        assert_eq!(judge("", "/r/good.rpm"), Verdict::Unsigned);
    }
}
