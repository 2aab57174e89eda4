//! Expected packages and build requirements of a source, as far as its spec tells before the build.
//! Pure: the text of `rpmspec` goes in, which an untrusted spec has shaped; nothing but order
//! follows from it.

use mach_core::rpm::evr::Capability;
use mach_core::rpm::source::Platforms;

/// Asks for each binary package: name and version, provides, requirements.
pub const QUERY: &str = "N %{NAME} = %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n\
                         [P %{PROVIDENAME} %{PROVIDEFLAGS:depflags} %{PROVIDEVERSION}\\n]\
                         [R %{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\\n]";
/// Asks for the source package: that it can be asked, its requirements, its machines.
pub const SOURCE_QUERY: &str = "S\\n[B %{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\\n]\
                                [EA %{EXCLUSIVEARCH}\\n][XA %{EXCLUDEARCH}\\n]\
                                [EO %{EXCLUSIVEOS}\\n][XO %{EXCLUDEOS}\\n]";
/// Stands between the answers to [`SOURCE_QUERY`] and [`QUERY`] and the expanded spec.
pub const MARK: &str = "=== expanded spec ===";

const LIMIT: usize = 10_000;

/// Facts read from a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Yields {
    /// Capabilities that its packages will provide, and names that rpm gives files of certain kinds.
    pub provides: Vec<Capability>,
    /// Requirements of its packages where they are installed.
    pub requires: Vec<Capability>,
    /// Its BuildRequires; `None` if it could not be asked for them.
    pub build_requires: Option<Vec<Capability>>,
    /// Machines that it may be built for.
    pub platforms: Platforms,
}

/// Reads what `rpmspec -q` and, after [`MARK`], `rpmspec -P` have printed.
pub fn read(text: &str) -> Yields {
    let mut yields = Yields::default();
    let (answer, spec) = text.split_once(MARK).unwrap_or((text, ""));
    for line in answer.lines().take(LIMIT * 10) {
        if line == "S" {
            yields.build_requires.get_or_insert_default();
        }
        let Some((mark, rest)) = line.split_once(' ') else { continue };
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let Some(capability) = Capability::parse(&words.join(" ")) else { continue };
        match mark {
            "N" => {
                yields.provides.extend(implied(&capability.name));
                yields.provides.push(capability);
            }
            "P" => yields.provides.push(capability),
            "R" => yields.requires.push(capability),
            "B" if !capability.name.starts_with("rpmlib(") => {
                yields.build_requires.get_or_insert_default().push(capability);
            }
            "EA" => yields.platforms.exclusive_arch.push(capability.name),
            "XA" => yields.platforms.exclude_arch.push(capability.name),
            "EO" => yields.platforms.exclusive_os.push(capability.name),
            "XO" => yields.platforms.exclude_os.push(capability.name),
            _ => {}
        }
    }
    for path in files(spec) {
        yields.provides.extend(of_path(&path));
    }
    let Yields { provides, requires, build_requires, .. } = &mut yields;
    for list in [provides, requires].into_iter().chain(build_requires) {
        list.truncate(LIMIT);
        list.sort();
        list.dedup();
    }
    yields
}

/// Expected packages of a source whose spec could not be expanded: its name and the usual subpackages.
pub fn guessed(name: &str) -> Vec<Capability> {
    let names = [name.to_owned(), format!("{name}-devel"), format!("{name}-libs")];
    let mut provides: Vec<Capability> = names.iter().map(|name| unversioned(name)).collect();
    provides.push(unversioned(&format!("pkgconfig({name})")));
    provides.push(unversioned(&format!("/usr/bin/{name}")));
    provides.extend(implied(name));
    provides
}

fn unversioned(name: &str) -> Capability {
    Capability {
        name: name.to_owned(),
        sense: mach_core::rpm::evr::Sense::ANY,
        version: String::new(),
    }
}

/// Provides that rpm's generators find in packages with such names.
fn implied(name: &str) -> Option<Capability> {
    if let Some(module) = name.strip_prefix("perl-") {
        return Some(unversioned(&format!("perl({})", module.replace('-', "::"))));
    }
    let module = name.strip_prefix("python3-")?;
    Some(unversioned(&format!("python3dist({})", module.to_lowercase())))
}

/// The paths in the `%files` sections of an expanded spec, braces expanded.
fn files(spec: &str) -> Vec<String> {
    let mut inside = false;
    let mut paths = Vec::new();
    for line in spec.lines() {
        if is_section(line) {
            inside = line.split_whitespace().next() == Some("%files");
        } else if inside && paths.len() < LIMIT && !is_no_file(line) {
            let words = line.split_whitespace().filter(|word| word.starts_with('/'));
            paths.extend(words.flat_map(braces));
        }
    }
    paths
}

