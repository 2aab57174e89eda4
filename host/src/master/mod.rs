//! Masters' containers: start, stop, status, enter.
//!
//! ```text
//! bhost start NAME
//!   ask djinnid for the master (its namespace, its root, its cgroup)
//!   lock RUNTIME/NAME, bind its sockets `users` and `admin`
//!   fork ──▶ the supervisor ─────────────────────────────────────────────┐
//!              enter the pinned mount namespace, leave for a copy of it  │
//!              spawn the cell: bmaster is its process 1                  │
//!              return to the host's namespace; the copy is gone          │
//!              bmaster answers on `admin`: ready ──▶ `bhost start` ends  │
//!              accept at `users`, pass each on to bmaster with its uid   │
//!              relay what bmaster writes; wait; SIGTERM: stop in order   │
//!   the master dies with its supervisor (PDEATHSIG), however that ended ◀─┘
//! ```
//!
//! A master runs exactly while its supervisor holds the lock on `RUNTIME/NAME/lock`: there is no pid file,
//! and nothing to clean up after a `kill -9`.
//!
//! Architecture invariant: no process of ours runs in a container's namespaces except those of the cell.

mod acceptor;
mod accounts;
mod cgroup;
mod container;
mod door;
mod enter;
mod lock;
mod log;
mod quotas;
mod stage;
mod start;
mod status;
mod stop;
mod supervise;

pub use accounts::groups;
pub use enter::enter;
pub use start::{Start, start};
pub use status::{MasterStatus, status};
pub use stop::stop;

use std::path::PathBuf;

use djinni_api::MasterName;
use djinni_plan::places::Places;

/// Socket for the users who may ask the master for builds.
fn users_socket(places: &Places, name: &MasterName) -> PathBuf {
    places.master(name).join("users")
}

/// Socket for the administrator of the master.
fn admin_socket(places: &Places, name: &MasterName) -> PathBuf {
    places.master(name).join("admin")
}
