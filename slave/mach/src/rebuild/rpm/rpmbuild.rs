//! Command lines of rpmbuild.

use mach_core::options::{Options, Stage};
use mach_core::rpm::rpmbuild::Version;

const RPMBUILD: &str = "/usr/bin/rpmbuild";

/// Installs a source package, appends to its Release if asked, and calls rpmbuild: `$1` is the
/// package, `$2` its spec, `$3` the appended text; arguments of rpmbuild follow.
const UNPACK: &str = "set -e\n\
    rpm --nosignature -i \"$1\"\n\
    [ -z \"$3\" ] || sed -i -E \"s/^(Release[[:space:]]*:.*[^[:space:]])[[:space:]]*$/\\1$3/I\" \"$2\"\n\
    shift 3\n\
    exec \"$@\"\n";

/// Arguments of every rpmbuild call for a source.
fn options(options: &Options) -> Vec<String> {
    let mut words = Vec::new();
    let mut pair = |flag: &str, value: &str| words.extend([flag.to_owned(), value.to_owned()]);
    options.defines.iter().for_each(|(name, body)| pair("--define", &format!("{name} {body}")));
    options.with.iter().for_each(|name| pair("--with", name));
    options.without.iter().for_each(|name| pair("--without", name));
    options.target.iter().for_each(|target| pair("--target", target));
    if options.nocheck {
        words.push("--nocheck".to_owned());
    }
    words
}

fn call(asked: &Options, flags: &[&str], spec: &str) -> Vec<String> {
    let mut words = vec![RPMBUILD.to_owned()];
    words.extend(flags.iter().map(|flag| (*flag).to_owned()));
    words.extend(options(asked));
    words.extend(["--".to_owned(), spec.to_owned()]);
    words
}

/// Unpacks the package `file` and writes a source package that says what its spec requires here,
/// into `directory`.
pub fn unpack(asked: &Options, file: &str, spec: &str, directory: &str) -> Vec<String> {
    let tag = asked.release.as_deref().map(appended).unwrap_or_default();
    let words = ["/bin/sh", "-c", UNPACK, "unpack", file, spec, &tag];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.extend(declare(asked, spec, directory));
    words
}

/// The same of a source that is unpacked.
pub fn declare(asked: &Options, spec: &str, directory: &str) -> Vec<String> {
    let place = format!("_srcrpmdir {directory}");
    call(asked, &["-bs", "--nodeps", "--define", &place], spec)
}

/// Writes a source package of `spec`, whose sources are in `sources`, into `%_srcrpmdir`.
pub fn source_package(asked: &Options, spec: &str, sources: &str) -> Vec<String> {
    let place = format!("_sourcedir {sources}");
    call(asked, &["-bs", "--nodeps", "--define", &place], spec)
}

/// Builds binary packages; without `%prep` where that has been run already.
///
/// Not the source package: that was made before the build could touch the sources. `%clean` would work on
/// a root that is thrown away; rpmbuild can leave it out since version 4.9.
pub fn binaries(
    asked: &Options,
    spec: &str,
    is_prepared: bool,
    version: Option<Version>,
) -> Vec<String> {
    let mut flags = vec!["-bb"];
    if version.is_none_or(|version| version >= Version(4, 9)) {
        flags.push("--noclean");
    }
    if is_prepared {
        flags.push("--noprep");
    }
    call(asked, &flags, spec)
}

/// One stage alone, of a source that has been built as far as that before.
pub fn stage(asked: &Options, spec: &str, stage: Stage) -> Vec<String> {
    match stage {
        Stage::Prep => call(asked, &["-bp"], spec),
        Stage::Build => call(asked, &["-bc", "--short-circuit"], spec),
        Stage::Install => call(asked, &["-bi", "--short-circuit"], spec),
    }
}

/// The suffix of a Release for `TAG`: with a dot before it, unless `TAG` begins with a separator.
pub fn appended(tag: &str) -> String {
    match tag.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => format!(".{tag}"),
        false => tag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_becomes_its_words() {
        let asked = Options {
            defines: vec![("a".to_owned(), "b c".to_owned())],
            with: vec!["x".to_owned()],
            without: vec!["y".to_owned()],
            target: Some("i686".to_owned()),
            nocheck: true,
            ..Options::default()
        };
        assert_eq!(
            binaries(&asked, "/b/s.spec", true, None),
            [
                RPMBUILD,
                "-bb",
                "--noclean",
                "--noprep",
                "--define",
                "a b c",
                "--with",
                "x",
                "--without",
                "y",
                "--target",
                "i686",
                "--nocheck",
                "--",
                "/b/s.spec"
            ]
        );
        assert_eq!(stage(&Options::default(), "s", Stage::Prep), [RPMBUILD, "-bp", "--", "s"]);
    }

    #[test]
    fn an_old_rpmbuild_is_not_given_what_it_does_not_know() {
        let words = binaries(&Options::default(), "s", false, Some(Version(4, 8)));
        assert_eq!(words, [RPMBUILD, "-bb", "--", "s"]);
    }

    #[test]
    fn a_release_gets_its_tag_behind_a_dot() {
        assert_eq!((appended("me"), appended("~rc1")), (".me".to_owned(), "~rc1".to_owned()));
        let asked = Options { release: Some("me".to_owned()), ..Options::default() };
        assert_eq!(unpack(&asked, "f", "s", "d")[4..7], ["f", "s", ".me"]);
    }
}
