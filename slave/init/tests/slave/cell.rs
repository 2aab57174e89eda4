//! A cell for tests: like a slave's, on the programs of the running system.

use slave_cell::{Attr, Cell, IdMap, Mount, Network, Source, Stdio};
use std::os::unix::fs::symlink;
use std::path::Path;

/// A cell on the empty directory `root`, with a working area that dies with it.
pub fn on(root: &Path) -> Cell {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root, mode).unwrap();
    for directory in ["usr", "etc", "proc", "dev", "build", "tmp"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), root.join(link)).unwrap();
    }
    let tmpfs = || Source::Tmpfs { mode: 0o755, size_bytes: 64 << 20, inodes: 10_000 };
    let shown = |path: &str| Mount::new(Source::Path(path.into()), path, Attr::SHOWN);
    let mut cell = Cell::new(root, "test-slave");
    cell.mounts = vec![
        shown("/usr"),
        shown("/etc"),
        Mount::new(Source::Proc, "/proc", Attr::INERT),
        Mount::new(Source::Devices, "/dev", Attr::default()),
        Mount::new(tmpfs(), "/build", Attr::SCRATCH),
        Mount::new(tmpfs(), "/tmp", Attr::SCRATCH),
    ];
    cell.ids = Some(IdMap { inside: 0, outside: 100_000, count: 65_536 });
    cell.network = Network::New;
    cell.stdio = Stdio::Null;
    cell
}
