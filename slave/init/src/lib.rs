#![forbid(unsafe_code)]
//! `bslave`: what the first process of a slave does.
//!
//! It takes one [`slave_api::Run`] from its socket, then the inputs; starts the command in a session of its
//! own; carries bytes, signals and sizes; reaps whatever is orphaned; when the command has ended,
//! kills all that is left, sends what is still in the pipes, the results if asked, and last the
//! exit status.
//!
//! ```text
//! take Run ── take inputs ── start ── carry ── kill the rest ── drain ── results ── Exited
//!     └───────────┴────────────┴────────┴── a failure of ours: Failed, 125
//!                              the socket ends, at any point: kill everything, end
//! ```
//!
//! Architecture invariant: no thread, and nothing is held without a bound. What fills up stops
//! being read, except the socket, from which signals and sizes must always come through: its
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
use inputs::Taken;
use link::Link;
use place::Place;
use slave_api::{FromSlave, Run, ToSlave};
use std::os::fd::OwnedFd;

/// Exit status for a failure that is not the command's.
const OWN_FAILURE: u8 = 125;

/// Be the first process of a slave until its one command has ended; gives the exit status to end
/// with, which is also the last thing said over `socket`.
pub fn run(socket: OwnedFd) -> i32 {
    serve(socket, Place::slave())
}

/// The same for a command in the master itself, asked by its administrator: no working area, no
/// inputs, no results, and what the command leaves in other sessions is left alone, because the
/// caller is not the first process of a namespace made for it.
pub fn run_in_master(socket: OwnedFd) -> i32 {
    serve(socket, Place::master())
}

fn serve(socket: OwnedFd, place: Place) -> i32 {
    let Ok(mut link) = Link::new(socket) else { return OWN_FAILURE.into() };
    let outcome = attend(&mut link, &place.prepare());
    if let Err(fault @ (Fault::Peer(_) | Fault::Own(_))) = &outcome {
        ending::kill_all(None);
        // A master that does not hear this sees the socket end without an Exited.
        let _ = link.send(&FromSlave::Failed { what: fault.to_string() });
        let _ = link.flush();
    }
    outcome.unwrap_or(OWN_FAILURE).into()
}

/// The whole life, in order.
fn attend(link: &mut Link, place: &Place) -> Result<u8, Fault> {
    let mut run = take_run(link)?;
    if let Taken::Interrupted(signal) = inputs::take(link, &mut run, place)? {
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
    ending::drain(link, command.wires)?;
    if let (Some(results), Some(since)) = (results, since) {
        match (results::send(link, &results, since)?, status) {
            // An incomplete set must not be taken for a whole one.
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
            Some(_) => return Err(Fault::Peer("something else before a command".into())),
            None => link.receive()?,
        }
    }
}

fn exited(link: &mut Link, status: u8) -> Result<u8, Fault> {
    link.send(&FromSlave::Exited { status })?;
    link.flush()?;
    Ok(status)
}
