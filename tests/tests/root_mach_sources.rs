//! Untrusted sources: hostile and damaged packages, URLs, digests and signatures.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use djinni_tests::djinni::Djinni;
use djinni_tests::forge::{self, Entries, Value, tag};
use djinni_tests::mach::{DIST, builder, builder_with_layers, made, rebuild, record};
use djinni_tests::programs::{Ran, run};
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

const SPEC: (&str, u16, &str) = ("hello.spec", 0o100_644, "");

/// A source package that claims to hold this file beside its spec; all digests are right.
fn holding(name: &str, mode: u16, link: &str) -> Vec<u8> {
    forge::package(&forge::source("hello", &[SPEC, (name, mode, link)]), b"no archive", sha256)
}

/// A header that claims to have so many entries and so many bytes.
fn claiming(entries: u32, data: u32) -> Vec<u8> {
    let mut header = forge::header(&forge::source("hello", &[SPEC]));
    header[8..12].copy_from_slice(&entries.to_be_bytes());
    header[12..16].copy_from_slice(&data.to_be_bytes());
    forge::file(true, &Entries::new(), &header, b"")
}

/// Each hostile package, and the expected error.
fn hostile(whole: &Path) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = fs::read(whole).unwrap();
    let mut flipped = whole.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    let mut named = forge::source("hello", &[SPEC]);
    named.insert(tag::NAME, Value::text("../../etc"));
    let mut below = forge::source("hello", &[SPEC]);
    below.insert(tag::DIRECTORY_NAMES, Value::strings(&["/etc/"]));
    let mut steering = forge::source("hello", &[SPEC]);
    forge::require(&mut steering, &[("--installroot=/", 0, "")]);
    vec![
        ("dots", holding("../../../../build/owned", 0o100_644, ""), "\"../../../../build/owned\""),
        ("absolute", holding("/build/owned", 0o100_644, ""), "\"/build/owned\""),
        ("link", holding("link", 0o120_777, "/build/owned"), "symboliclink"),
        ("device", holding("sda", 0o060_600, ""), "blockdevice"),
        ("suid", holding("sh", 0o104_755, ""), "set-uid"),
        ("twice", holding("hello.spec", 0o100_644, ""), "twice"),
        ("specs", holding("other.spec", 0o100_644, ""), "2 specs"),
        ("directory", forge::package(&below, b"", sha256), "\"/etc/hello.spec\""),
        ("name", forge::package(&named, b"", sha256), "../../etc"),
        ("option", forge::package(&steering, b"", sha256), "--installroot=/"),
        ("entries", claiming(u32::MAX, 100), "larger than any"),
        ("data", claiming(10, u32::MAX), "larger than any"),
        ("missing", claiming(10, 30 << 20), "truncated"),
        ("cut", whole[..whole.len() - 1].to_vec(), "truncated"),
        ("lead", whole[..50].to_vec(), "truncated"),
        ("flipped", flipped, "payload is damaged"),
        ("html", b"<!DOCTYPE html>".to_vec(), "not an RPM file"),
        ("empty", Vec::new(), "not an RPM file"),
    ]
}

#[test]
fn root_hostile_source_packages_are_refused_by_name_and_nothing_is_made() {
    let djinni = builder();
    let whole = made(&djinni, "whole", "%description\nx\n%files\n");
    let cases = hostile(&whole);
    let mut command = djinni.start_build(&["builder"]);
    let mut script = String::new();
    for (name, bytes, _) in &cases {
        let path = djinni.base().join(format!("{name}.src.rpm"));
        fs::write(&path, bytes).unwrap();
        command.arg("--in").arg(path);
        script += &format!("mach -r {DIST} rebuild {name}.src.rpm 2>&1; echo \"{name}: $?\"\n");
    }
    script += "find / -xdev -name owned; cd /build; ls -A results mach/layers mach/tmp | grep -c .";
    let ran = run(command.args(["--", "sh", "-c", &script])).done().text();
    let mut rest = ran.as_str();
    for (name, _, wanted) in &cases {
        let (said, after) = rest.split_once(&format!("{name}: 1\n")).unwrap_or_else(|| {
            panic!("{name} did not end with 1: {rest}");
        });
        assert!(said.contains(&format!("{name}.src.rpm")) && said.contains(wanted), "{said}");
        rest = after;
    }
    // No file of that name, and the headings of three empty directories.
    assert_eq!(rest, "3\n");
    djinni.finish();
}

