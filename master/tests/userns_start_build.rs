#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]
//! `start-build` as a user runs it, against a mock master and a slave.
//!
//! A program with its own `main`, because only a process of one thread can create a cell.

#[path = "../../slave/init/tests/slave/cell.rs"]
mod cell;
#[path = "../../slave/init/tests/slave/choose.rs"]
mod choose;
#[path = "start_build/mod.rs"]
mod start_build;

use choose::Test;
use rustix::process::{Pid, Signal, kill_process};
use slave_api::door::{DoorReply, Refused};
use slave_api::{FromSlave, Run};
use start_build::{Door, Terminal, text};
use std::io::{Read, Write};
use std::process::{Child, Stdio};

const TESTS: &[Test] = &[
    ("userns_streams_and_status_pass_exactly", streams_and_status),
    ("userns_standard_input_may_be_anything", inputs_of_all_kinds),
    ("userns_input_that_nobody_reads_keeps_nobody", unread_input),
    ("userns_much_passes_both_ways", much),
    ("userns_output_that_nobody_reads_ends_the_command", closed_output),
    ("userns_files_go_in_and_come_out", files),
    ("userns_a_full_working_area_is_told", full),
    ("userns_signals_are_passed_on", signals),
    ("userns_a_terminal_is_proxied_and_restored", terminal),
    ("userns_a_lost_slave_is_told_and_leaves_the_terminal_as_it_was", lost),
    ("userns_a_refusal_leaves_the_terminal_as_it_was", refused),
    ("userns_what_a_slave_must_not_send_is_named", violations),
    ("userns_what_is_wrong_here_is_told_before_a_slave_is_asked", wrong_here),
];

fn main() {
    choose::run(TESTS);
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), signal).unwrap();
}

fn streams_and_status() {
    let door = Door::new();
    let output = door.run(&["--", "sh", "-c", "printf 'a\\0b'; printf err >&2; exit 7"]);
    assert_eq!((output.stdout, output.stderr), (b"a\0b".to_vec(), b"err".to_vec()));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(door.run(&["--", "sh", "-c", "kill -KILL $$"]).status.code(), Some(137));
    let output = door.run(&["--", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    let output = door.run(&["--env", "A=b c", "--", "sh", "-c", "echo $A"]);
    assert_eq!(text(&output.stdout), "b c\n");
}

fn inputs_of_all_kinds() {
    let door = Door::new();
    let with = |stdin: Stdio| {
        let child = door.command(&["--", "cat"]).stdin(stdin).spawn().unwrap();
        door.serve();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout)
    };
    assert_eq!(with(Stdio::null()), "");
    let path = door.path("input");
    std::fs::write(&path, "from a file").unwrap();
    assert_eq!(with(std::fs::File::open(path).unwrap().into()), "from a file");
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"from a pipe").unwrap();
    drop(write);
    assert_eq!(with(read.into()), "from a pipe");
    // A directory cannot be read, which is treated as end of file.
    assert_eq!(with(std::fs::File::open("/").unwrap().into()), "");
    // Closed.
    let script = "exec \"$@\" <&-";
    let child = door.through(&["sh", "-c", script, "sh"], &["--", "cat"]).spawn().unwrap();
    door.serve();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

fn unread_input() {
    let door = Door::new();
    let endless = || Stdio::from(std::fs::File::open("/dev/zero").unwrap());
    let child = door.command(&["--", "sleep", "0.3"]).stdin(endless()).spawn().unwrap();
    door.serve();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let child = door.command(&["--", "sleep", "1000"]).stdin(endless()).spawn().unwrap();
    door.serve();
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

fn much() {
    let door = Door::new();
    let path = door.path("much");
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n * 31 % 251) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    let stdin = std::fs::File::open(&path).unwrap();
    let child = door.command(&["--", "cat"]).stdin(stdin).spawn().unwrap();
    door.serve();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes);
}

fn closed_output() {
    let door = Door::new();
    let mut child = door.command(&["--", "yes"]).spawn().unwrap();
    door.serve();
    let mut some = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()));
}

