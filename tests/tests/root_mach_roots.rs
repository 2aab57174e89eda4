//! Roots of mach in a slave: layers are shared, keyed, limited and never partial; missing requirements;
//! signatures of repositories.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use djinni_tests::djinni::Djinni;
use djinni_tests::images;
use djinni_tests::mach::{DIST, builder, builder_with, made};
use djinni_tests::programs::{Ran, run};
use serde_json::Value;

/// Dists and repositories of these tests, as the slave has them.
const HERE: &str = "/build/t";
const WORLD: &str = "name = \"world\"\nurl = \"file:///mnt/shares/world/repo\"\n";
const SIGNED: &str = "name = \"signed\"\nurl = \"file:///mnt/shares/world/signed\"\n";
const WORLDS_KEY: &str = "keys = [\"/mnt/shares/world/key.asc\"]\n";
/// A keyring with keys that have signed nothing of ours.
const OTHER_KEYS: &str = "keys = [\"/usr/share/keyrings/debian-archive-keyring.gpg\"]\n";
const MINIMAL: &str = "\"filesystem\", \"base-files\", \"base-passwd\", \"bash\", \"coreutils\", \"libc-bin\", \
                       \"ncurses-base\", \"rpm\", \"usr-is-merged\"";

/// The directory of this test's files on the host.
fn here(djinni: &Djinni) -> PathBuf {
    let path = djinni.srv().join("areas/builder/t");
    fs::create_dir_all(&path).unwrap();
    path
}

/// A slave with a working area.
fn slave() -> Djinni {
    let djinni = builder();
    djinni.in_slave("builder", &["true"]).done();
    djinni
}

/// Writes a dist with these repositories; its path in the slave.
fn dist(djinni: &Djinni, name: &str, minimal: &str, repositories: &[&str]) -> String {
    let mut text = format!(
        "name = \"{name}\"\nsummary = \"Test\"\npackage_manager = \"dnf\"\narch = \"x86_64\"\n\
         releasever = \"12\"\nrpm = \"4.18.0\"\n[sets]\nminimal = [{minimal}]\n\
         [build]\nuser = \"machbuild\"\nuid = 1000\nhome = \"/builddir\"\nhostname = \"mach\"\n\
         [macros.install]\n_dbpath = \"/var/lib/rpm\"\n"
    );
    for repository in repositories {
        text.push_str(&format!("[[repository]]\n{repository}"));
    }
    fs::write(here(djinni).join(format!("{name}.toml")), text).unwrap();
    format!("{HERE}/{name}.toml")
}

fn mach(djinni: &Djinni, dist: &str, words: &[&str]) -> Ran {
    djinni.in_slave("builder", &[&["mach", "-r", dist], words].concat())
}

/// Builds a package of this version on the host and adds it to the repository `name`.
fn publish(djinni: &Djinni, name: &str, package: &str, version: &str, rest: &str) {
    let repository = here(djinni).join(name);
    let top = djinni.base().join("rpms");
    fs::create_dir_all(&top).unwrap();
    let spec = top.join(format!("{package}.spec"));
    let text = format!(
        "Name: {package}\nVersion: {version}\nRelease: 1\nSummary: Test\nLicense: MIT\nBuildArch: noarch\n\
         {rest}%description\nx\n%install\nmkdir -p %{{buildroot}}/usr/bin\n\
         echo 'echo {package} {version}' > %{{buildroot}}/usr/bin/{package}\n\
         chmod 755 %{{buildroot}}/usr/bin/{package}\n%files\n/usr/bin/{package}\n"
    );
    fs::write(&spec, text).unwrap();
    let mut command = Command::new("rpmbuild");
    command.args(["-bb", "--quiet", "--define"]).arg(format!("_topdir {}", top.display()));
    command.arg("--define").arg(format!("_rpmdir {}", repository.display())).arg(&spec);
    run(&mut command).done();
    run(Command::new("createrepo_c").args(["--quiet", "--error-exit-val"]).arg(&repository)).done();
}

fn status(djinni: &Djinni) -> Value {
    let ran = djinni.in_slave("builder", &["mach", "status", "--json"]).done();
    serde_json::from_str(&ran.text()).unwrap()
}

/// Keys of the layers of a kind, sorted, with the number of reuses of each.
fn layers(djinni: &Djinni, kind: &str) -> Vec<(String, u64)> {
    let status = status(djinni);
    let all = status["layers"].as_array().unwrap().iter();
    let mut found: Vec<(String, u64)> = all
        .filter(|layer| layer["kind"] == kind)
        .map(|layer| (layer["key"].as_str().unwrap().to_owned(), layer["hits"].as_u64().unwrap()))
        .collect();
    found.sort();
    found
}

