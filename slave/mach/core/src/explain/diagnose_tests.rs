//! Logs of packages that were really built, and really broken (rpm 4.18, debhelper 13, gcc 12).
//! Of each the sections' first lines and the last 45 lines are kept.

use super::*;

/// Expected diagnosis of a log: its name and text; class; section; a decisive line; the requirement.
type Case = (&'static str, &'static str, Cause, &'static str, &'static str, &'static str);

macro_rules! case {
    ($name:literal, $cause:ident, $section:literal, $line:literal) => {
        case!($name, $cause, $section, $line, "")
    };
    ($name:literal, $cause:ident, $section:literal, $line:literal, $requirement:literal) => {
        (
            $name,
            include_str!(concat!("logs/", $name, ".log")),
            Cause::$cause,
            $section,
            $line,
            $requirement,
        )
    };
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    case!("automake", Test, "%check", "FAIL: two"),
    case!("autopatch", Patch, "%prep", "No file to patch.  Skipping patch."),
    case!("autoreconf", Configure, "%build", "automake: error: no 'Makefile.am'"),
    case!("badspec", Source, "", "error: line 6: Unknown tag: Descriptio: x"),
    case!("badtar", Source, "%prep", "This does not look like a tar archive"),
    case!("bashism", Compile, "%build", "gperff: command not found", "/usr/bin/gperff"),
    case!("buildarch", FilesList, "%files", "error: Arch dependent binaries in noarch package"),
    case!("cannotcompile", Configure, "%build", "C compiler cannot create executables"),
    case!("cargotest", Test, "%check", "assertion `left == right` failed: sum"),
    case!("cmake", Configure, "%build", "Could NOT find ZLIB", "cmake(ZLIB)"),
    case!("cmakeconfig", Configure, "%build", "provided by \"Qt6Nosuch\" with", "cmake(Qt6Nosuch)"),
    case!("configure", Configure, "%build", "configure: error: libnosuch is needed, see INSTALL"),
    case!("ctest", Test, "%check", "2/2 Test #2: bad"),
    case!("deb-header", Compile, "dh_auto_build", "nosuchlib.h", "/usr/include/nosuchlib.h"),
    case!("deb-install", FilesList, "dh_install", "\"usr/bin/other\""),
    case!("deb-missing", FilesList, "debian/rules override_dh_missing", "usr/bin/prog exists in"),
    case!("deb-patch", Patch, "dpkg-source", "Hunk #1 FAILED at 1."),
    case!("deb-rules", Configure, "debian/rules override_dh_auto_configure", "./configure: No such"),
    case!("deb-test", Test, "dh_auto_test", "FAIL: sums"),
    case!("deb-unmet", Dependency, "dpkg-checkbuilddeps", "libnosuch-dev (>= 2)"),
    case!("files", FilesList, "%files", "usr/share/man/man1/a.1*"),
    case!("go", Compile, "%build", "./main.go:3:27: undefined: undefinedThing"),
    case!("gomod", Compile, "%build", "no required module", "golang(github.com/pkg/errors)"),
    case!("gotest", Test, "%check", "x_test.go:3: sum: got 2"),
    case!("header", Compile, "%build", "fatal error: nosuchlib.h", "/usr/include/nosuchlib.h"),
    case!("install", Install, "%install", "install: cannot stat 'hello'"),
    case!("killed", Resource, "%build", "Killed"),
    case!("killedcc", Resource, "%build", "Killed signal terminated program cc1plus"),
    case!("make-target", Compile, "%build", "No rule to make target 'nofile.c'"),
    case!("makeno", Compile, "%build", "No targets specified and no makefile found"),
    case!("meson", Configure, "%build", "Dependency \"libnosuch\"", "pkgconfig(libnosuch)"),
    case!("mesontest", Test, "%check", "2/2 bad  FAIL"),
    case!("network", Compile, "%build", "Name or service not known"),
    case!("ninja", Compile, "%build", "error: ‘missing_thing’ undeclared"),
    case!("nocommand", Compile, "%build", "flexx: not found", "/usr/bin/flexx"),
    case!("noconfigure", Compile, "%build", "./configure: not found"),
    case!("noenv", Compile, "%build", "‘pythoon3’: No such file", "/usr/bin/pythoon3"),
    case!("nolib", Compile, "%build", "ld: cannot find -lnosuch"),
    case!("nosource", Source, "%prep", "SOURCES/absent-1.tar.gz: No such file"),
    case!("nospace", Resource, "%build", "No space left on device"),
    case!("oom", Resource, "%build", "virtual memory exhausted"),
    case!("ownheader", Compile, "%build", "fatal error: made.h"),
    case!("patch", Patch, "%prep", "Hunk #1 FAILED at 1."),
    case!("perlmod", Compile, "%build", "Can't locate No/Such", "perl(No::Such::Module)"),
    case!("perlscript", Compile, "%build", "Global symbol \"$x\" requires explicit package name"),
    case!("pkgconfig", Configure, "%build", "Package 'libbar'", "pkgconfig(glib-nosuch-2.0)"),
    case!("prove", Test, "%check", "     expected: '3'"),
    case!("pymod", Compile, "%build", "ModuleNotFoundError", "python3dist(setuptools-nosuch)"),
    case!("pytest", Compile, "%build", "No module named pytest_nosuch", "python3dist(pytest-nosuch)"),
    case!("pytrace", Compile, "%build", "FileNotFoundError: [Errno 2]"),
    case!("rust", Compile, "%build", "error[E0425]: cannot find value `y` in this scope"),
    case!("rustlink", Compile, "%build", "could not find `Cargo.toml`"),
    case!("segfault", Test, "%check", "Segmentation fault"),
    case!("undeclared", Compile, "%build", "error: ‘cuonter’ undeclared"),
    case!("undefined", Compile, "%build", "undefined reference to `elsewhere'"),
    case!("unittest", Test, "%check", "AssertionError: 2 != 3"),
    case!("unneeded", Dependency, "BuildRequires", "nosuch-devel >= 2 is needed by"),
    case!("unpackaged", FilesList, "%files", "   /usr/share/doc/z"),
    case!("werror", Compile, "%build", "[-Werror=uninitialized]"),
    case!("wrongdir", Source, "%prep", "can't cd to wrongdir-1"),
];

fn family_of(name: &str) -> Family {
    if name.starts_with("deb-") { Family::Deb } else { Family::Rpm }
}

#[test]
fn broken_packages_are_explained() {
    for (name, log, cause, section, line, requirement) in CASES {
        let found = diagnose(log, 1, family_of(name));
        assert_eq!(found.cause, *cause, "{name}: {found:#?}");
        assert_eq!(found.section.as_deref().unwrap_or(""), *section, "{name}");
        assert!(found.lines.iter().any(|shown| shown.contains(line)), "{name}: {found:#?}");
        assert!(found.lines.len() <= 13, "{name}: {found:#?}");
        assert_eq!(found.requirement.as_deref().unwrap_or(""), *requirement, "{name}");
        assert!(!found.remedy.is_empty());
    }
}

#[test]
fn every_log_is_a_case() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain/logs");
    assert_eq!(std::fs::read_dir(directory).map_or(0, Iterator::count), CASES.len());
}

