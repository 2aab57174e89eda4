//! Sources and patches, dependencies, installed files and the list of files.

use super::{After, Rule, decisive};
use crate::error::Cause;
use crate::explain::missing::Missing::Directory;

pub const RULES: &[Rule] = &[
    // The source is for other machines.
    decisive("error: Architecture is not included: {}").is(Cause::Architecture),
    decisive("error: Architecture is excluded: {}").is(Cause::Architecture),
    decisive("error: OS is not included: {}").is(Cause::Architecture),
    decisive("error: OS is excluded: {}").is(Cause::Architecture),
    decisive("error: No compatible architectures found for build").is(Cause::Architecture),
    // Sources and patches.
    decisive("Hunk #{} FAILED at {}").is(Cause::Patch).with(1, 0),
    decisive("{#} out of {#} hunk{} FAILED{}").is(Cause::Patch),
    decisive("can't find file to patch at input line {}").is(Cause::Patch).with(0, 5),
    decisive("No file to patch.  Skipping patch.").is(Cause::Patch).with(4, 0),
    decisive("Reversed (or previously applied) patch detected!{}").is(Cause::Patch).with(1, 0),
    decisive("{}patch: **** {}").is(Cause::Patch).with(1, 0),
    decisive("error: patch failed: {}").is(Cause::Patch).with(0, 1),
    decisive("error: {}: patch does not apply").is(Cause::Patch),
    decisive("error: corrupt patch at {}").is(Cause::Patch),
    decisive("error: {}: does not exist in index").is(Cause::Patch),
    decisive("dpkg-source: info: the patch has fuzz {}").is(Cause::Patch).with(0, 1),
    decisive("dpkg-source: error: LC_ALL=C patch {}").is(Cause::Patch),
    decisive("{}This does not look like a tar archive").is(Cause::Source).with(0, 2),
    decisive("{}: not in gzip format").is(Cause::Source),
    decisive("{}: File format not recognized").is(Cause::Source),
    decisive("error: File {}: No such file or directory").is(Cause::Source),
    decisive("error: Bad source: {}").is(Cause::Source),
    decisive("error: Bad file: {}").is(Cause::Source),
    decisive("{}: cd: can't cd to {}").is(Cause::Source).lacks(Directory, 1),
    decisive("{}: cd: {}: No such file or directory").is(Cause::Source).lacks(Directory, 1),
    decisive("error: line {}: {}").is(Cause::Source),
    decisive("error: {}.spec: line {#}: {}").is(Cause::Source),
    decisive("error: {}.spec:{#}: {}").is(Cause::Source),
    decisive("dpkg-source: info: local changes detected, {}")
        .is(Cause::Source)
        .and(After::Indented),
    decisive("dpkg-source: error: cannot represent change to {}").is(Cause::Source),
    decisive("dpkg-source: error: {}").is(Cause::Source).with(1, 0),
    decisive("{}: warning: {}changelog(l{#}): {}").is(Cause::Source).with(0, 1),
    decisive("dpkg-parsechangelog: {}: {}").is(Cause::Source),
    // Dependencies, as the build itself checks them.
    decisive("error: Failed build dependencies:").is(Cause::Dependency).and(After::Indented),
    decisive("dpkg-checkbuilddeps: error: Unmet build {}").is(Cause::Dependency),
    // What is installed, and what %files says.
    decisive("error: File not found: {}").is(Cause::FilesList),
    decisive("error: Directory not found: {}").is(Cause::FilesList),
    decisive("error: File must begin with \"/\": {}").is(Cause::FilesList),
    decisive("error: Empty %files file {}").is(Cause::FilesList),
    decisive("error: Could not open %files file {}").is(Cause::FilesList),
    decisive("error: Installed (but unpackaged) file(s) found:")
        .is(Cause::FilesList)
        .and(After::Indented),
    decisive("error: Arch dependent binaries in noarch package").is(Cause::FilesList),
    decisive("Found '{}' in installed files; aborting").is(Cause::Install).with(1, 0),
    decisive("No translations found for {} in {}").is(Cause::Install),
    decisive("ERROR {_}{#}: file '{}' contains {}").is(Cause::Install),
    decisive("*** ERROR: {}").is(Cause::Install).with(0, 2),
    decisive("dh_install: warning: Cannot find {}").is(Cause::FilesList),
    decisive("dh_{}: error: Cannot find {}").is(Cause::FilesList),
    decisive("dh_missing: warning: {}").is(Cause::FilesList),
    decisive("dpkg-gensymbols: error: {}").is(Cause::FilesList).with(0, 11),
    decisive("dpkg-shlibdeps: error: {}").is(Cause::Install),
    decisive("dpkg-gencontrol: error: {}").is(Cause::Install),
    decisive("dpkg-deb: error: {}").is(Cause::Install),
    decisive("error: {}").inside(Cause::FilesList),
    decisive("CMake Error at {}cmake_install.cmake:{}").is(Cause::Install).with(0, 3),
    decisive("{}: cannot stat '{}': No such file or directory"),
];
