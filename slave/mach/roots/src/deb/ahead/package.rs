//! A binary package as a file: its members, decompressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use liblzma::bufread::XzDecoder;
use mach_core::deb::ar::{HEADER_BYTES, Header, MAGIC};

/// Size of one read or write.
const BUFFER_BYTES: usize = 256 << 10;

/// An open package.
#[derive(Debug)]
pub struct Package {
    file: File,
    control: Member,
    data: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    begin: u64,
    size_bytes: u64,
    is_compressed: bool,
}

impl Package {
    /// Opens it. A package of another form than xz or uncompressed members is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(unknown(path, "it is not an ar archive"));
        }
        let (name, _) = next(&mut file, path)?;
        if name != "debian-binary" {
            return Err(unknown(path, &name));
        }
        let (name, control) = next(&mut file, path)?;
        let control = member(&name, "control.tar", control).ok_or_else(|| unknown(path, &name))?;
        let (name, data) = next(&mut file, path)?;
        let data = member(&name, "data.tar", data).ok_or_else(|| unknown(path, &name))?;
        Ok(Self { file, control, data })
    }

    /// Writes the package's files to `out`, as a tar.
    pub fn decompress_data(&self, out: &mut impl Write) -> io::Result<()> {
        self.decompress(self.data, out)
    }

    /// Writes what dpkg is to know of the package to `out`, as a tar.
    pub fn decompress_control(&self, out: &mut impl Write) -> io::Result<()> {
        self.decompress(self.control, out)
    }

    fn decompress(&self, member: Member, out: &mut impl Write) -> io::Result<()> {
        (&self.file).seek(SeekFrom::Start(member.begin))?;
        let content = (&self.file).take(member.size_bytes);
        match member.is_compressed {
            true => {
                let content = BufReader::with_capacity(BUFFER_BYTES, content);
                copy(&mut XzDecoder::new_multi_decoder(content), out)
            }
            false => copy(&mut { content }, out),
        }
    }
}

/// The name and place of the member whose header comes next; `file` is then at its end.
fn next(file: &mut File, path: &Path) -> io::Result<(String, (u64, u64))> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact(&mut bytes)?;
    let header = Header::parse(&bytes).ok_or_else(|| unknown(path, "a header is damaged"))?;
    let begin = file.stream_position()?;
    let skipped = i64::try_from(header.padded_bytes()).map_err(io::Error::other)?;
    file.seek(SeekFrom::Current(skipped))?;
    Ok((header.name, (begin, header.size_bytes)))
}

fn member(name: &str, wanted: &str, (begin, size_bytes): (u64, u64)) -> Option<Member> {
    let is_compressed = match name.strip_prefix(wanted)? {
        "" => false,
        ".xz" => true,
        _ => return None,
    };
    Some(Member { begin, size_bytes, is_compressed })
}

fn unknown(path: &Path, what: &str) -> io::Error {
    let what = format!("{}: not a package that mach unpacks by itself: {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Copies in larger pieces than `io::copy`, and never by splicing: the source may be truncated meanwhile.
pub fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;

    /// A package with these members.
    pub fn made(at: &Path, members: &[(&str, &[u8])]) {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in members {
            let size = content.len();
            let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, "100644");
            bytes.extend(head.as_bytes());
            bytes.extend(*content);
            bytes.extend(vec![b'\n'; size % 2]);
        }
        std::fs::write(at, bytes).unwrap();
    }

    pub fn xz(content: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        liblzma::bufread::XzEncoder::new(content, 1).read_to_end(&mut compressed).unwrap();
        compressed
    }

    #[test]
    fn members_are_found_and_decompressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.deb");
        let members: [(&str, &[u8]); 3] =
            [("debian-binary", b"2.0\n"), ("control.tar.xz", &xz(b"odd")), ("data.tar", b"data")];
        made(&path, &members);
        let package = Package::open(&path).unwrap();
        let (mut control, mut data) = (Vec::new(), Vec::new());
        package.decompress_control(&mut control).unwrap();
        package.decompress_data(&mut data).unwrap();
        assert_eq!((control.as_slice(), data.as_slice()), (b"odd".as_slice(), b"data".as_slice()));
    }

    #[test]
    fn a_damaged_member_and_another_form_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.deb");
        let mut whole = xz(&[7; 100_000]);
        let last = whole.len() - 20;
        whole[last] ^= 1;
        let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        made(&path, &[version, ("control.tar", b""), ("data.tar.xz", &whole)]);
        assert!(Package::open(&path).unwrap().decompress_data(&mut Vec::new()).is_err());
        for members in [
            vec![version, ("control.tar.zst", b""), ("data.tar.xz", &whole)],
            vec![version, ("control.tar", b""), ("data.tar.zst", &whole)],
            vec![version, ("control.tar", b"")],
            vec![("control.tar", b""), ("data.tar", b"")],
        ] {
            made(&path, &members);
            assert!(Package::open(&path).is_err(), "{members:?}");
        }
    }
}
