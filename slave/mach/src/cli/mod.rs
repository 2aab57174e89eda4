//! The command line: parses it, validates it, runs the verb, reports its end.

mod arguments;
mod options;
mod verbs;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use mach_core::error::{Cause, Error};
use mach_run::interrupts;
use mach_run::progress::{self, Mode};

use arguments::{Arguments, BUILD_HEADING};

/// The exit status of a program whose output has no reader left (128 + SIGPIPE).
const PIPE_CLOSED: u8 = 141;

/// Runs the command line; returns the exit status.
pub fn main() -> ExitCode {
    slave_sys::end_with_reader();
    match run() {
        Ok(0) if progress::was_unread() => ExitCode::from(PIPE_CLOSED),
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            progress::failed(&failure);
            ExitCode::from(failure.cause.exit_status())
        }
    }
}

fn run() -> Result<u8, Error> {
    let words = arguments::insulated(std::env::args_os().collect());
    let matches = Arguments::command().get_matches_from(words);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    progress::set_mode(mode(&arguments));
    if !arguments.verb.only_tells() {
        // Finish the work; the status then tells that the output had no reader.
        slave_sys::outlive_reader();
    }
    if !arguments.verb.builds() {
        refuse_options_of_builds(&matches)?;
    }
    let options = options::options(&arguments.build)?;
    interrupts::watch()?;
    let status = verbs::run(&arguments, &options);
    // Last, when the results are out: it may take seconds. The parent of a part of a chain does it for all parts.
    if arguments.verb.builds() && arguments.build.parent.is_none() {
        let settled = verbs::settle_layers(&arguments);
        return status.and_then(|status| settled.map(|()| status));
    }
    status
}

fn mode(arguments: &Arguments) -> Mode {
    match arguments.common {
        arguments::Common { json: true, .. } => Mode::Json,
        arguments::Common { quiet: true, .. } => Mode::Quiet,
        arguments::Common { debug: true, .. } => Mode::Debug,
        _ => Mode::Human,
    }
}

/// An option that would have no effect is refused: who gave it expects one.
fn refuse_options_of_builds(matches: &ArgMatches) -> Result<(), Error> {
    let Some((verb, below)) = matches.subcommand() else {
        return Ok(());
    };
    let command = Arguments::command();
    let was_given = |argument: &&clap::Arg| {
        argument.get_help_heading() == Some(BUILD_HEADING)
            && [matches, below].iter().any(|matches| {
                let id = argument.get_id().as_str();
                matches!(matches.try_contains_id(id), Ok(true))
                    && matches.value_source(id) == Some(ValueSource::CommandLine)
            })
    };
    match command.get_arguments().find(was_given) {
        Some(argument) => {
            let flag = argument.get_long().unwrap_or_default();
            let what = format!("'mach {verb}' builds nothing: --{flag} has no meaning for it");
            Err(Error::new(Cause::Usage, what, "leave the option out"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_option_without_effect_is_refused() {
        for words in [["mach", "--nocheck", "status"], ["mach", "clean", "--nocheck"]] {
            let matches = Arguments::command().try_get_matches_from(words).unwrap();
            let failure = refuse_options_of_builds(&matches).unwrap_err();
            assert!(failure.what.contains("--nocheck"), "{failure}");
        }
        let matches = Arguments::command().try_get_matches_from(["mach", "status"]).unwrap();
        assert_eq!(refuse_options_of_builds(&matches), Ok(()));
    }

    #[test]
    fn words_for_another_program_are_left_to_it() {
        let insulated = |line: &str| {
            let words = line.split(' ').map(Into::into).collect();
            let words = arguments::insulated(words).into_iter();
            words.map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(insulated("mach -r rpm rpm -qa"), "mach -r rpm rpm -- -qa");
        assert_eq!(insulated("mach -kr x --area d rpm -q"), "mach -kr x --area d rpm -- -q");
        assert_eq!(insulated("mach -c rpm -q"), "mach -c rpm -- -q");
        assert_eq!(insulated("mach --root=x status -q"), "mach --root=x status -q");
    }

    // A dash is written `\-` in a man page.
    #[test]
    fn the_man_page_knows_every_verb_and_flag() {
        let page = include_str!("../../../../etc/man/mach.1").replace("\\-", "-");
        let command = Arguments::command();
        let mut words: Vec<String> = flags(&command);
        for verb in command.get_subcommands() {
            words.push(verb.get_name().to_owned());
            words.extend(flags(verb));
        }
        words.extend(verbs::INSTEAD.iter().map(|(name, _)| (*name).to_owned()));
        for word in words {
            assert!(page.contains(&word), "etc/man/mach.1 does not mention {word}");
        }
    }

    fn flags(command: &clap::Command) -> Vec<String> {
        let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
        visible.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
    }
}
