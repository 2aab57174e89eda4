//! Compares the packages that rpmbuild reports with the collected files.

use std::path::Path;

use mach_core::error::{Cause, Error};

use crate::record::ResultFile;

/// The end of rpmbuild's log, after the last script that the build could say something in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RpmbuildReport<'a> {
    /// Paths of packages, as the build saw them.
    paths: Vec<&'a str>,
    /// Whether there were packages to make: subpackages with a `%files`.
    has_files: bool,
}

impl<'a> RpmbuildReport<'a> {
    /// Read of a log, or of its end.
    pub fn of_log(log: &'a str) -> Self {
        let after = log.rfind("\nExecuting(").map_or(log, |at| &log[at + 1..]);
        // Source packages are of the question before, which runs no script: where the build runs none, too,
        // it is in sight.
        let paths = after.lines().filter_map(|line| line.strip_prefix("Wrote: "));
        let paths = paths.filter(|path| !path.trim_end().ends_with("src.rpm"));
        Self {
            paths: paths.map(str::trim_end).collect(),
            has_files: after.lines().any(|line| line.starts_with("Processing files: ")),
        }
    }

    /// Refuses results that lack something; whether there are any.
    pub fn compare(&self, package: &str, taken: &[ResultFile]) -> Result<bool, Error> {
        let remedy = "mach takes packages from %_topdir/RPMS and below: do not set '_rpmdir' in the spec or in \
                      [macros.build] of the dist, and let names of packages end in .rpm";
        let refuse = |what: String| Err(Error::new(Cause::Compile, what, remedy));
        let is_taken = |path: &str| {
            let name = Path::new(path).file_name().unwrap_or_default();
            taken.iter().any(|file| name == file.name.as_str())
        };
        let mut lacking = self.paths.iter().filter(|path| !is_taken(path));
        if let Some(path) = lacking.next() {
            let more = match lacking.count() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            return refuse(format!(
                "{package}: rpmbuild wrote {path}{more}, which is not among the results"
            ));
        }
        if taken.is_empty() && self.has_files {
            return refuse(format!("{package}: rpmbuild ended well but left no package"));
        }
        Ok(!taken.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FileKind;

    fn taken(names: &[&str]) -> Vec<ResultFile> {
        let of = |name: &&str| ResultFile {
            kind: FileKind::Rpm,
            name: (*name).to_owned(),
            nevra: String::new(),
            sha256: String::new(),
            size_bytes: 0,
        };
        names.iter().map(of).collect()
    }

    const LOG: &str = "Executing(%check): sh\nWrote: /tmp/nested/RPMS/noarch/inner-1-1.noarch.rpm\n\
                       Executing(%install): sh\nProcessing files: gauge-2-3.noarch\n\
                       Wrote: /builddir/build/RPMS/noarch/gauge-2-3.noarch.rpm\n\
                       Wrote: /elsewhere/gauge-doc-2-3.noarch.rpm\n";

    #[test]
    fn what_rpmbuild_wrote_and_nobody_took_is_named() {
        let written = RpmbuildReport::of_log(LOG);
        let both = taken(&["gauge-2-3.noarch.rpm", "gauge-doc-2-3.noarch.rpm"]);
        assert!(written.compare("gauge-2-3", &both).is_ok_and(|any| any));
        let failure = written.compare("gauge-2-3", &both[..1]).map_err(|failure| failure.what);
        let wanted = "gauge-2-3: rpmbuild wrote /elsewhere/gauge-doc-2-3.noarch.rpm, which is not among the results";
        assert_eq!(failure, Err(wanted.to_owned()));
        let failure = written.compare("gauge-2-3", &[]).map_err(|failure| failure.what);
        assert!(failure.is_err_and(|what| what.contains("gauge-2-3.noarch.rpm, and 1 more")));
    }

    #[test]
    fn a_spec_without_files_makes_no_package_and_that_is_right() {
        let none = RpmbuildReport::of_log("Executing(%build): sh\n+ exit 0\n");
        assert_eq!(none.compare("x", &[]), Ok(false));
        let some =
            RpmbuildReport::of_log("Executing(%install): sh\nProcessing files: x-1-1.noarch\n");
        assert!(some.compare("x", &[]).is_err());
        // Neither of both runs a script.
        let meta = RpmbuildReport::of_log(
            "Wrote: /builddir/build/REQUIRES/meta-1-1.src.rpm\nProcessing files: meta-1-1.noarch\n\
             Wrote: /builddir/build/RPMS/noarch/meta-1-1.noarch.rpm\n",
        );
        assert_eq!(meta.compare("meta-1-1", &taken(&["meta-1-1.noarch.rpm"])), Ok(true));
    }
}
