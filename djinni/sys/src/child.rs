//! The only function of the privileged side that forks.
//!
//! A child keeps no descriptors of its parent but those that it is given, and dies with the parent. It
//! first closes descriptors, then changes its ids, then sets its parent-death signal, which a change of
//! ids would clear (`PR_SET_PDEATHSIG(2const)`). If the parent has died before, the child sees that by
//! its parent's number.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use djinni_raw::{
    Cloned, Result, become_id, clone3, close_all_but, exit_now, ns, setns, shell_status, try_wait,
    wait_for,
};

/// The wait status if waiting for a child fails: as for a child that could not begin.
const NOT_OURS: i32 = 127 << 8;

/// The rights of a child.
#[derive(Debug, Clone, Copy)]
pub enum Rights<'a> {
    /// Those of its parent.
    Same,
    /// Those of root in this user namespace, on the ids that are mapped there and no others.
    RootOf(BorrowedFd<'a>),
    /// None, in a new user namespace. The parent must write its maps.
    Unmapped,
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// Forks. The child keeps 0 to 2 and `kept` of its descriptors, does `act` and ends with the
    /// status that it returns, 127 where it could not begin.
    pub fn start(rights: Rights<'_>, kept: &[RawFd], act: impl FnOnce() -> i32) -> Result<Child> {
        let parent = rustix::process::getpid();
        let namespaces = if matches!(rights, Rights::Unmapped) { ns::USER } else { 0 };
        match clone3(namespaces, None)? {
            Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd }),
            Cloned::Child => {
                let alone =
                    restrict(rights, kept).is_ok() && rustix::process::getppid() == Some(parent);
                exit_now(if alone { act() } else { 127 })
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its exit status, or 128 and its signal, if it has ended.
    pub fn ended(&self) -> Option<i32> {
        try_wait(self.pid).unwrap_or(Some(NOT_OURS)).map(shell_status)
    }

    /// Waits for its end and returns its status as [`Child::ended`].
    pub fn wait(self) -> Result<i32> {
        wait_for(self.pid).map(shell_status)
    }

    /// Kills it. The caller must still wait for it.
    pub fn kill(&self) {
        // By its descriptor, because another process may have its number by now. An error means that the
        // process has ended.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

/// Ready for reading when the child has ended.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn restrict(rights: Rights<'_>, kept: &[RawFd]) -> Result<()> {
    let mut numbers = kept.to_vec();
    if let Rights::RootOf(namespace) = rights {
        numbers.push(namespace.as_raw_fd());
    }
    close_all_but(&numbers)?;
    match rights {
        Rights::Same | Rights::Unmapped => {}
        Rights::RootOf(namespace) => {
            setns(namespace, ns::USER)?;
            become_id(0, 0)?;
            close_all_but(kept)?;
        }
    }
    djinni_raw::set_parent_death_signal(rustix::process::Signal::KILL)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::process::Command;
    use std::time::Duration;

    use rustix::pipe::pipe;

    use super::*;

    /// How many descriptors a process has open.
    fn descriptors() -> i32 {
        // One more is the directory that is being read.
        i32::try_from(fs::read_dir("/proc/self/fd").unwrap().count()).unwrap() - 1
    }

    /// Run by the next one, in a process of its own: it leaves a child that would sleep for ever.
    #[test]
    #[ignore = "a part of a_child_has_what_it_was_given_and_dies_with_its_parent"]
    fn leave_a_child() {
        let (_keep, others): (OwnedFd, OwnedFd) = pipe().unwrap();
        let kept = fs::File::open("/dev/null").unwrap();
        let child = Child::start(Rights::Same, &[kept.as_raw_fd()], descriptors).unwrap();
        assert_eq!(child.wait().unwrap(), 4, "0 to 2 and the one that was given");
        drop(others);
        let asleep = Child::start(Rights::Same, &[], || {
            std::thread::sleep(Duration::from_secs(1000));
            0
        });
        println!("child {}", asleep.unwrap().pid());
    }

    #[test]
    fn a_child_has_what_it_was_given_and_dies_with_its_parent() {
        let parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::tests::leave_a_child", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let said = String::from_utf8(parent.stdout).unwrap();
        assert!(parent.status.success(), "{said}");
        let pid = said.lines().find_map(|line| line.split_once("child ")).unwrap().1;
        let stat = format!("/proc/{}/stat", pid.trim());
        for _ in 0..100 {
            let mut text = String::new();
            let there = fs::File::open(&stat).and_then(|mut file| file.read_to_string(&mut text));
            // A zombie waits for the process that adopts orphans here.
            if there.is_err()
                || text.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{stat} is still there");
    }
}