#[test]
fn remedies_name_what_is_meant() {
    let remedy = |name: &str| {
        let (name, log, ..) = CASES.iter().find(|case| case.0 == name).copied().unwrap_or(CASES[0]);
        diagnose(log, 1, family_of(name)).remedy
    };
    assert!(remedy("patch").contains("make fix.patch fit"), "{}", remedy("patch"));
    assert!(remedy("autopatch").contains("make fix.patch fit"), "{}", remedy("autopatch"));
    assert!(remedy("header").contains("'BuildRequires: /usr/include/nosuchlib.h'"));
    assert!(remedy("ownheader").contains("of the package's own"));
    assert!(remedy("noconfigure").contains("autoreconf"));
    assert!(remedy("wrongdir").contains("%setup -n"));
    assert!(remedy("network").contains("--network"));
    assert!(remedy("automake").contains("test-suite.log"));
    assert!(remedy("nolib").contains("libnosuch.so"));
}

/// Diagnosis of a few lines in a section: cause, requirement, remedy.
fn told(section: &str, lines: &str, family: Family) -> (Cause, String, String) {
    let log = match family {
        Family::Rpm => format!("Executing({section}): /bin/sh -e x\n{lines}\n"),
        Family::Deb => format!("   {section}\n{lines}\n"),
    };
    let found = diagnose(&log, 1, family);
    (found.cause, found.requirement.unwrap_or_default(), found.remedy)
}

