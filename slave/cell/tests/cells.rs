//! Properties of a cell, and its errors. `common` describes how these tests run.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{TMPFS, alone, ids, mount_table, mounts_beyond, observe, skeleton, usual};
use rustix::process::Signal;
use slave_cell::*;
use slave_sys as raw;

const MS_BIND: u64 = 0x1000;
const MS_SHARED: u64 = 0x10_0000;

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().to_owned()
}

#[test]
fn userns_a_cell_is_process_1_with_its_own_name_ids_and_session() {
    alone("userns_a_cell_is_process_1_with_its_own_name_ids_and_session", |dir| {
        let said = observe(&mut usual(dir), || {
            let processes: Vec<_> = fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
                .collect();
            let stat = fs::read_to_string("/proc/1/stat").unwrap();
            let session: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').skip(3).collect();
            format!(
                "{} {processes:?} {} {} groups [{}] session {} terminal {} dumpable {:?}",
                std::process::id(),
                fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(),
                field("/proc/self/status", "Uid:"),
                field("/proc/self/status", "Groups:"),
                session[1],
                session[2],
                rustix::process::dumpable_behavior().unwrap(),
            )
        });
        assert_eq!(
            said,
            "1 [1] cellar 0\t0\t0\t0 groups [] session 1 terminal 0 dumpable NotDumpable"
        );
    });
}

#[test]
fn userns_a_cell_sees_only_its_own_mounts() {
    alone("userns_a_cell_sees_only_its_own_mounts", |dir| {
        let points = observe(&mut usual(dir), || {
            let table = mount_table();
            let mut points: Vec<_> =
                table.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
            points.sort_unstable();
            points.join(" ")
        });
        assert_eq!(
            points,
            "/ /dev /dev/full /dev/null /dev/pts /dev/random /dev/tty /dev/urandom /dev/zero \
             /proc /tmp"
        );
    });
}

#[test]
fn userns_devices_work_and_shm_is_for_all() {
    alone("userns_devices_work_and_shm_is_for_all", |dir| {
        let said = observe(&mut usual(dir), || {
            fs::write("/dev/null", "x").unwrap();
            let mut zeros = [1u8; 4];
            fs::File::open("/dev/zero").unwrap().read_exact(&mut zeros).unwrap();
            let mode = |path: &str| fs::metadata(path).unwrap().mode() & 0o7777;
            let (shm, dev, tmp) = (mode("/dev/shm"), mode("/dev"), mode("/tmp"));
            fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").unwrap();
            format!("{zeros:?} {shm:o} {dev:o} {tmp:o} {:?}", fs::read_link("/dev/stdin").unwrap())
        });
        assert_eq!(said, "[0, 0, 0, 0] 1777 755 1777 \"/proc/self/fd/0\"");
    });
}

#[test]
fn userns_no_descriptor_of_the_caller_crosses() {
    alone("userns_no_descriptor_of_the_caller_crosses", |dir| {
        let secret = fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
        let mut cell = usual(dir);
        cell.stdio = Stdio::Null;
        let said = observe(&mut cell, || {
            let mut open: Vec<_> = fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
                .map(|target| target.display().to_string())
                .filter(|target| !target.starts_with("/proc/"))
                .collect();
            open.sort();
            open.join(" ")
        });
        let (nulls, pipe) = said.rsplit_once(' ').unwrap();
        assert_eq!(nulls, "/dev/null /dev/null /dev/null");
        assert!(pipe.starts_with("pipe:"), "{said}");
    });
}

#[test]
fn userns_a_new_network_has_only_lo_and_it_is_up() {
    alone("userns_a_new_network_has_only_lo_and_it_is_up", |dir| {
        let mut cell = usual(dir);
        cell.network = Network::New;
        cell.mounts.push(Mount::new(Source::Sys, "/sys", Attr::INERT));
        let said = observe(&mut cell, || {
            let interfaces = fs::read_to_string("/proc/net/dev").unwrap().lines().count() - 2;
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
            let lo = fs::read_to_string("/sys/class/net/lo/operstate").unwrap();
            format!("{interfaces} {}", lo.trim())
        });
        assert_eq!(said, "1 unknown");
    });
}

#[test]
fn userns_a_root_and_a_path_may_have_names_that_are_not_utf_8() {
    alone("userns_a_root_and_a_path_may_have_names_that_are_not_utf_8", |dir| {
        let odd = |name: &[u8]| dir.join(OsStr::from_bytes(name));
        fs::create_dir(odd(b"base\xff")).unwrap();
        fs::write(odd(b"file\xfe"), "hello").unwrap();
        // The names that a lossy conversion would make of them.
        fs::create_dir(dir.join("base\u{fffd}")).unwrap();
        fs::write(dir.join("file\u{fffd}"), "another").unwrap();
        for name in [odd(b"base\xff"), odd(b"file\xfe")] {
            chown(name, Some(ids().outside), Some(ids().outside)).unwrap();
        }
        let mut cell = usual(&odd(b"base\xff"));
        cell.mounts.push(Mount {
            make: MountPoint::File,
            ..Mount::new(Source::Path(odd(b"file\xfe")), "/tmp/file", Attr::SHOWN)
        });
        let said = observe(&mut cell, || fs::read_to_string("/tmp/file").unwrap());
        assert_eq!(said, "hello");
        cell.mounts.push(Mount::new(Source::Path(odd(b"none\xff")), "/tmp", Attr::SHOWN));
        let error = spawn(&cell, || 0).unwrap_err();
        assert!(error.to_string().contains("none\u{fffd}"), "{error}");
    });
}

