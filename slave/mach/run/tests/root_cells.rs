//! The cells of mach, made for real: as root, or as root of a user namespace with many ids.
//!
//! A program with a `main` of its own, because a cell is made by a process of one thread.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use mach_run::cells::{self, Program, Streams};
use mach_run::overlay::{self, Overlay};

type Test = (&'static str, fn(&Path));

const TESTS: &[Test] = &[
    ("root_an_installer_sees_its_layer_and_no_area", installer_sees_only_its_layer),
    ("root_an_installer_cannot_write_what_it_is_shown", installer_cannot_write),
    ("root_a_builder_is_a_plain_user_without_network", builder_is_plain),
    ("root_a_cell_ends_with_its_program", orphans_end),
    ("root_statuses_are_as_a_shell_shows_them", statuses),
    ("root_what_is_shown_to_a_scriptlet_stays_read_only", remounts_are_refused),
    ("root_a_build_cannot_look_at_or_steer_the_machine", proc_is_masked),
    ("root_a_build_that_mounts_a_proc_of_its_own_uncovers_nothing", proc_may_be_nested),
    ("root_no_socket_of_a_build_leads_out_of_its_network", sockets_stay_inside),
    ("root_a_build_writes_its_own_directories_only", writes_stay_in_place),
    ("root_a_build_that_takes_too_long_is_ended", time_limit),
    ("root_a_build_may_open_its_output_by_name_and_truncate_nothing", output_by_name),
    ("root_a_scriptlet_and_whom_it_becomes_may_open_their_output", scriptlet_output_by_name),
    ("root_a_program_that_prints_without_end_is_ended", log_limit),
    ("root_a_program_s_use_of_the_machine_is_measured", usage),
    ("root_an_overlay_that_is_dropped_is_unmounted", dropped_overlay),
];

fn main() {
    let (chosen, only_list) = choose(std::env::args().skip(1));
    if only_list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if chosen.is_empty() {
        return;
    }
    overlay::enter_own_namespace().unwrap();
    for (name, test) in chosen {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        test(directory.path());
        println!("test {name} ... ok");
    }
}

/// The tests that libtest would choose, and whether they are only to be listed.
fn choose(mut arguments: impl Iterator<Item = String>) -> (Vec<&'static Test>, bool) {
    let (mut wanted, mut unwanted, mut exact, mut list) = (Vec::new(), Vec::new(), false, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => unwanted.extend(arguments.next()),
            "--test-threads" | "--format" | "--color" => drop(arguments.next()),
            "--exact" => exact = true,
            "--list" => list = true,
            option if option.starts_with('-') => {}
            _ => wanted.push(argument),
        }
    }
    let matches =
        |name: &str, text: &String| if exact { name == text } else { name.contains(text) };
    let any = |name: &str, texts: &[String]| texts.iter().any(|text| matches(name, text));
    let is_chosen =
        |(name, _): &&Test| (wanted.is_empty() || any(name, &wanted)) && !any(name, &unwanted);
    (TESTS.iter().filter(is_chosen).collect(), list)
}

/// Runs a shell script in `cell`; its status and its output.
fn run(cell: slave_cell::Cell, mut program: Program, script: &str, area: &Path) -> (i32, String) {
    program.argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
    let path = area.join("said");
    let log = File::create(&path).unwrap();
    let streams = Streams::log(&log, &path).unwrap();
    let status = cells::run(cell, &program, streams, &mut || ()).unwrap().status;
    (status, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())
}

fn root_program() -> Program {
    Program::as_root(["unset"], "/")
}

/// An installer cell on an empty layer, in an area that holds a secret.
fn installer(area: &Path) -> (slave_cell::Cell, PathBuf) {
    fs::write(area.join("secret"), "of another layer").unwrap();
    let [empty, repository] = ["empty", "repository"].map(|name| area.join(name));
    for directory in [&empty, &repository] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(repository.join("package"), "x").unwrap();
    let skeleton = area.join("skeleton");
    cells::make_skeleton(&skeleton, &[("dnf.conf", "[main]\n".to_owned())]).unwrap();
    let layer = area.join("layer");
    fs::create_dir(&layer).unwrap();
    let mut cell = cells::with_layer(cells::system(&skeleton), &layer);
    cells::add_shown(&mut cell, &repository, &format!("{}/world", cells::REPOSITORIES));
    (cell, layer)
}

