//! The calls of `io.djinni.Master`.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::{CallError, Client, ClientError, Nothing};
use crate::master;
use crate::names::SlaveName;
use crate::target::Target;

/// Result of a call at a master's socket.
pub type MasterResult<T> = Result<T, CallError<master::Refusal>>;

/// A connection to a master's socket. It holds the slaves that it attaches with [`master::Hold::Connection`].
#[derive(Debug)]
pub struct MasterClient(Client);

impl MasterClient {
    /// Connects to a master's socket: `/run/djinni/socket` inside, `RUNTIME/NAME/socket` on the host.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Client::connect(socket).map(Self)
    }

    /// Connects to the session of the slave that this process runs in. It passes [`MasterClient::mount`],
    /// [`MasterClient::umount`] and [`MasterClient::mounts`] on, about that slave.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_in_slave() -> Result<Self, ClientError> {
        Client::connect_in_slave().map(Self)
    }

    /// The master's slaves and their states.
    ///
    /// # Errors
    /// A refusal, or no answer. The same is true of every call here.
    pub fn describe(&mut self) -> MasterResult<master::Description> {
        self.0.call(&master::Request::Describe)
    }

    /// Attaches the slave.
    pub fn attach(
        &mut self,
        slave: &SlaveName,
        hold: master::Hold,
    ) -> MasterResult<master::Attached> {
        self.0.call(&master::Request::Attach { slave: slave.clone(), hold })
    }

    /// As [`MasterClient::attach`]; runs `meanwhile` while djinnid composes the tree.
    pub fn attach_while(
        &mut self,
        slave: &SlaveName,
        hold: master::Hold,
        meanwhile: impl FnOnce(),
    ) -> MasterResult<master::Attached> {
        self.0.call_while(&master::Request::Attach { slave: slave.clone(), hold }, meanwhile)
    }

    /// Detaches the slave: djinnid kills its processes and takes its tree down.
    pub fn detach(&mut self, slave: &SlaveName) -> MasterResult<()> {
        let Nothing {} = self.0.call(&master::Request::Detach { slave: slave.clone() })?;
        Ok(())
    }

    /// Detaches the slave and discards its caches, layers and kept `/var`.
    pub fn reset(&mut self, slave: &SlaveName) -> MasterResult<()> {
        let Nothing {} = self.0.call(&master::Request::Reset { slave: slave.clone() })?;
        Ok(())
    }

    /// Has something mounted in an attached slave.
    pub fn mount(
        &mut self,
        slave: &SlaveName,
        kind: master::MountKind,
        what: &str,
        target: &Target,
    ) -> MasterResult<()> {
        let (slave, what, target) = (slave.clone(), what.to_owned(), target.clone());
        let Nothing {} = self.0.call(&master::Request::Mount { slave, kind, what, target })?;
        Ok(())
    }

    /// Has one mount in an attached slave undone.
    pub fn umount(&mut self, slave: &SlaveName, target: &Target) -> MasterResult<()> {
        let (slave, target) = (slave.clone(), target.clone());
        let Nothing {} = self.0.call(&master::Request::Umount { slave, target })?;
        Ok(())
    }

    /// The mounts that [`MasterClient::mount`] has made in a slave.
    pub fn mounts(&mut self, slave: &SlaveName) -> MasterResult<master::MountList> {
        self.0.call(&master::Request::ListMounts { slave: slave.clone() })
    }

    /// Renews everything this master holds.
    pub fn rub(&mut self) -> MasterResult<master::Rubbed> {
        self.0.call(&master::Request::Rub)
    }

    /// Passes each change of state to `take` until it returns `Break` or the connection ends.
    pub fn monitor(
        &mut self,
        take: impl FnMut(master::Event) -> ControlFlow<()>,
    ) -> MasterResult<()> {
        self.0.call_more(&master::Request::Monitor, take)
    }
}

impl AsFd for MasterClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
