//! autoconf and its like, CMake, meson.

use super::{Rule, decisive};
use crate::error::Cause;

pub const RULES: &[Rule] = &[
    decisive("configure: error: Package requirements {}").is(Cause::Configure).surely().with(0, 3),
    decisive("configure: error: in {}").is(Cause::Configure).surely().with(1, 1),
    decisive("configure: error: {}").is(Cause::Configure).surely().with(3, 2),
    // A script that autoconf made says its own name.
    decisive("configure{}: error: {}").is(Cause::Configure).surely().with(3, 2),
    decisive("{}/configure{}: error: {}").is(Cause::Configure).surely().with(3, 2),
    decisive("config.status: error: {}").is(Cause::Configure).surely().with(0, 1),
    decisive("{}configure{}: {#}: Syntax error: {}").is(Cause::Configure).surely(),
    decisive("{}configure.{}:{#}: error: {}").is(Cause::Configure).surely().with(0, 2),
    decisive("{}Makefile.am:{#}: error: {}").is(Cause::Configure).surely().with(0, 2),
    decisive("autoreconf: error: {}").is(Cause::Configure).surely().with(1, 0),
    decisive("CMake Error: The following variables {}").is(Cause::Configure).with(0, 5),
    decisive("CMake Error{}").is(Cause::Configure).with(0, 3),
    decisive("{}meson.build:{}: ERROR: {}").is(Cause::Configure).surely(),
    decisive("ERROR: Unknown options: {}").is(Cause::Configure),
    decisive("{}Automatic wrap-based subproject downloading is disabled{}").is(Cause::Configure),
];