#[test]
fn macros_that_nothing_expanded_are_named() {
    for (section, lines, cause, name) in [
        // bash, dash; with a name that is also a job's.
        (
            "%build",
            "+ %nosuch_build -v\nx: line 3: fg: no job control",
            Cause::Source,
            "nosuch_build",
        ),
        ("%build", "x: 3: %nosuch_build: not found", Cause::Source, "nosuch_build"),
        ("%build", "x: line 3: fg: %nosuch_build: no such job", Cause::Source, "nosuch_build"),
        (
            "%check",
            "+ '%{nosuch_test}' -v\nx: line 3: fg: no job control",
            Cause::Source,
            "nosuch_test",
        ),
        // In paths, for any message of a tool about them.
        (
            "%install",
            "install: cannot stat '%{_nosuchdir}/x': No such file or directory",
            Cause::Install,
            "_nosuchdir",
        ),
        (
            "%install",
            "+ mkdir /r%{_nosuchdir}/x\nmkdir: /r/x: oh no: Permission denied",
            Cause::Install,
            "_nosuchdir",
        ),
        (
            "%build",
            "+ ./prog --dir %{?_nosuchdir}\nsomething went wrong",
            Cause::Source,
            "_nosuchdir",
        ),
    ] {
        let (said, _, remedy) = told(section, lines, Family::Rpm);
        assert!(
            remedy.contains(&format!("%{name} is not defined in this root")),
            "{lines}: {remedy}"
        );
        assert_eq!(said, cause, "{lines}");
    }
    for log in [
        "error: File must begin with \"/\": %{_nosuchdir}/x\n",
        "error: File must begin with \"/\": %_nosuchdir\n",
        "error: line 4: Unknown tag: %_nosuchdir x\n",
        "error: line 4: Illegal char '{' (0x7b) in: Requires: %{_nosuchdir}\n",
    ] {
        let found = diagnose(log, 1, Family::Rpm);
        assert!(found.remedy.contains("%_nosuchdir is not defined"), "{found:#?}");
    }
    // Neither formats of printf nor arguments of curl are macros.
    let (_, _, remedy) = told("%build", "a.c:1:2: error: format '%d' expects %s", Family::Rpm);
    assert!(!remedy.contains("macro"), "{remedy}");
}

#[test]
fn macros_of_autoconf_that_nothing_expanded_are_named() {
    for (lines, name, file) in [
        (
            "./configure: line 9: syntax error near unexpected token `X,'\n./configure: line 9: `PKG_CHECK_MODULES(X, x)'",
            "PKG_CHECK_MODULES",
            "/usr/share/aclocal/pkg.m4",
        ),
        (
            "./configure: 9: PKG_PROG_PKG_CONFIG: not found",
            "PKG_PROG_PKG_CONFIG",
            "/usr/share/aclocal/pkg.m4",
        ),
        (
            "./configure: line 9: AX_PTHREAD: command not found",
            "AX_PTHREAD",
            "/usr/share/aclocal/ax_pthread.m4",
        ),
        ("configure.in:3: error: possibly undefined macro: AM_PATH_NOSUCH", "AM_PATH_NOSUCH", ""),
        (
            "Makefile.am:1: error: Libtool library used but 'LIBTOOL' is undefined",
            "LIBTOOL",
            "/usr/share/aclocal/libtool.m4",
        ),
    ] {
        for (section, family) in
            [("%build", Family::Rpm), ("%prep", Family::Rpm), ("dh_autoreconf", Family::Deb)]
        {
            let (cause, requirement, remedy) = told(section, lines, family);
            assert_eq!((cause, requirement.as_str()), (Cause::Configure, file), "{lines}");
            assert!(remedy.contains(&format!("the macro {name} ")), "{remedy}");
        }
    }
}

