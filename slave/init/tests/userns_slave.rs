#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]
//! The first process of a slave, in a real cell: own user, pid and mount namespaces.
//!
//! A program with its own `main`, because only a process of one thread can create a cell.

#[path = "slave/choose.rs"]
mod choose;
#[path = "slave/mod.rs"]
mod slave;

use choose::Test;
use slave::{Messages, Slave, command, login};
use slave_api::{FileName, OUTPUT_LIMIT_FILES, Run, STDIN_WINDOW_BYTES, Signal, ToSlave, Winsize};
use std::time::{Duration, Instant};

const TESTS: &[Test] = &[
    ("userns_streams_and_status_come_back", streams_and_status),
    ("userns_input_passes_whole_through_its_window", input_through_the_window),
    ("userns_more_input_than_the_window_is_refused", input_beyond_the_window),
    ("userns_a_signal_passes_a_command_that_reads_nothing", signal_beside_full_input),
    ("userns_a_signal_at_once_is_not_lost", signal_at_once),
    ("userns_what_is_left_is_killed_and_nothing_written_is_lost", leftovers),
    ("userns_orphans_are_reaped", orphans),
    ("userns_a_slow_reader_slows_the_command", backpressure),
    ("userns_statuses_of_what_cannot_run", cannot_run),
    ("userns_the_environment_is_the_slaves_own", environment),
    ("userns_nothing_of_ours_is_open_in_the_command", descriptors),
    ("userns_files_go_in_and_only_new_regular_files_come_out", files),
    ("userns_nothing_that_a_command_leaves_spoils_the_next_one", spoilt_area),
    ("userns_the_first_refused_results_are_named_and_the_others_counted", refused_results),
    ("userns_results_beyond_the_limit_are_counted_and_the_others_come", many_results),
    ("userns_a_command_that_makes_its_results_a_link_has_its_own_status", results_made_a_link),
    ("userns_a_terminal_is_one", terminal),
    ("userns_a_login_shell_has_job_control", job_control),
    ("userns_end_of_input_ends_a_terminal_program", end_of_terminal_input),
    ("userns_a_master_that_leaves_ends_everything", master_leaves),
    ("userns_messages_out_of_order_are_refused", out_of_order),
];

fn main() {
    choose::run(TESTS);
}

fn sh(script: &str) -> Run {
    command(&["/bin/sh", "-c", script])
}

fn streams_and_status() {
    let heard = Slave::new().run(&sh("printf 'a\\0b'; printf err >&2; exit 7"));
    assert_eq!(heard.stdout, b"a\0b");
    assert_eq!(heard.stderr_text(), "err");
    assert_eq!(heard.status, Some(7));
    assert!(heard.started && heard.failed.is_none());
    assert_eq!(Slave::new().run(&sh("kill -SEGV $$")).status, Some(128 + 11));
}

fn input_through_the_window() {
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(command(&["cat"])));
    let mut heard = Messages::default();
    let mut sent = 0;
    while sent < input.len() {
        let room = STDIN_WINDOW_BYTES - (sent - heard.taken);
        let end = input.len().min(sent + room.min(60_000));
        if end > sent {
            slave.say(&ToSlave::Stdin(&input[sent..end]));
            sent = end;
        } else {
            slave.hear(&mut heard);
        }
    }
    slave.say(&ToSlave::StdinEnd);
    slave.hear_all(&mut heard);
    assert_eq!(heard.stdout.len(), input.len());
    assert!(heard.stdout == input);
    // An acknowledgement waits until output is sent; those of the last window may be overtaken by the end.
    let last = input.len() - STDIN_WINDOW_BYTES..=input.len();
    assert!(last.contains(&heard.taken), "{} bytes acknowledged", heard.taken);
    assert_eq!(heard.status, Some(0));
}

fn input_beyond_the_window() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(command(&["sleep", "1000"])));
    for _ in 0..STDIN_WINDOW_BYTES / 60_000 + 4 {
        slave.say(&ToSlave::Stdin(&[0; 60_000]));
    }
    let heard = slave.hear_to_the_end();
    assert!(heard.failed.unwrap().contains("more standard input than its window"));
}

