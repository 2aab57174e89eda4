//! `start-build` and the master's container, from the host and from inside.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use djinni_tests::djinni::{Djinni, MASTER, USERS};
use djinni_tests::programs::{program, run, run_with};
use djinni_tests::terminal::Terminal;

fn started() -> Djinni {
    let djinni = Djinni::started();
    djinni.start_master();
    djinni
}

#[test]
fn root_the_status_is_the_commands_own() {
    let djinni = started();
    for status in [0, 1, 75, 125, 255] {
        djinni.in_slave("erofs", &["sh", "-c", &format!("exit {status}")]).ended_with(status);
    }
    for signal in [9, 11, 15] {
        let script = format!("kill -{signal} $$");
        djinni.in_slave("erofs", &["sh", "-c", &script]).ended_with(128 + signal);
    }
    djinni.in_slave("erofs", &["no-such-command"]).ended_with(127).complains(&["no-such-command"]);
    djinni.in_slave("erofs", &["/etc/passwd"]).ended_with(126).complains(&["/etc/passwd"]);
    djinni.finish();
}

#[test]
fn root_its_own_failures_are_125_with_a_remedy() {
    let djinni = started();
    let missing = djinni.in_slave("nobody", &["true"]).ended_with(125);
    missing.complains(&["nobody", "no such slave"]);
    let nowhere = run(&mut djinni.start_build(&["--master", "nobody", "erofs", "--", "true"]));
    nowhere.ended_with(125).complains(&["nobody"]);
    run(&mut djinni.start_build(&["erofs", "true"])).ended_with(2);
    run(&mut djinni.start_build(&["../erofs", "--", "true"])).ended_with(2);
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    let stopped = djinni.in_slave("erofs", &["true"]).ended_with(125);
    stopped.complains(&["bhost start"]);
    djinni.finish();
}

#[test]
fn root_a_slave_in_use_is_75_and_by_whom() {
    let djinni = started();
    let mut first = djinni.start_build(&["erofs", "-t", "--", "sh", "-c", "echo up; sleep 1000"]);
    first.arg("a-word-to-find");
    let mut terminal = Terminal::start(&first);
    terminal.shows("up");
    let second = djinni.in_slave("erofs", &["true"]).ended_with(75);
    second.complains(&["erofs", "held by root", "a-word-to-find", "wait until"]);
    terminal.types("\x03");
    assert_eq!(terminal.end().0, 130);
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}

