//! The command line. A test below checks that `etc/man/djinni.1` names all of it.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use djinni_api::{MasterName, SlaveName};

/// Client of djinnid: manages masters on the host, and slaves inside a master.
#[derive(Debug, Parser)]
#[command(
    name = "djinni",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 usage, 75 busy: try again.\n\
                  \n\
                  Examples:\n  \
                  djinni check                       is the configuration in order?\n  \
                  djinni list                        which masters are there?\n  \
                  djinni describe                    which slaves do I have? (inside a master)\n  \
                  djinni describe --master bmaster   the same, asked on the host"
)]
pub struct Arguments {
    #[command(flatten)]
    pub places: Places,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of all verbs: directories and the output format.
#[derive(Debug, Args)]
pub struct Places {
    /// Directory of djinnid's sockets
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/djinni")]
    pub runtime: PathBuf,
    /// Configuration directory (for 'check' and 'explain')
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/djinni")]
    pub config: PathBuf,
    /// Directory of persistent data (for 'check' and 'explain')
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/djinni")]
    pub state: PathBuf,
    /// Print one JSON document instead of text ('monitor': one a line)
    #[arg(long, global = true)]
    pub json: bool,
}

impl Places {
    /// The directories as djinnid has them: absolute, and plain as in the kernel's mount table.
    pub fn of_djinnid(&self) -> djinni_plan::places::Places {
        let plain = |path: &Path| -> PathBuf {
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            absolute.components().collect()
        };
        djinni_plan::places::Places {
            config: plain(&self.config),
            state: plain(&self.state),
            runtime: plain(&self.runtime),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check the configuration, without djinnid
    #[command(after_help = "Example:\n  djinni check --config /etc/djinni")]
    Check,
    /// Print the steps of a request without executing them, without djinnid
    #[command(after_help = "Example:\n  djinni explain attach bslave-1 --master bmaster")]
    Explain {
        /// The request
        request: Explained,
        /// The slave of the request
        slave: SlaveName,
        /// The master of the request
        #[arg(long, value_name = "NAME")]
        master: MasterName,
    },
    #[command(flatten)]
    Host(HostVerb),
    #[command(flatten)]
    Master(MasterVerb),
    /// Print a completion script
    #[command(
        hide = true,
        after_help = "Example:\n  djinni completions bash > /usr/share/bash-completion/completions/djinni"
    )]
    Completions {
        /// Shell of the script
        shell: clap_complete::Shell,
    },
}

/// Verbs of the administrator, sent to RUNTIME/host.socket.
#[derive(Debug, Subcommand)]
pub enum HostVerb {
    /// Create the namespace, cgroup and socket of a configured master
    #[command(
        name = "new_bmaster",
        visible_alias = "new-bmaster",
        after_help = "Example:\n  djinni new_bmaster bmaster"
    )]
    NewMaster {
        /// The master: masters/NAME.toml of the configuration
        name: MasterName,
    },
    /// List all masters
    #[command(after_help = "Example:\n  djinni list --json")]
    List,
    /// Show one master
    #[command(after_help = "Example:\n  djinni status bmaster")]
    Status {
        /// The master
        name: MasterName,
    },
    /// Remove a master
    #[command(after_help = "Example:\n  djinni drop bmaster --force")]
    Drop {
        /// The master
        name: MasterName,
        /// Kill the master first if it runs or holds slaves
        #[arg(long)]
        force: bool,
    },
    /// Make djinnid reload its configuration; on any error it keeps the old one
    #[command(after_help = "Example:\n  djinni check && djinni reload")]
    Reload,
}

/// A request that can be explained.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Explained {
    /// Compose a slave's tree
    Attach,
    /// Take it down
    Detach,
}

/// The master of the request.
#[derive(Debug, Args)]
pub struct MasterChoice {
    /// On the host, as root: ask for this master (inside a master: leave it out)
    #[arg(long, value_name = "NAME")]
    pub master: Option<MasterName>,
}

/// One slave of a master.
#[derive(Debug, Args)]
pub struct Slave {
    /// The slave
    pub slave: SlaveName,
    #[command(flatten)]
    pub choice: MasterChoice,
}

/// A mount in a slave.
#[derive(Debug, Args)]
pub struct Mount {
    /// The slave (inside a slave: leave it out)
    #[arg(long, value_name = "SLAVE")]
    pub slave: Option<SlaveName>,
    /// Kind of the mount, where SOURCE does not begin with it
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Options: size=SIZE of a tmpfs
    #[arg(short, long, value_name = "OPTION,…")]
    pub options: Vec<String>,
    /// Source of the mount
    pub source: String,
    /// Directory below build or mnt of the slave; made if it is missing
    pub target: String,
    #[command(flatten)]
    pub choice: MasterChoice,
}

/// The mounts of a slave.
#[derive(Debug, Args)]
pub struct Mounts {
    /// The slave (inside a slave: leave it out)
    pub slave: Option<SlaveName>,
    #[command(flatten)]
    pub choice: MasterChoice,
}

/// The place of a mount in a slave.
#[derive(Debug, Args)]
pub struct Umount {
    /// The slave (inside a slave: leave it out)
    #[arg(long, value_name = "SLAVE")]
    pub slave: Option<SlaveName>,
    /// Directory of the mount
    pub target: String,
    #[command(flatten)]
    pub choice: MasterChoice,
}

