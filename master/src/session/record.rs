//! Records of the users of slaves: one file per slave, for people.
//!
//! The writer holds a lock on the file (`flock(2)`) as long as it lives. So the lock tells a live record
//! from a stale one of a killed process. Only the djinni decides whether a slave is free.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use djinni_api::SlaveName;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use slave_api::door::SessionState;
use slave_api::{COMMAND_LINE_LIMIT_CHARS, SlaveLabel, printable};

use super::SESSIONS;

const USER_LIMIT_CHARS: usize = 64;
/// Above the size of the longest record, escapes included.
const RECORD_LIMIT_BYTES: u64 = 64 << 10;

/// A record that we keep; removed when dropped.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    _locked: File,
}

impl Record {
    /// Writes a record of the holder of `slave`. `None` on failure: nothing depends on it.
    pub(super) fn keep(slave: &SlaveName, who: &str, command_line: &str) -> Option<Self> {
        let state = SessionState {
            slave: SlaveLabel::try_from(slave.as_str().to_owned()).ok()?,
            user: printable(who, USER_LIMIT_CHARS),
            command_line: printable(command_line, COMMAND_LINE_LIMIT_CHARS),
            since_seconds: SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs(),
        };
        Self::write(Path::new(SESSIONS), &state)
    }

    fn write(directory: &Path, state: &SessionState) -> Option<Self> {
        let path = directory.join(state.slave.as_str());
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let mut file = File::from(file);
        file.set_len(0).ok()?;
        file.write_all(&serde_json::to_vec(state).ok()?).ok()?;
        Some(Record { path, _locked: file })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // The lock tells a stale record from a live one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The holder of `slave`, if it is a process of this master with a record.
pub fn holder(slave: &SlaveName) -> Option<SessionState> {
    read(&Path::new(SESSIONS).join(slave.as_str()))
}

/// All slaves of this master in use, by name.
pub fn holders() -> Vec<SessionState> {
    all_in(Path::new(SESSIONS))
}

fn all_in(directory: &Path) -> Vec<SessionState> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut states: Vec<_> = entries.filter_map(|entry| read(&entry.path())).collect();
    states.sort_by(|one, other| one.slave.cmp(&other.slave));
    states
}

fn read(path: &Path) -> Option<SessionState> {
    let file = File::open(path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None; // its writer is gone
    }
    let mut text = Vec::new();
    file.take(RECORD_LIMIT_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn state(slave: &str) -> SessionState {
        SessionState {
            slave: slave.to_owned().try_into().unwrap(),
            user: "alice".into(),
            command_line: "start-build".into(),
            since_seconds: 7,
        }
    }

    #[test]
    fn a_record_holds_as_long_as_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let one = Record::write(directory.path(), &state("b")).unwrap();
        let _two = Record::write(directory.path(), &state("a")).unwrap();
        assert_eq!(all_in(directory.path()), [state("a"), state("b")]);
        assert!(Record::write(directory.path(), &state("b")).is_none(), "held by another");
        drop(one);
        assert_eq!(all_in(directory.path()), [state("a")]);
    }

    #[test]
    fn the_record_of_a_killed_writer_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let text = serde_json::to_vec(&state("a")).unwrap();
        std::fs::write(directory.path().join("a"), text).unwrap();
        assert_eq!(all_in(directory.path()), []);
        assert!(Record::write(directory.path(), &state("a")).is_some(), "and can be taken over");
    }
}
