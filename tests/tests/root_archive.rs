//! `bhost archive add` for RPM repositories: a share grows by the packages that a source needs, readers
//! never see a partial index, and unverified packages are refused.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use djinni_tests::djinni::Djinni;
use djinni_tests::images;
use djinni_tests::mach::{builder_with, files, made, record, source};
use djinni_tests::programs::{Ran, run};
use serde_json::Value;

/// Faults of a mirror with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Missing,
    Truncated,
    Changed,
}

/// An HTTP server for the world's repository on the loopback interface.
#[derive(Clone)]
struct Mirror {
    port: u16,
    /// By the beginning of a file's name.
    faults: Arc<Mutex<BTreeMap<String, Fault>>>,
    /// Names of requested packages.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn started() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mirror = Mirror { port, faults: Arc::default(), asked: Arc::default() };
        let own = mirror.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A killed client does not wait for the rest.
                let _ = own.answer(stream);
            }
        });
        mirror
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let place = decoded(request.split(' ').nth(1).unwrap_or_default());
        let name = place.rsplit('/').next().unwrap_or_default().to_owned();
        if name.ends_with(".rpm") {
            self.asked.lock().unwrap().push(name.clone());
        }
        let faults = self.faults.lock().unwrap().clone();
        let fault = faults.iter().find(|(begin, _)| name.starts_with(*begin)).map(|(_, it)| *it);
        let bytes = fs::read(images::real().world.join(place.trim_start_matches('/')));
        let Some(mut bytes) = bytes.ok().filter(|_| fault != Some(Fault::Missing)) else {
            return stream
                .write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            bytes.len()
        );
        match fault {
            Some(Fault::Truncated) => bytes.truncate(bytes.len() / 2),
            Some(Fault::Changed) => *bytes.last_mut().unwrap() ^= 1,
            _ => {}
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(&bytes)
    }

    fn url(&self, place: &str) -> String {
        format!("http://127.0.0.1:{}/{place}", self.port)
    }

    fn fails(&self, begin: &str, fault: Fault) {
        self.faults.lock().unwrap().insert(begin.to_owned(), fault);
    }

    fn mended(&self) {
        self.faults.lock().unwrap().clear();
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A path, encoded for a URL.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(char::from(u8::from_str_radix(&part[..2], 16).unwrap()));
        out.push_str(&part[2..]);
    }
    out
}

/// The world's dist with other repositories.
fn dist(repositories: &str) -> String {
    let text = include_str!("../../etc/dists/debian-12-rpm.toml");
    let (head, rest) = text.split_once("[[repository]]").unwrap();
    let (_, tail) = rest.split_once("\n[build]").unwrap();
    format!("{head}{repositories}\n[build]{tail}")
}

fn signed(name: &str, url: &str, checks: &str) -> String {
    let key = images::real().world.join("key.asc");
    format!("[[repository]]\nname = \"{name}\"\nurl = \"{url}\"\n{checks}\nkeys = [{key:?}]\n")
}

/// A share `archive` that only the slave `alone` has.
fn with_share() -> Djinni {
    builder_with(|djinni| {
        fs::create_dir(djinni.srv().join("archive")).unwrap();
        let slave = "[share.archive]\ndir = \"SRV/archive\"\n[slave.alone]\nimage = \"real\"\nslice = 10\n\
                     area = { dir = \"SRV/areas/alone\" }\nshares = [\"archive\"]\n[slave.ext4]";
        djinni.edit("etc/masters/m.toml", "[slave.ext4]", slave);
    })
}

/// The command that adds these sources from the dist of this file.
fn adding(djinni: &Djinni, dist: &str, words: &[&str]) -> Command {
    let dist = djinni.base().join(dist).display().to_string();
    let fixed = ["--json", "archive", "add", "archive", "--image", "real", "--dist", &dist];
    djinni.bhost(&[&fixed, words].concat())
}