/// The package as rpm wrote it before it knew SHA-256: with sizes, MD5 and SHA-1 only.
fn aged(djinni: &Djinni, package: &Path, spoil: bool) -> PathBuf {
    let bytes = fs::read(package).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let begin = (96 + 16 + 16 * number(104) + number(108)).next_multiple_of(8);
    let end = begin + 16 + 16 * number(begin + 8) + number(begin + 12);
    let mut md5 = digest_by(djinni, "md5sum", &bytes[begin..]);
    if spoil {
        md5[0] ^= 1;
    }
    let sha1 = hex(&digest_by(djinni, "sha1sum", &bytes[begin..end]));
    let signature = Entries::from([
        (tag::SHA1_HEADER, Value::text(&sha1)),
        (tag::SIGNATURE_SIZE, Value::Words(vec![(bytes.len() - begin) as u32])),
        (tag::SIGNATURE_MD5, Value::Bytes(md5)),
    ]);
    let name = if spoil { "spoilt.src.rpm" } else { "aged.src.rpm" };
    let path = djinni.base().join(name);
    let file = forge::file(true, &signature, &bytes[begin..end], &bytes[end..]);
    fs::write(&path, file).unwrap();
    path
}

/// A digest, by a program of the host.
fn digest_by(djinni: &Djinni, program: &str, bytes: &[u8]) -> Vec<u8> {
    let path = djinni.base().join("digested");
    fs::write(&path, bytes).unwrap();
    let said = run(Command::new(program).arg(&path)).done().text();
    let digits = said.split(' ').next().unwrap();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn packages_without_sha256_are_checked_by_rpm(djinni: &Djinni) {
    let out = djinni.base().join("out");
    let whole = made(djinni, "whole", "%description\nx\n%files\n");
    let spoilt = aged(djinni, &whole, true);
    let ran = rebuild(djinni, &[spoilt], &out).ended_with(1);
    ran.complains(&["spoilt.src.rpm", "rpm -K"]);
    let aged = aged(djinni, &whole, false);
    rebuild(djinni, &[aged], &djinni.base().join("good")).done();
    assert_eq!(record(&djinni.base().join("good"), "whole-1-1")["exit"]["cause"], "built");
}

/// Keys and signatures of two makers.
struct Makers {
    home: PathBuf,
}

impl Makers {
    fn new(djinni: &Djinni) -> Self {
        let home = djinni.base().join("gnupg");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let makers = Self { home };
        for name in ["one", "two"] {
            makers.gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"]);
        }
        makers
    }

    fn gpg(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--yes", "--passphrase", "", "--homedir"]);
        run(command.arg(&self.home).args(arguments)).done()
    }

    fn export(&self, name: &str, to: &Path) {
        fs::write(to, self.gpg(&["--armor", "--export", name]).stdout).unwrap();
    }

    fn sign(&self, name: &str, file: &Path) {
        self.gpg(&["--local-user", name, "--armor", "--detach-sign", file.to_str().unwrap()]);
    }

    /// Ends the agent that gpg has started.
    fn finish(&self) {
        run(Command::new("gpgconf").arg("--homedir").arg(&self.home).args(["--kill", "all"]))
            .done();
    }
}

const FETCHED_SPEC: &str = "\
%global site http://127.0.0.1:8080
Name: hello
Version: 1
Release: 1
Summary: Test
License: MIT
BuildArch: noarch
Source0: %{site}/%{name}-%{version}.tar
Source1: %{site}/%{name}-%{version}.tar.asc
Source2: maker.asc
%description
Source9: prose
%files
";

/// Runs a script in the slave beside a web server that serves `site`; returns its output.
fn with_server(djinni: &Djinni, inputs: &[PathBuf], script: &str) -> String {
    let mut command = djinni.start_build(&["builder"]);
    for input in inputs {
        command.arg("--in").arg(input);
    }
    let server = "rm -rf site p; mkdir site p; mv hello-1.tar* *.src.rpm site/ 2>/dev/null; mv hello.spec p/
        (cd site; exec python3 -m http.server -b 127.0.0.1 8080 >/dev/null 2>&1) &
        for n in $(seq 100); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8080))' 2>/dev/null && break; sleep 0.1; done\n";
    run(command.args(["--", "sh", "-c", &format!("exec 2>&1; {server}{script}")])).done().text()
}

/// Creating a slave with a build root takes long: one for all tests that need one.
#[test]
fn root_sources_are_held_to_digests_and_signatures() {
    let djinni = builder_with_layers();
    packages_without_sha256_are_checked_by_rpm(&djinni);
    sources_of_a_spec_are_fetched_and_checked(&djinni);
    a_source_package_is_rebuilt_from_a_url(&djinni);
    djinni.finish();
}