const EXTRA: &str = "name = \"extra\"\nurl = \"file:///build/t/extra\"\n";
const TOOL: &str = "Provides: tool(api) = 3\nProvides: pkgconfig(tool) = 1.5\n";

#[test]
fn root_layers_are_shared_and_unmet_requirements_are_explained() {
    let djinni = slave();
    publish(&djinni, "extra", "tool", "1", TOOL);
    publish(&djinni, "extra", "foe", "1", "Conflicts: tool\n");
    let dist = dist(&djinni, "layered", MINIMAL, &[EXTRA, WORLD]);
    layers_follow_packages(&djinni, &dist);
    conflicts_are_kept(&djinni, &dist);
    unmet_is_explained(&djinni, &dist);
    room_is_made(&djinni);
    djinni.finish();
}

/// The same packages give the same layer for any request; other packages give another.
fn layers_follow_packages(djinni: &Djinni, dist: &str) {
    for requirement in ["tool", "/usr/bin/tool", "tool(api) >= 2", "(tool if bash)"] {
        let ran = mach(djinni, dist, &["chroot", "--install", requirement, "--", "tool"]).done();
        assert_eq!(ran.text(), "tool 1\n", "{requirement}");
    }
    let minimal = layers(djinni, "minimal");
    assert!(minimal.len() == 1 && minimal[0].1 == 3, "{minimal:?}");
    let first = layers(djinni, "dependencies");
    assert!(first.len() == 1 && first[0].1 == 3, "{first:?}");
    // Other packages of a repository change its metadata, but no layer.
    publish(djinni, "extra", "bystander", "1", "");
    mach(djinni, dist, &["chroot", "--install", "tool", "--", "tool"]).done();
    assert_eq!(layers(djinni, "dependencies"), [(first[0].0.clone(), 4)]);
    assert_eq!(layers(djinni, "minimal").len(), 1);
    publish(djinni, "extra", "tool", "2", TOOL);
    let ran = mach(djinni, dist, &["chroot", "--install", "tool", "--", "tool"]).done();
    assert_eq!(ran.text(), "tool 2\n");
    assert_eq!(layers(djinni, "dependencies").len(), 2);
    assert_eq!(layers(djinni, "minimal").len(), 1);
}

fn conflicts_are_kept(djinni: &Djinni, dist: &str) {
    let with = |name: &str, tags: &str| {
        let source = made(djinni, name, &format!("{tags}%description\nx\n%files\n"));
        let file = source.file_name().unwrap().to_str().unwrap().to_owned();
        let mut command = djinni.start_build(&["builder"]);
        command.arg("--in").arg(&source).args(["--", "mach", "-r", dist, "installdeps", &file]);
        run(&mut command)
    };
    with("keeps", "BuildRequires: tool\nBuildConflicts: bystander\n").done();
    let ran = with("excludes", "BuildRequires: tool\nBuildConflicts: tool >= 1\n").ended_with(1);
    ran.complains(&["tool"]);
    with("other", "BuildRequires: tool\nBuildConflicts: tool >= 9\n").done();
    let ran = with("sets", "BuildConflicts: bash\n").ended_with(1);
    ran.complains(&["BuildConflicts bash", "bash-5"]);
}

fn unmet_is_explained(djinni: &Djinni, dist: &str) {
    let unmet = |requirement: &str, told: &[&str]| {
        let ran = mach(djinni, dist, &["chroot", "--install", requirement, "--", "true"]);
        ran.ended_with(1).complains(told);
    };
    unmet("tol", &["BuildRequires tol cannot be met", "tool", "(extra)", "/build/t/extra"]);
    unmet("tool >= 9", &["tool >= 9: provided is only tool =", "2-1 (extra)"]);
    unmet("/usr/sbin/tool", &["/usr/sbin/tool", "/usr/bin/tool (extra)"]);
    unmet("pkgconfig(toool)", &["the nearest provided are pkgconfig(tool) (extra)"]);
    unmet("(nonsense and tool)", &["(nonsense and tool)", "nonsense: nothing of a similar name"]);
    let ran =
        mach(djinni, dist, &["chroot", "--install", "tool", "--install", "foe", "--", "true"]);
    ran.ended_with(1).complains(&["foe-1-1.noarch conflicts with tool"]);
}