#[track_caller]
fn told(ran: Ran) -> Value {
    serde_json::from_str(&ran.text()).unwrap()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn root_a_share_of_rpms_grows_by_a_sources_needs_and_is_never_partial() {
    let djinni = with_share();
    let mirror = Mirror::started();
    let upstream = signed("world", &mirror.url("repo"), "repo_gpgcheck = true");
    djinni.write("up.toml", &dist(&upstream));
    let share = djinni.srv().join("archive");
    let [hello, libcap] = ["hello", "libcap-ng"].map(|name| text(&source(name)));
    killed_at_any_moment(&djinni, &share, &hello);
    let added = told(run(&mut adding(&djinni, "up.toml", &[&hello])).done());
    assert_eq!(added["sources"][0]["file"], "hello-2.10-1.src.rpm", "{added}");
    // Packages that were downloaded before the commands were killed were not downloaded again.
    let packages = files(&share.join("Packages")).len();
    assert!(packages > 100 && mirror.asked() < packages + 10, "{packages}, {}", mirror.asked());
    nothing_stays(&djinni, &share);
    let local = "[[repository]]\nname = \"archive\"\nurl = \"file:///mnt/shares/archive\"\n";
    fs::write(share.join("alone.toml"), dist(local)).unwrap();
    builds(&djinni, "hello");
    // A repeated call has nothing to add, and leaves the index unchanged.
    let (before, index) = (mirror.asked(), fs::read(share.join("repodata/repomd.xml")).unwrap());
    let again = told(run(&mut adding(&djinni, "up.toml", &[&hello])).done());
    assert_eq!(again["packages_added"], 0, "{again}");
    assert_eq!(mirror.asked(), before);
    assert_eq!(fs::read(share.join("repodata/repomd.xml")).unwrap(), index);
    // A second source, next to one with a missing requirement, while the share is being read.
    let needs = made(
        &djinni,
        "needs",
        "BuildRequires: zlib-devell, no-such-thing\n%description\nx\n%files\n",
    );
    let mut child = adding(&djinni, "up.toml", &[&text(&needs), &libcap]).spawn().unwrap();
    read_until_it_ends(&share, &mut child);
    let ran = run(&mut adding(&djinni, "up.toml", &[&text(&needs), &libcap])).ended_with(1);
    ran.complains(&["no-such-thing, zlib-devell cannot be met", "zlib-devel (world)"]);
    assert!(share.join("sources/libcap-ng-0.8.3-1.src.rpm").is_file());
    builds(&djinni, "libcap-ng");
    nothing_stays(&djinni, &share);
    djinni.finish();
}

/// Kills the command while it downloads, and while it fills the share: there is no index, and the next call
/// continues.
fn killed_at_any_moment(djinni: &Djinni, share: &Path, hello: &str) {
    let fetched = || {
        let areas = fs::read_dir(djinni.base().join("state/archive")).into_iter().flatten();
        areas.flatten().any(|area| {
            fs::read_dir(area.path().join("mach/packages")).is_ok_and(|it| it.count() > 20)
        })
    };
    let filled = || fs::read_dir(share.join("Packages")).is_ok_and(|it| it.count() > 20);
    let moments: [&dyn Fn() -> bool; 2] = [&fetched, &filled];
    for come in moments {
        let mut child = adding(djinni, "up.toml", &[hello]).spawn().unwrap();
        while !come() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Its cell dies with it, and holds the lock until then.
        while !Command::new("flock").arg("-n").arg(share).arg("true").status().unwrap().success() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!share.join("repodata").exists() && !share.join("sources").exists());
    }
}

/// Every index that is read while the command runs names only existing files, also later.
fn read_until_it_ends(share: &Path, child: &mut Child) {
    while child.try_wait().unwrap().is_none() {
        let index = fs::read_to_string(share.join("repodata/repomd.xml")).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let places = index.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let read = places.filter(|place| place.contains("primary") || place.contains("filelists"));
        let read: Vec<&str> = read.collect();
        assert_eq!(read.len(), 2);
        read.iter().for_each(|place| assert!(share.join(place).is_file(), "{place}"));
    }
}

/// No scratch files in the share and no working area of the cell are left.
fn nothing_stays(djinni: &Djinni, share: &Path) {
    let names = fs::read_dir(share).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with('.')).count(), 0);
    assert_eq!(files(&djinni.base().join("state/archive")), Vec::<String>::new());
}

/// A slave with only this share builds the source in it.
fn builds(djinni: &Djinni, name: &str) {
    let out = djinni.base().join(format!("out-{name}"));
    let source = source(name);
    let mut command = djinni.start_build(&["alone", "--in"]);
    command.arg(&source).arg("--out").arg(&out).args(["--", "mach", "-r"]);
    command.args(["/mnt/shares/archive/alone.toml", "rebuild"]).arg(source.file_name().unwrap());
    run(&mut command).done();
    assert!(record(&out, name).is_object());
}

