//! Source packages of Debian as files: reads and copies a `.dsc` and the files that it names.

use std::io::Read;
use std::path::Path;

use mach_core::deb::dsc::{DSC_LIMIT_BYTES, Dsc, SourceFile, parse};
use mach_core::digest;
use mach_core::error::{Cause, Error};
use mach_run::files::{copy_of, open_regular};

use super::changed;

/// Reads the `.dsc` and every file it names. The error names the file and the defect.
pub fn read(path: &Path) -> Result<Dsc, Error> {
    let refuse = |why: String| {
        let what = format!("{} is not a usable source package: {why}", path.display());
        let remedy = "give a whole .dsc with its files beside it; fetch them again";
        Error::new(Cause::Source, what, remedy)
    };
    let bytes = read_small(path).map_err(&refuse)?;
    let dsc = parse(&bytes, path).map_err(&refuse)?;
    dsc.files.iter().try_for_each(|file| check(&dsc.path_of(file), file)).map_err(&refuse)?;
    Ok(dsc)
}

/// Copies it with its files into `directory`, and refuses files that have changed since they were read.
pub fn copy(dsc: &Dsc, directory: &Path) -> Result<(), Error> {
    copy_one(&dsc.path, (&dsc.file_name(), &dsc.sha256), directory)?;
    let copy =
        |file: &SourceFile| copy_one(&dsc.path_of(file), (&file.name, &file.sha256), directory);
    dsc.files.iter().try_for_each(copy)
}

fn copy_one(from: &Path, (name, sha256): (&str, &str), directory: &Path) -> Result<(), Error> {
    if let Err(why) = open_regular(from) {
        return Err(changed(from, Some(&why)));
    }
    match copy_of(from, &directory.join(name))? == sha256 {
        true => Ok(()),
        false => Err(changed(from, Some("its SHA-256 is another"))),
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut file = open_regular(path)?.take(DSC_LIMIT_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 > DSC_LIMIT_BYTES {
        true => Err(format!("it is larger than {DSC_LIMIT_BYTES} bytes")),
        false => Ok(bytes),
    }
}

/// Compares a file's size and digest with what the `.dsc` says.
fn check(path: &Path, wanted: &SourceFile) -> Result<(), String> {
    let name = &wanted.name;
    let mut file = open_regular(path).map_err(|why| format!("its file {name}: {why}"))?;
    let size = file.metadata().map_err(|error| format!("its file {name}: {error}"))?.len();
    if size != wanted.size_bytes {
        return Err(format!("its file {name} has {size} bytes, not {}", wanted.size_bytes));
    }
    let (sha256, _) =
        digest::of_reader(&mut file).map_err(|error| format!("its file {name}: {error}"))?;
    match sha256 == wanted.sha256 {
        true => Ok(()),
        false => {
            Err(format!("its file {name} is damaged: SHA-256 {sha256}, not {}", wanted.sha256))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn body() -> String {
        format!(
            "Format: 3.0 (quilt)\nSource: hello\nArchitecture: any all\nVersion: 1:2.10-3+deb12u1\n\
             Checksums-Sha256:\n {SUM} 0 hello_2.10.orig.tar.gz\n {SUM} 0 hello_2.10-3+deb12u1.debian.tar.xz\n"
        )
    }
    #[test]
    fn files_are_compared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello.dsc");
        fs::write(&path, body()).unwrap();
        let why = |path: &Path| read(path).unwrap_err().what;
        assert!(why(&path).contains("hello_2.10.orig.tar.gz: No such file"), "{}", why(&path));
        for name in ["hello_2.10.orig.tar.gz", "hello_2.10-3+deb12u1.debian.tar.xz"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let dsc = read(&path).unwrap();
        let to = directory.path().join("to");
        fs::create_dir(&to).unwrap();
        copy(&dsc, &to).unwrap();
        assert!(to.join("hello_2.10-3+deb12u1.dsc").is_file());
        fs::write(directory.path().join("hello_2.10.orig.tar.gz"), "x").unwrap();
        assert!(why(&path).contains("has 1 bytes, not 0"));
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        assert!(copy(&dsc, &other).unwrap_err().what.contains("changed while mach was at work"));
        let text = body().replace(&SUM[..8], "00000000");
        fs::write(directory.path().join("hello_2.10.orig.tar.gz"), "").unwrap();
        fs::write(&path, text).unwrap();
        assert!(why(&path).contains("is damaged"));
    }

    #[test]
    fn a_fifo_or_a_giant_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello.dsc");
        File::create(&path).unwrap().set_len(DSC_LIMIT_BYTES + 1).unwrap();
        assert!(read(&path).unwrap_err().what.contains("larger than"));
        assert!(read(directory.path()).unwrap_err().what.contains("not a regular file"));
    }
}