#[test]
fn userns_a_path_is_shown_read_only_at_a_mount_point_that_is_made() {
    alone("userns_a_path_is_shown_read_only_at_a_mount_point_that_is_made", |dir| {
        let shared = dir.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("file"), "hello").unwrap();
        chown(shared.join("file"), Some(ids().outside), Some(ids().outside)).unwrap();
        let mut cell = usual(dir);
        let mount = |at: &str, make, path: &str| Mount {
            make,
            ..Mount::new(Source::Path(dir.join(path)), at, Attr::SHOWN)
        };
        cell.mounts.push(mount("/tmp/a/b", MountPoint::Directory(0o750), "shared"));
        cell.mounts.push(mount("/tmp/c/d", MountPoint::File, "shared/file"));
        let said = observe(&mut cell, || {
            let read = fs::read_to_string("/tmp/a/b/file").unwrap();
            let denied = fs::write("/tmp/c/d", "x").unwrap_err().kind();
            format!("{read} {denied:?} {:o}", fs::metadata("/tmp/a").unwrap().mode() & 0o777)
        });
        assert_eq!(said, "hello ReadOnlyFilesystem 755");
    });
}

#[test]
fn userns_a_cell_within_a_cell_needs_no_ids_of_its_own() {
    alone("userns_a_cell_within_a_cell_needs_no_ids_of_its_own", |dir| {
        // As for mach: every mount that it sees is locked, and its ids are those of its slave.
        let said = observe(&mut usual(dir), || {
            fs::create_dir_all("/tmp/inner/proc").unwrap();
            fs::create_dir_all("/tmp/inner/dev").unwrap();
            fs::create_dir_all("/tmp/inner/all").unwrap();
            let mounts = vec![
                Mount::new(Source::Proc, "/proc", Attr::INERT),
                Mount::new(Source::Devices, "/dev", Attr { nosuid: true, ..Attr::default() }),
                Mount::new(Source::Path("/".into()), "/all", Attr::SHOWN),
            ];
            let before = mount_table();
            let mut inner =
                Cell { mounts, network: Network::New, ..Cell::new("/tmp/inner", "inner") };
            let said = observe(&mut inner, || {
                let hidden = fs::read_dir("/all/dev/pts").unwrap().count() > 0;
                let denied = fs::write("/all/tmp/x", "x").unwrap_err().kind();
                format!("{} {hidden} {denied:?}", std::process::id())
            });
            assert_eq!(mounts_beyond(&before), [""; 0]);
            said
        });
        assert_eq!(said, "1 true ReadOnlyFilesystem");
    });
}

#[test]
fn userns_the_mounts_of_a_cell_without_ids_do_not_propagate() {
    alone("userns_the_mounts_of_a_cell_without_ids_do_not_propagate", |dir| {
        let root = skeleton(dir);
        let root_text = root.to_str().unwrap();
        raw::mount(root_text, root_text, "", MS_BIND, "").unwrap();
        raw::mount("", root_text, "", MS_SHARED, "").unwrap();
        let before = mount_table();
        let mounts = vec![Mount::new(TMPFS, "/tmp", Attr::SCRATCH)];
        let running = spawn(&Cell { mounts, ..Cell::new(&root, "x") }, || 0).unwrap();
        assert_eq!(running.wait().unwrap(), Exit::Code(0));
        assert_eq!(mounts_beyond(&before), [""; 0]);
        raw::umount(root_text, false).unwrap();
    });
}

#[test]
fn userns_an_optional_mount_is_left_out_where_its_point_is_missing_or_a_link() {
    alone("userns_an_optional_mount_is_left_out_where_its_point_is_missing_or_a_link", |dir| {
        let mut cell = usual(dir);
        symlink("/tmp", cell.root.join("link")).unwrap();
        for at in ["/gone", "/link", "/share"] {
            let make = MountPoint::Optional;
            cell.mounts.push(Mount { make, ..Mount::new(TMPFS, at, Attr::SCRATCH) });
        }
        let table = observe(&mut cell, mount_table);
        assert_eq!(table.matches(" /tmp ").count(), 1, "{table}");
        assert_eq!(table.matches(" /share ").count(), 1, "{table}");
    });
}