#[test]
fn root_standard_streams_pass_byte_for_byte() {
    let djinni = started();
    let bytes: Vec<u8> =
        (0..4_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let echoed = run_with(&mut djinni.start_build(&["erofs", "--", "cat"]), &bytes).done();
    assert!(echoed.stdout == bytes, "{} of {} bytes", echoed.stdout.len(), bytes.len());
    assert_eq!(echoed.stderr, "");
    let both = djinni.in_slave("erofs", &["sh", "-c", "printf out; printf err >&2"]).done();
    assert_eq!((both.text().as_str(), both.stderr.as_str()), ("out", "err"));
    // Unread input blocks nothing.
    run_with(&mut djinni.start_build(&["erofs", "--", "true"]), &bytes).done();
    let large = djinni.in_slave("erofs", &["head", "-c", "50000000", "/dev/zero"]).done();
    assert_eq!(large.stdout.len(), 50_000_000);
    djinni.finish();
}

#[test]
fn root_var_is_fresh_and_build_stays() {
    let djinni = started();
    let script =
        "cat /var/lib/from-the-image; touch /var/x; touch /build/home/x; ls /var/x /build/home/x";
    djinni.in_slave("erofs", &["sh", "-c", script]).done();
    let again = djinni.in_slave("erofs", &["sh", "-c", "ls /var/x /build/home/x"]).ended_with(1);
    assert_eq!(again.text(), "/build/home/x\n");
    again.complains(&["/var/x"]);
    djinni.in_slave("kept", &["touch", "/var/x"]).done();
    djinni.in_slave("kept", &["ls", "/var/x"]).done();
    djinni.in_slave("throwaway", &["touch", "/etc/x"]).done();
    djinni.in_slave("throwaway", &["ls", "/etc/x"]).ended_with(1);
    djinni.finish();
}

#[test]
fn root_a_slave_is_a_small_world_of_its_own() {
    let djinni = started();
    let script = "id -u; hostname; echo $$; pwd; echo $HOME; ls /mnt/shares; ls /usr/local/bin; \
                  cat /proc/self/uid_map | tr -s ' '";
    let said = djinni.in_slave("erofs", &["sh", "-c", script]).done().text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0", "erofs"), "{said}");
    assert!(lines[2].parse::<u32>().unwrap() < 10, "{said}");
    assert_eq!(lines[3..7], ["/build/home", "/build/home", "tools", "mach"], "{said}");
    assert!(lines[7].trim().ends_with("65536"), "{said}");
    djinni.finish();
}

#[test]
fn root_files_go_in_and_results_come_out() {
    let djinni = started();
    let work = djinni.base().join("work");
    fs::create_dir_all(work.join("out")).unwrap();
    fs::write(work.join("a file"), b"\0binary\xff").unwrap();
    let (input, out) = (work.join("a file"), work.join("out"));
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    let script = "pwd; cp '/build/in/a file' /build/results/copy; mkdir -p /build/results/d; echo x > /build/results/d/e";
    let ran =
        run(&mut djinni
            .start_build(&["erofs", "--in", input, "--out", out, "--", "sh", "-c", script]));
    assert_eq!(ran.done().text(), "/build/in\n");
    assert_eq!(fs::read(work.join("out/copy")).unwrap(), b"\0binary\xff");
    assert_eq!(fs::read(work.join("out/d/e")).unwrap(), b"x\n");
    // Inputs of one run are removed before the next; results stay, and only new ones are sent.
    let second = work.join("second");
    fs::create_dir(&second).unwrap();
    let second = second.to_str().unwrap();
    let script = "ls /build/in; ls /build/results";
    let ran = run(&mut djinni.start_build(&[
        "erofs",
        "--in",
        work.join("out/copy").to_str().unwrap(),
        "--out",
        second,
        "--",
        "sh",
        "-c",
        script,
    ]));
    assert_eq!(ran.done().text(), "copy\ncopy\nd\n");
    let sent: Vec<_> = fs::read_dir(second).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(sent.is_empty(), "sent again: {sent:?}");
    djinni.finish();
}

#[test]
fn root_an_invalid_file_or_directory_is_refused_before_a_slave_is_taken() {
    let djinni = started();
    let work = djinni.base().join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("file"), "x").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        work.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let path = |name: &str| work.join(name).display().to_string();
    for input in [path("pipe"), path("none"), work.display().to_string(), "/dev/null".into()] {
        let refused = run(&mut djinni.start_build(&["erofs", "--in", &input, "--", "true"]));
        refused.ended_with(125).complains(&[&input]);
    }
    for out in [path("file"), path("none/below"), "/dev/null".into()] {
        let refused = run(&mut djinni.start_build(&["erofs", "--out", &out, "--", "true"]));
        refused.ended_with(125).complains(&[&out]);
    }
    assert!(!djinni.log().contains("attached"), "{}", djinni.log());
    djinni.finish();
}

#[test]
fn root_unsafe_results_of_a_slave_are_skipped_and_named() {
    let djinni = started();
    let out = djinni.base().join("out");
    fs::create_dir(&out).unwrap();
    let script = "cd /build/results; ln -s /etc/passwd link; ln -s ../../../etc dir; mkfifo pipe; \
                  echo fine > fine; echo x > -odd";
    let argv = ["erofs", "--out", out.to_str().unwrap(), "--", "sh", "-c", script];
    let ran = run(&mut djinni.start_build(&argv));
    ran.complains(&["link", "pipe", "-odd"]);
    let names: Vec<_> = fs::read_dir(&out).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["fine"]);
    djinni.finish();
}

