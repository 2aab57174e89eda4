//! The calls of `io.djinni.Host`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::{CallError, Client, ClientError, Nothing};
use crate::host;
use crate::names::MasterName;

/// Result of a call at djinnid's administrator socket.
pub type HostResult<T> = Result<T, CallError<host::Refusal>>;

/// A connection to the administrator's socket.
#[derive(Debug)]
pub struct HostClient(Client);

impl HostClient {
    /// Connects to the administrator's socket, `RUNTIME/host.socket`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Client::connect(socket).map(Self)
    }

    /// Makes a configured master's namespace, cgroup and socket.
    ///
    /// # Errors
    /// A refusal, or no answer. The same is true of every call here.
    pub fn new_master(&mut self, name: &MasterName) -> HostResult<host::NewMaster> {
        self.0.call(&host::Request::NewMaster { name: name.clone() })
    }

    /// Drops a master; with `force` also one that runs or holds slaves.
    pub fn drop_master(&mut self, name: &MasterName, force: bool) -> HostResult<()> {
        let Nothing {} = self.0.call(&host::Request::DropMaster { name: name.clone(), force })?;
        Ok(())
    }

    /// All masters.
    pub fn list(&mut self) -> HostResult<Vec<host::MasterState>> {
        let host::Masters { masters } = self.0.call(&host::Request::List)?;
        Ok(masters)
    }

    /// One master.
    pub fn status(&mut self, name: &MasterName) -> HostResult<host::MasterState> {
        let host::Status { master } = self.0.call(&host::Request::Status { name: name.clone() })?;
        Ok(master)
    }

    /// Makes djinnid reload its configuration.
    pub fn reload(&mut self) -> HostResult<()> {
        let Nothing {} = self.0.call(&host::Request::Reload)?;
        Ok(())
    }
}

impl AsFd for HostClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
