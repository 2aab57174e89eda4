//! A cell: a sandboxed process tree in its own namespaces, on a given root.
//!
//! The host starts the master in a cell, the master a slave, and `mach` a build. [`Cell`] describes a cell
//! as data; [`spawn`] creates it and runs a function in it as process 1.
//!
//! ```text
//! parent                                child
//!   as the cell's root user:
//!   clone3(namespaces, cgroup) ────────▶ close inherited descriptors
//!   write uid_map, gid_map ──── go ────▶ open every source and the root, as the caller still sees them
//!                                        move the root onto itself, go there
//!                                        become its root; die with the parent; not dumpable
//!                                        place the mounts; pivot_root; drop the old root
//!                                        hostname, lo, keyring, session, descriptors 0 to 2
//!                                        no core dumps; a filter of system calls
//!   returns Running ◀──────── report ─── main()
//! ```
//!
//! The order matters. Sources are opened before the ids change, because afterwards the caller's directories
//! may not be searchable, and before anything is mounted, because a mount may hide them. The root is moved
//! onto itself, because `pivot_root` refuses a mount that was inherited from another user namespace (it is
//! locked, EINVAL). New file systems are mounted after the change of ids: an unmapped user gets EOVERFLOW.
//! The parent-death signal is also set after it, because a change of ids clears it. If the parent died
//! before, the child's report fails with EPIPE.
//!
//! Architecture invariant: no path inside the new root is resolved through a symbolic link, and nothing is
//! left when a step fails: mounts end with the child's namespace, the child is reaped.
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
