//! Fuzz targets of what mach reads from packagers, repositories and builds.
//!
//! | target         | input | property |
//! |----------------|-------|----------|
//! | `headers`      | RPM packages | a reader ends; names that are accepted are plain names |
//! | `dsc`          | Debian source descriptions | files stand beside the description |
//! | `relations`    | fields as `Build-Depends` | a parsed field, written and parsed again, is equal |
//! | `capabilities` | requirements, rich ones too | the needs of a requirement are among its names |
//! | `specs`        | expanded spec files | a source is a file in one directory |
//! | `repomd`       | `repomd.xml` | a file stands below the repository and has a digest |
//! | `keyrings`     | OpenPGP keys | armored keys read as the same keys |
//! | `sums`         | files `sources` | a digest vouches for a file in one directory |
//! | `urls`         | URLs and redirections | one that is accepted reads as itself |
//! | `apt`          | output of apt | a package stands below its repository |
//! | `logs`         | logs of builds | an explanation is bounded and steers no terminal |
//! | `lines`        | single lines | output steers no terminal and fits |
//! | `dists`        | dist files | an error says what to do |
//!
//! The driver is that of `djinni-fuzz`.
#![forbid(unsafe_code)]

mod packages;
mod repositories;
mod texts;
mod words;

use std::path::{Path, PathBuf};

use djinni_fuzz::targets::Target;

/// The committed corpus of all targets.
#[must_use]
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// All targets.
pub const TARGETS: [Target; 13] = [
    Target { name: "headers", run: packages::headers, words: words::HEADERS },
    Target { name: "dsc", run: packages::dsc, words: words::DSC },
    Target { name: "relations", run: packages::relations, words: words::RELATIONS },
    Target { name: "capabilities", run: packages::capabilities, words: words::CAPABILITIES },
    Target { name: "specs", run: packages::specs, words: words::SPECS },
    Target { name: "repomd", run: repositories::repomd, words: words::REPOMD },
    Target { name: "keyrings", run: repositories::keyrings, words: words::KEYRINGS },
    Target { name: "sums", run: repositories::sums, words: words::SUMS },
    Target { name: "urls", run: repositories::urls, words: words::URLS },
    Target { name: "apt", run: repositories::apt, words: words::APT },
    Target { name: "logs", run: texts::logs, words: words::LOGS },
    Target { name: "lines", run: texts::lines, words: words::LOGS },
    Target { name: "dists", run: texts::dists, words: words::DISTS },
];