fn signal_beside_full_input() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(command(&["sleep", "1000"])));
    for _ in 0..4 {
        slave.say(&ToSlave::Stdin(&[0; 60_000]));
    }
    slave.say(&ToSlave::Signal(Signal::from_number(15).unwrap()));
    assert_eq!(slave.hear_to_the_end().status, Some(128 + 15));
}

fn signal_at_once() {
    // All frames in one write, and perhaps before the command has created its process group.
    for _ in 0..20 {
        let mut slave = Slave::new();
        let mut bytes = Vec::new();
        ToSlave::Run(command(&["sleep", "1000"])).encode(&mut bytes).unwrap();
        ToSlave::Signal(Signal::from_number(15).unwrap()).encode(&mut bytes).unwrap();
        slave.say_bytes(&bytes);
        assert_eq!(slave.hear_to_the_end().status, Some(128 + 15));
    }
}

fn leftovers() {
    let begun = Instant::now();
    let script = "(trap '' TERM HUP; sleep 1000) & setsid sleep 1000 & \
                  head -c 50000 /dev/zero & wait %3; echo done; exit 3";
    let heard = Slave::new().run(&command(&["bash", "-c", script]));
    assert_eq!(heard.stdout.len(), 50_000 + 5);
    assert_eq!(heard.status, Some(3));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

fn orphans() {
    // Each inner sleep becomes an orphan and ends; process 1 must leave no zombie.
    let script = "for i in 1 2 3; do sh -c 'sleep 0.1 & exit'; done; sleep 0.6; \
                  grep -l '^State:.*Z' /proc/[0-9]*/status; true";
    let heard = Slave::new().run(&sh(script));
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "");
    assert_eq!(heard.status, Some(0));
}

fn backpressure() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(sh("head -c 30000000 /dev/zero; echo written >&2")));
    std::thread::sleep(Duration::from_millis(400));
    let resident = slave.resident_bytes();
    assert!(resident < 20_000_000, "{resident} bytes held for a reader that does not read");
    let heard = slave.hear_to_the_end();
    assert_eq!(heard.stdout.len(), 30_000_000);
    assert_eq!(heard.stderr_text(), "written\n");
}

fn cannot_run() {
    let heard = Slave::new().run(&command(&["no-such-command"]));
    assert_eq!(heard.status, Some(127));
    assert_eq!(heard.stderr_text(), "bslave: no-such-command: command not found\n");
    let heard = Slave::new().run(&command(&["/etc/passwd"]));
    assert_eq!(heard.status, Some(126));
    assert!(heard.stderr_text().contains("/etc/passwd: cannot be executed"));
    assert_eq!(Slave::new().run(&command(&[""])).status, Some(127));
    let script = "printf 'echo by-the-shell $1' > x; chmod +x x; ./x arg";
    assert_eq!(Slave::new().run(&sh(script)).stdout, b"by-the-shell arg\n");
}

fn environment() {
    let heard = Slave::new().run(&command(&["sh", "-c", "pwd; env | sort; ls /build"]));
    let expected = "/build/home\nHOME=/build/home\nLANG=C.UTF-8\nLOGNAME=root\n\
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/build/home\n\
        SHELL=/bin/bash\nUSER=root\nhome\nin\nmach\nresults\n";
    assert_eq!(String::from_utf8_lossy(&heard.stdout), expected);
}

