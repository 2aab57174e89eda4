//! `start-build` used by a person: which terminal the command gets, and what keys do.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{DIST, builder_with_layers, files, made, rebuilding};
use djinni_tests::programs::run;
use djinni_tests::terminal::Terminal;

/// Prints which of the standard streams are terminals: `012`, or `none`.
const WHICH: &str = "for n in 0 1 2; do test -t $n && printf $n; done; echo _";

fn started() -> Djinni {
    let djinni = Djinni::started();
    djinni.start_master();
    djinni
}

/// An interactive shell of the host with job control; `sb` is start-build in slave `erofs`.
fn host_shell(djinni: &Djinni) -> Terminal {
    let start_build = djinni.start_build(&["erofs"]);
    let words = std::iter::once(start_build.get_program()).chain(start_build.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-i"]);
    let mut shell = Terminal::start(&bash);
    shell.types(&format!("PS1='go> '; sb() {{ {} \"$@\"; }}; echo rea''dy\n", words.join(" ")));
    shell.shows("ready\r\n");
    shell
}

#[test]
fn root_a_command_gets_a_terminal_where_all_three_streams_are_one() {
    let djinni = started();
    let script =
        format!("{WHICH}; stty size; trap 'stty size; exit 5' WINCH; echo up; sleep 1000 & wait");
    let mut terminal = Terminal::start(&djinni.start_build(&["erofs", "--", "sh", "-c", &script]));
    terminal.shows("012_\r\n24 80\r\nup");
    terminal.resize(40, 132);
    terminal.shows("40 132");
    assert_eq!(terminal.end().0, 5);
    let refused = Terminal::start(&djinni.start_build(&["erofs", "-T", "--", "sh", "-c", WHICH]));
    assert_eq!(refused.end(), (0, "_\r\n".into()));
    djinni.finish();
}

#[test]
fn root_a_piped_or_background_command_gets_no_terminal() {
    let djinni = started();
    let work = djinni.base().join("work");
    fs::create_dir_all(&work).unwrap();
    let mut shell = host_shell(&djinni);
    let quiet = format!("sb -- sh -c '{WHICH}'");
    let (file, errors) = (work.join("file"), work.join("errors"));
    shell.types(&format!("{quiet} > {}; echo fini''shed\n", file.display()));
    shell.shows("finished");
    assert_eq!(fs::read(&file).unwrap(), b"_\n");
    for piped in ["| cat", "< /dev/null", &format!("2> {}", errors.display())] {
        shell.types(&format!("{quiet} {piped}; echo fini''shed\n"));
        shell.shows("_\r\nfinished");
    }
    // Raw mode would stop a background job (SIGTTOU).
    shell.types(&format!("{quiet} & wait; echo fini''shed $?\n"));
    shell.shows("_\r\n");
    shell.shows("finished 0");
    shell.types("exit\n");
    shell.end();
    djinni.finish();
}

#[test]
fn root_keys_interrupt_the_command_and_suspend_start_build() {
    let djinni = started();
    let out = djinni.base().join("out");
    let mut shell = host_shell(&djinni);
    shell.types("sb -- sh -c 'echo u\"\"p; sleep 1000'; echo stat''us $?\n");
    shell.shows("up");
    shell.types("\x03");
    shell.shows("status 130");
    let script = "echo x > /build/results/x; echo u\"\"p; read line; echo got $line";
    shell.types("before=$(stty -g)\n");
    // The program itself: bash cannot resume a shell function that was suspended.
    let command = djinni.start_build(&["erofs", "--out", out.to_str().unwrap()]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    shell.types(&format!("{} -- sh -c '{script}'\n", words.join(" ")));
    shell.shows("up");
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.types("test \"$(stty -g)\" = \"$before\" && echo as be''fore; jobs; fg\n");
    shell.shows("as before");
    shell.types("word\n");
    shell.shows("got word");
    // Text typed before the prompt is the command's input.
    shell.shows("go> ");
    shell.types("echo stat''us $?; test \"$(stty -g)\" = \"$before\" && echo as be''fore; exit\n");
    shell.shows("status 0\r\nas before");
    shell.end();
    assert_eq!(fs::read(out.join("x")).unwrap(), b"x\n");
    djinni.finish();
}

#[test]
fn root_machs_table_moves_for_a_person_and_results_come_out() {
    let djinni = builder_with_layers();
    let words = ["builder", "--", "mach", "-r", DIST, "setup"];
    run(&mut djinni.start_build(&words)).done();
    let rest = "%description\nx\n%build\nsleep 2\n%files\n";
    let sources = ["one", "two"].map(|name| made(&djinni, name, rest));
    let out = djinni.base().join("out");
    let mut command = rebuilding(&djinni, &sources, &out);
    command.args(["--jobs", "2"]);
    // Sets TERM: the tests may run without one.
    let mut named = djinni.start_build(&["--env", "TERM=xterm"]);
    named.args(command.get_args().skip(2));
    let mut terminal = Terminal::start(&named);
    // Both are on the screen at the same time, repeatedly, before either is built.
    for _ in 0..3 {
        terminal.shows("one-1-1");
        terminal.shows("two-1-1");
    }
    terminal.shows("2 of 2 done");
    let (status, shown) = terminal.end();
    assert_eq!(status, 0, "{shown}");
    let found = files(&out);
    let rpms = found.iter().filter(|file| file.ends_with(".noarch.rpm")).count();
    assert_eq!(rpms, 2, "{found:#?}");
    djinni.finish();
}