fn files() {
    let door = Door::new();
    let (input, out) = (door.path("a.src.rpm"), door.path("out"));
    let bytes = vec![b'x'; 300_000];
    std::fs::write(&input, &bytes).unwrap();
    std::fs::write(door.path("empty"), "").unwrap();
    let script =
        "ls; mkdir -p ../results/d; cp a.src.rpm ../results/d/b; chmod 4775 ../results/d/b";
    let (input, empty, out_text) =
        (input.to_str().unwrap(), door.path("empty"), out.to_str().unwrap());
    let empty = empty.to_str().unwrap();
    let output =
        door.run(&["--in", input, "--in", empty, "--out", out_text, "--", "sh", "-c", script]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("a.src.rpm\nempty\n".into(), "".into())
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(std::fs::read(out.join("d/b")).unwrap() == bytes);
    let mode = std::os::unix::fs::MetadataExt::mode(&out.join("d/b").metadata().unwrap());
    assert_eq!(mode & 0o7777, 0o755);
    // A failed command still returns its results.
    let script = "echo half > /build/results/log; exit 3";
    let output = door.run(&["--out", out_text, "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(out.join("log")).unwrap(), "half\n");
    // Hidden configuration files are skipped and named; existing files stay.
    let script =
        "cd /build/results; mkdir .git; echo x > .git/hook; echo x > .profile; echo new > new";
    let output = door.run(&["--out", out_text, "--", "sh", "-c", script]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("\".git\"") && told.contains("\".profile\""), "{told}");
    assert!(
        out.join("new").exists() && !out.join(".git").exists() && !out.join(".profile").exists()
    );
    let script = "echo other > /build/results/log";
    let output = door.run(&["--out", out_text, "--", "sh", "-c", script]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(told.contains("\"log\"") && told.contains("an empty directory"), "{told}");
    assert_eq!(std::fs::read_to_string(out.join("log")).unwrap(), "half\n");
}

fn full() {
    let door = Door::new();
    let input = door.path("large");
    // The slave's working area has 64 MiB.
    std::fs::File::create(&input).unwrap().set_len(80 << 20).unwrap();
    let output = door.run(&["--in", input.to_str().unwrap(), "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    let told = text(&output.stderr);
    assert!(
        told.contains("/build/in/large") && told.contains("the working area is full"),
        "{told}"
    );
}

fn signals() {
    let door = Door::new();
    let script = "trap 'echo caught; exit 9' USR1; echo up; while :; do sleep 0.05; done";
    for (sent, status, rest) in
        [(Signal::USR1, 9, "caught\n"), (Signal::INT, 130, ""), (Signal::HUP, 129, "")]
    {
        let mut child = door.command(&["--", "bash", "-c", script]).spawn().unwrap();
        door.serve();
        let mut stdout = child.stdout.take().unwrap();
        let mut up = [0; 3];
        stdout.read_exact(&mut up).unwrap();
        signal(&child, sent);
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(said, rest);
        assert_eq!(child.wait().unwrap().code(), Some(status));
    }
}

fn terminal() {
    let door = Door::new();
    let mut terminal = Terminal::new(31, 97);
    let before = terminal.modes();
    let mut child = terminal.start(&door, &[]);
    door.serve();
    terminal.write("PS1=; stty size; echo up''now\n");
    let heard = terminal.read_until("upnow\r\n");
    assert!(heard.contains("31 97"), "{heard}");
    assert_ne!(terminal.modes(), before, "raw while the slave's terminal does the editing");
    terminal.resize(40, 120);
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.write("stty size; sleep 1000\n");
    terminal.read_until("40 120\r\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.write("\x03");
    terminal.write("echo st''ill $TERM; exit 4\n");
    terminal.read_until("still xterm-test\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(terminal.modes(), before);
}

fn lost() {
    let door = Door::new();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let mut child = terminal.start(&door, &[]);
    let running = door.serve();
    terminal.write("echo up''now\n");
    terminal.read_until("upnow\r\n");
    running.kill(Signal::KILL).unwrap();
    terminal.read_until("the slave ended (killed, or its lease was lost)");
    assert_eq!(child.wait().unwrap().code(), Some(125));
    assert_eq!(terminal.modes(), before);
    // And when start-build itself gets a signal.
    let mut child = terminal.start(&door, &["-t", "--", "sleep", "1000"]);
    door.serve();
    while terminal.modes() == before {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(terminal.modes(), before);
}

fn refused() {
    let door = Door::new();
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let mut child = terminal.start(&door, &[]);
    let sentence = "bslave-1: held by \u{1b}[2Janna: wait".to_string();
    door.answer(&DoorReply::Refused(Refused { code: "SlaveBusy".into(), sentence, exit: 75 }));
    terminal.read_until(r"start-build: bslave-1: held by \u{1b}[2Janna: wait");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(terminal.modes(), before);
}

/// Error of start-build for a slave that sends `frames` and ends.
fn told(arguments: &[&str], frames: &[FromSlave<'_>]) -> String {
    told_bytes(arguments, &start_build::encoded(frames))
}

fn told_bytes(arguments: &[&str], bytes: &[u8]) -> String {
    let door = Door::new();
    let out = door.path("out");
    let mut all = vec!["--out", out.to_str().unwrap()];
    all.extend(arguments);
    all.extend(["--", "true"]);
    let child = door.command(&all).spawn().unwrap();
    let mut stream = door.answer(&DoorReply::Opened);
    let run: Run = start_build::first_run(&mut stream);
    assert!(run.collect);
    // It may hang up before all frames are sent.
    let _ = stream.write_all(bytes);
    drop(stream);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 0, "nothing stays");
    text(&output.stderr)
}

fn violations() {
    let started = FromSlave::Started;
    let raw = |payload: &str| {
        let mut bytes = start_build::encoded(&[FromSlave::Started]);
        slave_api::Frame { kind: b'f', payload: payload.as_bytes() }.encode(&mut bytes).unwrap();
        told_bytes(&[], &bytes)
    };
    for path in ["../x", "/etc/passwd", "a//b", "-rf", ".git/hooks/x"] {
        let said = raw(&format!(r#"{{"path":"{path}","size":0,"mode":420}}"#));
        assert!(said.contains(&format!("{path:?}")), "it names what was sent: {said}");
    }
    let file = |size| {
        let path = "x".to_string().try_into().unwrap();
        FromSlave::OutputFile(slave_api::OutputFile { path, size, mode: 0o644 })
    };
    let long = told(&[], &[started.clone(), file(1), FromSlave::OutputData(b"ab")]);
    assert!(long.contains("\"x\" is longer"), "{long}");
    let much = told(&[], &[started.clone(), file(9 << 30)]);
    assert!(much.contains("8 GiB"), "{much}");
    let cut = told(&[], &[started.clone(), file(1), FromSlave::OutputEnd]);
    assert!(cut.contains("cut off"), "{cut}");
    let early = told(&[], &[started.clone(), FromSlave::Exited { status: 0 }]);
    assert!(early.contains("before all results"), "{early}");
    let taken = told(&[], &[started.clone(), FromSlave::StdinTaken { bytes: 1 << 30 }]);
    assert!(taken.contains("more input than"), "{taken}");
    assert!(told(&[], &[FromSlave::Exited { status: 0 }]).contains("an end before the start"));
    assert!(told_bytes(&[], b"\xff\xff\xff\xff\xff").contains("more than 65536"));
    assert!(told_bytes(&[], b"?\0\0\0\0").contains("unknown kind"));
    assert!(told(&[], &[started, file(5)]).contains("the slave ended"));
    let failed = FromSlave::Failed { what: "no room\u{7}".into() };
    assert!(told(&[], &[failed]).contains(r"first process failed: no room\u{7}"));
}

fn wrong_here() {
    let door = Door::new();
    let told = |arguments: &[&str]| {
        let output = door.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert!(told(&["--in", "/no/such", "--", "true"]).contains("--in /no/such: "));
    assert!(told(&["--in", "/dev/null", "--", "true"]).contains("not a regular file"));
    assert!(told(&["--out", "/dev/null", "--", "true"]).contains("--out /dev/null: "));
    assert!(told(&["--env", "NOT_SET_ANYWHERE", "--", "true"]).contains("not set here"));
    assert!(told(&["--master", "other", "--", "true"]).contains("'bhost start other'"));
    let large = "x".repeat(100_000);
    assert!(told(&["--", &large]).contains("shorten it"));
    let usage = door.command(&["true"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
