//! The cell in which mach collects packages: on an image, under unused ids, with only the listed parts of
//! the host.
//!
//! ```text
//!   bhost (root) ──▶ mount and process namespaces of its own      image, overlay with mount points
//!                        └──▶ cell: user namespace, mach          /build: area; all else read-only
//!                                └──▶ cells of mach: dnf, rpmkeys, createrepo_c, gpgv; no network
//! ```
//!
//! Architecture invariant: this process only copies the bytes of source packages, repositories and files of
//! the cell; it parses none of them.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use mach_core::distribution::{Address, Dist, TrustedKey};
use slave_cell::{Attr, Cell, IdMap, Mount, Network, Source};

use crate::error::{Error, Result};
use crate::image::confined::{self, ProgramExit, c_string, said};
use crate::image::format::SYSTEM_DIRECTORIES;
use crate::image::interrupt::Interrupts;

/// Working area in the cell.
pub const AREA: &str = "/build";
/// Mount point of the share in the cell.
pub const SHARE: &str = "/mnt/share";
/// Mount point of the source package in the cell.
pub const SOURCES: &str = "/mnt/sources";
const DIST: &str = "/mnt/dist.toml";
const MACH: &str = "/usr/local/bin/mach";
/// Files of the host for name resolution and TLS; an image has neither.
const HOST_FILES: [&str; 3] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"];

/// Parts of the cell.
#[derive(Debug)]
pub struct Collector<'a> {
    /// The image's file.
    pub image: &'a Path,
    /// A new directory for mount points, accessible only to us.
    pub top: PathBuf,
    /// First and count of the ids that the cell has.
    pub ids: (u32, u32),
    /// The working area, owned by the first id.
    pub area: &'a Path,
    /// The share.
    pub share: &'a Path,
    /// A copy of the current source, in its own directory.
    pub sources: &'a Path,
    /// The dist, and a copy of its file.
    pub dist: (&'a Dist, &'a Path),
    /// Our `mach`.
    pub mach: &'a Path,
}

