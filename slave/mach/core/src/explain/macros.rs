//! Names of macros that nothing expanded, and the files that define well-known ones.

/// The shortest name that is taken for a macro's: shorter ones are formats (`%s`, `%02d`).
const NAME_MIN: usize = 3;

/// Words after a per cent sign in specs that are not macros.
const OF_SPECS: [&str; 33] = [
    "attr",
    "build",
    "changelog",
    "check",
    "clean",
    "config",
    "defattr",
    "define",
    "description",
    "dir",
    "doc",
    "elif",
    "else",
    "endif",
    "exclude",
    "files",
    "ghost",
    "global",
    "ifarch",
    "ifnarch",
    "ifnos",
    "ifos",
    "include",
    "install",
    "lang",
    "license",
    "package",
    "post",
    "postun",
    "pre",
    "prep",
    "preun",
    "setup",
];

/// Macros of rpm that distributions keep in packages of their own: how the name begins, and the file
/// below `macros.d`, which Fedora's and SUSE's packages agree on.
const RPM_FILES: [(&str, &str); 16] = [
    ("py3_", "macros.python3"),
    ("python3_", "macros.python3"),
    ("pyproject_", "macros.pyproject"),
    ("pytest", "macros.pytest"),
    ("meson", "macros.meson"),
    ("cmake", "macros.cmake"),
    ("ninja", "macros.ninja"),
    ("_unitdir", "macros.systemd"),
    ("_userunitdir", "macros.systemd"),
    ("_tmpfilesdir", "macros.systemd"),
    ("_sysusersdir", "macros.systemd"),
    ("systemd_", "macros.systemd"),
    ("cargo_", "macros.cargo"),
    ("gem_", "macros.rubygems"),
    ("perl_", "macros.perl"),
    ("qmake", "macros.qt5"),
];

/// Macros of autoconf that packages other than autoconf and automake bring, and their file.
const AUTOCONF_FILES: [(&str, &str); 12] = [
    ("PKG_", "pkg.m4"),
    ("LIBTOOL", "libtool.m4"),
    ("LT_", "libtool.m4"),
    ("AC_PROG_LIBTOOL", "libtool.m4"),
    ("AM_PROG_LIBTOOL", "libtool.m4"),
    ("AM_GNU_GETTEXT", "gettext.m4"),
    ("AM_ICONV", "iconv.m4"),
    ("IT_PROG_INTLTOOL", "intltool.m4"),
    ("AC_PROG_INTLTOOL", "intltool.m4"),
    ("GTK_DOC_CHECK", "gtk-doc.m4"),
    ("AM_GLIB_GNU_GETTEXT", "glib-gettext.m4"),
    ("GOBJECT_INTROSPECTION", "introspection.m4"),
];

/// The first call of an rpm macro in `text`: `NAME` of `%{NAME}`, `%{?NAME}` or `%NAME`.
pub fn rpm_macro(text: &str) -> Option<&str> {
    text.match_indices('%').find_map(|(at, _)| called(&text[at + 1..]))
}

/// The first of those that stand in braces, which little else writes.
pub fn rpm_macro_in_braces(text: &str) -> Option<&str> {
    text.match_indices("%{").find_map(|(at, _)| called(&text[at + 1..]))
}

/// The macro that rpm's error about a line of a spec ends in: `… must begin with …: Requires: %NAME`.
pub fn in_tag(line: &str) -> Option<&str> {
    let (_, value) = line.strip_prefix("error: ")?.rsplit_once(": %")?;
    called(value)
}

/// The name that `text`, the text after a per cent sign, begins with.
pub fn called(text: &str) -> Option<&str> {
    let (text, closing) = match text.strip_prefix('{') {
        Some(inner) => (inner.trim_start_matches(['?', '!']), Some('}')),
        None => (text, None),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let ends = match closing {
        Some(_) => rest.starts_with(['}', ':', ' ']),
        None => !rest.starts_with('%'),
    };
    let begins = begins && !OF_SPECS.contains(&name);
    (begins && ends && (NAME_MIN..=80).contains(&name.len())).then_some(name)
}

/// The file that defines a well-known macro of rpm's.
pub fn rpm_file(name: &str) -> Option<String> {
    let known = RPM_FILES.iter().find(|(beginning, _)| name.starts_with(beginning));
    known.map(|(_, file)| format!("/usr/lib/rpm/macros.d/{file}"))
}

/// Whether a program of this name is rather a macro of autoconf's.
pub fn is_autoconf(name: &str) -> bool {
    let mut parts = name.split('_');
    let beginning = parts.next().unwrap_or_default();
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    parts.next().is_some() && beginning.len() >= 2 && name.chars().all(is_part)
}

/// The file that defines a well-known macro of autoconf's; those of the archive are named alike.
pub fn autoconf_file(name: &str) -> Option<String> {
    let known = AUTOCONF_FILES.iter().find(|(beginning, _)| name.starts_with(beginning));
    let file = match known {
        Some((_, file)) => (*file).to_owned(),
        None if name.starts_with("AX_") => format!("{}.m4", name.to_ascii_lowercase()),
        None => return None,
    };
    Some(format!("/usr/share/aclocal/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_told_from_formats() {
        for (text, name) in [
            ("+ %py3_build_of_nobody", Some("py3_build_of_nobody")),
            ("+ '%{meson_of_nobody}' -Dx=1", Some("meson_of_nobody")),
            ("/buildroot%{_nobodysbindir}/x", Some("_nobodysbindir")),
            ("%{?scl_prefix}x", Some("scl_prefix")),
            ("+ printf '%s %02d\\n' %%", None),
            ("100%", None),
            ("error: line 9: %changelog entries must start with *", None),
            ("%{", None),
            ("%{é}", None),
        ] {
            assert_eq!(rpm_macro(text), name, "{text}");
        }
        assert_eq!(rpm_macro_in_braces("%nosuch %{_unitdir}"), Some("_unitdir"));
    }

    #[test]
    fn files_of_well_known_macros() {
        assert_eq!(rpm_file("_unitdir").as_deref(), Some("/usr/lib/rpm/macros.d/macros.systemd"));
        assert_eq!(rpm_file("nosuch"), None);
        let file = |name| autoconf_file(name).map(|path| path.replace("/usr/share/aclocal/", ""));
        assert_eq!(file("PKG_CHECK_MODULES").as_deref(), Some("pkg.m4"));
        assert_eq!(file("AX_PTHREAD").as_deref(), Some("ax_pthread.m4"));
        assert_eq!(file("AM_PATH_NOSUCH"), None);
        assert!(is_autoconf("AM_PATH_X") && !is_autoconf("MAKE") && !is_autoconf("a_B"));
    }
}
