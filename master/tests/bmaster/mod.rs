//! A real bmaster, clients for it, and a mock djinni that grants everything.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use djinni_api::codec::{Framer, parse_call};
use djinni_api::master::{Description, Reply, Request, Root, Rubbed, Slave, SlaveState};
use rustix::io::Errno;
use rustix::process::Signal;
use slave_api::FrameReader;
use slave_api::door::{DoorCall, DoorReply};
use slave_cell::{Attr, Exit, Mount, MountPoint, Running, Source, Stdio, spawn};
use slave_sys as raw;
use slave_sys::callers::{caller_channel, pass_caller};

const PATIENCE: Duration = Duration::from_secs(10);

/// A `bmaster`, process 1 of its cell; killed when this is dropped.
pub struct Master {
    directory: tempfile::TempDir,
    callers: OwnedFd,
    running: Running,
}

impl Master {
    /// Starts one, with `djinni`'s socket where a master expects it.
    pub fn start(djinni: Option<&Djinni>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut cell = super::cell::on(&root);
        let tmpfs = Source::Tmpfs { mode: 0o755, size_bytes: 1 << 20, inodes: 1000 };
        let make = MountPoint::Directory(0o755);
        cell.mounts.push(Mount { make, ..Mount::new(tmpfs.clone(), "/run", Attr::SCRATCH) });
        cell.mounts.push(Mount { make, ..Mount::new(tmpfs, "/root", Attr::SCRATCH) });
        if let Some(djinni) = djinni {
            let path = Source::Path(djinni.directory.path().to_owned());
            cell.mounts.push(Mount { make, ..Mount::new(path, "/run/djinni", Attr::SHOWN) });
        }
        // The root belongs to its own user, who creates mount points in it.
        std::os::unix::fs::chown(&root, Some(100_000), Some(100_000)).unwrap();
        let (callers, users) = caller_channel().unwrap();
        let admin = UnixListener::bind(directory.path().join("admin")).unwrap();
        let doors = [users, admin.into()].map(Box::new);
        let program = File::open(env!("CARGO_BIN_EXE_bmaster")).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        cell.stdio = Stdio::Inherit;
        cell.keep_fds = vec![program.as_raw_fd(), log.as_raw_fd()];
        cell.keep_fds.extend(doors.iter().map(|door| door.as_raw_fd()));
        let running = spawn(&cell, || {
            raw::place_descriptor(&log, 2).unwrap();
            for door in &doors {
                // A duplicate of the descriptor is inherited over exec.
                raw::place_descriptor(door, door.as_raw_fd()).unwrap();
            }
            let [users, admin] = doors.each_ref().map(|door| door.as_raw_fd().to_string());
            let arguments = ["bmaster", "--users-fd", &users, "--admin-fd", &admin];
            let arguments = arguments.map(|text| CString::new(text).unwrap());
            panic!("{}", raw::execveat(&program, &arguments, &[]));
        });
        Master { directory, callers, running: running.unwrap() }
    }

    /// A user's connection.
    pub fn users(&self) -> UnixStream {
        self.user(1000)
    }

    /// The connection of the user `uid`, passed on as by the supervisor.
    pub fn user(&self, uid: u32) -> UnixStream {
        let (stream, theirs) = UnixStream::pair().unwrap();
        // The queue is short, and the master may still be starting.
        while let Err(errno) = pass_caller(&self.callers, &theirs, uid) {
            assert_eq!(errno, Errno::AGAIN);
            std::thread::sleep(Duration::from_millis(5));
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The administrator's.
    pub fn admin(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("admin")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Sends it a signal, once it can handle one.
    pub fn kill(&self, signal: Signal) {
        while !self.log().contains("ready") {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running.kill(signal).unwrap();
    }

    /// Its exit status.
    pub fn wait(&self) -> Exit {
        self.running.wait().unwrap()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // It may have been waited for.
        let _ = self.running.kill(Signal::KILL);
        let _ = self.running.wait();
    }
}

/// Sends `asked`.
pub fn say(stream: &mut UnixStream, asked: &DoorCall) {
    let mut bytes = Vec::new();
    asked.encode(&mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

/// The next answer; `None` at the end.
pub fn hear(stream: &mut UnixStream) -> Option<DoorReply> {
    let mut reader = FrameReader::new();
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            return Some(DoorReply::decode(frame).unwrap());
        }
        // Byte by byte: data after an answer is not ours to read.
        match stream.read(&mut reader.room()[..1]).unwrap() {
            0 => return None,
            count => reader.filled(count),
        }
    }
}

/// The answer to `asked`.
pub fn call(mut stream: UnixStream, asked: &DoorCall) -> Option<DoorReply> {
    say(&mut stream, asked);
    hear(&mut stream)
}

/// Whether the connection has ended. Unread data on the other side ends it with a reset.
pub fn heard_end(mut stream: UnixStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A djinni of one slave and a lease of three seconds, that reports renewals.
pub struct Djinni {
    directory: tempfile::TempDir,
    rubs: RefCell<std::io::PipeReader>,
    rubbed: std::io::PipeWriter,
}

/// A process that is the djinni; killed by [`Serving::end`].
pub struct Serving(i32);

impl Djinni {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let (rubs, rubbed) = std::io::pipe().unwrap();
        Djinni { directory, rubs: RefCell::new(rubs), rubbed }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Listens; does not answer before it serves.
    pub fn listen(&self) -> UnixListener {
        // The socket is missing before it is bound: a restarted djinni creates its socket again.
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(self.socket(), mode).unwrap();
        listener
    }

    /// Starts to serve.
    pub fn serve(&self) -> Serving {
        let listener = self.listen();
        match raw::fork().unwrap() {
            raw::Cloned::Parent { pid, .. } => Serving(pid),
            raw::Cloned::Child => {
                raw::set_parent_death_signal(rustix::process::Signal::KILL).unwrap();
                for stream in listener.incoming() {
                    self.answer(stream.unwrap());
                }
                raw::exit_now(0)
            }
        }
    }

    fn answer(&self, mut stream: UnixStream) {
        let mut framer = Framer::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut rest = &buffer[..count];
            while let Some(message) = framer.push(&mut rest) {
                let reply = match Request::from_call(&parse_call(&message.unwrap()).unwrap()) {
                    Ok(Request::Describe) => Reply::Described(description()),
                    Ok(Request::Rub) => {
                        (&self.rubbed).write_all(b"x").unwrap();
                        Reply::Rubbed(Rubbed { lease_seconds: 3 })
                    }
                    other => panic!("{other:?}"),
                };
                stream.write_all(&reply.encode()).unwrap();
            }
        }
    }

    /// Waits for that many renewals.
    pub fn await_rubs(&self, count: usize) {
        self.rubs.borrow_mut().read_exact(&mut vec![0; count]).unwrap();
    }
}

impl Serving {
    /// Kills it.
    pub fn end(self) {
        raw::kill(self.0, 9).unwrap();
        raw::wait_for(self.0).unwrap();
    }
}

fn description() -> Description {
    let slave = Slave {
        name: "bslave-1".parse().unwrap(),
        image: "debian-12".parse().unwrap(),
        slice: 1,
        root: Root::Readonly,
        state: SlaveState::Free,
        held_by: None,
        address: None,
        since: None,
    };
    Description {
        master: "m".parse().unwrap(),
        ids_first: 100_000,
        ids_count: 65_536,
        lease_seconds: 3,
        slaves: vec![slave],
    }
}
