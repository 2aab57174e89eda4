//! Finds out whether start-build runs inside a master or on a host.

use super::ClientError;
use djinni_api::MasterName;
use rustix::fs::{AtFlags, CWD, FileType, statat};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The service that provides the slave.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// We are in a master: the djinni itself.
    Master,
    /// We are on a host: a master, at this socket.
    Host(PathBuf),
}

fn is_socket(path: &Path) -> bool {
    let status = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    status.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket)
}

impl Place {
    /// Detects the place. `master` selects one of several.
    ///
    /// # Errors
    /// No master is running, or several are and none was named, or the named one is not.
    pub fn find(runtime: &Path, master: Option<&MasterName>) -> Result<Self, ClientError> {
        if let Some(name) = master {
            let socket = runtime.join(name.as_str()).join("users");
            return match is_socket(&socket) {
                true => Ok(Self::Host(socket)),
                false => Err(ClientError::Here(format!(
                    "master {name} is not running ({} is not there): 'bhost start {name}'",
                    socket.display()
                ))),
            };
        }
        if is_socket(&runtime.join("socket")) && Path::new("/mnt/slaves").is_dir() {
            return Ok(Self::Master);
        }
        only(runtime, &masters(runtime))
    }
}

/// Masters with a users' socket, sorted.
fn masters(runtime: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(runtime) else { return vec![] };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.parse::<MasterName>().is_ok())
        .filter(|name| is_socket(&runtime.join(name).join("users")))
        .collect();
    names.sort();
    names
}

fn only(runtime: &Path, masters: &[String]) -> Result<Place, ClientError> {
    match masters {
        [one] => Ok(Place::Host(runtime.join(one).join("users"))),
        [] => Err(ClientError::Here(format!(
            "no master is running ({}/*/users is not there): 'bhost start NAME'",
            runtime.display()
        ))),
        several => Err(ClientError::Here(format!(
            "several masters are running ({}): choose one with --master NAME",
            several.join(", ")
        ))),
    }
}

/// Name of the group that owns a socket which refused us.
pub fn permission_advice(socket: &Path) -> String {
    let Ok(status) = socket.metadata() else { return "ask the administrator".into() };
    if status.mode() & 0o020 == 0 {
        return "only root may use it".into();
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let group = name_of(&groups, status.gid()).unwrap_or_else(|| status.gid().to_string());
    format!("only members of group {group} may use it: ask to be one ('adduser USER {group}')")
}

/// Name of the user who runs this.
pub fn caller_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&users, uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// The name of an id in the text of passwd(5) or group(5); both have the id in the third field.
fn name_of(text: &str, id: u32) -> Option<String> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_string())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn serve(runtime: &Path, name: &str) -> UnixListener {
        std::fs::create_dir(runtime.join(name)).unwrap();
        UnixListener::bind(runtime.join(name).join("users")).unwrap()
    }

    #[test]
    fn the_only_master_is_found_and_several_must_be_chosen_from() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path();
        let find = |name: Option<&str>| {
            let name = name.map(|name| name.parse().unwrap());
            Place::find(runtime, name.as_ref()).map_err(|error| error.to_string())
        };
        assert!(find(None).unwrap_err().contains("no master is running"));
        let _one = serve(runtime, "one");
        std::fs::create_dir(runtime.join("empty")).unwrap();
        assert_eq!(find(None), Ok(Place::Host(runtime.join("one/users"))));
        let _two = serve(runtime, "two");
        assert!(find(None).unwrap_err().contains("(one, two): choose one with --master"));
        assert_eq!(find(Some("two")), Ok(Place::Host(runtime.join("two/users"))));
        assert!(find(Some("empty")).unwrap_err().contains("'bhost start empty'"));
    }

    #[test]
    fn a_runtime_that_is_not_there_has_no_masters() {
        let error = Place::find(Path::new("/no/such"), None).unwrap_err().to_string();
        assert!(error.contains("/no/such/*/users is not there"), "{error}");
    }

    #[test]
    fn names_are_read_from_the_text_of_the_databases() {
        let text = "root:x:0:\n# comment\n\nbad\ndjinni:x:991:anna,ben\n";
        assert_eq!(name_of(text, 991), Some("djinni".into()));
        assert_eq!(name_of(text, 0), Some("root".into()));
        assert_eq!(name_of(text, 1), None);
    }

    #[test]
    fn a_refused_caller_learns_the_permitted_group() {
        let dir = tempfile::tempdir().unwrap();
        let socket = serve(dir.path(), "one");
        let path = dir.path().join("one/users");
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode(0o660)).unwrap();
        assert!(permission_advice(&path).contains("only members of group"));
        std::fs::set_permissions(&path, mode(0o600)).unwrap();
        assert_eq!(permission_advice(&path), "only root may use it");
        drop(socket);
    }
}