impl Collector<'_> {
    /// Runs `mach` with these arguments to its end.
    pub fn run(
        &self,
        arguments: &[&str],
        interrupts: &Interrupts,
        on_line: impl FnMut(Option<&str>),
    ) -> Result<ProgramExit> {
        let fixed = ["mach", "--quiet", "--area", AREA, "-r", DIST];
        let words = fixed.iter().chain(arguments).map(|word| c_string(word.as_bytes()));
        let words: Vec<CString> = words.collect();
        for name in ["image", "over", "root"] {
            let path = self.top.join(name);
            fs::create_dir_all(&path)
                .map_err(|error| Error::new(path.display(), error, "can root write the share?"))?;
        }
        confined::in_namespaces(Path::new("mach"), interrupts, on_line, || self.main(&words))
    }

    /// In private namespaces, as root of the host.
    fn main(&self, words: &[CString]) -> i32 {
        let cell = match self.furnish() {
            Ok(cell) => cell,
            Err(why) => return said(&why),
        };
        let environment = [
            format!("PATH=/usr/local/bin:{}", SYSTEM_DIRECTORIES.join(":")),
            format!("HOME={AREA}/home"),
            "LC_ALL=C.UTF-8".to_owned(),
        ];
        let environment = environment.map(|text| c_string(text.as_bytes()));
        let main = || said(&slave_sys::execve(&c_string(MACH.as_bytes()), words, &environment));
        let ended = slave_cell::spawn(&cell, main).map_err(|error| error.to_string());
        match ended.and_then(|running| running.wait().map_err(|error| error.to_string())) {
            Ok(exit) => exit.shell_status(),
            Err(why) => said(&why),
        }
    }

    /// Mounts the image with mount points for all mounts of the cell.
    fn furnish(&self) -> std::result::Result<Cell, String> {
        let told = |error: slave_sys::Error| error.to_string();
        std::env::set_current_dir(&self.top).map_err(|error| error.to_string())?;
        mount_image(self.image)?;
        slave_sys::mount("tmpfs", "over", "tmpfs", 0, "size=1m,nr_inodes=1k,mode=0755")
            .map_err(told)?;
        for name in ["over/upper", "over/work"] {
            fs::create_dir(name).map_err(|error| format!("{name}: {error}"))?;
        }
        let options = "lowerdir=image,upperdir=over/upper,workdir=over/work";
        slave_sys::mount("overlay", "root", "overlay", 0, options).map_err(told)?;
        let mounts = self.mounts();
        for mount in &mounts {
            if let Source::Path(path) = &mount.source {
                make_point(path, &mount.at)?;
            }
        }
        let (outside, count) = self.ids;
        let is_elsewhere =
            |one: &mach_core::distribution::Repository| matches!(one.address, Address::Url(_));
        let network = match self.dist.0.repositories.iter().any(is_elsewhere) {
            true => Network::Share,
            false => Network::New,
        };
        Ok(Cell {
            root_attr: Attr::SHOWN,
            mounts,
            ids: Some(IdMap { inside: 0, outside, count }),
            network,
            ..Cell::new(self.top.join("root"), "archive")
        })
    }

    fn mounts(&self) -> Vec<Mount> {
        let tmpfs = |mode| Source::Tmpfs { mode, size_bytes: 1 << 30, inodes: 1 << 16 };
        let shown =
            |path: &Path, at: &str| Mount::new(Source::Path(path.to_owned()), at, Attr::SHOWN);
        let mut mounts = vec![
            Mount::new(Source::Proc, "/proc", Attr::INERT),
            Mount::new(
                Source::Devices,
                "/dev",
                Attr { nosuid: true, noexec: true, ..Attr::default() },
            ),
            Mount::new(tmpfs(0o755), "/run", Attr::SCRATCH),
            Mount::new(tmpfs(0o1777), "/tmp", Attr::SCRATCH),
        ];
        for path in self.places_of_dist() {
            mounts.push(shown(path, &path.to_string_lossy()));
        }
        for name in HOST_FILES {
            if let Ok(path) = Path::new(name).canonicalize() {
                mounts.push(shown(&path, name));
            }
        }
        mounts.push(Mount::new(Source::Path(self.area.to_owned()), AREA, Attr::SCRATCH));
        mounts.push(shown(self.share, SHARE));
        mounts.push(shown(self.sources, SOURCES));
        mounts.push(shown(self.dist.1, DIST));
        mounts.push(shown(self.mach, MACH));
        mounts
    }

    /// Directories and key files of this host that the dist names.
    fn places_of_dist(&self) -> Vec<&Path> {
        let repositories = &self.dist.0.repositories;
        let directories = repositories.iter().filter_map(|repository| match &repository.address {
            Address::Directory(path) => Some(path.as_path()),
            Address::Url(_) => None,
        });
        let keys = repositories.iter().flat_map(|repository| &repository.keys);
        let keys = keys.filter_map(|key| match key {
            TrustedKey::File(path) => Some(path.as_path()),
            TrustedKey::Armored(_) => None,
        });
        let mut found: Vec<&Path> = directories.chain(keys).filter(|path| path.exists()).collect();
        // Parents first: a later mount on a parent would hide its children.
        found.sort();
        found.dedup();
        found
    }
}

/// Mounts the image at `image`: EROFS directly from the file if the kernel can, else through a loop device,
/// which is released with the mount.
fn mount_image(file: &Path) -> std::result::Result<(), String> {
    let flags = rustix::mount::MountFlags::RDONLY
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOSUID;
    if slave_sys::mount(file, "image", "erofs", u64::from(flags.bits()), "").is_ok() {
        return Ok(());
    }
    let options = ["-o", "loop,ro,nodev,nosuid"];
    let output = Command::new("/bin/mount").args(options).arg(file).arg("image").output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("/bin/mount: {error}")),
    }
}

/// Creates the mount point `at` of the cell in the overlay.
fn make_point(source: &Path, at: &str) -> std::result::Result<(), String> {
    let point = Path::new("root").join(at.trim_start_matches('/'));
    if fs::symlink_metadata(&point).is_ok() {
        return Ok(());
    }
    let told = |error: std::io::Error| format!("{}: {error}", point.display());
    if source.is_dir() {
        return fs::create_dir_all(&point).map_err(told);
    }
    fs::create_dir_all(point.parent().unwrap_or(&point)).map_err(told)?;
    File::create_new(&point).map(drop).map_err(told)
}
