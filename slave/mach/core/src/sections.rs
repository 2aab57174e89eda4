//! Sections of a log: those that rpmbuild says it runs, the steps of `debian/rules`.

/// The longest that is taken for a name.
const NAME_LIMIT: usize = 40;

/// The section that a line of a log begins: `%build` of `Executing(%build): /bin/sh …`,
/// `dh_auto_build` of debhelper's `   dh_auto_build -a`, `debian/rules build` of dpkg's own line.
pub fn begun_by(line: &str) -> Option<&str> {
    let line = line.trim_end();
    if let Some(rest) = line.strip_prefix("Executing(") {
        return name(rest.split_once(')')?.0);
    }
    if line.starts_with("Processing files: ") {
        return Some("%files");
    }
    // debhelper prints its steps with three blanks before them.
    if let Some(step) = line.strip_prefix("   ")
        && (step.starts_with("dh_") || step.starts_with("debian/rules "))
    {
        return debian_step(step);
    }
    // dpkg's own line, with one; by fakeroot where Rules-Requires-Root asks for it.
    if let Some(step) = line.strip_prefix(' ')
        && let step = step.strip_prefix("fakeroot ").unwrap_or(step)
        && step.starts_with("debian/rules ")
    {
        return debian_step(step);
    }
    match line.strip_prefix("dpkg-source: info: ") {
        Some(what) if what.starts_with("applying ") || what.starts_with("unpacking ") => {
            Some("dpkg-source")
        }
        _ => None,
    }
}

/// `dh_auto_build` of `dh_auto_build -O--parallel`; `debian/rules build` of `debian/rules build`.
fn debian_step(step: &str) -> Option<&str> {
    match step.strip_prefix("debian/rules ") {
        Some(target) => {
            let target = target.split(' ').next()?;
            name(&step[.."debian/rules ".len() + target.len()])
        }
        None => name(step.split(' ').next()?),
    }
}

fn name(text: &str) -> Option<&str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "%_/- .".contains(c);
    let text = text.trim();
    (!text.is_empty() && text.len() <= NAME_LIMIT && text.chars().all(fine)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_rpm_and_debian() {
        for (line, section) in [
            ("Executing(%prep): /bin/sh -e /var/tmp/rpm-tmp.a", Some("%prep")),
            ("Executing(%generate_buildrequires): /bin/sh", Some("%generate_buildrequires")),
            ("Processing files: hello-1-1.noarch", Some("%files")),
            ("   dh_auto_build -O--parallel", Some("dh_auto_build")),
            ("   debian/rules override_dh_auto_test", Some("debian/rules override_dh_auto_test")),
            (" debian/rules binary", Some("debian/rules binary")),
            (" fakeroot debian/rules clean", Some("debian/rules clean")),
            ("dpkg-source: info: applying sed_4.9-1.debian.tar.xz", Some("dpkg-source")),
            ("+ echo Executing(%build)", None),
            ("Executing(\x1b[2J): x", None),
            ("make[1]: Entering directory '/build/sed-4.9'", None),
        ] {
            assert_eq!(begun_by(line), section, "{line}");
        }
    }
}
