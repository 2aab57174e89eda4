//! Validates the command line's options and makes [`Options`] of them, once.

use mach_core::error::{Cause, Error};
use mach_core::options::{self, Options, Parts};
use mach_core::quantity;

use super::arguments::{Build, Stage};

/// The options of a build, each judged.
pub fn options(build: &Build) -> Result<Options, Error> {
    // Destructured, so that a new flag does not compile until it is judged here.
    let Build { keep, force, collect, release, define, with, without, target, .. } = build;
    let Build { nocheck, short_circuit, offline, network, ccache, lint, verify, .. } = build;
    let Build { go_on, jobs, time_limit, layers_size, chain: _, parent: _, .. } = build;
    let Build { indep_only, arch_only, binnmu, append_to_version, .. } = build;
    append_to_version.iter().try_for_each(|text| part_of_version(text))?;
    release.iter().try_for_each(|tag| plain("--release", tag))?;
    target.iter().try_for_each(|target| plain("--target", target))?;
    with.iter().try_for_each(|name| plain("--with", name))?;
    without.iter().try_for_each(|name| plain("--without", name))?;
    let time_limit = time_limit.as_deref().map(quantity::duration).transpose();
    let layers_size = layers_size.as_deref().map(quantity::size_bytes).transpose();
    Ok(Options {
        keep: *keep,
        force: *force,
        collect: collect.clone(),
        release: release.clone(),
        defines: define.iter().map(|text| macro_definition(text)).collect::<Result<_, _>>()?,
        with: with.clone(),
        without: without.clone(),
        target: target.clone(),
        only: match (indep_only, arch_only) {
            (true, _) => Parts::Indep,
            (_, true) => Parts::Arch,
            _ => Parts::All,
        },
        binnmu: binnmu.map(std::num::NonZeroU32::get),
        append_to_version: append_to_version.clone(),
        nocheck: *nocheck,
        short_circuit: short_circuit.map(stage),
        offline: *offline,
        network: *network,
        ccache: *ccache,
        lint: *lint,
        verify: *verify,
        go_on: *go_on,
        jobs: jobs.map(std::num::NonZeroUsize::get),
        time_limit: time_limit.map_err(|why| usage(format!("--time-limit: {why}")))?,
        layers_size_bytes: layers_size.map_err(|why| usage(format!("--layers-size: {why}")))?,
    })
}

fn stage(stage: Stage) -> options::Stage {
    match stage {
        Stage::Prep => options::Stage::Prep,
        Stage::Build => options::Stage::Build,
        Stage::Install => options::Stage::Install,
    }
}

fn usage(what: String) -> Error {
    Error::new(Cause::Usage, what, "correct the option; 'man mach' explains it")
}

/// Accepts text for a word of rpmbuild's command line or a Release tag.
fn plain(flag: &str, value: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    let begins_well = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "._".contains(c));
    if begins_well && value.len() <= 64 && value.chars().all(fine) {
        return Ok(());
    }
    Err(usage(format!("{flag} is {value:?}: letters, digits and ._+~^- only")))
}

/// Accepts a suffix of a Debian version (Policy 5.6.12): a `-` would begin a revision.
fn part_of_version(text: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || ".+~".contains(c);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fine) {
        return Ok(());
    }
    Err(usage(format!("--append-to-version is {text:?}: letters, digits and .+~ only")))
}

/// `NAME BODY`, as rpmbuild's own `--define` takes it; `NAME(OPTIONS)` has arguments.
fn macro_definition(text: &str) -> Result<(String, String), Error> {
    let refuse = || usage(format!("--define {text:?}: write it as 'NAME BODY', on one line"));
    let (name, body) = text.trim().split_once([' ', '\t']).ok_or_else(refuse)?;
    let plain_name = name.split_once('(').map_or(name, |(plain, _)| plain);
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = plain_name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins_well || !plain_name.chars().all(fine) || text.contains(char::is_control) {
        return Err(refuse());
    }
    Ok((name.to_owned(), body.trim_start().to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::super::arguments::Arguments;
    use super::*;

    fn parsed(words: &str) -> Result<Options, Error> {
        let words = ["mach"].into_iter().chain(words.split('|'));
        options(&Arguments::try_parse_from(words).unwrap().build)
    }

    #[test]
    fn every_flag_arrives() {
        let options = parsed(
            "-k|-f|-c|--release|1|--define|a b c|--with|x|--without|y|--target|i686|-B|--binNMU|2|\
             --append-to-version|~x1|--nocheck|\
             --short-circuit|build|--offline|--network|--ccache|--lint|--verify|--continue|--jobs|\
             3|--time-limit|90m|--layers-size|1G|rebuild|x.src.rpm",
        );
        let wanted = Options {
            keep: true,
            force: true,
            collect: Some(".".into()),
            release: Some("1".to_owned()),
            defines: vec![("a".to_owned(), "b c".to_owned())],
            with: vec!["x".to_owned()],
            without: vec!["y".to_owned()],
            target: Some("i686".to_owned()),
            only: Parts::Arch,
            binnmu: Some(2),
            append_to_version: Some("~x1".to_owned()),
            nocheck: true,
            short_circuit: Some(options::Stage::Build),
            offline: true,
            network: true,
            ccache: true,
            lint: true,
            verify: true,
            go_on: true,
            jobs: Some(3),
            time_limit: Some(std::time::Duration::from_secs(5400)),
            layers_size_bytes: Some(1 << 30),
        };
        assert_eq!(options.unwrap(), wanted);
    }

    #[test]
    fn flags_may_stand_behind_the_verb_and_nothing_is_the_default() {
        let behind = parsed("rebuild|x.src.rpm|-k|--collect=out").unwrap();
        assert!(behind.keep && behind.collect == Some("out".into()));
        assert_eq!(parsed("rebuild|x.src.rpm").unwrap(), Options::default());
    }

    #[test]
    fn parts_of_a_source_exclude_each_other() {
        assert_eq!(parsed("-A|rebuild|x.dsc").unwrap().only, Parts::Indep);
        // A rebuild for one architecture makes only packages of that architecture.
        assert_eq!(parsed("--binNMU=1|rebuild|x.dsc").unwrap().parts(), Parts::Arch);
        let suffix = parsed("--binNMU=3|--append-to-version=~a|rebuild|x.dsc").unwrap();
        assert_eq!(suffix.version_suffix(), "+b3~a");
        for words in ["-A|-B", "-A|--binNMU=1", "--binNMU=0", "--binNMU=x"] {
            let words = format!("mach|{words}|rebuild|x.dsc");
            assert!(Arguments::try_parse_from(words.split('|')).is_err(), "{words}");
        }
    }

    #[test]
    fn what_would_steer_rpmbuild_is_refused() {
        for words in [
            "--release|1 2",
            "--release=--eval",
            "--with|a b",
            "--target|/x",
            "--define|justaname",
            "--define|1x y",
            "--define|a b\nc",
            "--time-limit|soon",
            "--layers-size|big",
            "--append-to-version=-1",
            "--append-to-version|1:2",
            "--append-to-version|$(id)",
        ] {
            let failure = parsed(&format!("{words}|rebuild|x")).unwrap_err();
            assert_eq!(failure.cause, Cause::Usage, "{words}");
        }
    }
}
