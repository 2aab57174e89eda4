//! Files and programs that a build did not find, and the requirements that would bring them.

use slave_api::steers;

use crate::error::Cause;
use crate::explain::macros;
use crate::family::Family;

const NAME_BYTES: usize = 240;

/// Kind of the missing item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A header of C.
    Header,
    /// A program.
    Command,
    /// A module of pkg-config.
    PkgConfig,
    /// A package of CMake.
    CMake,
    /// A library to link with.
    Library,
    /// A shared library that a program is linked with, by its soname.
    Soname,
    /// A module of Perl, as the path of its file without `.pm`.
    Perl,
    /// A module of Python.
    Python,
    /// A package of Go.
    Go,
    /// A crate of Rust.
    Crate,
    /// The directory that `%setup` expects.
    Directory,
    /// A feature of Ruby, as `require` names it.
    Ruby,
    /// A module of Node.
    Node,
    /// A module of Lua.
    Lua,
    /// A package of R.
    R,
    /// A distribution that pip looks for.
    Wheel,
    /// A macro of rpm.
    Macro,
    /// A macro of autoconf.
    AutoconfMacro,
    /// The automake or autoconf that made the makefiles.
    Autotool,
    /// An addon of debhelper.
    DhAddon,
    /// A file of XML, by its address on the network.
    Entity,
    /// A display of X or Wayland.
    Display,
    /// The network.
    Network,
    /// A place that may be written to.
    Writable,
}

impl Missing {
    /// The class of trouble, where that it is missing tells by itself.
    pub fn cause(self) -> Option<Cause> {
        match self {
            Missing::Macro => Some(Cause::Source),
            Missing::AutoconfMacro => Some(Cause::Configure),
            Missing::DhAddon => Some(Cause::Dependency),
            _ => None,
        }
    }
}

/// Parses `text` as a name; `None` if it is not a valid name.
pub fn named(missing: Missing, text: &str) -> Option<(Missing, &str)> {
    parse(missing, text).filter(|(_, name)| is_showable(name))
}

/// Whether `name` may stand in a remedy. A log is untrusted: a text that steers a terminal or fills
/// its window is not a name.
pub fn is_showable(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES && !name.contains(steers)
}

fn parse(missing: Missing, text: &str) -> Option<(Missing, &str)> {
    let word = first_word(text);
    let name = match missing {
        Missing::Command if text.is_empty() || text.contains(' ') => return None,
        Missing::Command if text.starts_with('%') => {
            return Some((Missing::Macro, macros::rpm_macro(text)?));
        }
        Missing::Command if macros::is_autoconf(text) => {
            return Some((Missing::AutoconfMacro, text));
        }
        Missing::Header => Some(word).filter(|name| is_header(name))?,
        Missing::Macro => macros::called(text).or_else(|| macros::rpm_macro(text))?,
        Missing::AutoconfMacro => {
            Some(word).filter(|name| *name == "LIBTOOL" || macros::is_autoconf(name))?
        }
        Missing::Perl | Missing::Python | Missing::Wheel | Missing::R => word,
        _ => text,
    };
    Some((missing, name))
}

/// The first word, without quotes and without the version that may follow.
fn first_word(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || "\"'`‘’<*!([".contains(c));
    let ends = |c: char| c.is_whitespace() || "\"'`‘’<>=~!,;()[]…".contains(c);
    let word = &text[..text.find(ends).unwrap_or(text.len())];
    word.trim_end_matches(['.', ':'])
}

fn is_header(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    // C++'s have none; but a source that is not there is not a header.
    let is_path = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    is_path && matches!(ending, "h" | "hh" | "hpp" | "hxx" | "h++" | "inc" | "ipp" | "tcc")
}

/// The requirement that installs it: a capability for rpm, a path or module for Debian's archives.
pub fn requirement(missing: Missing, name: &str, family: Family) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"'\"`\\".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return None;
    }
    let module = name.split('.').next().unwrap_or(name);
    match (missing, family) {
        (Missing::Header, _) => Some(format!("/usr/include/{name}")),
        (Missing::Command, _) if name.contains('/') => name.starts_with('/').then(|| name.into()),
        (Missing::Command, _) => Some(format!("/usr/bin/{name}")),
        (Missing::PkgConfig, Family::Rpm) => Some(format!("pkgconfig({name})")),
        (Missing::PkgConfig, Family::Deb) => Some(format!("{name}.pc")),
        (Missing::CMake, Family::Rpm) => Some(format!("cmake({name})")),
        (Missing::CMake, Family::Deb) => Some(format!("{name}Config.cmake")),
        // Where a dist has its libraries, a log does not tell.
        (Missing::Library, _) | (Missing::Soname, Family::Deb) => None,
        (Missing::Soname, Family::Rpm) => Some(format!("{name}()(64bit)")),
        (Missing::Perl, Family::Rpm) => Some(format!("perl({})", name.replace('/', "::"))),
        (Missing::Perl, Family::Deb) => Some(format!("{name}.pm")),
        (Missing::Python, Family::Rpm) => {
            Some(format!("python3dist({})", module.replace('_', "-")))
        }
        (Missing::Python, Family::Deb) => Some(format!("python3-{}", module.replace('_', "-"))),
        (Missing::Go, Family::Rpm) => Some(format!("golang({name})")),
        (Missing::Crate, Family::Rpm) => Some(format!("crate({name})")),
        (Missing::Go | Missing::Crate, Family::Deb) => Some(name.to_owned()),
        (Missing::Wheel, family) => requirement(Missing::Python, name, family),
        (Missing::Ruby, Family::Rpm) => Some(format!("rubygem({})", name.replace('/', "-"))),
        (Missing::Ruby, Family::Deb) => Some(format!("{name}.rb")),
        (Missing::Node, _) if name.starts_with(['.', '/']) => None,
        (Missing::Node, Family::Rpm) => Some(format!("npm({name})")),
        (Missing::Node, Family::Deb) => Some(format!("node-{}", name.replace('/', "-"))),
        (Missing::R, Family::Rpm) => Some(format!("R({name})")),
        (Missing::R, Family::Deb) => Some(format!("r-cran-{}", name.to_ascii_lowercase())),
        (Missing::Macro, Family::Rpm) => macros::rpm_file(name),
        (Missing::AutoconfMacro, _) => macros::autoconf_file(name),
        (Missing::DhAddon, _) => Some(format!("dh-sequence-{name}")),
        (Missing::Lua | Missing::Macro | Missing::Autotool | Missing::Entity, _)
        | (Missing::Display | Missing::Directory | Missing::Network | Missing::Writable, _) => None,
    }
}

