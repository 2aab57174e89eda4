//! `djinnid`: the privileged daemon that mounts, attaches and takes away, by name, under policy.
//!
//! ```text
//!   administrator ──host.socket──▶ daemon ──────── reads /etc/djinni, mounts images, pins namespaces
//!                                    │ fork, one a master; commands and image descriptors
//!   master ────NAME/socket────────▶ worker ─────── its own mount namespace: decode → judge → plan → run
//! ```
#![forbid(unsafe_code)]

mod confine;
mod daemon;
mod error;
mod handle;
mod images;
mod jobs;
mod link;
mod masters;
mod reference;
mod server;
mod times;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use djinni_log::Filter;
use djinni_plan::config;
use djinni_plan::load::only_root_may_change_directory;
use djinni_plan::places::Places;
use djinni_sys::compose::Composing;
use djinni_sys::{namespace, probe};

/// Attaches slave images and composes slave roots for unprivileged masters, by name, under policy.
///
/// Example: djinnid --config /etc/djinni --state /var/lib/djinni --runtime /run/djinni
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory of the configuration: images.toml and masters/*.toml.
    #[arg(long, value_name = "DIR", default_value = "/etc/djinni")]
    config: PathBuf,
    /// Directory of persistent data: kept /var.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/djinni")]
    state: PathBuf,
    /// Directory of sockets and pinned namespaces.
    #[arg(long, value_name = "DIR", default_value = "/run/djinni")]
    runtime: PathBuf,
    /// Log filter: a level, and other levels for single parts of the program.
    #[arg(long, value_name = "LEVEL[,PART=LEVEL…]", default_value = "info")]
    log: Filter,
    /// For tests: compose trees as on a kernel that cannot compose them detached.
    #[arg(long, hide = true)]
    compose_staged: bool,
}

/// Reads the policy, gives up privileges, takes over the masters that are up, serves.
fn main() -> ExitCode {
    djinni_raw::end_with_reader();
    let Arguments { config, state, runtime, log, compose_staged } = Arguments::parse();
    djinni_log::start("djinnid", log);
    djinni_raw::outlive_reader();
    // Without doubled or trailing slashes: the kernel's mount table has none either.
    let plain = |path: PathBuf| path.components().collect::<PathBuf>();
    let places = Places { config: plain(config), state: plain(state), runtime: plain(runtime) };
    match serve(places, compose_staged) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut places: Places, compose_staged: bool) -> error::Result<()> {
    confine::check_start(&places)?;
    for directory in [&places.config, &places.state, &places.runtime] {
        only_root_may_change_directory(directory)?;
    }
    places.runtime = namespace::make_runtime(&places.runtime)?;
    let config = config::load(&places.config)?;
    config::shares_apart(&config, &places)?;
    confine::give_up_privileges()?;
    let composing = composing(compose_staged);
    let mut daemon = daemon::Daemon::start(places, config, composing)?;
    daemon.recover();
    daemon.serve()
}

/// The way in which slaves' trees are composed. The log says which, and why.
fn composing(staged: bool) -> Composing {
    let (way, why) = match (staged, probe::composing()) {
        (true, _) => (Composing::Staged, "as --compose-staged says".to_owned()),
        (false, (way, Some(missing))) => {
            (way, format!("this kernel cannot do otherwise: {missing}"))
        }
        (false, (way, None)) => (way, "this kernel can".to_owned()),
    };
    tracing::info!("trees are composed {way}: {why}");
    way
}
