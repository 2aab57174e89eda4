//! The forms of `djinni mount`: those of mount(8) that have a meaning here.
//!
//! ```text
//! djinni mount share:world srcs                       a source names its kind itself
//! djinni mount -t tmpfs -o size=512M tmpfs build/tmp  or the type is given, as scripts do
//! djinni mount -t proc proc build/root/proc
//! ```

use djinni_api::master::MountKind;

/// A mount that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The kind.
    pub kind: MountKind,
    /// The share, volume or image, or the size; for the kernel's own file systems empty.
    pub what: String,
}

/// Reads type (`-t`), options (`-o`) and source of a command line.
///
/// # Errors
/// A sentence: what is wrong, and which form to use.
pub fn wanted(kind: Option<&str>, options: &[String], source: &str) -> Result<Wanted, String> {
    let options: Vec<&str> = options.iter().flat_map(|text| text.split(',')).collect();
    let size = options.iter().find_map(|option| option.strip_prefix("size="));
    // Scripts give these; every mount of the djinni has them anyway, or the kind decides.
    const HARMLESS: [&str; 7] = ["", "nodev", "nosuid", "defaults", "rw", "newinstance", "noexec"];
    let odd = |option: &&&str| !option.starts_with("size=") && !HARMLESS.contains(*option);
    if let Some(option) = options.iter().find(odd) {
        return Err(format!("option \"{option}\" is not supported: use -o size=SIZE, or none"));
    }
    let (named, what) = match source.split_once(':') {
        Some((name, what)) => (Some(name), what),
        None => (None, source),
    };
    let kind = match (kind, named) {
        (Some(given), Some(named)) if given != named => {
            return Err(format!("type {given:?} and source {source:?} do not fit: leave out -t"));
        }
        (Some(name), _) | (None, Some(name)) => kind_of(name)?,
        (None, None) => {
            return Err(format!(
                "source {source:?} has no kind: use share:NAME, volume:NAME, tmpfs:SIZE or \
                 layers:IMAGE, or -t proc, -t sysfs or -t devpts"
            ));
        }
    };
    let what = match (kind, named, size) {
        (MountKind::Tmpfs, Some(_), None) => what,
        (MountKind::Tmpfs, None, Some(size)) => size,
        (MountKind::Tmpfs, ..) => {
            return Err("a tmpfs needs one size: use tmpfs:SIZE, or -o size=SIZE".to_owned());
        }
        (_, _, Some(_)) => return Err("only a tmpfs has a size: leave out -o size".to_owned()),
        (MountKind::Proc | MountKind::Sysfs | MountKind::Devpts, ..) => "",
        _ => what,
    };
    Ok(Wanted { kind, what: what.to_owned() })
}

fn kind_of(name: &str) -> Result<MountKind, String> {
    let found = MountKind::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let known: Vec<&str> = MountKind::ALL.iter().map(|(name, _)| *name).collect();
        format!("{name:?} is not a kind of mount: use one of {}", known.join(", "))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(kind: &str, options: &str, source: &str) -> Result<(MountKind, String), String> {
        let kind = Some(kind).filter(|kind| !kind.is_empty());
        let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
        wanted(kind, &options, source).map(|found| (found.kind, found.what))
    }

    #[test]
    fn forms_of_mount_8_are_read() {
        for (kind, options, source, found, what) in [
            ("", "", "share:world", MountKind::Share, "world"),
            ("share", "", "world", MountKind::Share, "world"),
            ("", "rw", "volume:ccache", MountKind::Volume, "ccache"),
            ("", "", "tmpfs:2G", MountKind::Tmpfs, "2G"),
            ("tmpfs", "size=512M,nodev", "tmpfs", MountKind::Tmpfs, "512M"),
            ("", "", "layers:debian-12", MountKind::Layers, "debian-12"),
            ("proc", "", "proc", MountKind::Proc, ""),
            ("proc", "nosuid,noexec nodev", "none", MountKind::Proc, ""),
            ("devpts", "newinstance", "devpts", MountKind::Devpts, ""),
        ] {
            assert_eq!(read(kind, options, source).unwrap(), (found, what.to_owned()), "{source}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_form_to_use() {
        for (kind, options, source, why) in [
            ("", "", "/dev/sda1", "no kind"),
            ("", "", "ext4:x", "not a kind"),
            ("ext4", "", "/dev/sda1", "not a kind"),
            ("tmpfs", "", "tmpfs", "one size"),
            ("", "size=1G", "tmpfs:1G", "one size"),
            ("", "size=1G", "share:world", "only a tmpfs"),
            ("", "bind", "share:world", "\"bind\""),
            ("", "suid", "share:world", "\"suid\""),
            ("proc", "", "share:world", "do not fit"),
        ] {
            let error = read(kind, options, source).unwrap_err();
            assert!(error.contains(why), "{kind} {options} {source}: {error}");
        }
    }
}