#[test]
fn a_script_of_autoconf_says_its_own_name() {
    for script in
        ["configure", "configure.sh", "./configure.gnu", "config.status", "setup", "bootstrap.in"]
    {
        let lines = format!(
            "checking for nosuch/md4.h... no\nFailed to find nosuch/md4.h, which is needed\n{script}: error: give up"
        );
        for section in ["%prep", "%build", "%install"] {
            let (cause, requirement, remedy) = told(section, &lines, Family::Rpm);
            assert_eq!(cause, Cause::Configure, "{script} {section}");
            assert_eq!(requirement, "/usr/include/nosuch/md4.h", "{script}");
            assert!(remedy.contains("nosuch/md4.h"), "{remedy}");
        }
        let found = diagnose(&format!("Executing(%build): x\n{lines}\n"), 1, Family::Rpm);
        assert!(found.lines.iter().any(|line| line.starts_with("Failed to find")), "{found:#?}");
    }
}

#[test]
fn what_a_line_tells_for_sure_counts_for_more_than_its_section() {
    for (section, lines, cause) in [
        (
            "%prep",
            "configure: error: Package requirements (x) were not met:\n\nNo package 'x' found",
            Cause::Configure,
        ),
        ("%prep", "CMake Error at CMakeLists.txt:3 (message):\n  oh no", Cause::Configure),
        ("%prep", "a.c:1:1: error: unknown type name ‘a’", Cause::Compile),
        ("%prep", "Hunk #1 FAILED at 3.", Cause::Patch),
        ("%build", "Hunk #1 FAILED at 3.", Cause::Patch),
        ("%install", "meson.build:1:0: ERROR: oh no", Cause::Configure),
        (
            "%install",
            "CMake Error at cmake_install.cmake:41 (file):\n  file INSTALL cannot find \"x\"",
            Cause::Install,
        ),
        ("%check", "a.c:1:1: error: unknown type name ‘a’", Cause::Test),
    ] {
        assert_eq!(told(section, lines, Family::Rpm).0, cause, "{section}: {lines}");
    }
}

#[test]
fn noise_that_a_test_expects_does_not_win() {
    // Noise, the verdict among other tests, more noise.
    let noise = "cat: /etc/shadow: Permission denied\nsh: line 1: nosuch: command not found\nmake[3]: *** [x] Error 1\nSegmentation fault\n";
    let quiet = "ok 1 - fine\n".repeat(60);
    for verdict in [
        "3/5 test-run.sh             ERROR           0.31s   exit status 1",
        "3/5 test-run.sh             TIMEOUT         30.01s   killed by signal 15 SIGTERM",
        "The following tests FAILED:\n\t  7 - dates (Failed)",
        "dates.cc:12: Failure\nExpected equality of these values:",
        "==== dates-1.2 days of April FAILED",
        "        FAIL [   0.013s] (2/2) x dates::april",
        "--- FAIL: TestApril (0.00s)",
        "t/dates.t (Wstat: 256 (exited 1) Tests: 3 Failed: 1)",
        "[ERROR]   DatesTest.april:7 expected:<31> but was:<30>",
        "FAIL: dates",
    ] {
        for family in [Family::Rpm, Family::Deb] {
            let lines = format!("{noise}{quiet}{verdict}\n{quiet}");
            let section =
                if family == Family::Rpm { "Executing(%check): x" } else { "   dh_auto_test" };
            let found = diagnose(&format!("{section}\n{lines}"), 1, family);
            let first = verdict.lines().next().unwrap_or_default().replace('\t', " ");
            assert!(found.lines.contains(&first), "{verdict}: {found:#?}");
            assert!(
                !found.lines.iter().any(|line| line.contains("nosuch")),
                "{verdict}: {found:#?}"
            );
            assert_eq!(found.cause, Cause::Test, "{verdict}");
        }
    }
}

