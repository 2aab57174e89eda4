//! Mounts that policy allows a slave to ask for (`mounts` of a slave, `[volume.NAME]` of a master).

use std::fmt;

use djinni_api::master::{MountKind, Refusal};
use djinni_api::{ImageName, ShareName, VolumeName};

use crate::config::{AbsolutePath, ImageSource};

/// A mount that a slave may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mountable {
    /// A directory of the host.
    Share {
        /// Its name.
        name: ShareName,
        /// The directory.
        path: AbsolutePath,
        /// Whether the slave may write to it, as far as the ids of its slice may.
        writable: bool,
    },
    /// An image file.
    Volume {
        /// Its name.
        name: VolumeName,
        /// The file and its file system.
        source: ImageSource,
        /// Whether the slave may write to it. Such a volume is mounted once at a time.
        writable: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its size, or the largest size that may be asked for, in bytes.
        size_bytes: u64,
    },
    /// A throw-away overlay on an image.
    Layers {
        /// The image.
        image: ImageName,
    },
}

impl Mountable {
    /// Its kind on the wire.
    pub fn kind(&self) -> MountKind {
        match self {
            Mountable::Share { .. } => MountKind::Share,
            Mountable::Volume { .. } => MountKind::Volume,
            Mountable::Tmpfs { .. } => MountKind::Tmpfs,
            Mountable::Layers { .. } => MountKind::Layers,
        }
    }

    /// The share, volume or image; the size of a tmpfs.
    pub fn what(&self) -> String {
        match self {
            Mountable::Share { name, .. } => name.to_string(),
            Mountable::Volume { name, .. } => name.to_string(),
            Mountable::Tmpfs { size_bytes } => size(*size_bytes),
            Mountable::Layers { image } => image.to_string(),
        }
    }

    /// Whether the slave can only read it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Mountable::Share { writable, .. } | Mountable::Volume { writable, .. } => !writable,
            Mountable::Tmpfs { .. } | Mountable::Layers { .. } => false,
        }
    }
}

impl fmt::Display for Mountable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writable = matches!(
            self,
            Mountable::Share { writable: true, .. } | Mountable::Volume { writable: true, .. }
        );
        let access = if writable { ":rw" } else { "" };
        write!(f, "{}:{}{access}", self.kind().name(), self.what())
    }
}

/// The entry of `allowed` that a request asks for; of a tmpfs with the size that it asks for.
///
/// # Errors
/// [`Refusal::NotPermitted`] with the entries that there are; [`Refusal::InvalidRequest`] for a size
/// that cannot be read.
pub(crate) fn permitted(
    allowed: &[Mountable],
    kind: MountKind,
    what: &str,
) -> Result<Mountable, Refusal> {
    if matches!(kind, MountKind::Proc | MountKind::Sysfs | MountKind::Devpts) {
        let name = kind.name();
        let rule = format!("a slave mounts {name} itself: run 'djinni mount' in the slave");
        return Err(Refusal::NotPermitted { rule });
    }
    let wanted = match kind {
        MountKind::Tmpfs => Some(parse_size(what).ok_or_else(|| invalid_size(what))?),
        _ => None,
    };
    let fits = |entry: &&Mountable| match (entry, wanted) {
        (Mountable::Tmpfs { size_bytes }, Some(bytes)) => bytes <= *size_bytes,
        _ => entry.kind() == kind && entry.what() == what,
    };
    match (allowed.iter().find(fits), wanted) {
        (Some(Mountable::Tmpfs { .. }), Some(size_bytes)) => Ok(Mountable::Tmpfs { size_bytes }),
        (Some(entry), _) => Ok(entry.clone()),
        (None, _) => Err(Refusal::NotPermitted { rule: not_listed(allowed, kind, what) }),
    }
}

fn not_listed(allowed: &[Mountable], kind: MountKind, what: &str) -> String {
    let shown: String = djinni_api::text::printable(what).chars().take(64).collect();
    let entries: Vec<String> = allowed.iter().map(Mountable::to_string).collect();
    let listed = match entries.is_empty() {
        true => "nothing".to_owned(),
        false => entries.join(", "),
    };
    format!("\"mounts\" of this slave's policy lists {listed}, not {}:{shown}", kind.name())
}

fn invalid_size(what: &str) -> Refusal {
    let shown: String = djinni_api::text::printable(what).chars().take(64).collect();
    let reason = format!("\"{shown}\" is not a size: use a number with K, M, G or T, as in 512M");
    Refusal::InvalidRequest { field: "what".into(), reason }
}

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// Bytes that a text such as `512M` names; `None` if it is not a size from 1 byte to 2^63.
pub fn parse_size(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let digits = unit.map_or(text, |_| &text[..text.len() - 1]);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let bytes = count.checked_mul(1 << unit.map_or(0, |(_, shift)| *shift))?;
    (bytes > 0 && bytes <= 1 << 63).then_some(bytes)
}

/// A size as [`parse_size`] reads it, in the largest unit that shows it whole.
fn size(bytes: u64) -> String {
    match UNITS.iter().find(|(_, shift)| bytes.is_multiple_of(1 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_one_unit() {
        for (text, bytes) in
            [("1", 1), ("4096", 4096), ("4K", 4096), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(parse_size(&size(bytes)), Some(bytes), "{text}");
        }
        for bad in ["", "0", "0G", "-1", "+1", "1.5G", "G", "1GB", "1 G", "99999999999T", "９"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }
}
