//! Directories and initial environment of a command.

use crate::directory;
use crate::fault::Fault;
use rustix::fs::{Access, access};
use slave_api::{Run, Variable};
use std::path::{Path, PathBuf};

/// Default search path (`PATH`) of a command.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Home and optional working area of a command.
#[derive(Debug, Clone)]
pub struct Place {
    /// The home of the command's user.
    pub home: &'static str,
    /// The working area; without one, no files go in and no results come out.
    pub area: Option<PathBuf>,
}

impl Place {
    /// A slave: its working area is bound at `/build`.
    pub fn slave() -> Self {
        Self { home: "/build/home", area: Some("/build".into()) }
    }

    /// A master, which keeps no working area of its own.
    pub fn master() -> Self {
        Self { home: "/root", area: None }
    }

    /// The same place with its directories created. A directory that cannot be created is an error only for
    /// a command that needs it: a command without a home directory uses `/`.
    pub fn prepare(mut self) -> Self {
        for name in ["home", "in", "results", "mach"] {
            if let Some(area) = &self.area {
                let _ = directory::make(&area.join(name));
            }
        }
        if access(self.home, Access::EXEC_OK).is_err() || !Path::new(self.home).is_dir() {
            self.home = "/";
        }
        self
    }

    /// Names this process for process listings; not before the command has started.
    pub fn name_process(&self) {
        if self.area.is_some() {
            slave_sys::set_process_name(c"bslave");
        }
    }

    /// Directory of inputs.
    pub fn inputs(&self) -> Result<PathBuf, Fault> {
        self.within("in")
    }

    /// Directory that results are collected from; it exists.
    pub fn results(&self) -> Result<PathBuf, Fault> {
        let path = self.within("results")?;
        directory::make(&path)?;
        Ok(path)
    }

    fn within(&self, name: &str) -> Result<PathBuf, Fault> {
        let lack = || Fault::Peer("input files, but there is no working area".into());
        self.area.as_ref().map(|area| area.join(name)).ok_or_else(lack)
    }

    /// The command's current directory at its start.
    pub fn start_directory(&self, run: &Run) -> PathBuf {
        match &self.area {
            Some(area) if run.inputs > 0 => area.join("in"),
            _ => self.home.into(),
        }
    }

    /// The command's environment; variables of the caller come last and override defaults.
    pub fn environment(&self, run: &Run, shell: &str) -> Vec<(String, String)> {
        let own = [
            ("HOME", self.home),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("SHELL", shell),
            ("PATH", PATH),
            ("LANG", locale()),
        ];
        let added = |name: &str| run.env.iter().any(|variable| variable.name() == name);
        let own = own.iter().filter(|(name, _)| !added(name));
        let own = own.map(|(name, value)| (name.to_string(), value.to_string()));
        own.chain(run.env.iter().cloned().map(Variable::into)).collect()
    }
}

/// The UTF-8 locale `C.UTF-8`, if this root has it: glibc older than 2.35 may lack it, and programs warn of
/// a missing locale.
fn locale() -> &'static str {
    let names = ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"];
    match names.iter().any(|name| access(*name, Access::EXISTS).is_ok()) {
        true => "C.UTF-8",
        false => "C",
    }
}

/// Path of this root's shell.
pub fn shell() -> &'static str {
    match access("/bin/bash", Access::EXEC_OK) {
        Ok(()) => "/bin/bash",
        Err(_) => "/bin/sh",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn caller_variables_override_defaults() {
        let variable = |n: &str, v: &str| Variable::new(n.into(), v.into()).unwrap();
        let env = vec![variable("LANG", "de_DE.UTF-8"), variable("TERM", "xterm")];
        let run = Run { argv: vec![], env, tty: None, collect: false, inputs: 0 };
        let environment = Place::slave().environment(&run, "/bin/sh");
        let text: Vec<_> = environment.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let path = format!("PATH={PATH}");
        let expected = [
            "HOME=/build/home",
            "USER=root",
            "LOGNAME=root",
            "SHELL=/bin/sh",
            &path,
            "LANG=de_DE.UTF-8",
            "TERM=xterm",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_command_without_a_home_directory_uses_the_root() {
        let nowhere = PathBuf::from("/proc/self/nowhere");
        let place = Place { home: "/proc/self/nowhere/home", area: Some(nowhere) }.prepare();
        assert_eq!(place.home, "/");
        let run = Run { argv: vec![], env: vec![], tty: None, collect: false, inputs: 0 };
        assert!(place.environment(&run, "/bin/sh").contains(&("HOME".into(), "/".into())));
        assert!(place.results().unwrap_err().to_string().contains("nowhere/results"));
    }

    #[test]
    fn a_command_with_inputs_starts_where_they_are() {
        let run = |inputs| Run { argv: vec![], env: vec![], tty: None, collect: false, inputs };
        assert_eq!(Place::slave().start_directory(&run(0)), Path::new("/build/home"));
        assert_eq!(Place::slave().start_directory(&run(1)), Path::new("/build/in"));
        assert_eq!(Place::master().start_directory(&run(1)), Path::new("/root"));
    }
}
