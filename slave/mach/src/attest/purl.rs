//! Package URLs (ECMA-427): other tools' names of the packages that records name by NEVRA.

use mach_core::family::Family;

/// A package's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Epoch of an RPM, if not 0; Debian's stands in the version.
    pub epoch: Option<&'a str>,
    /// Version and, after a hyphen, release.
    pub version: &'a str,
    /// Architecture; `src` for a source package of RPM.
    pub arch: &'a str,
}

/// The parts of `bash-1:5.2.15-2.x86_64`, or for Debian of `bash_5.2.15-2+b7_amd64`.
pub fn parts(family: Family, nevra: &str) -> Option<Parts<'_>> {
    match family {
        Family::Rpm => {
            let (rest, arch) = nevra.rsplit_once('.')?;
            let before_release = rest.rfind('-')?;
            let before_version = rest[..before_release].rfind('-')?;
            let (name, version) = (&rest[..before_version], &rest[before_version + 1..]);
            let (epoch, version) = match version.split_once(':') {
                Some((epoch, version)) => (Some(epoch), version),
                None => (None, version),
            };
            Some(Parts { name, epoch, version, arch })
        }
        Family::Deb => {
            let mut parts = nevra.split('_');
            let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Parts { name, epoch: None, version, arch })
        }
    }
}

/// The package URL of a package of `dist`; `None` if `nevra` is not a valid NEVRA.
pub fn of(family: Family, nevra: &str, dist: &str) -> Option<String> {
    let Parts { name, epoch, version, arch } = parts(family, nevra)?;
    // The vendor, as the types rpm and deb want it: the first word of the dist's name.
    let vendor = dist.split('-').next().unwrap_or(dist).to_lowercase();
    let (kind, name) = match family {
        Family::Rpm => ("rpm", name.to_owned()),
        Family::Deb => ("deb", name.to_lowercase()),
    };
    let epoch = epoch.map_or(String::new(), |epoch| format!("&epoch={}", encoded(epoch)));
    Some(format!(
        "pkg:{kind}/{}/{}@{}?arch={}&distro={}{epoch}",
        encoded(&vendor),
        encoded(&name),
        encoded(version),
        encoded(arch),
        encoded(dist)
    ))
}

/// Percent-encoded: all but letters, digits and `.-_~:` (ECMA-427, section 5.4).
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rpms_are_named() {
        let of = |nevra| of(Family::Rpm, nevra, "debian-12-rpm").unwrap();
        let wanted = "pkg:rpm/debian/gcc-c%2B%2B@12.2-1?arch=x86_64&distro=debian-12-rpm";
        assert_eq!(of("gcc-c++-12.2-1.x86_64"), wanted);
        let wanted = "pkg:rpm/debian/perl-x@5~rc-3.4?arch=noarch&distro=debian-12-rpm&epoch=4";
        assert_eq!(of("perl-x-4:5~rc-3.4.noarch"), wanted);
    }

    #[test]
    fn debian_packages_are_named() {
        let wanted = "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1%2Bb1?arch=amd64&distro=debian-12";
        assert_eq!(
            of(Family::Deb, "zlib1g_1:1.2.13.dfsg-1+b1_amd64", "debian-12").unwrap(),
            wanted
        );
    }

    #[test]
    fn what_is_no_name_has_none() {
        for nevra in ["", "x", "x.y", "x-1.y", "a_b"] {
            assert_eq!(of(Family::Rpm, nevra, "d"), None, "{nevra}");
            assert_eq!(of(Family::Deb, nevra, "d"), None, "{nevra}");
        }
    }
}