/// The remedy, a sentence.
pub fn remedy(missing: Missing, name: &str, is_own: bool, family: Family) -> String {
    match missing {
        Missing::Header if is_own => format!(
            "\"{name}\" is a header of the package's own: is it made by another target that nothing \
             waits for (try without -j), or in a directory that no -I names?"
        ),
        Missing::Command if name.contains('/') && !name.starts_with('/') => format!(
            "there is no {name} in the directory of the build: is it to be made first \
             (autoreconf -fi), or is it another directory that %setup enters?"
        ),
        Missing::Directory => format!(
            "the archive does not unpack into {name}: name its directory by '%setup -n DIRECTORY'"
        ),
        Missing::Network => {
            "a build has no network: make what it fetches a Source of the package, \
                             or allow it by --network"
                .to_owned()
        }
        Missing::Writable => {
            "the root of a build is read-only but for its build directory: have the package write \
             below that, or say 'readonly_root = false' in the dist"
                .to_owned()
        }
        Missing::Macro | Missing::AutoconfMacro => unexpanded(missing, name, family),
        Missing::Soname => format!(
            "{}; a library of the package's own is found before it is installed by LD_LIBRARY_PATH",
            in_the_root(missing, name, family)
        ),
        Missing::Autotool => format!(
            "{name} is called since the makefiles were made by another version, or their times are \
             in another order than they were made in: run 'autoreconf -fi' first"
        ),
        Missing::Wheel => format!(
            "pip looks for {name} on the network, which a build has not: {}, and have pip take what \
             is installed (--no-build-isolation, --no-index); or allow the network by --network",
            add(&requirement(missing, name, family).unwrap_or_default(), family)
        ),
        Missing::Entity => format!(
            "a build has no network: require the package whose XML catalog has {name} (DocBook's \
             DTDs and stylesheets are packages)"
        ),
        Missing::Display => {
            "a build has no display: run it by xvfb-run, and require that".to_owned()
        }
        _ => in_the_root(missing, name, family),
    }
}

/// A macro that stayed as it was, for want of its definition.
fn unexpanded(missing: Missing, name: &str, family: Family) -> String {
    let file = requirement(missing, name, family);
    let how = match &file {
        Some(path) => add(path, family),
        None => "require the package that contains it".to_owned(),
    };
    match missing {
        Missing::Macro => format!("the macro %{name} is not defined in this root: {how}"),
        _ => format!(
            "the macro {name} was not in the root when autoconf made the script of it: {how}, and run \
             'autoreconf -fi'"
        ),
    }
}

fn add(requirement: &str, family: Family) -> String {
    match family {
        Family::Rpm => {
            format!("add 'BuildRequires: {requirement}', or the package that provides it")
        }
        Family::Deb => format!("add the package that has {requirement} to Build-Depends"),
    }
}

fn in_the_root(missing: Missing, name: &str, family: Family) -> String {
    let what = match missing {
        Missing::Library => format!("lib{name}.so"),
        Missing::Perl => name.replace('/', "::"),
        _ => name.to_owned(),
    };
    let Some(requirement) = requirement(missing, name, family) else {
        return format!("{what} is not in the root: require the package that has it");
    };
    format!("{what} is not in the root: {}", add(&requirement, family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_steer_a_terminal_or_fill_it_are_not_names() {
        let long = "A".repeat(NAME_BYTES + 1);
        for text in ["\0", "X::\u{1b}[2J", "a\u{202e}b", "", &long] {
            for missing in [Missing::Perl, Missing::Command, Missing::Macro, Missing::Node] {
                assert_eq!(named(missing, text), None, "{text:?}");
            }
        }
        assert_eq!(named(Missing::Perl, "X::Y"), Some((Missing::Perl, "X::Y")));
    }

    #[test]
    fn requirements_are_what_a_spec_would_say() {
        for (missing, name, wanted) in [
            (Missing::Header, "zlib.h", Some("/usr/include/zlib.h")),
            (Missing::Command, "flex", Some("/usr/bin/flex")),
            (Missing::Command, "./configure", None),
            (Missing::PkgConfig, "glib-2.0", Some("pkgconfig(glib-2.0)")),
            (Missing::Perl, "IPC/Cmd", Some("perl(IPC::Cmd)")),
            (Missing::Python, "setuptools_scm.x", Some("python3dist(setuptools-scm)")),
            (Missing::CMake, "ZLIB", Some("cmake(ZLIB)")),
            (Missing::Command, "a b", None),
            (Missing::Header, "x';rm", None),
        ] {
            assert_eq!(requirement(missing, name, Family::Rpm).as_deref(), wanted, "{name}");
        }
    }
}