fn installer_sees_only_its_layer(area: &Path) {
    let (cell, layer) = installer(area);
    let secret = area.join("secret");
    let script = format!(
        "cat {HOME}/dnf.conf {REPOSITORIES}/world/package; echo made >{LAYER}/made; \
         cat {secret}; umount -l /var /tmp /run; cat {secret} /proc/1/root{secret}; \
         grep -c : /proc/net/dev",
        secret = secret.display(),
        HOME = cells::HOME,
        REPOSITORIES = cells::REPOSITORIES,
        LAYER = cells::LAYER,
    );
    let (_, said) = run(cell, root_program(), &script, area);
    assert!(said.starts_with("[main]\nx"), "{said}");
    assert!(!said.contains("of another layer"), "{said}");
    assert!(said.ends_with("\n1\n"), "more than lo in the network: {said}");
    assert_eq!(fs::read_to_string(layer.join("made")).unwrap(), "made\n");
}

fn installer_cannot_write(area: &Path) {
    let (cell, _) = installer(area);
    let script = "touch /usr/mach-was-here /etc/mach-was-here /repositories/world/mach-was-here";
    let (status, said) = run(cell, root_program(), script, area);
    assert_ne!(status, 0);
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
    assert!(!Path::new("/usr/mach-was-here").exists());
}

/// A builder's cell over our own root, and the program that is the builder.
fn builder(area: &Path) -> (slave_cell::Cell, Program, Overlay) {
    let overlay = Overlay::mount(&[Path::new("/")], &area.join("root")).unwrap();
    let home = area.join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(1000), Some(1000)).unwrap();
    let cell = cells::builder(&cells::CellPlace {
        root: &overlay.at,
        hostname: "mach",
        directory: &home,
        home: "/builddir",
        scratch: area,
        read_only: true,
        network: false,
    })
    .unwrap();
    let mut program = root_program();
    program.user = Some(1000);
    program.directory = "/builddir".to_owned();
    (cell, program, overlay)
}

fn builder_is_plain(area: &Path) {
    let (cell, program, overlay) = builder(area);
    let script = "id -u; id -G; uname -n; pwd; touch mine && touch /usr/x; env | sort; \
                  grep -E 'CapEff|NoNewPrivs' /proc/self/status; grep -c : /proc/net/dev";
    let (_, said) = run(cell, program, script, area);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["1000", "1000", "mach", "/builddir"], "{said}");
    assert!(lines[4].contains("/usr/x") && lines[4].contains("Read-only file system"), "{said}");
    let rest = lines[5..].join("\n");
    assert_eq!(
        rest,
        "HOME=/\nLC_ALL=C.UTF-8\nPATH=/usr/bin:/usr/sbin:/bin:/sbin\nPWD=/builddir\n\
         CapEff:\t0000000000000000\nNoNewPrivs:\t1\n1"
    );
    assert!(area.join("home/mine").exists());
    overlay.unmount().unwrap();
}

fn orphans_end(area: &Path) {
    let (cell, program, overlay) = builder(area);
    // One orphan that ends, one that stays: both are the cell's to deal with.
    let (status, _) = run(cell, program, "(true &) ; (sleep 1000 &) ; exit 3", area);
    assert_eq!(status, 3);
    // Busy, if a process of the cell were left.
    overlay.unmount().unwrap();
}

fn statuses(area: &Path) {
    let (cell, program, overlay) = builder(area);
    assert_eq!(run(cell, program.clone(), "kill -SEGV $$", area).0, 128 + 11);
    let mut missing = program;
    missing.argv = vec!["/nonesuch".to_owned()];
    let path = area.join("log");
    let log = File::create(&path).unwrap();
    let cell = cells::inside(&overlay.at, "mach");
    missing.directory = "/".to_owned();
    let streams = Streams::log(&log, &path).unwrap();
    assert_eq!(cells::run(cell, &missing, streams, &mut || ()).unwrap().status, 127);
    let said = fs::read_to_string(&path).unwrap();
    assert!(said.contains("mach: cannot start /nonesuch: No such file"), "{said}");
    overlay.unmount().unwrap();
}

