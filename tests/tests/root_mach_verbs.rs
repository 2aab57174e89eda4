//! Verbs and options of mach in a slave, each with one test; and actions that a build must not be able to
//! do.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{DIST, builder, builder_with_layers, files, made, source};
use djinni_tests::programs::{Ran, run};
use djinni_tests::terminal::Terminal;
use serde_json::Value;

/// mach in the slave `builder`, with files; the words are behind `mach -r DIST`.
fn mach(djinni: &Djinni, inputs: &[&Path], words: &[&str]) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    for input in inputs {
        command.arg("--in").arg(input);
    }
    command.args(["--", "mach", "-r", DIST]).args(words);
    run(&mut command)
}

/// A file of the test.
fn file(djinni: &Djinni, name: &str, text: &str) -> PathBuf {
    let path = djinni.base().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A spec whose `%build` is `build`.
fn spec(djinni: &Djinni, name: &str, head: &str, build: &str) -> PathBuf {
    let text = format!(
        "Name: {name}\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: Test\nLicense: MIT\n{head}\n\
         %description\nx\n%prep\n%build\n{build}\n%install\n%check\necho checked here\n%files\n"
    );
    file(djinni, &format!("{name}.spec"), &text)
}

/// The area's directory on the host.
fn area(djinni: &Djinni) -> PathBuf {
    djinni.srv().join("areas/builder")
}

/// The newest run of a package: its directory, its record.
#[track_caller]
fn newest(djinni: &Djinni, package: &str) -> (PathBuf, Value) {
    let mut runs: Vec<PathBuf> = fs::read_dir(area(djinni).join("results").join(package))
        .unwrap_or_else(|error| panic!("{package}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    runs.sort();
    let run = runs.pop().unwrap();
    let record = fs::read_to_string(run.join("record.json")).unwrap();
    (run, serde_json::from_str(&record).unwrap())
}

fn log(run: &Path) -> String {
    String::from_utf8_lossy(&fs::read(run.join("build.log")).unwrap()).into_owned()
}

#[test]
fn root_specs_are_built_under_the_options_given() {
    let djinni = builder_with_layers();
    let conditional = "%bcond_with extra\n%{?with_extra:BuildRequires: flex}\nSource0: data.txt";
    let build = "cat %{SOURCE0}; echo \"mark=%{?mark}\"; %{?with_extra:flex --version}";
    let spec = spec(&djinni, "conditional", conditional, build);
    let data = file(&djinni, "data.txt", "of the source\n");
    let both: [&Path; 2] = [&spec, &data];
    // The spec alone lacks its source.
    mach(&djinni, &[&spec], &["build", "conditional.spec"]).ended_with(1).complains(&["data.txt"]);
    mach(&djinni, &both, &["build", "conditional.spec"]).done();
    let (run, record) = newest(&djinni, "conditional-1-1.world");
    assert_eq!(record["exit"]["cause"], "built");
    let text = log(&run);
    assert!(text.contains("of the source") && text.contains("mark=\n"), "{text}");
    assert!(text.contains("checked here") && !text.contains("flex 2"), "{text}");
    let options = ["--with", "extra", "-D", "mark a b", "--release", "mine", "--nocheck", "-f"];
    let rest = ["--target", "i686", "--collect=/build/collected", "build", "."];
    mach(&djinni, &both, &[&options[..], &rest].concat()).done();
    let (run, record) = newest(&djinni, "conditional-1-1.world");
    let text = log(&run);
    assert!(text.contains("mark=a b") && text.contains("flex 2"), "{text}");
    assert!(!text.contains("checked here"), "{text}");
    let names = files(&run);
    assert!(names.contains(&"conditional-1-1.world.mine.i686.rpm".to_owned()), "{names:?}");
    assert_eq!(record["inputs"]["options"]["release"], "mine", "{record}");
    let collected = files(&area(&djinni).join("collected"));
    assert!(collected.contains(&"conditional-1-1.world.mine.i686.rpm".to_owned()), "{collected:?}");
    // A source package alone, and its requirements, in a root that is kept.
    let ran = mach(&djinni, &both, &["--with", "extra", "-q", "buildsrpm", "."]).done();
    assert!(ran.text().trim().ends_with("conditional-1-1.world.src.rpm"), "{ran:?}");
    assert_eq!(ran.stderr, "");
    mach(&djinni, &[], &["--with", "extra", "installdeps", ran.text().trim()]).done();
    mach(&djinni, &[], &["chroot", "--last", "--", "flex", "--version"]).done();
    djinni.finish();
}

#[test]
fn root_requirements_that_a_build_finds_out_come_in_rounds() {
    let djinni = builder_with_layers();
    let generating = |name: &str, generator: &str| {
        let text = format!(
            "%description\nx\n%prep\necho once >>count\n%generate_buildrequires\n{generator}\n%build\n\
             test $(wc -l <count) = 1\n%{{?tell}}\n%install\n%files\n"
        );
        made(&djinni, name, &text)
    };
    let two = "echo flex\nif [ -x /usr/bin/flex ]; then echo gettext; fi";
    mach(
        &djinni,
        &[&generating("rounds", two)],
        &["rebuild", "rounds-1-1.src.rpm", "-D", "tell msgfmt --version"],
    )
    .done();
    let (run, record) = newest(&djinni, "rounds-1-1");
    let phases = record["phases"].as_array().unwrap();
    assert_eq!(phases.iter().filter(|phase| phase["name"] == "rpmbuild").count(), 3, "{record}");
    assert!(log(&run).contains("GNU gettext"), "{}", log(&run));
    let unmet = generating("unmet", "echo 'flex >= 99'");
    let ran = mach(&djinni, &[&unmet], &["rebuild", "unmet-1-1.src.rpm"]).ended_with(1);
    ran.complains(&["flex >= 99"]);
    // A requirement that exists already, under another name each time: the loop never settles.
    let endless = generating(
        "endless",
        "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; \
                              echo \"bash >= 0.$n\"; echo 'bash < 0'",
    );
    let ran = mach(&djinni, &[&endless], &["rebuild", "endless-1-1.src.rpm"]).ended_with(1);
    ran.complains(&["bash"]);
    djinni.finish();
}

#[test]
fn root_roots_are_entered_kept_and_asked() {
    let djinni = builder();
    mach(&djinni, &[], &["setup", "prep"]).done();
    let ran = mach(&djinni, &[], &["setup", "build"]).done();
    assert!(ran.text().starts_with("/build/mach/layers/"), "{ran:?}");
    mach(&djinni, &[], &["unlock"]).done();
    mach(&djinni, &[], &["chroot", "--", "sh", "-c", "exit 7"]).ended_with(7);
    let ran = mach(
        &djinni,
        &[],
        &["-q", "chroot", "--builder", "--", "sh", "-c", "id -u; pwd; touch /x"],
    );
    assert_eq!(ran.text(), "1000\n/builddir\n");
    ran.ended_with(1).complains(&["Read-only file system"]);
    // Output can be opened by name, input too, and a closed reader ends mach as in a shell.
    let script = "cat </dev/stdin; echo two | tee /dev/stderr >/dev/null; echo three >/dev/stdout";
    let piped = format!("echo one | mach -q -r {DIST} chroot --builder -- sh -c '{script}' 2>&1");
    let left =
        format!("mach -q -r {DIST} chroot --builder -- yes | head -1; echo ${{PIPESTATUS[0]}}");
    // mach begins only after the reader has closed the pipe, which a failed write shows.
    let quiet = "mach status | head -c1 >/dev/null; \
                 { trap '' PIPE; while echo 2>/dev/null; do sleep 0.01; done; trap - PIPE; mach dists; } | true; \
                 echo ${PIPESTATUS[0]}";
    for (script, said) in
        [(piped.as_str(), "one\ntwo\nthree\n"), (&left, "y\n141\n"), (quiet, "141\n")]
    {
        let ran = run(&mut djinni.start_build(&["builder", "--", "bash", "-c", script])).done();
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), (said, ""), "{script}");
    }
    let ran = mach(&djinni, &[], &["-q", "chroot", "--install", "flex", "--", "flex", "--version"]);
    assert!(ran.text().starts_with("flex 2"), "{ran:?}");
    let ran = mach(&djinni, &[], &["-q", "rpm", "-q", "bash"]).done();
    assert!(ran.text().starts_with("bash-"), "{ran:?}");
    // Nothing is kept unless requested.
    let last = ["chroot", "--last", "--", "cat", "/kept"];
    mach(&djinni, &[], &last).ended_with(2).complains(&["no root of a build is kept"]);
    mach(&djinni, &[], &["-k", "chroot", "--", "sh", "-c", "echo it >/kept"]).done();
    assert_eq!(mach(&djinni, &[], &last).done().text(), "it\n");
    mach(&djinni, &[], &["install", "flex"]).done();
    mach(&djinni, &[], &["chroot", "--last", "--", "flex", "--version"]).done();
    mach(&djinni, &[], &["install", "nonesuch"]).ended_with(1).complains(&["nonesuch"]);
    for (words, says) in [
        (&["--nocheck", "status"][..], "--nocheck"),
        (&["--time-limit", "soon", "setup"], "soon"),
        (&["build", "/nowhere"], "/nowhere"),
        (&["update"], "by itself"),
    ] {
        mach(&djinni, &[], words).ended_with(2).complains(&[says]);
    }
    djinni.finish();
}

#[test]
fn root_a_failed_build_is_looked_into_and_gone_on_with() {
    let djinni = builder_with_layers();
    let spec =
        spec(&djinni, "wants", "BuildArch: noarch", "echo begun >mark; cat /builddir/wanted");
    let package = mach(&djinni, &[&spec], &["-q", "buildsrpm", "wants.spec"]).done().text();
    let package = package.trim();
    let short = ["rebuild", "--short-circuit", "build", package];
    mach(&djinni, &[], &short).ended_with(2).complains(&["no root of a build is kept"]);
    mach(&djinni, &[], &["rebuild", package])
        .ended_with(1)
        .complains(&["mach chroot --last", "%build"]);
    let words = ["-q", "chroot", "--last", "--builder", "--", "sh", "-c"];
    let ran = mach(&djinni, &[], &[&words[..], &["cat build/BUILD/mark; echo x >wanted"]].concat());
    assert_eq!(ran.done().text(), "begun\n");
    mach(&djinni, &[], &short).done();
    // The kept root of another source cannot be continued.
    let other = made(&djinni, "other", "%description\nx\n%files\n");
    let words = ["rebuild", "--short-circuit", "build", "other-1-1.src.rpm"];
    mach(&djinni, &[&other], &words).ended_with(2).complains(&["wants-1-1.world", "other-1-1"]);
    djinni.finish();
}

#[test]
fn root_a_shell_in_a_root_has_job_control() {
    let djinni = builder_with_layers();
    // Build the root first, so that the terminal does not wait for it.
    mach(&djinni, &[], &["setup"]).done();
    let mut shell = Terminal::start(
        &djinni.start_build(&["-t", "builder", "--", "mach", "-r", DIST, "-q", "chroot"]),
    );
    shell.types("PS1='ready> '; echo be''gun; tty; stty size\n");
    shell.shows("begun");
    shell.shows("/dev/pts/0");
    shell.shows("24 80");
    shell.types("sleep 1000\n");
    shell.shows("sleep 1000");
    djinni.runs("sleep 1000");
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.types("fg\n");
    shell.shows("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(500));
    shell.types("\x03");
    shell.types("echo sta''tus $?\n");
    shell.shows("status 130");
    shell.resize(30, 90);
    shell.types("stty size; exit 9\n");
    shell.shows("30 90");
    assert_eq!(shell.end().0, 9);
    djinni.finish();
}

#[test]
fn root_time_signals_hooks_and_the_network_are_held_to() {
    let djinni = builder_with_layers();
    let slow = spec(&djinni, "slow", "BuildArch: noarch", "(setsid sleep 4321 &); sleep 1000");
    let ran = mach(&djinni, &[&slow], &["--time-limit", "3s", "build", "slow.spec"]).ended_with(1);
    ran.complains(&["may take no longer", "/build.log"]);
    assert_eq!(newest(&djinni, "slow-1-1.world").1["exit"]["cause"], "time");
    // A signal to mach ends the build at once, and the record says so.
    let script = format!(
        "mach -r {DIST} build slow.spec & m=$!; sleep 6; kill -TERM $m; wait $m; \
                          echo status $?; pgrep sleep; true"
    );
    let mut command = djinni.start_build(&["builder", "--in"]);
    let ran = run(command.arg(&slow).args(["--", "sh", "-c", &script])).done();
    assert_eq!(ran.text(), "status 1\n", "{ran:?}");
    ran.complains(&["interrupted by SIGTERM", "/build.log"]);
    assert_eq!(newest(&djinni, "slow-1-1.world").1["exit"]["cause"], "interrupted");
    // Hooks of a private dist.
    let dist = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/dists/debian-12-rpm.toml"),
    );
    let hook = "ls; id -u; touch x || echo refused; echo told | tee /dev/stderr >/dev/null";
    let own = dist
        .unwrap()
        .replace("log_limit = \"512M\"", "log_limit = \"2M\"")
        .replace("on_success = []", &format!("on_success = [[\"sh\", \"-c\", \"{hook}\"]]"));
    let dist = file(&djinni, "own.toml", &own);
    let good = spec(&djinni, "good", "BuildArch: noarch", "cat /proc/net/dev; test -z \"$WRONG\"");
    let words = ["-r", "./own.toml", "build", "good.spec"];
    let own = |more: &[&str], status: i32| {
        let mut command = djinni.start_build(&["builder", "--in"]);
        command.arg(&dist).arg("--in").arg(&good).args(["--", "mach"]).args(words).args(more);
        run(&mut command).ended_with(status)
    };
    own(&[], 0);
    let (run_directory, record) = newest(&djinni, "good-1-1.world");
    let said = fs::read_to_string(run_directory.join("hooks.log")).unwrap();
    for word in ["good-1-1.world.noarch.rpm", "1000", "refused", "told"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(log(&run_directory).matches(" lo:").count(), 1);
    assert_eq!(record["inputs"]["options"]["network"], false, "{record}");
    // A build that prints without end is killed, and its output so far is kept.
    let endless = spec(&djinni, "endless", "BuildArch: noarch", "yes");
    let out = djinni.base().join("endless-out");
    let mut command = djinni.start_build(&["builder", "--in"]);
    command.arg(&dist).arg("--in").arg(&endless).arg("--out").arg(&out);
    let ran = run(command.args(["--", "mach", "-r", "./own.toml", "build", "endless.spec"]));
    ran.ended_with(1).complains(&["build.log has reached 2 MiB", "cause: resource"]);
    let (run_directory, record) = newest(&djinni, "endless-1-1.world");
    assert_eq!(record["exit"]["cause"], "resource");
    assert!(log(&run_directory).ends_with("the program was ended\n"));
    assert!(files(&out).iter().any(|file| file.ends_with("/build.log")), "{:?}", files(&out));
    own(&["--network"], 0);
    assert_eq!(newest(&djinni, "good-1-1.world").1["inputs"]["options"]["network"], true);
    djinni.finish();
}

/// Attacks of a hostile `%build`; each line prints `BAD` if it succeeds.
const ATTACKS: &str = r#"
bad() { echo "BAD $*"; }
test "$(id -u)" = 1000 || bad uid
grep -q '^CapEff:.0*$' /proc/self/status || bad capabilities
test "$(grep -c : /proc/net/dev)" = 1 || bad network
(exec 3<>/dev/tcp/192.0.2.1/80) 2>/dev/null && bad connected
for at in / /usr /etc /var /opt /root /bin; do touch $at/hostile 2>/dev/null && bad wrote $at; done
for at in sysrq-trigger sys/kernel/core_pattern sys/kernel/hostname sys/vm/drop_caches; do
    (echo h >/proc/$at) 2>/dev/null && bad wrote /proc/$at; done
for at in kcore keys kmsg kallsyms timer_list; do head -c1 /proc/$at >/dev/null 2>&1 && bad read $at; done
for at in /build /mnt /sys/kernel /results /ccache; do test -n "$(ls -A $at 2>/dev/null)" && bad sees $at; done
test "$(ls -d /proc/[0-9]* | wc -l)" -lt 12 || bad processes
kill -9 1 2>/dev/null || true
test -d /proc/1 || bad killed
mknod /tmp/null c 1 3 2>/dev/null && cat /tmp/null && bad node
mount -t tmpfs none /tmp 2>/dev/null && bad mounted
unshare -Urm sh -c 'mount -o remount,bind,rw / && touch /usr/hostile' 2>/dev/null && bad remounted
unshare -Urm umount -l /proc/kcore 2>/dev/null && bad bared
unshare -Urmpf --mount-proc sh -c 'for at in kcore kmsg timer_list kpagecount kpageflags; do
    head -c1 /proc/$at && exit; done; exit 1' 2>/dev/null && bad proc
unshare -Urmpf --mount-proc sh -c 'test $(ls -d /proc/[0-9]* | wc -l) -lt 5' || bad nested
test "$(hostname)" = mach || bad hostname
test "$(ulimit -c)" = 0 || bad cores
echo attacks begin; : >/dev/stdout || bad output
echo error | tee /dev/stderr >/dev/null || bad errors
test "$LC_ALL" = C.UTF-8 || bad locale
test -z "$(env | grep -i -E 'djinni|slave|SSH|DISPLAY')" || bad environment
touch /tmp/left /var/tmp/left /dev/shm/left || bad tmp
(setsid sleep 4321 >/dev/null 2>&1 &)
(trap '' HUP TERM INT; setsid sh -c 'sleep 4321; sleep 4321' >/dev/null 2>&1 &)
echo attacks are done
"#;

#[test]
fn root_a_hostile_build_reaches_nothing_and_leaves_nothing() {
    let djinni = builder_with_layers();
    let hostile = spec(&djinni, "hostile", "BuildArch: noarch", ATTACKS);
    mach(&djinni, &[&hostile], &["build", "hostile.spec"]).done();
    let (run_directory, _) = newest(&djinni, "hostile-1-1.world");
    let text = log(&run_directory);
    assert!(text.contains("attacks begin") && text.contains("attacks are done"), "{text}");
    let bad: Vec<&str> = text.lines().filter(|line| line.starts_with("BAD")).collect();
    assert!(bad.is_empty(), "{bad:#?}\n{text}");
    // In one call of start-build, because its end kills its processes too.
    let script = format!("mach -q -r {DIST} build hostile.spec; pgrep sleep; ls /tmp /var/tmp");
    let mut command = djinni.start_build(&["builder", "--in"]);
    let ran = run(command.arg(&hostile).args(["--", "sh", "-c", &script]));
    let left: Vec<String> =
        ran.text().lines().filter(|line| !line.ends_with(".rpm")).map(str::to_owned).collect();
    assert!(left.iter().all(|line| line.ends_with(':') || line.is_empty()), "{left:?}");
    // Scriptlets run as root, and see only the root in which they run.
    let scriptlet = "mount -o remount,bind,rw /usr; umount -l /proc/sys; ls -A /build /mnt; \
                     touch /mnt/x; echo x >/proc/sys/kernel/core_pattern; ls /proc | grep -c '^[0-9]'; id -u";
    let ran = mach(&djinni, &[], &["-q", "chroot", "--", "sh", "-c", scriptlet]);
    assert!(ran.text().ends_with("0\n"), "{ran:?}");
    assert!(ran.stderr.contains("core_pattern"), "{ran:?}");
    djinni.finish();
}

#[test]
fn root_two_machs_share_an_area() {
    let djinni = builder();
    let script = format!(
        "mach -q -r {DIST} rebuild diffstat*.src.rpm >one & mach -q -r {DIST} rebuild byacc*.src.rpm >two & \
         wait; wc -l <one; wc -l <two; ls /build/mach/layers | wc -l; ls /build/mach/tmp | wc -l"
    );
    let mut command = djinni.start_build(&["builder"]);
    for name in ["diffstat", "byacc"] {
        command.arg("--in").arg(source(name));
    }
    let ran = run(command.args(["--", "sh", "-c", &script])).done();
    let numbers: Vec<u32> = ran.text().lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(numbers[0] >= 2 && numbers[1] >= 2, "{ran:?}");
    assert_eq!(numbers[3], 0, "scratch is left: {ran:?}");
    djinni.finish();
}

#[test]
fn root_lint_and_json_tell_what_they_find() {
    let djinni = builder_with_layers();
    let plain = spec(&djinni, "plain", "BuildArch: noarch", "true");
    let ran = mach(&djinni, &[&plain], &["--json", "--lint", "build", "plain.spec"]).done();
    let events: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "start");
    let lint =
        events.iter().find(|event| event["event"] == "phase-end" && event["phase"] == "lint");
    assert!(lint.unwrap()["note"].as_str().unwrap().contains("is not in the root"), "{lint:?}");
    assert!(events.iter().any(|event| event["event"] == "result"));
    djinni.finish();
}