/// The least recently used layers are evicted; layers in use, or below the kept root, stay; `scrub` removes
/// the rest.
fn room_is_made(djinni: &Djinni) {
    assert!(layers(djinni, "dependencies").len() >= 2);
    let other = dist(djinni, "other", MINIMAL, &[WORLD]);
    mach(djinni, &other, &["--layers-size", "1M", "setup"]).done();
    let after = status(djinni);
    let newest = &after["layers"][0];
    assert!(newest["dist"] == "other" && after["kept_root"] == "layered", "{after}");
    assert_eq!(layers(djinni, "dependencies").len(), 1, "{after}");
    mach(djinni, &other, &["scrub"]).done();
    assert!(
        status(djinni)["layers"].as_array().unwrap().iter().all(|one| one["dist"] == "layered")
    );
    djinni.in_slave("builder", &["mach", "scrub", "--all"]).done();
    assert!(status(djinni)["layers"].as_array().unwrap().is_empty());
}

#[test]
fn root_a_layer_is_whole_or_not_there() {
    let djinni = slave();
    let dist = dist(&djinni, "killed", MINIMAL, &[WORLD]);
    let mut kills = 0;
    for tenths in [5, 10, 15, 20, 30] {
        let mut command = djinni.start_build(&["builder"]);
        command.args(["--", "mach", "-r", &dist, "setup"]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(tenths * 100));
        kills += i32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        djinni.becomes("builder", "free");
        let status = status(&djinni);
        assert!(status["runs"].as_array().unwrap().is_empty(), "{status}");
        let whole = status["layers"].as_array().unwrap().len();
        let found = fs::read_dir(djinni.srv().join("areas/builder/mach/layers")).unwrap().count();
        assert_eq!(whole, found, "{status}");
    }
    assert!(kills > 0, "none was killed in time");
    mach(&djinni, &dist, &["setup"]).done();
    let text = mach(&djinni, &dist, &["chroot", "--", "rpm", "-q", "bash", "rpm"]).done().text();
    assert!(text.contains("bash-5") && text.contains("rpm-4.18"), "{text}");
    djinni.finish();
}

#[test]
fn root_repositories_are_vouched_for() {
    let djinni = slave();
    let checked = |keys: &str| format!("{WORLD}repo_gpgcheck = true\n{keys}");
    let of = |name: &str, repository: &str| dist(&djinni, name, MINIMAL, &[repository]);
    let fails = |dist: &str, told: &[&str]| {
        mach(&djinni, dist, &["setup", "minimal"]).ended_with(1).complains(told);
    };
    mach(&djinni, &of("good", &checked(WORLDS_KEY)), &["setup", "prep"]).done();
    fails(&of("wrong", &checked(OTHER_KEYS)), &["world", "not among the trusted", "trusted: "]);
    let none = "keys = [\"/nowhere/key.asc\"]\n";
    fails(&of("no-key", &checked(none)), &["no OpenPGP key in /nowhere/key.asc"]);
    let here = here(&djinni);
    publish(&djinni, "extra", "tool", "1", TOOL);
    let unsigned = format!("{EXTRA}repo_gpgcheck = true\n{WORLDS_KEY}");
    fails(&of("unsigned", &unsigned), &["is not signed", "repomd.xml.asc"]);
    let world = images::real().world;
    let asc = world.join("repo/repodata/repomd.xml.asc");
    fs::copy(asc, here.join("extra/repodata/repomd.xml.asc")).unwrap();
    fails(&of("tampered", &unsigned), &["BAD signature"]);
    let gone = "name = \"gone\"\nurl = \"file:///build/t/gone\"\n";
    fails(&of("gone", gone), &["repository gone", "/build/t/gone/repodata/repomd.xml"]);
    packages_are_vouched_for(&djinni);
    djinni.finish();
}