fn remounts_are_refused(area: &Path) {
    let (cell, _) = installer(area);
    // By `mount` of util-linux and by the system call alone.
    let script = "for at in /usr /repositories/world /etc /proc/sys; do \
                    mount -o remount,bind,rw $at 2>&1; mount -o remount,rw $at 2>&1; umount -l $at 2>&1; \
                    touch $at/mach-was-here && echo WRITTEN $at; done; \
                  mount --bind /usr /run && mount -o remount,bind,rw /run; touch /run/mach-was-here && echo WRITTEN; \
                  umount /proc/kcore && echo BARED; mount -t proc none /run && echo PROC; \
                  echo id $(id -u)";
    let (_, said) = run(cell, root_program(), script, area);
    assert!(said.contains("id 0"), "{said}");
    for word in ["WRITTEN", "BARED", "PROC"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    assert!(!Path::new("/usr/mach-was-here").exists());
}

fn proc_is_masked(area: &Path) {
    let (cell, program, overlay) = builder(area);
    let script = "for name in kcore keys kmsg timer_list kallsyms sysrq-trigger; do \
                    head -c 1 /proc/$name >/dev/null 2>&1 && echo READ $name; \
                    echo h >/proc/$name 2>/dev/null && echo WRITTEN $name; done; \
                  (echo x >/proc/sys/kernel/hostname) 2>/dev/null && echo WRITTEN; \
                  unshare -Urmp --fork --mount-proc true && echo PROC; \
                  unshare -Urm umount /proc/kcore && echo BARED; \
                  unshare -Urm sh -c 'mount -o remount,bind,rw /; touch /usr/x && echo WRITTEN'; \
                  test -e /sys/kernel && echo SYS; ls /dev | tr '\\n' ' '; ulimit -c; ls -d /proc/[0-9]* | wc -l";
    let (_, said) = run(cell, program, script, area);
    for word in ["READ", "WRITTEN", "PROC", "BARED", "SYS"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    let devices = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert!(said.contains(devices), "{said}");
    // Process 1, the shell, and as far as they have begun its pipe's two.
    let few = ["0\n3\n", "0\n4\n", "0\n5\n"];
    assert!(few.iter().any(|end| said.ends_with(end)), "{said}");
    overlay.unmount().unwrap();
}

/// System calls that could uncover the mount below the cell's `/proc`, from a user namespace of one's own.
const UNCOVER: &str = r#"
umount /proc && echo UNMOUNTED; umount -l /proc && echo DETACHED
mkdir -p /tmp/a /tmp/b
mount --move /proc /tmp/a && echo MOVED; mount --bind / /tmp/a && echo BARE
mount --bind /proc /tmp/a && ls -d /tmp/a/uncovered && echo BENEATH
mount --rbind / /tmp/b && { umount /tmp/b/proc && echo UNMOUNTED; umount -l /tmp/b/proc && echo DETACHED; }
mount -o remount,bind,rw /proc/sys && echo REMOUNTED
umount /proc/kallsyms && echo BARED
for at in /proc /tmp/a /tmp/b/proc; do
    ls -d $at/uncovered && echo FOUND; head -c 1 $at/kallsyms | grep -q . && echo READ; done
echo tried
"#;

fn proc_may_be_nested(area: &Path) {
    let (mut cell, program, overlay) = builder(area);
    cells::allow_nested_proc(&mut cell);
    let nested = "cat /proc/self/stat | cut -d' ' -f1; ls -d /proc/[0-9]* | wc -l; \
                  for name in kcore kmsg timer_list kpagecount kpageflags sysrq-trigger; do \
                    head -c 1 /proc/$name && echo READ $name; \
                    echo h >/proc/$name && echo WRITTEN $name; done; \
                  for name in kernel/core_pattern kernel/sysrq vm/drop_caches; do \
                    echo 1 >/proc/sys/$name && echo WRITTEN $name; done; \
                  cat /proc/keys; echo nested";
    fs::write(overlay.at.join("nested.sh"), nested).unwrap();
    fs::write(overlay.at.join("uncover.sh"), UNCOVER).unwrap();
    let script = "for name in kcore keys kmsg timer_list kallsyms sysrq-trigger; do \
                    head -c 1 /proc/$name && echo READ $name; done 2>/dev/null; \
                  unshare -Urmpf --mount-proc sh /nested.sh 2>/dev/null; \
                  unshare -Urmpf sh /uncover.sh 2>/dev/null; \
                  unshare -Urmpf --mount-proc unshare -mpf --mount-proc echo twice";
    let (_, said) = run(cell, program, script, area);
    // Few processes, its own; and nothing was read, written or uncovered.
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[2..], ["nested", "tried", "twice"], "{said}");
    assert!(lines[0].parse::<u32>().unwrap() < 9 && lines[1].parse::<u32>().unwrap() < 9, "{said}");
    overlay.unmount().unwrap();
}

fn sockets_stay_inside(area: &Path) {
    // Perl is essential in Debian; 40 is AF_VSOCK, 38 AF_ALG, 16 AF_NETLINK, 3 SOCK_RAW.
    let script = "perl -MSocket -e 'for (1, 2, 10, 16, 38, 40) { \
                    socket(my $s, $_, $_ == 16 ? 3 : 1, 0) and print qq($_ ) } print qq(made\\n)'";
    let (cell, program, overlay) = builder(area);
    assert_eq!(run(cell, program, script, area).1, "1 2 10 16 made\n");
    overlay.unmount().unwrap();
    let (cell, _) = installer(area);
    assert_eq!(run(cell, root_program(), script, area).1, "1 2 10 16 made\n");
}

fn writes_stay_in_place(area: &Path) {
    let (cell, program, overlay) = builder(area);
    let script = "for at in /tmp /var/tmp /dev/shm /builddir; do touch $at/x || echo REFUSED; done; \
                  for at in / /usr /etc /var /dev /proc; do touch $at/x 2>/dev/null && echo WRITTEN; done; true";
    let (_, said) = run(cell, program, script, area);
    assert_eq!(said, "");
    assert!(area.join("tmp/x").exists() && area.join("var-tmp/x").exists());
    // But for the home's mount point, which the builder's cell makes where the root lacks it.
    let names = fs::read_dir(&overlay.upper).unwrap().map(|entry| entry.unwrap().file_name());
    let written: Vec<_> = names.filter(|name| name != "builddir").collect();
    assert!(written.is_empty(), "in the root: {written:?}");
    let home = overlay.upper.join("builddir");
    assert!(!home.exists() || fs::read_dir(home).unwrap().count() == 0, "home is in the root");
    overlay.unmount().unwrap();
}

fn time_limit(area: &Path) {
    let (cell, mut program, overlay) = builder(area);
    program.argv = ["sleep", "1000"].map(str::to_owned).into();
    program.time_limit = Some(std::time::Duration::from_millis(300));
    let path = area.join("log");
    let streams = Streams::log(&File::create(&path).unwrap(), &path).unwrap();
    let failure = cells::run(cell, &program, streams, &mut || ()).unwrap_err();
    assert_eq!(failure.cause, mach_core::error::Cause::Time, "{failure}");
    overlay.unmount().unwrap();
}

fn output_by_name(area: &Path) {
    let script = "echo one; echo two | tee /dev/stderr >/dev/null; echo three >/dev/stdout; \
                  sh -c 'echo four >/proc/self/fd/2'; printf five | dd of=/dev/stderr status=none; \
                  echo; unshare -U sh -c 'echo six >/dev/stdout'";
    let (cell, program, overlay) = builder(area);
    let (status, said) = run(cell, program.clone(), script, area);
    assert_eq!((status, said.as_str()), (0, "one\ntwo\nthree\nfour\nfive\nsix\n"));
    // Apart, as where one of them is read by mach.
    let cell = cells::inside(&overlay.at, "mach");
    let mut apart = Program { directory: "/".to_owned(), ..program };
    apart.argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
    let [out, err] = ["out", "err"].map(|name| area.join(name));
    let streams =
        Streams::Files { out: File::create(&out).unwrap(), err: File::create(&err).unwrap() };
    assert_eq!(cells::run(cell, &apart, streams, &mut || ()).unwrap().status, 0);
    assert_eq!(fs::read_to_string(out).unwrap(), "one\nthree\n\nsix\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "two\nfour\nfive");
    overlay.unmount().unwrap();
}

fn scriptlet_output_by_name(area: &Path) {
    let (cell, _) = installer(area);
    let script = "echo one; echo two >/dev/stderr; : >/dev/stdout; \
                  setpriv --reuid 33 --regid 33 --clear-groups sh -c 'echo three >/dev/stderr'";
    assert_eq!(run(cell, root_program(), script, area), (0, "one\ntwo\nthree\n".to_owned()));
}

fn log_limit(area: &Path) {
    let (cell, mut program, overlay) = builder(area);
    program.argv = ["sh", "-c", "yes & sleep 1000"].map(str::to_owned).into();
    program.log_limit_bytes = Some(3 << 20);
    let path = area.join("log");
    let streams = Streams::log(&File::create(&path).unwrap(), &path).unwrap();
    let failure = cells::run(cell, &program, streams, &mut || ()).unwrap_err();
    assert_eq!(failure.cause, mach_core::error::Cause::Resource, "{failure}");
    assert!(failure.what.starts_with("log has reached 3 MiB"), "{failure}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.len() < (3 << 20) + 100 && text.ends_with("the program was ended\n"));
    overlay.unmount().unwrap();
}

fn usage(area: &Path) {
    let (cell, mut program, overlay) = builder(area);
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done";
    program.argv = ["sh", "-c", script].map(str::to_owned).into();
    let path = area.join("log");
    let streams = Streams::log(&File::create(&path).unwrap(), &path).unwrap();
    let ended = cells::run(cell, &program, streams, &mut || ()).unwrap();
    assert!(ended.status == 0 && ended.cpu_user_ms > 10, "{ended:?}");
    assert!(ended.peak_memory_bytes > 100_000, "{ended:?}");
    overlay.unmount().unwrap();
}

fn dropped_overlay(area: &Path) {
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let overlay = Overlay::mount(&[Path::new("/usr")], &area.join("root")).unwrap();
    assert_ne!(table(), before);
    drop(overlay);
    assert_eq!(table(), before);
}
