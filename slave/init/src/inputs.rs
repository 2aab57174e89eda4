//! Receives input files before the command starts.

use crate::directory::{failed, make_empty};
use crate::fault::Fault;
use crate::link::Link;
use crate::place::Place;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use slave_api::{FileName, INPUT_LIMIT_BYTES, Run, ToSlave};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Result of the wait for inputs.
pub enum InputOutcome {
    /// All inputs have arrived.
    All,
    /// The caller gave up, with this signal.
    Interrupted(i32),
}

/// Messages that matter while inputs arrive.
enum Step {
    Begin(FileName, u64),
    Wrote,
    Signal(i32),
}

/// The input that is being written.
struct Current {
    path: PathBuf,
    file: OwnedFd,
    left_bytes: u64,
}

/// Take the files that `run` announces into an emptied directory of inputs.
pub fn take(link: &mut Link, run: &mut Run, place: &Place) -> Result<InputOutcome, Fault> {
    if run.inputs == 0 {
        return Ok(InputOutcome::All);
    }
    let directory = place.inputs()?;
    make_empty(&directory)?;
    let mut budget_bytes = INPUT_LIMIT_BYTES;
    for _ in 0..run.inputs {
        let mut current: Option<Current> = None;
        while current.as_ref().is_none_or(|c| c.left_bytes > 0) {
            match step(link, run, &mut current)? {
                Some(Step::Begin(name, size)) => {
                    budget_bytes = budget_bytes.checked_sub(size).ok_or_else(too_much)?;
                    current = Some(begin(&directory, &name, size)?);
                }
                Some(Step::Signal(number)) => return Ok(InputOutcome::Interrupted(number)),
                Some(Step::Wrote) => {}
                None => link.receive()?,
            }
        }
    }
    Ok(InputOutcome::All)
}

/// Handle one message if one is there.
fn step(
    link: &mut Link,
    run: &mut Run,
    current: &mut Option<Current>,
) -> Result<Option<Step>, Fault> {
    let Some(frame) = link.next_frame()? else { return Ok(None) };
    match (ToSlave::decode(frame)?, current) {
        (ToSlave::InputFile { name, size }, None) => Ok(Some(Step::Begin(name, size))),
        (ToSlave::InputData(bytes), Some(current)) => {
            current.write(bytes)?;
            Ok(Some(Step::Wrote))
        }
        (ToSlave::Signal(signal), _) => Ok(Some(Step::Signal(signal.number()))),
        (ToSlave::Resize(size), _) => {
            run.tty = run.tty.map(|_| size);
            Ok(Some(Step::Wrote))
        }
        _ => Err(Fault::Peer("another message before all input files".into())),
    }
}

fn too_much() -> Fault {
    Fault::Peer(format!("more than {INPUT_LIMIT_BYTES} bytes of input files"))
}

fn begin(directory: &Path, name: &FileName, size: u64) -> Result<Current, Fault> {
    let path = directory.join(name.as_str());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(rustix::fs::CWD, &path, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| failed("openat", &path, errno))?;
    Ok(Current { path, file, left_bytes: size })
}

impl Current {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        let left = self.left_bytes.checked_sub(bytes.len() as u64);
        let longer = || Fault::Peer(format!("more of {:?} than it announced", self.path));
        self.left_bytes = left.ok_or_else(longer)?;
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("write", &self.path, errno)),
            }
        }
        Ok(())
    }
}