fn descriptors() {
    let script = "ls /proc/self/fd; grep -E 'SigBlk|SigIgn' /proc/self/status";
    let heard = Slave::new().run(&sh(script));
    let text = String::from_utf8_lossy(&heard.stdout);
    // 3 is the directory that ls reads.
    let masks = text.strip_prefix("0\n1\n2\n3\n").unwrap_or_else(|| panic!("open: {text}"));
    for line in masks.lines() {
        let mask = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        // The C library reserves signals 32 and 33.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
}

fn files() {
    let name = |text: &str| FileName::try_from(text.to_string()).unwrap();
    let mut slave = Slave::new();
    let script = "cat a b; pwd; cd ../results; mkdir -p d/e; cp ../in/a d/e/new; chmod 755 d/e/new; \
                  ln -s /etc/passwd link; mkfifo pipe; : > empty; echo odd > -odd; \
                  mkdir -p 1/2/3/4/5/6/7/8; : > 1/2/3/4/5/6/7/8/deep; \
                  : > \"$(printf 'file\\377')\"; mkdir \"$(printf 'directory\\377')\"";
    let run = Run { inputs: 2, collect: true, ..sh(script) };
    slave.say(&ToSlave::Run(run));
    slave.say(&ToSlave::InputFile { name: name("a"), size: 5 });
    slave.say(&ToSlave::InputData(b"one"));
    slave.say(&ToSlave::InputData(b"\0\n"));
    slave.say(&ToSlave::InputFile { name: name("b"), size: 0 });
    let heard = slave.hear_to_the_end();
    assert_eq!(heard.stdout, b"one\0\n/build/in\n");
    let files: Vec<_> =
        heard.files.iter().map(|(f, c)| (f.path.as_str(), f.mode, &c[..])).collect();
    assert_eq!(files, [("d/e/new", 0o755, &b"one\0\n"[..]), ("empty", 0o644, b"")]);
    assert!(heard.output_ended);
    let remarks = heard.stderr_text();
    for part in [
        "\"link\": a symbolic link",
        "\"pipe\": not a regular file",
        "\"-odd\": a name begins",
        "deep\": the path has more",
        "result \"file\u{fffd}\": its name is not UTF-8",
        "result \"directory\u{fffd}\": its name is not UTF-8",
    ] {
        assert!(remarks.contains(part), "{part} in {remarks}");
    }
    assert_eq!(heard.status, Some(0));
}

fn spoilt_area() {
    // The area outlives its slaves.
    let area = tempfile::tempdir().unwrap();
    let spoils = [
        "touch NAME",
        "ln -s /nowhere NAME",
        "ln -s NAME NAME",
        "ln -s / NAME",
        "mkfifo NAME",
        "mkdir NAME; chmod 0 NAME",
        "mkdir -m 700 NAME; chown 7:7 NAME",
        "mkdir NAME; cd NAME; for i in $(seq 1200); do mkdir d; cd -P d; done",
    ];
    for name in ["home", "in", "results", "mach"] {
        for spoil in spoils {
            let script = format!("cd /build; rm -rf {name}; {}", spoil.replace("NAME", name));
            assert_eq!(Slave::on(area.path()).run(&sh(&script)).status, Some(0), "{script}");
            let next =
                "pwd; cd ~ && touch own; cat ../in/a; echo r > /build/results/r; cd /build/mach";
            let mut slave = Slave::on(area.path());
            slave.say(&ToSlave::Run(Run { inputs: 1, collect: true, ..sh(next) }));
            let input = FileName::try_from("a".to_string()).unwrap();
            slave.say(&ToSlave::InputFile { name: input, size: 2 });
            slave.say(&ToSlave::InputData(b"i\n"));
            let heard = slave.hear_to_the_end();
            assert_eq!(
                heard.stdout_text(),
                "/build/in\ni\n",
                "after {script}: {}",
                heard.stderr_text()
            );
            assert_eq!(heard.status, Some(0), "after {script}");
            assert_eq!(heard.files.len(), 1, "after {script}");
        }
    }
}

fn refused_results() {
    let script = "cd /build/results; for i in $(seq 34); do ln -s x $i; done; echo > good";
    let heard = Slave::new().run(&Run { collect: true, ..sh(script) });
    let remarks = heard.stderr_text();
    assert_eq!(remarks.lines().filter(|line| line.contains("a symbolic link")).count(), 20);
    assert!(remarks.ends_with("bslave: 14 more results were not sent\n"), "{remarks}");
    assert_eq!((heard.files.len(), heard.status), (1, Some(0)));
}

fn many_results() {
    for (ending, own) in [("true", None), ("exit 4", Some(4))] {
        let area = tempfile::tempdir().unwrap();
        let beyond = OUTPUT_LIMIT_FILES + 3;
        let script = format!("cd /build/results; seq {beyond} | xargs touch; {ending}");
        let heard = Slave::on(area.path()).run(&Run { collect: true, ..sh(&script) });
        assert_eq!(heard.files.len(), OUTPUT_LIMIT_FILES as usize);
        assert_eq!(heard.status, own, "an incomplete set is not taken for a whole one");
        let said = heard.failed.clone().unwrap_or_else(|| heard.stderr_text());
        assert!(said.contains("3 were not sent"), "{said}");
    }
}

fn results_made_a_link() {
    let script = "rm -rf /build/results; ln -s /etc /build/results; exit 3";
    let heard = Slave::new().run(&Run { collect: true, ..sh(script) });
    assert!(heard.stderr_text().contains("no results can be read"), "{}", heard.stderr_text());
    assert!(heard.files.is_empty() && heard.output_ended);
    assert_eq!(heard.status, Some(3));
}

fn terminal() {
    let mut slave = Slave::new();
    let tty = Some(Winsize { rows: 33, cols: 101 });
    let script =
        "stty size; tty; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    slave.say(&ToSlave::Run(Run { tty, ..sh(script) }));
    let mut heard = Messages::default();
    slave.hear_until(&mut heard, "ready\r\n");
    slave.say(&ToSlave::Resize(Winsize { rows: 44, cols: 55 }));
    slave.hear_all(&mut heard);
    let expected = "33 101\r\n/dev/pts/0\r\nready\r\n44 55\r\n";
    assert_eq!(String::from_utf8_lossy(&heard.stdout), expected);
    assert_eq!(heard.status, Some(5));
}

fn job_control() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(Run { tty: Some(Winsize { rows: 24, cols: 80 }), ..login() }));
    let mut heard = Messages::default();
    // There is no prompt to wait for: input typed ahead stays in the terminal.
    slave.say(&ToSlave::Stdin(b"PS1=; echo $0 re''ady\n"));
    slave.hear_until(&mut heard, "-bash ready\r\n");
    slave.say(&ToSlave::Stdin(b"sleep 1000; echo inter''rupted $?\n"));
    std::thread::sleep(Duration::from_millis(300));
    slave.say(&ToSlave::Stdin(b"\x03"));
    slave.say(&ToSlave::Stdin(b"echo st''ill here; sleep 1000\n"));
    slave.hear_until(&mut heard, "still here\r\n");
    std::thread::sleep(Duration::from_millis(300));
    slave.say(&ToSlave::Stdin(b"\x1a"));
    slave.hear_until(&mut heard, "Stopped");
    slave.say(&ToSlave::Stdin(b"kill %1; exit 9\n"));
    slave.say(&ToSlave::Stdin(b"exit 9\n"));
    slave.hear_all(&mut heard);
    assert_eq!(heard.status, Some(9));
    assert!(!heard.stdout_text().contains("no job control"), "{}", heard.stdout_text());
}

