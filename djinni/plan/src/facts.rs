//! What is so on the host when a plan is made, gathered by `djinni-sys` from the pinned namespace
//! and handed to pure code as data.

use std::path::PathBuf;

/// What the mount table of the pinned namespace says about one slave's slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotFacts {
    /// Mount points in the slot, relative to the slaves directory, parents before
    /// children. The first is the slave's root. Empty: nothing is attached.
    pub mounts: Vec<PathBuf>,
    /// The slot carries the mark of a hold by the master, which outlives connections.
    pub held_by_master: bool,
    /// The slot's directory is there.
    pub present: bool,
}

/// The mounts below `slaves/` of a pinned namespace, parents first, by the first part of their path:
/// the slave.
/// `mountinfo` is that namespace's (`proc_pid_mountinfo(5)`).
pub fn slots(mountinfo: &str, slaves: &str) -> Vec<(String, Vec<PathBuf>)> {
    let mut slots: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for point in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)) {
        let Some(below) = unescape(point).strip_prefix(slaves).map(str::to_owned) else { continue };
        let Some(below) = below.strip_prefix('/') else { continue };
        let slave = below.split('/').next().unwrap_or_default().to_owned();
        match slots.iter_mut().find(|(name, _)| *name == slave) {
            Some((_, mounts)) => mounts.push(below.into()),
            None => slots.push((slave, vec![below.into()])),
        }
    }
    // A tree that was composed before it was placed is not listed in the order of its depth.
    for (_, mounts) in &mut slots {
        mounts.sort_by_key(|path| path.components().count());
    }
    slots
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
pub fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = field.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        match (bytes[at], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_from_mount_points_not_sources() {
        let text = "1 0 0:1 / /r/bm/slaves rw shared:1 - tmpfs djinni rw\n\
                    2 1 0:2 / /r/bm/slaves/b-1/root ro - erofs /proc/self/fd/7 ro\n\
                    3 2 0:3 / /r/bm/slaves/b-1/root/var rw - overlay none rw\n\
                    4 1 0:2 / /r/bm/slaves/b\\0402/root ro - erofs /proc/self/fd/7 ro\n\
                    5 1 0:2 / /r/bm/slavesx/b-3/root ro - erofs /proc/self/fd/7 ro\n";
        let expected = [
            ("b-1".to_owned(), vec!["b-1/root".into(), "b-1/root/var".into()]),
            ("b 2".to_owned(), vec!["b 2/root".into()]),
        ];
        assert_eq!(slots(text, "/r/bm/slaves"), expected);
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescape(r"a\040b\134040"), r"a b\040");
        assert_eq!(unescape(r"\9"), r"\9");
        assert_eq!(unescape("ä\\"), "ä\\");
    }
}