fn is_section(line: &str) -> bool {
    const SECTIONS: [&str; 10] = [
        "%files",
        "%description",
        "%package",
        "%prep",
        "%build",
        "%install",
        "%check",
        "%changelog",
        "%post",
        "%pre",
    ];
    let word = line.split_whitespace().next().unwrap_or_default();
    SECTIONS.contains(&word)
}

fn is_no_file(line: &str) -> bool {
    line.split_whitespace().any(|word| ["%exclude", "%ghost", "%doc", "%license"].contains(&word))
}

/// `/usr/bin/{a,b}` as two paths; of several braces only the first.
fn braces(path: &str) -> Vec<String> {
    let parts = path.split_once('{').and_then(|(head, rest)| {
        let (inside, tail) = rest.split_once('}')?;
        Some((head, inside, tail))
    });
    match parts {
        Some((head, inside, tail)) => {
            inside.split(',').take(100).map(|part| format!("{head}{part}{tail}")).collect()
        }
        None => vec![path.to_owned()],
    }
}

/// Provides of a packaged file: its path, and those of rpm's generators.
fn of_path(path: &str) -> Vec<Capability> {
    if path.contains(['*', '?', '[', '%']) {
        return Vec::new();
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut provided = vec![unversioned(path)];
    if let Some(module) = name.strip_suffix(".pc").filter(|_| path.contains("/pkgconfig/")) {
        provided.push(unversioned(&format!("pkgconfig({module})")));
    }
    if path.contains("/cmake/") && !name.contains('.') {
        provided.push(unversioned(&format!("cmake({name})")));
    }
    provided
}

#[cfg(test)]
mod tests {
    use super::*;

    // rpm 4.18 printed this of a spec made for it.
    const SAID: &str = "S\nB (foo if bar)  \nB flex >= 2.6\nB rpmlib(X) <= 1\nEA aarch64\nEA s390x\n\
        N y = 1:1-1\nP virtual(y) = 3\nP y = 1:1-1\nR other >= 2\nR rtld(GNU_HASH)  \n\
        N y-devel = 1:1-1\nR y(x86-64) = 1:1-1\nN perl-IPC-Cmd = 1-1\n=== expanded spec ===\n\
        Name: y\n%install\nmkdir /usr/bin/no\n%files\n%defattr(-,root,root)\n\
        %attr(755,root,root) /usr/bin/y\n/usr/bin/{p,q}\n%exclude /usr/bin/x\n%files devel\n\
        /usr/lib64/pkgconfig/y-1.pc\n/usr/lib64/cmake/Y\n/usr/share/man/man1/y.1*\n%changelog\n\
        - took /usr/bin/old away\n";

    fn names(list: &[Capability]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn packages_provides_and_files_are_read() {
        let yields = read(SAID);
        let provides = names(&yields.provides);
        for wanted in [
            "y = 1:1-1",
            "y-devel = 1:1-1",
            "virtual(y) = 3",
            "/usr/bin/y",
            "/usr/bin/p",
            "/usr/bin/q",
            "pkgconfig(y-1)",
            "cmake(Y)",
            "perl(IPC::Cmd)",
        ] {
            assert!(provides.contains(&wanted.to_owned()), "{wanted}: {provides:?}");
        }
        for unwanted in ["/usr/bin/no", "/usr/bin/x", "/usr/bin/old", "/usr/share/man/man1/y.1*"] {
            assert!(!provides.contains(&unwanted.to_owned()), "{unwanted}");
        }
        let requires = ["other >= 2", "rtld(GNU_HASH)", "y(x86-64) = 1:1-1"];
        assert_eq!(names(&yields.requires), requires);
        assert_eq!(
            names(&yields.build_requires.unwrap_or_default()),
            ["(foo if bar)", "flex >= 2.6"]
        );
        let refusal = yields.platforms.refusal("x86_64");
        assert_eq!(refusal.as_deref(), Some("ExclusiveArch: aarch64 s390x"));
    }

    #[test]
    fn a_spec_without_requirements_is_not_one_that_could_not_be_asked() {
        assert_eq!(read("S\nN y = 1-1\n").build_requires, Some(Vec::new()));
        assert_eq!(read("N y = 1-1\n").build_requires, None);
    }

    #[test]
    fn anything_can_be_read() {
        assert_eq!(read(""), Yields::default());
        assert_eq!(read("error: query of specfile failed\n=== expanded spec ===\n").requires, []);
        read(&format!("N {}\n{MARK}%files\n/{{{}\n", "x".repeat(99_999), ",".repeat(99_999)));
        assert!(names(&guessed("zlib")).contains(&"pkgconfig(zlib)".to_owned()));
    }
}
