//! Where the programs under test are.

use std::path::PathBuf;

/// The directory of the programs under test: `DJINNI_PROGRAMS`, else the release build beside the
/// build that this test belongs to.
///
/// # Panics
/// Where the test does not run from a build directory.
pub fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("DJINNI_PROGRAMS") {
        return given.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    // TARGET/PROFILE/deps/test: the programs are in TARGET/release.
    match own.ancestors().nth(3) {
        Some(target) => target.join("release"),
        None => panic!("{}: no build directory: set DJINNI_PROGRAMS", own.display()),
    }
}

/// The path of the program `name`.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let path = directory().join(name);
    let remedy = "run tests/run, or 'cargo build --release --bins' first";
    assert!(path.is_file(), "{}: not built: {remedy}", path.display());
    path
}