#[test]
fn what_a_script_did_not_find_and_survived_does_not_count() {
    let survived =
        "sh: 1: build-aux/git-version-gen: not found\nx: line 3: nosuchgit: command not found\n";
    let quiet = "checking for something... yes\n".repeat(150);
    for (failure, line) in [
        (
            "a.c:3:1: error: unknown type name ‘a’\nmake: *** [Makefile:3: a.o] Error 1\n",
            "a.c:3:1: error",
        ),
        ("configure: error: no such thing\n", "configure: error"),
        ("gen: oh no\nmake: *** [Makefile:3: a.o] Error 1\n", "gen: oh no"),
    ] {
        let log = format!("Executing(%build): x\n{survived}{quiet}{failure}");
        let found = diagnose(&log, 1, Family::Rpm);
        assert!(found.lines.iter().any(|shown| shown.starts_with(line)), "{found:#?}");
        assert!(!found.lines.iter().any(|shown| shown.contains("not found")), "{found:#?}");
        assert_eq!(found.requirement, None);
    }
}

#[test]
fn of_errors_by_their_wording_the_last_ones_are_shown() {
    let mut log = String::from("Executing(%check): x\n");
    (0..30).for_each(|n| log.push_str(&format!("error: survived {n}\n{}", "fine\n".repeat(9))));
    log.push_str("+ ./suite --all\nerror: the database is gone\n");
    let found = diagnose(&log, 1, Family::Rpm);
    assert!(found.lines.iter().any(|line| line.contains("database is gone")), "{found:#?}");
    assert!(found.lines.iter().any(|line| line == "+ ./suite --all"), "{found:#?}");
    assert!(!found.lines.iter().any(|line| line.contains("survived 0")), "{found:#?}");
}

#[test]
fn an_error_that_was_survived_does_not_count() {
    // What configure tried, what a makefile ignored, what a test provoked long before the end.
    let mut log = String::from(
        "Executing(%build): /bin/sh\nconftest.c:1:1: error: expected\nrm: cannot stat 'x': No such \
         file or directory\nmake: [Makefile:1: clean] Error 1 (ignored)\nNo space left on device\n",
    );
    (0..500).for_each(|n| log.push_str(&format!("cc -c {n}.c\n")));
    log.push_str("b.c:3:1: error: wrong\nmake: *** [b.o] Error 1\nc.c:9:9: error: later\n");
    log.push_str("error: Bad exit status from /var/tmp/rpm-tmp.a (%build)\n");
    let found = diagnose(&log, 1, Family::Rpm);
    assert_eq!(found.cause, Cause::Compile, "{found:#?}");
    assert!(found.lines.iter().any(|line| line == "b.c:3:1: error: wrong"), "{found:#?}");
    assert!(!found.lines.iter().any(|line| line.contains("conftest")), "{found:#?}");
}

#[test]
fn a_build_that_was_killed_wanted_memory() {
    assert_eq!(diagnose("Executing(%build): sh\n", 137, Family::Rpm).cause, Cause::Resource);
    assert_eq!(diagnose("", 1, Family::Rpm).cause, Cause::Source);
    let unknown = diagnose("Executing(%check): sh\nhm\n", 1, Family::Rpm);
    assert_eq!((unknown.cause, unknown.lines.len()), (Cause::Test, 2));
}

#[test]
fn many_errors_are_counted_not_shown() {
    let mut log = String::from("Executing(%build): /bin/sh\n");
    (0..90).for_each(|n| log.push_str(&format!("a.c:{n}:1: error: e\n\n\n\n")));
    let found = diagnose(&log, 1, Family::Rpm);
    assert!(found.lines.len() <= 13, "{found:#?}");
    assert_eq!(found.lines.last().map(String::as_str), Some("… and 86 more"));
}

#[test]
fn hostile_logs_are_only_text() {
    let steering = "Executing(%build): sh\nx.c:1:1: error: \x1b[2J\u{202e}boo\n";
    let found = diagnose(steering, 1, Family::Rpm);
    assert!(found.lines.iter().all(|line| !line.contains(['\x1b', '\u{202e}'])), "{found:#?}");
    // No pattern needs long for any line.
    let mut state = 1_u32;
    let mut noise = String::new();
    while noise.len() < 400_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let words = [": ", "error", "{}", "\n", "make: *** ", "é", "'", "not found", "ld: ", "\r"];
        noise.push_str(words[(state >> 16) as usize % words.len()]);
    }
    noise.push_str(&"x".repeat(1 << 20));
    for family in [Family::Rpm, Family::Deb] {
        diagnose(&noise, 1, family);
    }
}