fn end_of_terminal_input() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(Run { tty: Some(Winsize { rows: 1, cols: 1 }), ..command(&["cat"]) }));
    slave.say(&ToSlave::Stdin(b"line\n"));
    slave.say(&ToSlave::StdinEnd);
    let heard = slave.hear_to_the_end();
    assert_eq!(heard.stdout_text(), "line\r\nline\r\n");
    assert_eq!(heard.status, Some(0));
}

fn master_leaves() {
    let mut slave = Slave::new();
    slave.say(&ToSlave::Run(sh("trap '' HUP TERM INT; setsid sleep 1000 & echo up; wait")));
    let mut heard = Messages::default();
    slave.hear_until(&mut heard, "up\n");
    let begun = Instant::now();
    slave.leave();
    assert!(begun.elapsed() < Duration::from_secs(10));
}

fn out_of_order() {
    let failure = |messages: &[ToSlave<'_>]| {
        let mut slave = Slave::new();
        messages.iter().for_each(|message| slave.say(message));
        slave.hear_to_the_end().failed.unwrap()
    };
    let name = FileName::try_from("a".to_string()).unwrap();
    let input = ToSlave::InputFile { name, size: 1 };
    assert!(failure(&[ToSlave::StdinEnd]).contains("another message before a command"));
    let run = ToSlave::Run(sh("sleep 1000"));
    assert!(failure(&[run.clone(), run]).contains("a second command"));
    let run = ToSlave::Run(Run { inputs: 1, ..sh("true") });
    assert!(failure(&[run.clone(), ToSlave::Stdin(b"x")]).contains("before all input files"));
    assert!(failure(&[run, input, ToSlave::InputData(b"xx")]).contains("more of"));
    let mut slave = Slave::new();
    slave.say_bytes(b"\xff\xff\xff\xff\xff");
    assert!(slave.hear_to_the_end().failed.unwrap().contains("more than 65536"));
}
