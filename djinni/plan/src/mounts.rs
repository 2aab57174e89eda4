//! Parser for the kernel's mount table (`proc_pid_mountinfo(5)`). All crates use this one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The mount's number.
    pub id: u64,
    /// The type of its file system.
    pub file_system: &'a str,
    point: &'a [u8],
    /// The optional fields between the mount's options and the hyphen: its peer groups.
    tags: &'a str,
}

impl<'a> Mount<'a> {
    /// Its mount point, in the view of the process that owns the table.
    pub fn point(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescape(self.point)))
    }

    /// Whether mounts below it propagate to its peers (`mount_namespaces(7)`).
    pub fn is_shared(&self) -> bool {
        self.tags.split(' ').any(|tag| tag.starts_with("shared:"))
    }

    /// Numbers of the peer groups that it is a member or a slave of.
    pub fn peer_groups(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let number = |tag: &'a str| tag.strip_prefix("shared:").or(tag.strip_prefix("master:"));
        self.tags.split(' ').filter_map(number)
    }
}

/// The mounts of a table, in its order, without lines that cannot be parsed.
pub fn mounts(table: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(mount)
}

/// Parses one line. Mount points may be any bytes.
pub fn mount(line: &[u8]) -> Option<Mount<'_>> {
    let text = |field| std::str::from_utf8(field).ok();
    let mut fields = line.splitn(7, |byte| *byte == b' ');
    let id = text(fields.next()?)?.parse().ok()?;
    let point = fields.nth(3)?;
    // Without tags the hyphen comes at once.
    let rest = fields.nth(1)?;
    let hyphen = rest.windows(2).position(|two| two == b"- ")?;
    let (tags, after) = (text(&rest[..hyphen])?.trim_end(), &rest[hyphen + 2..]);
    let file_system = text(after.split(|byte| *byte == b' ').next()?)?;
    Some(Mount { id, file_system, point, tags })
}

/// Undoes the octal escapes of the table (space, tab, newline, backslash).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_mounts_peer_groups_are_read_whatever_else_is_tagged() {
        let text = b"70 65 0:40 / /r/root ro,nodev shared:2 master:9 unbindable - erofs x ro\n\
                     71 65 0:40 / /r/none rw - tmpfs x rw\n";
        let found: Vec<(u64, PathBuf, Vec<&str>, bool, &str)> = mounts(text)
            .map(|m| (m.id, m.point(), m.peer_groups().collect(), m.is_shared(), m.file_system))
            .collect();
        let expected = [
            (70, "/r/root".into(), vec!["2", "9"], true, "erofs"),
            (71, "/r/none".into(), vec![], false, "tmpfs"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mount_point_may_be_any_bytes() {
        let line = b"7 6 0:1 / /a\\040\xff\\134040 rw shared:1 - fuse.x y rw";
        let point = mount(line).map(|mount| mount.point());
        assert_eq!(point.unwrap_or_default().as_os_str().as_bytes(), b"/a \xff\\040");
        for odd in ["", "7", "7 6 0:1 / /a", "x 6 0:1 / /a rw - t s rw", "7 6 0:1 / /a rw shared:1"]
        {
            assert_eq!(mount(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescape(br"a\040b\134040"), br"a b\040");
        assert_eq!(unescape(br"\9"), br"\9");
        assert_eq!(unescape("ä\\".as_bytes()), "ä\\".as_bytes());
    }
}