#[test]
fn root_signals_are_passed_on() {
    let djinni = started();
    let script = "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.1; done";
    let mut command = djinni.start_build(&["erofs", "--", "sh", "-c", script]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut word = [0; 3];
    std::io::Read::read_exact(&mut out, &mut word).unwrap();
    const SIGTERM: i32 = 15;
    slave_sys::kill(child.id() as i32, SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    djinni.finish();
}

/// A login shell for a member of the group, on a terminal of their own.
fn shell_of_a_member(djinni: &Djinni, slave: &str) -> Terminal {
    // Run a copy that a user can reach: the build's directory may not be searchable for them.
    let copy = djinni.places.runtime.join("start-build");
    fs::copy(program("start-build"), &copy).unwrap();
    let (_, gid) = USERS;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--regid", &gid.to_string()]);
    command.arg(&copy).arg("--runtime").arg(&djinni.places.runtime).arg(slave);
    Terminal::start(&command)
}

#[test]
fn root_a_member_of_the_group_has_a_login_shell_on_a_real_terminal() {
    let djinni = started();
    let mut shell = shell_of_a_member(&djinni, "erofs");
    shell.types("PS1='ready> '; echo be''gun\n");
    shell.shows("begun");
    shell.types("tty; id -u; stty size\n");
    shell.shows("/dev/pts/0");
    shell.shows("0\r\n");
    shell.shows("24 80");
    shell.resize(40, 132);
    shell.types("sleep 0.5; stty size\n");
    shell.shows("40 132");
    shell.types("sleep 1001; echo inter''rupted $?\n");
    djinni.runs("sleep 1001");
    shell.types("\x03");
    shell.types("echo st''ill here\n");
    shell.shows("still here");
    shell.types("sleep 1002\n");
    djinni.runs("sleep 1002");
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.types("jobs; kill %1; touch /var/x; ls /var/x\n");
    shell.shows("/var/x\r\n");
    shell.types("exit 5\n");
    shell.types("exit 5\n");
    let (status, shown) = shell.end();
    assert_eq!(status, 5, "{shown}");
    let mut again = shell_of_a_member(&djinni, "erofs");
    again.types("ls /var/x; exit\n");
    again.shows("No such file");
    assert_ne!(again.end().0, 0);
    fs::remove_file(djinni.places.runtime.join("start-build")).unwrap();
    djinni.finish();
}

#[test]
fn root_a_user_outside_the_group_may_not_build() {
    let djinni = started();
    let copy = djinni.places.runtime.join("start-build");
    fs::copy(program("start-build"), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--regid", "65534"]).arg(&copy);
    command.arg("--runtime").arg(&djinni.places.runtime).args(["erofs", "--", "true"]);
    run(&mut command).ended_with(125).complains(&["games"]);
    fs::remove_file(copy).unwrap();
    djinni.finish();
}

#[test]
fn root_inside_the_master_it_is_the_same_command() {
    let djinni = started();
    let script = "start-build erofs -- sh -c 'echo in the slave; exit 3'; echo $?; djinni describe | grep -c free";
    let said = djinni.in_master(&["sh", "-c", script]).done().text();
    assert_eq!(said, "in the slave\n3\n8\n");
    djinni.in_master(&["start-build", "ext4", "--", "sh", "-c", "kill -9 $$"]).ended_with(137);
    djinni.finish();
}

#[test]
fn root_all_slaves_work_at_the_same_time() {
    let djinni = started();
    let slaves = ["erofs", "ext4", "throwaway", "kept", "nosuid"];
    let mut commands = slaves.map(|slave| {
        let mut command = djinni.start_build(&[slave, "--", "sh", "-c", "echo begun; cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    });
    for command in &mut commands {
        let mut said = [0; 6];
        command.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"begun\n");
    }
    for mut command in commands {
        assert!(command.try_wait().unwrap().is_none(), "none ends before its input does");
        drop(command.stdin.take());
        assert!(command.wait().unwrap().success());
    }
    djinni.finish();
}

#[test]
fn root_the_master_starts_stops_and_reports_its_state() {
    let djinni = Djinni::started();
    let standing = || -> serde_json::Value {
        let ran = run(&mut djinni.bhost(&["status", MASTER, "--json"])).done();
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    assert_eq!(standing()["running"], false);
    djinni.start_master();
    assert_eq!((&standing()["running"], &standing()["answers"]), (&true.into(), &true.into()));
    // A second stop is not an error: the wanted state is reached.
    djinni.start_master();
    assert!(djinni.djinni(&["list"]).done().text().contains("running"));
    djinni.djinni(&["drop", MASTER]).ended_with(1).complains(&["m", "bhost stop m"]);
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    assert_eq!(standing()["running"], false);
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    djinni.start_master();
    djinni.in_slave("erofs", &["true"]).done();
    djinni.finish();
}

#[test]
fn root_a_stop_ends_sessions_in_order() {
    let djinni = started();
    let mut command = djinni.start_build(&["erofs", "--", "sh", "-c", "echo up; sleep 1000"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    run(&mut djinni.bhost(&["stop", MASTER])).done();
    let ran = djinni_tests::programs::Ran::from(child.wait_with_output().unwrap());
    ran.ended_with(125).complains(&["being stopped"]);
    assert_eq!(djinni.state("erofs"), "free");
    djinni.finish();
}
