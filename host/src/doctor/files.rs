//! Configuration, images and directories, and whether djinnid runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use djinni_api::client::HostClient;
use djinni_plan::config::{self, Config};
use djinni_plan::places::Places;

use crate::doctor::Finding;
use crate::doctor::ids::{self, Accounts};

/// One finding for each thing.
pub fn findings(places: &Places) -> Vec<Finding> {
    let mut findings = configuration(places);
    findings.extend([directory("state directory", &places.state), djinnid(places)]);
    findings
}

fn configuration(places: &Places) -> Vec<Finding> {
    let subject = format!("configuration in {}", places.config.display());
    if !places.config.is_dir() {
        let remedy = "make it, with masters/NAME.toml: examples are in etc/masters of the sources";
        return vec![Finding::warning(subject, "there is none", remedy)];
    }
    match config::load(&places.config) {
        Err(error) => {
            let found = match error.line {
                0 => format!("{}: {}", error.file.display(), error.reason),
                line => format!("{}:{line}: {}", error.file.display(), error.reason),
            };
            vec![Finding::error(subject, found, error.remedy)]
        }
        Ok(config) => of_config(&subject, &config),
    }
}

fn of_config(subject: &str, config: &Config) -> Vec<Finding> {
    let count = format!("{} masters, {} images", config.masters.len(), config.images.len());
    let mut findings = vec![Finding::ok(subject, count)];
    findings.extend(config.warnings.iter().map(|warning| {
        let place = format!("{}:{}", warning.file.display(), warning.line);
        Finding::warning(place, &warning.reason, &warning.remedy)
    }));
    let accounts = Accounts::of_host();
    findings.extend(config.masters.values().flat_map(|master| ids::findings(master, &accounts)));
    findings.extend(config.images.values().map(|image| {
        let (subject, path) = (format!("image {}", image.name), image.source.path());
        match path.as_path().is_file() {
            true => Finding::ok(subject, format!("{path} ('bhost image verify' reads it)")),
            false => {
                let remedy = format!("bhost image build {} --from debian-12 --replace", image.name);
                Finding::error(subject, format!("{path} is not there"), remedy)
            }
        }
    }));
    findings
}

/// Whoever can rename a directory above can put another in its place.
fn directory(subject: &str, path: &Path) -> Finding {
    let subject = format!("{subject} {}", path.display());
    for above in path.ancestors() {
        let Ok(found) = fs::metadata(above) else { continue };
        let group_writes = found.mode() & 0o020 != 0 && found.gid() != 0;
        if found.uid() != 0 || group_writes || found.mode() & 0o002 != 0 {
            let what = format!("others than root can change {}", above.display());
            let remedy = match found.mode() & 0o1000 {
                0 => format!("chown root:root {0} && chmod go-w {0}", above.display()),
                _ => "choose one elsewhere: that directory is everybody's on purpose".to_owned(),
            };
            return Finding::error(subject, what, remedy);
        }
    }
    match path.is_dir() {
        true => Finding::ok(subject, "root's alone"),
        false => Finding::ok(subject, "not there yet; it is made when needed"),
    }
}

fn djinnid(places: &Places) -> Finding {
    match HostClient::connect(&places.host_socket()) {
        Ok(_) => Finding::ok("djinnid", format!("listens at {}", places.host_socket().display())),
        Err(error) => Finding::warning("djinnid", error, "systemctl start djinnid"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_directory_below_one_that_all_can_write_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let finding = directory("state directory", &top.path().join("state"));
        assert_eq!(finding.level, Level::Error);
        assert_eq!(directory("state directory", Path::new("/")).level, Level::Ok);
    }

    #[test]
    fn no_configuration_is_no_error_yet() {
        let top = tempfile::tempdir().unwrap();
        let places = Places {
            config: top.path().join("etc"),
            state: top.path().join("state"),
            runtime: top.path().join("run"),
        };
        let findings = configuration(&places);
        assert_eq!(findings[0].level, Level::Warning);
        assert_eq!(djinnid(&places).level, Level::Warning);
    }
}
