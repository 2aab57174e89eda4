//! The two families of packages: RPM and Debian.

use serde::{Deserialize, Serialize};

/// A family of packages: their format, the syntax of their requirements, and the program that installs them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RPM packages: built from a spec with `BuildRequires`, installed by rpm.
    #[default]
    Rpm,
    /// Debian packages: built from a `debian/control` with `Build-Depends`, installed by dpkg.
    Deb,
}

impl Family {
    /// The word in records and statements.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
        }
    }
}