/// Verbs of a master, sent to RUNTIME/socket, or by root on the host to RUNTIME/NAME/socket.
#[derive(Debug, Subcommand)]
pub enum MasterVerb {
    /// Show the master's slaves and their states
    #[command(after_help = "Example:\n  djinni describe")]
    Describe(MasterChoice),
    /// Mount a slave's file systems at /mnt/slaves/SLAVE/root; the master holds it until detach
    #[command(
        visible_aliases = ["new_bslave", "new-bslave"],
        after_help = "Rub within the lease, or djinnid detaches it again.\n\n\
                      Example:\n  djinni attach bslave-1"
    )]
    Attach(Slave),
    /// Kill all processes in a slave and unmount its file systems; the working area is kept
    #[command(
        visible_aliases = ["stop_bslave", "stop-bslave"],
        after_help = "Example:\n  djinni detach bslave-1"
    )]
    Detach(Slave),
    /// Detach a slave, then discard its caches, its layers and a kept /var; results are kept
    #[command(after_help = "Example:\n  djinni reset bslave-1")]
    Reset(Slave),
    /// Mount something in an attached slave, as its policy permits
    #[command(after_help = "Sources: share:NAME, volume:NAME, tmpfs:SIZE, layers:IMAGE.\n\n\
                      Example:\n  djinni mount --slave bslave-1 share:world build/srcs")]
    Mount(Mount),
    /// Undo one mount in an attached slave
    #[command(
        visible_alias = "unmount",
        after_help = "Example:\n  djinni umount --slave bslave-1 build/srcs"
    )]
    Umount(Umount),
    /// List the mounts that 'mount' has made in a slave
    #[command(after_help = "Example:\n  djinni mounts bslave-1")]
    Mounts(Mounts),
    /// Renew the lease of this master
    #[command(after_help = "Example:\n  djinni rub")]
    Rub(MasterChoice),
    /// Print each change of state until djinnid ends
    #[command(after_help = "Example:\n  djinni monitor --json")]
    Monitor(MasterChoice),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    /// Our verbs, without clap's own `help`.
    fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
        command.get_subcommands().filter(|verb| verb.get_name() != "help")
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_verb_has_an_example() {
        for verb in verbs(&Arguments::command()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("djinni {}", verb.get_name());
            assert!(help.contains("Example") && help.contains(&example), "{}", verb.get_name());
        }
    }

    #[test]
    fn names_of_2004_and_their_dashed_forms_are_the_same_verbs() {
        for name in ["attach", "new_bslave", "new-bslave"] {
            let verb = Arguments::parse_from(["djinni", name, "bslave-1"]).verb;
            assert!(matches!(verb, Verb::Master(MasterVerb::Attach(_))), "{name}");
        }
        for name in ["detach", "stop_bslave", "stop-bslave"] {
            let verb = Arguments::parse_from(["djinni", name, "bslave-1"]).verb;
            assert!(matches!(verb, Verb::Master(MasterVerb::Detach(_))), "{name}");
        }
        for name in ["new_bmaster", "new-bmaster"] {
            let verb = Arguments::parse_from(["djinni", name, "bmaster"]).verb;
            assert!(matches!(verb, Verb::Host(HostVerb::NewMaster { .. })), "{name}");
        }
    }

    #[test]
    fn usage_errors_exit_with_2_and_say_what_a_name_is() {
        let wrong = [
            vec!["djinni"],
            vec!["djinni", "attach"],
            vec!["djinni", "attach", "../x"],
            vec!["djinni", "status", "host.socket"],
            vec!["djinni", "explain", "attach", "bslave-1"],
            vec!["djinni", "explain", "reset", "bslave-1", "--master", "bmaster"],
            vec!["djinni", "describe", "--unknown"],
        ];
        for arguments in wrong {
            let error = Arguments::try_parse_from(&arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
        let error = Arguments::try_parse_from(["djinni", "attach", "Bslave"]).unwrap_err();
        assert!(error.to_string().contains("use 1 to 64 of a-z 0-9 . _ -"), "{error}");
    }

    #[test]
    fn the_man_page_names_every_verb_alias_and_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/man/djinni.1");
        let page = std::fs::read_to_string(path).unwrap().replace("\\-", "-").replace("\\&", "");
        let command = Arguments::command();
        let shown = |command: &Command| !command.is_hide_set();
        for verb in verbs(&command).filter(|verb| shown(verb)) {
            let name = verb.get_name();
            let heads = [format!(".B {name}"), format!(".BI {name} ")];
            let entry = |line: &str| line == heads[0] || line.starts_with(&heads[1]);
            assert!(page.lines().any(entry), "the man page lacks an entry for the verb {name}");
            for alias in verb.get_visible_aliases() {
                assert!(page.contains(&format!(" {alias}")), "the man page lacks {alias}");
            }
        }
        let all = verbs(&command).chain(std::iter::once(&command));
        for flag in all.flat_map(Command::get_arguments).filter_map(|flag| flag.get_long()) {
            assert!(page.contains(&format!("--{flag}")), "the man page lacks --{flag}");
        }
    }
}
