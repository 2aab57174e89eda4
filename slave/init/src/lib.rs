#![forbid(unsafe_code)]
//! `bslave`: process 1 of a slave.
//!
//! It receives one [`slave_api::Run`] over its socket, then the inputs; starts the command in a session of
//! its own; forwards bytes, signals and window sizes; reaps orphans. When the command has ended, it kills
//! all remaining processes and sends the rest of the pipes, the results if requested, and last the exit
//! status.
//!
//! ```text
//! take Run ── take inputs ── start ── carry ── kill the rest ── drain ── results ── Exited
//!     └───────────┴────────────┴────────┴── a failure of ours: Failed, 125
//!                              the socket ends, at any point: kill everything, end
//! ```
//!
//! Architecture invariant: no threads, and every buffer is bounded. A full buffer stops reading from its
//! source (back-pressure), except from the socket, because signals and sizes must always come through:
//! standard input has a window instead.

mod carry;
mod command;
mod directory;
mod ending;
mod fault;
mod inputs;
pub mod link;
mod place;
mod results;

use fault::Fault;
use inputs::InputOutcome;
use link::Link;
use place::Place;
use slave_api::{FromSlave, Run, ToSlave};
use std::os::fd::OwnedFd;

/// Exit status for an error that is not the command's.
const OWN_FAILURE: u8 = 125;

/// Runs as the first process of a slave until its one command has ended. Returns the exit status, which is
/// also the last message over `socket`.
pub fn run(socket: OwnedFd) -> i32 {
    serve(socket, Place::slave())
}

/// The same for a command in the master itself, requested by its administrator: no working area, no inputs,
/// no results. Processes that the command leaves in other sessions are not killed, because the caller is
/// not the first process of a dedicated namespace.
pub fn run_in_master(socket: OwnedFd) -> i32 {
    serve(socket, Place::master())
}

fn serve(socket: OwnedFd, place: Place) -> i32 {
    let Ok(mut link) = Link::new(socket) else { return OWN_FAILURE.into() };
    let outcome = attend(&mut link, &place.prepare());
    if let Err(fault @ (Fault::Peer(_) | Fault::Own(_))) = &outcome {
        ending::kill_all(None);
        // A master that does not receive this sees the socket close without an Exited message.
        let _ = link.send(&FromSlave::Failed { what: fault.to_string() });
        let _ = link.flush();
    }
    outcome.unwrap_or(OWN_FAILURE).into()
}

/// All phases in order.
fn attend(link: &mut Link, place: &Place) -> Result<u8, Fault> {
    let mut run = take_run(link)?;
    if let InputOutcome::Interrupted(signal) = inputs::take(link, &mut run, place)? {
        return exited(link, u8::try_from(128 + signal).unwrap_or(OWN_FAILURE));
    }
    let results = if run.collect { Some(place.results()?) } else { None };
    let since = results.as_deref().map(results::beginning);
    let mut command = command::start(&run, place)?;
    link.send(&FromSlave::Started)?;
    place.name_process();
    let carried = carry::carry(link, &mut command);
    ending::kill_all(Some(command.pid));
    let status = carried?;
    ending::drain(link, command.streams)?;
    if let (Some(results), Some(since)) = (results, since) {
        match (results::send(link, &results, since)?, status) {
            // The caller must not take an incomplete set for a complete one.
            (Some(lack), 0) => return Err(Fault::Own(lack)),
            (Some(lack), _) => results::remark(link, &lack)?,
            (None, _) => {}
        }
    }
    exited(link, status)
}

fn take_run(link: &mut Link) -> Result<Run, Fault> {
    loop {
        match link.next_frame()?.map(ToSlave::decode).transpose()? {
            Some(ToSlave::Run(run)) => return Ok(run),
            Some(_) => return Err(Fault::Peer("another message before a command".into())),
            None => link.receive()?,
        }
    }
}

fn exited(link: &mut Link, status: u8) -> Result<u8, Fault> {
    link.send(&FromSlave::Exited { status })?;
    link.flush()?;
    Ok(status)
}