fn packages_are_vouched_for(djinni: &Djinni) {
    let checked = |keys: &str| format!("{SIGNED}gpgcheck = true\n{keys}");
    let good = dist(djinni, "packages", MINIMAL, &[WORLD, &checked(WORLDS_KEY)]);
    let install = |dist: &str, package: &str| {
        mach(djinni, dist, &["chroot", "--install", package, "--", "rpm", "-q", package])
    };
    install(&good, "signed-note").done();
    let ran = install(&good, "unsigned-note").ended_with(1);
    ran.complains(&["unsigned-note", "is not signed", "trusted: "]);
    let wrong = dist(djinni, "wrong-packages", MINIMAL, &[WORLD, &checked(OTHER_KEYS)]);
    let ran = install(&wrong, "signed-note").ended_with(1);
    ran.complains(&["signed-note", "signed by none of the keys"]);
    // A package that differs from its metadata.
    let here = here(djinni);
    let package = fs::read_dir(here.join("extra/noarch")).unwrap().flatten().next().unwrap().path();
    let mut bytes = fs::read(&package).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&package, bytes).unwrap();
    let spoilt = dist(djinni, "packages", MINIMAL, &[WORLD, &checked(WORLDS_KEY), EXTRA]);
    let ran = install(&spoilt, "tool").ended_with(1);
    ran.complains(&["tool-1-1.noarch.rpm", "differs from its metadata", "SHA-256"]);
}

/// Serves `$1` on the loopback interface of the slave, then runs the other arguments.
const SERVED: &str = "python3 -m http.server --bind 127.0.0.1 --directory \"$1\" 8321 >/dev/null 2>&1 &\n\
                      server=$!; shift; sleep 1; \"$@\"; status=$?; kill $server; exit $status";

#[test]
fn root_repositories_elsewhere_are_fetched_once() {
    let djinni = slave();
    let web = "name = \"web\"\nurl = \"http://127.0.0.1:8321\"\nrepo_gpgcheck = true\n";
    let dist = dist(&djinni, "web", MINIMAL, &[&format!("{web}{WORLDS_KEY}")]);
    let served = |words: &[&str]| {
        let script = ["sh", "-c", SERVED, "sh", "/mnt/shares/world/repo", "mach", "-r", &dist];
        djinni.in_slave("builder", &[&script, words].concat())
    };
    let offline = mach(&djinni, &dist, &["--offline", "setup"]).ended_with(1);
    offline.complains(&["web", "127.0.0.1:8321", "setup prep"]);
    mach(&djinni, &dist, &["setup"]).ended_with(1).complains(&["127.0.0.1"]);
    served(&["setup"]).done();
    assert!(status(&djinni)["caches"]["packages_bytes"].as_u64().unwrap() > 1 << 20);
    // All packages are cached now: no network access is needed, not even for another root of them.
    mach(&djinni, &dist, &["--offline", "chroot", "--", "true"]).done();
    run_removed_layers(&djinni);
    mach(&djinni, &dist, &["--offline", "setup"]).done();
    let ran = mach(&djinni, &dist, &["--offline", "chroot", "--install", "m4", "--", "true"]);
    ran.ended_with(1).complains(&["m4"]);
    djinni.finish();
}

fn run_removed_layers(djinni: &Djinni) {
    djinni.in_slave("builder", &["mach", "clean"]).done();
    assert!(layers(djinni, "minimal").is_empty());
    assert!(Path::new(&djinni.srv()).join("areas/builder/mach/packages").is_dir());
}

#[test]
fn root_a_later_rpm_makes_a_first_root_only() {
    let djinni = builder_with(|djinni| {
        let image = djinni.own_image(&images::trixie());
        let image = format!("[image.later]\nsource = {{ erofs = {image:?} }}\n[image.ext4]");
        djinni.edit("etc/images.toml", "[image.ext4]", &image);
        let slave = "[slave.later]\nimage = \"later\"\nslice = 10\nshares = [\"world\"]\n\
                     area = { dir = \"SRV/areas/later\" }\n[slave.ext4]";
        djinni.edit("etc/masters/m.toml", "[slave.ext4]", slave);
    });
    let slave = |words: &[&str]| djinni.in_slave("later", words).done().text();
    assert!(slave(&["rpm", "--version"]).contains("4.20"));
    slave(&["mach", "-r", DIST, "setup", "minimal"]);
    let status: Value = serde_json::from_str(&slave(&["mach", "status", "--json"])).unwrap();
    let layers = status["layers"].as_array().unwrap();
    let kinds: Vec<&str> = layers.iter().map(|layer| layer["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"bootstrap") && kinds.contains(&"minimal"), "{status}");
    // The root's own rpm reads its database, and has added to it.
    let script = "rpm --version && rpm -q bash make && rpm -V rpm bash";
    let text = slave(&["mach", "-r", DIST, "chroot", "--", "sh", "-c", script]);
    assert!(
        text.contains("4.18.0") && text.contains("bash-5.2.15") && text.contains("make-"),
        "{text}"
    );
    djinni.finish();
}
