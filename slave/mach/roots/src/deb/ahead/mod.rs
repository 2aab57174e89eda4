//! Packages decompressed while dpkg still unpacks those before them.
//!
//! dpkg unpacks one package after the other, and waits for `dpkg-deb` to decompress each. Two thirds
//! of the processor time of unpacking are decompression, and one processor of two is idle meanwhile.
//! So in the cell of a `dpkg --unpack` this program is there under two names:
//!
//! ```text
//!   dpkg-ahead ──forks──▶ decompressors ──▶ STOCK/NAME (a tar that grows, locked by its writer)
//!       └─becomes─▶ dpkg ──▶ dpkg-deb (this program) ◀── reads along; or decompresses unclaimed packages
//! ```
//!
//! `dpkg-deb` is laid over the root's own, in the cell only; dpkg gets the same bytes as from that. A
//! stock that ends early is an error of `dpkg-deb`, and the caller begins again without one.
//!
//! Architecture invariant: mach itself decompresses nothing. Content of packages is read in the cell
//! alone, by processes that can change the layer being made and nothing else.

mod package;
mod stock;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread::available_parallelism;

use mach_core::error::{Error, OnPath};
use mach_run::cells;
use slave_cell::{Attr, Cell, Mount, MountPoint, Source};

use package::Package;
use stock::Stock;

/// Starts decompressors and becomes the program that its arguments name.
pub const STARTER: &str = "/run/mach/dpkg-ahead";
/// The program that dpkg runs, twice for each package.
const DPKG_DEB: &str = "/usr/bin/dpkg-deb";
/// Directory in the cell of decompressed packages.
const STOCK: &str = "/run/mach/stock";
/// Decompressors beside dpkg; more would only be ahead of a dpkg that cannot follow.
const DECOMPRESSORS_LIMIT: usize = 3;
/// The exit status of a dpkg-deb that fails.
const FAILED: u8 = 2;

/// Whether all packages are of a form that this program reads. Others are left to the root's dpkg-deb.
pub fn reads_all<'a>(mut paths: impl Iterator<Item = &'a Path>) -> bool {
    paths.all(|path| Package::open(path).is_ok())
}

/// Shows this program in `cell` under both names, and the directory `stock`, which it may fill.
pub fn show(cell: &mut Cell, stock: &Path) -> Result<(), Error> {
    let link = Path::new("/proc/self/exe");
    // Not by the link: the kernel would name a mount of the namespace that mach has left.
    let own = std::fs::read_link(link).on("read the link", link)?;
    cells::show_file(cell, &own, STARTER);
    let source = |path: &Path| Source::Path(path.to_owned());
    let over = MountPoint::Optional;
    cell.mounts.extend([
        // A root that has another kind of dpkg-deb keeps it.
        Mount { source: source(&own), at: DPKG_DEB.to_owned(), make: over, attr: Attr::SHOWN },
        Mount {
            source: source(stock),
            at: STOCK.to_owned(),
            make: MountPoint::Directory(0o755),
            attr: Attr::SCRATCH,
        },
    ]);
    Ok(())
}

/// If this program was called by one of its other names: how it ended.
pub fn called() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let name = Path::new(words.first()?).file_name()?.to_str()?;
    let done = match name {
        "dpkg-ahead" => start(&words[1..]),
        "dpkg-deb" => stand_in(&words[1..]),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::from(FAILED)
        }
    })
}

/// Runs as the starter: decompresses the named packages; without any, becomes the command.
fn start(words: &[String]) -> io::Result<()> {
    let stock = Stock::at(Path::new(STOCK));
    if let [first, packages @ ..] = words
        && first == "--decompress"
    {
        return packages.iter().try_for_each(|path| stock.fill(Path::new(path)));
    }
    let packages: Vec<&String> = words.iter().filter(|word| word.ends_with(".deb")).collect();
    // dpkg's own dpkg-deb is at work too.
    let spare = available_parallelism().map_or(1, usize::from).saturating_sub(1);
    for _ in 0..spare.min(DECOMPRESSORS_LIMIT) {
        let mut decompressor = Command::new(STARTER);
        decompressor.arg("--decompress").args(&packages).stdin(Stdio::null()).spawn()?;
    }
    let [program, arguments @ ..] = words else {
        return Err(io::Error::other("a command is missing"));
    };
    Err(Command::new(program).args(arguments).exec())
}

/// Does what dpkg asks of a dpkg-deb (dpkg 1.21, `src/main/unpack.c`).
fn stand_in(words: &[String]) -> io::Result<()> {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--control", package, directory] => extract_control(package, Path::new(directory)),
        ["--fsys-tarfile", package] => {
            let mut out = File::from(rustix::io::dup(io::stdout())?);
            // As large as anybody may have one: fewer changes between the two processes.
            let _ = rustix::pipe::fcntl_setpipe_size(&out, 1 << 20);
            Stock::at(Path::new(STOCK)).copy(Path::new(package), &mut out)
        }
        _ => Err(io::Error::other(format!("mach unpacks a package and cannot do {words:?}"))),
    }
}

/// Puts the members of control.tar into `directory`, by the tar and in the way of dpkg-deb.
fn extract_control(package: &str, directory: &Path) -> io::Result<()> {
    std::fs::create_dir(directory).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    })?;
    let mut tar = Command::new("tar")
        .args(["-x", "-f", "-", "--warning=no-timestamp"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = tar.stdin.take() {
        Package::open(Path::new(package))?.decompress_control(&mut input)?;
    }
    match tar.wait()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("tar of {package}: {status}"))),
    }
}