fn sources_of_a_spec_are_fetched_and_checked(djinni: &Djinni) {
    let makers = Makers::new(djinni);
    let base = djinni.base();
    let tarball = base.join("hello-1.tar");
    fs::write(&tarball, "not really an archive").unwrap();
    makers.sign("one", &tarball);
    makers.export("one", &base.join("one.asc"));
    makers.export("two", &base.join("two.asc"));
    makers.finish();
    fs::write(base.join("hello.spec"), FETCHED_SPEC).unwrap();
    let right = sha256(b"not really an archive");
    let wrong = sha256(b"another archive");
    let names = ["hello-1.tar", "hello-1.tar.asc", "one.asc", "two.asc", "hello.spec"];
    let inputs: Vec<PathBuf> = names.iter().map(|name| base.join(name)).collect();
    let script = format!(
        "fetch() {{ mach -r {DIST} fetch p/hello.spec \"$@\"; echo \"case $n: $?\"; ls -A p; rm -f p/hello-1.tar*; }}
        n=nothing; fetch
        cp one.asc p/maker.asc; n=signed; fetch
        n=wrong; fetch --sha256 hello-1.tar={wrong}
        cp two.asc p/maker.asc; n=stranger; fetch
        cp one.asc p/maker.asc; echo x >>site/hello-1.tar; n=changed; fetch
        printf %s 'not really an archive' >site/hello-1.tar; echo 'SHA256 (hello-1.tar) = {right}' >p/sources; n=listed; fetch
        echo 'SHA512 (hello-1.tar) = 12' >p/sources; n=list; fetch
        rm p/sources; n=offline; fetch --offline
        cp site/hello-1.tar* p/; echo 'SHA256 (hello-1.tar) = {wrong}' >p/sources; n=build
        mach -r {DIST} build p; echo \"case $n: $?\"; rm p/hello-1.tar* p/sources
        sed -i 's/^Name/Nmae/' p/hello.spec; n=unparsable; fetch\n"
    );
    let said = with_server(djinni, &inputs, &script);
    let mut rest = said.as_str();
    let mut case = |name: &str, status: i32, wanted: &[&str], left: &str| {
        let (before, after) =
            rest.split_once(&format!("case {name}: {status}\n")).unwrap_or_else(|| {
                panic!("{name} did not end with {status}: {rest}");
            });
        for part in wanted {
            assert!(before.contains(part), "{name}: {part:?} is not in: {before}");
        }
        assert!(after.starts_with(left), "{name}: left is {after}");
        rest = after;
    };
    let all = "hello-1.tar\nhello-1.tar.asc\nhello.spec\nmaker.asc\n";
    let none = "hello.spec\nmaker.asc\n";
    case("nothing", 1, &["Source2: maker.asc is not here"], "hello.spec\n");
    case("signed", 0, &["is signed by one", "p/hello-1.tar\n"], all);
    case("wrong", 1, &[&right, &wrong, "http://127.0.0.1:8080/hello-1.tar"], none);
    case("stranger", 1, &["cannot be trusted", "not among the trusted", "trusted: "], none);
    case("changed", 1, &["BAD signature"], none);
    case("listed", 0, &["is signed by one"], "hello-1.tar\nhello-1.tar.asc\nhello.spec\n");
    case("list", 1, &["sources, line 1", "128 hexadecimal"], "hello.spec\nmaker.asc\nsources\n");
    case("offline", 1, &["--offline"], none);
    case("build", 1, &["hello-1.tar is not what it must be", &wrong, &right], "");
    case("unparsable", 1, &["does not parse", "Unknown tag: Nmae: hello"], none);
}

fn a_source_package_is_rebuilt_from_a_url(djinni: &Djinni) {
    let whole = made(djinni, "whole", "%description\nx\n%files\n");
    let right = sha256(&fs::read(&whole).unwrap());
    let spec = djinni.base().join("hello.spec");
    fs::write(&spec, FETCHED_SPEC).unwrap();
    let url = "http://127.0.0.1:8080/whole-1-1.src.rpm";
    let zeros = "0".repeat(64);
    let script = format!(
        "mach -r {DIST} rebuild {url}; echo \"bare: $?\"
        mach -r {DIST} rebuild {url}#sha256:{zeros}; echo \"wrong: $?\"
        mach -r {DIST} rebuild http://127.0.0.1:8080/nonesuch.src.rpm#sha256:{right}; echo \"gone: $?\"
        mach -r {DIST} rebuild http://127.0.0.1:9/x.src.rpm#sha256:{right}; echo \"down: $?\"
        mach -r {DIST} rebuild {url}#sha256:{right}; echo \"right: $?\"
        rm -r site; mach -r {DIST} --offline rebuild {url}; echo \"offline: $?\"\n"
    );
    let said = with_server(djinni, &[whole, spec], &script);
    for wanted in [
        "no digest vouches for it",
        "bare: 1\n",
        &format!("its sha256 is {right}, wanted was {zeros}"),
        "wrong: 1\n",
        "127.0.0.1:8080 answers 404",
        "gone: 1\n",
        "no connection to 127.0.0.1:9",
        "down: 1\n",
        "whole-1-1.src.rpm\nright: 0\n",
        "offline: 0\n",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in: {said}");
    }
}
