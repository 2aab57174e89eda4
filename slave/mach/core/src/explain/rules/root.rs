//! Things a root lacks: memory, disk space, macros, programs, headers, modules, a network.

use super::{After, Place, Rule, decisive, error};
use crate::error::Cause;
use crate::explain::missing::Missing::*;

pub const RULES: &[Rule] = &[
    // No memory, no room, no processes.
    decisive("{}: fatal error: Killed signal terminated program {}").is(Cause::Resource),
    decisive("virtual memory exhausted: {}").is(Cause::Resource),
    decisive("{}: out of memory allocating {}").is(Cause::Resource),
    decisive("LLVM ERROR: out of memory{}").is(Cause::Resource),
    decisive("{}Cannot allocate memory{}").is(Cause::Resource),
    decisive("{}emory exhausted{}").is(Cause::Resource),
    decisive("MemoryError{}").is(Cause::Resource),
    decisive("{}java.lang.OutOfMemoryError{}").is(Cause::Resource),
    decisive("{}JavaScript heap out of memory{}").is(Cause::Resource),
    decisive("fatal error: runtime: out of memory{}").is(Cause::Resource),
    decisive("memory allocation of {#} bytes failed{}").is(Cause::Resource),
    decisive("{}std::bad_alloc{}").is(Cause::Resource),
    decisive("make{}: *** [{}] Killed").is(Cause::Resource).with(1, 0),
    decisive("Killed").is(Cause::Resource).with(1, 0),
    decisive("{}: Killed").is(Cause::Resource),
    decisive("{}: line {#}: {#} Killed {}").is(Cause::Resource),
    decisive("{}No space left on device{}").is(Cause::Resource),
    decisive("{}Disk quota exceeded{}").is(Cause::Resource),
    decisive("{}fork: {}Resource temporarily unavailable").is(Cause::Resource),
    decisive("{}Cannot fork{}").is(Cause::Resource),
    // Macros of rpm, left as they are where they are not defined: the shell takes '%name' for a job.
    decisive("{}: fg: no job control").lacks_at(Macro, Place::TraceBefore).with(1, 0),
    decisive("{}: fg: {}: no such job").lacks(Macro, 1).with(1, 0),
    decisive("error: line {#}: Unknown tag: %{}").lacks(Macro, 1),
    decisive("error: {}: line {#}: Unknown tag: %{}").lacks(Macro, 2),
    decisive("error: File must begin with \"/\": %{}").is(Cause::FilesList).lacks(Macro, 0),
    // Macros of autoconf, likewise.
    decisive("{}: line {#}: `{}({}").lacks(AutoconfMacro, 2).with(1, 0),
    decisive("{}: error: possibly undefined macro: {}").lacks(AutoconfMacro, 1).with(0, 2),
    decisive("{}: error: Libtool library used but '{}' is undefined")
        .lacks(AutoconfMacro, 1)
        .with(0, 2),
    // Programs.
    decisive("{}/missing: line {}: {}: command not found").lacks(Autotool, 2).with(0, 1),
    decisive("WARNING: '{}' is missing on your system.").lacks(Autotool, 0).with(1, 3),
    decisive("{}/env: ‘{}’: No such file or directory").lacks(Command, 1),
    decisive("{}/env: '{}': No such file or directory").lacks(Command, 1),
    decisive("{}: line {}: {}: command not found").lacks(Command, 2),
    decisive("{}: {}: {}: not found").lacks(Command, 2),
    decisive("{}: command not found").lacks(Command, 0),
    decisive("make: {}: No such file or directory").lacks(Command, 0),
    decisive("make[{}]: {}: No such file or directory").lacks(Command, 1),
    decisive("error: linker `{}` not found").lacks(Command, 0),
    // Headers, libraries, modules.
    decisive("{}: fatal error: {}: No such file or directory")
        .is(Cause::Compile)
        .lacks(Header, 1)
        .with(0, 1),
    decisive("{}: fatal error: '{}' file not found").is(Cause::Compile).lacks(Header, 1).with(0, 1),
    decisive("{}: ERROR: {} header '{}' not found{}").lacks(Header, 2).is(Cause::Configure),
    error("{}ailed to find {}").lacks(Header, 1),
    error("{}annot find header {}").lacks(Header, 1),
    error("{}ould not find {}").lacks(Header, 1),
    decisive("Package '{}', required by '{}', not found").lacks(PkgConfig, 0).is(Cause::Configure),
    decisive("No package '{}' found").lacks(PkgConfig, 0).is(Cause::Configure),
    decisive("Package {} was not found in the pkg-config search path.")
        .lacks(PkgConfig, 0)
        .is(Cause::Configure),
    decisive("{}: ERROR: Dependency \"{}\" not found{}").lacks(PkgConfig, 1).is(Cause::Configure),
    decisive("error: Package `{}' not found in specified {}").lacks(PkgConfig, 0),
    decisive("{}: ERROR: Program{}'{}' not found{}").lacks(Command, 2).is(Cause::Configure),
    decisive("{}: ERROR: {} library '{}' not found{}").lacks(Library, 2).is(Cause::Configure),
    decisive("{}: ERROR: {} is missing modules: {}").lacks(Python, 2).is(Cause::Configure),
    decisive("  Could NOT find {} (missing: {}").lacks(CMake, 0).with(1, 0).is(Cause::Configure),
    decisive("  Could not find a package configuration file provided by \"{}\" with{}")
        .lacks(CMake, 0)
        .is(Cause::Configure),
    decisive("{}ld: cannot find -l{}: No such file or directory").lacks(Library, 1),
    decisive("{}ld: cannot find -l{}").lacks(Library, 1),
    decisive("{}: error: unable to find library -l{}").lacks(Library, 1),
    decisive("{}: library not found: {}").lacks(Library, 1),
    decisive("{}: error while loading shared libraries: {}: {}").lacks(Soname, 1),
    decisive("dh: error: unable to load addon {}: {}").lacks(DhAddon, 0).is(Cause::Dependency),
    decisive("{}Can't locate {}.pm in @INC{}").lacks(Perl, 1),
    decisive("MakeMaker FATAL: prerequisites not found{}")
        .lacks_at(Perl, Place::NextLine)
        .and(After::Indented),
    decisive("{_}!{_}{} is not installed").lacks(Perl, 2),
    error("Warning: prerequisite {} {} not found{}").lacks(Perl, 0),
    decisive("{_}E   ModuleNotFoundError: No module named '{}'{}").lacks(Python, 1).with(3, 0),
    decisive("{}ModuleNotFoundError: No module named '{}'{}").lacks(Python, 1).with(2, 0),
    decisive("{}python{}: No module named {}").lacks(Python, 2),
    decisive("Could not import extension {} (exception: No module named '{}'{}")
        .lacks(Python, 1)
        .with(1, 0),
    decisive("{}BackendUnavailable{}").with(1, 0),
    decisive("ERROR Missing dependencies:").lacks_at(Python, Place::NextLine).and(After::Indented),
    decisive("{}ERROR: No matching distribution found for {}").lacks(Wheel, 1).with(1, 0),
    decisive("{}cannot load such file -- {} (LoadError)").lacks(Ruby, 1),
    decisive("{}Could not find gem '{}'{}").lacks(Ruby, 1),
    decisive("{}Cannot find module '{}'").lacks(Node, 1),
    decisive("{}module '{}' not found:{}").lacks(Lua, 1),
    decisive("{}there is no package called ‘{}’{}").lacks(R, 1),
    decisive("ERROR: dependency ‘{}’ is not available for package {}").lacks(R, 0),
    decisive("{}: no required module provides package {}; {}").lacks(Go, 1),
    decisive("{}cannot find module providing package {}").lacks(Go, 1),
    decisive("error[E0463]: can't find crate for `{}`{}").lacks(Crate, 0).with(0, 3),
    decisive("error: no matching package named `{}` found").lacks(Crate, 0).with(0, 2),
    // No network, no display, no place to write to.
    decisive("{}Could not resolve host{}").lacks(Network, 0),
    decisive("{}ould not resolve {}: {}").lacks(Network, 0),
    decisive("{}Could not resolve dependencies for {}").lacks(Network, 0),
    decisive("{}unable to resolve host address {}").lacks(Network, 0),
    decisive("{}: no such host{}").lacks(Network, 0),
    decisive("{}getaddrinfo E{}").lacks(Network, 0),
    decisive("npm {} code E{}").with(0, 4),
    decisive("fatal: unable to access '{}': {}").lacks(Network, 0),
    decisive("{}Temporary failure in name resolution{}").lacks(Network, 0),
    decisive("{}Name or service not known{}").lacks(Network, 0),
    decisive("{}Network is unreachable{}").lacks(Network, 0),
    decisive("{}Attempt to load network entity {}").lacks(Entity, 1).with(0, 1),
    decisive("{}Could not load the external subset \"http{}\"{}").lacks(Entity, 1),
    decisive("{}annot open display{}").lacks(Display, 0),
    decisive("{}: Read-only file system{}").lacks(Writable, 0),
    decisive("{}Too many open files{}"),
];
