//! A cell: a process tree in namespaces of its own, on a given root.
//!
//! The host makes the master with it, the master a slave, and `mach` a build. What a cell is to look
//! like is data ([`Cell`]); [`spawn`] makes it and runs a function in it as process 1.
//!
//! ```text
//! parent                                child
//!   as the cell's root user:
//!   clone3(namespaces, cgroup) ────────▶ close what it must not have
//!   write uid_map, gid_map ──── go ────▶ open every source and the root, as the caller still sees them
//!                                        move the root onto itself, go there
//!                                        become its root; die with the parent; not dumpable
//!                                        place the mounts; pivot_root; drop the old root
//!                                        hostname, lo, keyring, session, descriptors 0 to 2
//!                                        no core dumps; a filter of system calls
//!   returns Running ◀──────── report ─── main()
//! ```
//!
//! The order is not free. Sources are opened before the ids change, because afterwards the caller's
//! directories may not be searchable, and before anything is mounted, because that may hide them.
//! The root is moved onto itself, because `pivot_root` refuses a mount that was inherited from
//! another user namespace (it is locked, EINVAL). New file systems come after the change of ids:
//! made by an unmapped user they are EOVERFLOW. The wish to die with the parent comes after it too,
//! because a change of ids clears it; a parent that died before shows as a report nobody takes.
//!
//! Architecture invariant: no path inside the new root is resolved through a symbolic link, and
//! nothing is left when a step fails: mounts die with the child's namespace, the child is reaped.
#![forbid(unsafe_code)]

mod cell;
mod child;
mod devices;
mod error;
mod filter;
mod mounts;
mod running;
mod spawn;

pub use cell::{Attr, Cell, IdMap, Mount, MountPoint, Network, Source, Stdio};
pub use error::{CellError, Step};
pub use filter::FAMILIES;
pub use running::{Exit, Running};
pub use spawn::{spawn, spawn_while};