#[test]
fn root_unverified_packages_enter_no_share() {
    let djinni = with_share();
    let mirror = Mirror::started();
    let world = signed("world", &mirror.url("repo"), "repo_gpgcheck = true");
    let notes = signed("signed", &mirror.url("signed"), "gpgcheck = true");
    djinni.write("up.toml", &dist(&world));
    djinni.write("notes.toml", &dist(&(world + &notes)));
    let key = images::real().world.join("key.asc");
    let strange = dist(&signed("world", &mirror.url("repo"), "repo_gpgcheck = true"));
    let others = "/usr/share/keyrings/debian-archive-keyring.gpg";
    djinni.write("strange.toml", &strange.replace(&text(&key), others));
    let share = djinni.srv().join("archive");
    let hello = text(&source("hello"));
    let refused = |dist: &str, words: &[&str], why: &[&str]| {
        run(&mut adding(&djinni, dist, words)).ended_with(1).complains(why);
        assert_eq!(files(&share), Vec::<String>::new(), "{why:?}");
    };
    refused("strange.toml", &[&hello], &["nothing was added", "not among the trusted ones"]);
    mirror.fails("repomd.xml.asc", Fault::Missing);
    refused("up.toml", &[&hello], &["is not signed"]);
    mirror.mended();
    for (fault, why) in
        [(Fault::Missing, "404"), (Fault::Truncated, "zstd-"), (Fault::Changed, "zstd-")]
    {
        mirror.fails("zstd-", fault);
        refused("up.toml", &[&hello], &["nothing was added", why]);
        mirror.mended();
    }
    // Good but unsigned, in a repository whose packages are to be signed.
    refused("notes.toml", &["--include", "unsigned-note", &hello], &["unsigned-note", "signed"]);
    run(&mut adding(&djinni, "notes.toml", &["--include", "signed-note", &hello])).done();
    assert!(files(&share).iter().any(|name| name.contains("Packages/signed-note-")));
    // An invalid source, and one with a package that cannot be downloaded now: each is named, a third is
    // added.
    let bad = djinni.base().join("text-1-1.src.rpm");
    fs::write(&bad, "no package").unwrap();
    mirror.fails("swig", Fault::Changed);
    let [libcap, byacc] = ["libcap-ng", "byacc"].map(|name| text(&source(name)));
    let ran = run(&mut adding(&djinni, "up.toml", &[&text(&bad), &libcap, &byacc])).ended_with(1);
    let ran =
        ran.complains(&["text-1-1.src.rpm: not added", "not an RPM file", "libcap-ng", "swig"]);
    assert_eq!(told(ran)["sources"][0]["file"], "byacc-2.0.20221106-1.src.rpm");
    wrong_orders(&djinni, &share, &hello);
    djinni.finish();
}

fn wrong_orders(djinni: &Djinni, share: &Path, hello: &str) {
    let up = text(&djinni.base().join("up.toml"));
    let both = ["--dist", &up, "--image", "real"];
    let add = |words: &[&str]| run(&mut djinni.bhost(&[&["archive", "add"], words].concat()));
    add(&["archive", hello]).ended_with(2).complains(&["--dist FILE.toml"]);
    add(&["archive", hello, "--dist", &up]).ended_with(2).complains(&["--image NAME"]);
    let spec = [&["archive", "x.spec"], &both[..]].concat();
    add(&spec).ended_with(2).complains(&["mach buildsrpm"]);
    let mixed = [&["archive", hello, "hello"], &both[..]].concat();
    add(&mixed).ended_with(2).complains(&["nothing of Debian with them"]);
    let debian = djinni.base().join("debian-share");
    fs::create_dir_all(debian.join("debian/dists")).unwrap();
    let debian = text(&debian);
    let other = [&[&*debian, hello], &both[..]].concat();
    add(&other).ended_with(1).complains(&["it holds an archive of Debian"]);
    let ran = add(&[&text(share), "hello", "--from", "debian-12"]).ended_with(1);
    ran.complains(&["it holds an RPM repository"]);
    let nowhere = [&["/proc/sys", hello], &both[..]].concat();
    add(&nowhere).ended_with(1).complains(&["/proc/sys"]);
}