/// The error of a usual cell that `spoil` has broken.
fn refused(dir: &Path, name: &str, spoil: impl FnOnce(&mut Cell)) -> CellError {
    let dir = dir.join(name);
    fs::create_dir(&dir).unwrap();
    let mut cell = usual(&dir);
    spoil(&mut cell);
    spawn(&cell, || 0).unwrap_err()
}

/// Each case: the broken part, the step and errno that the error must name, the error.
fn each_names_its_step(cases: Vec<(&str, Step, &str, CellError)>) {
    for (what, step, errno, error) in cases {
        assert_eq!(error.step(), step, "{what}: {error}");
        assert!(error.to_string().contains(errno), "{what}: {error}");
        println!("{error}");
    }
}

#[test]
fn userns_a_mount_that_cannot_be_is_named_and_leaves_nothing() {
    alone("userns_a_mount_that_cannot_be_is_named_and_leaves_nothing", |dir| {
        let scratch = |at: &str| Mount::new(TMPFS, at, Attr::SCRATCH);
        each_names_its_step(vec![
            ("root", Step::Root, "ENOENT", refused(dir, "a", |cell| cell.root.push("gone"))),
            (
                "source",
                Step::Source,
                "ENOENT",
                refused(dir, "b", |cell| {
                    let gone = Source::Path("/gone".into());
                    cell.mounts.push(Mount::new(gone, "/share", Attr::default()));
                }),
            ),
            (
                "mount point",
                Step::Mount,
                "ENOENT",
                refused(dir, "c", |cell| cell.mounts.push(scratch("/gone"))),
            ),
            (
                "symbolic link",
                Step::Mount,
                "ELOOP",
                refused(dir, "d", |cell| {
                    symlink("/etc", cell.root.join("link")).unwrap();
                    cell.mounts.push(scratch("/link"));
                }),
            ),
            (
                "way out",
                Step::Mount,
                "EXDEV",
                refused(dir, "e", |cell| cell.mounts.push(scratch("/tmp/../../../tmp"))),
            ),
            (
                "sysfs of a foreign network",
                Step::Mount,
                "EPERM",
                refused(dir, "f", |cell| {
                    cell.mounts.push(Mount::new(Source::Sys, "/sys", Attr::INERT));
                }),
            ),
        ]);
    });
}

#[test]
fn userns_an_error_names_its_step_and_leaves_nothing() {
    alone("userns_an_error_names_its_step_and_leaves_nothing", |dir| {
        each_names_its_step(vec![
            (
                "ids",
                Step::IdMaps,
                "EINVAL",
                refused(dir, "g", |cell| {
                    cell.ids = Some(IdMap { inside: 0, outside: u32::MAX - 1, count: 9 });
                }),
            ),
            (
                "hostname",
                Step::Hostname,
                "EINVAL",
                refused(dir, "h", |cell| cell.hostname = "x".repeat(65)),
            ),
            (
                "stdio",
                Step::Stdio,
                "ENOENT",
                refused(dir, "i", |cell| {
                    cell.mounts.remove(1);
                    cell.stdio = Stdio::Null;
                }),
            ),
            (
                "cgroup",
                Step::Clone,
                "EBADF",
                refused(dir, "j", |cell| cell.cgroup = Some(fs::File::open("/").unwrap().into())),
            ),
        ]);
    });
}

#[test]
fn userns_a_cell_ends_with_its_status_or_signal() {
    alone("userns_a_cell_ends_with_its_status_or_signal", |dir| {
        let cell = usual(dir);
        assert_eq!(spawn(&cell, || 300).unwrap().wait().unwrap(), Exit::Code(44));
        let sleeper = spawn(&cell, || {
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        })
        .unwrap();
        sleeper.kill(Signal::KILL).unwrap();
        assert_eq!(sleeper.wait().unwrap().shell_status(), 137);
        assert_eq!(sleeper.wait().unwrap_err().errno(), rustix::io::Errno::CHILD);
        let panics = spawn(&cell, || panic!("on purpose")).unwrap();
        assert_eq!(panics.wait().unwrap(), Exit::Code(101));
    });
}

#[test]
fn userns_a_cell_dies_with_its_parent() {
    alone("userns_a_cell_dies_with_its_parent", |dir| {
        for cell in [usual(dir), Cell::new(dir.join("root"), "no-ids")] {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let raw::Cloned::Parent { pid, .. } = raw::fork().unwrap() else {
                hold(cell, writer.into());
            };
            drop(writer);
            let mut word = [0u8; 1];
            reader.read_exact(&mut word).unwrap();
            raw::kill(pid, 9).unwrap();
            raw::wait_for(pid).unwrap();
            let start = Instant::now();
            assert_eq!(reader.read(&mut word).unwrap(), 0, "the cell closes it by dying");
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    });
}

/// A parent whose cell keeps `end` open for ever, once it has reported that it runs.
fn hold(mut cell: Cell, end: OwnedFd) -> ! {
    cell.keep_fds = vec![end.as_raw_fd()];
    let writer = end.try_clone().unwrap();
    let _running = spawn(&cell, || {
        rustix::io::write(&end, b"x").unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    drop(writer);
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
