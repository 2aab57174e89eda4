//! Checks the configuration, images and directories, and whether djinnid runs.

use std::path::Path;

use djinni_api::client::HostClient;
use djinni_plan::config::{self, Config};
use djinni_plan::load::only_root_may_change_directory;
use djinni_plan::places::Places;

use crate::doctor::Finding;
use crate::doctor::ids::{self, Accounts};

/// One finding for each thing.
pub fn findings(places: &Places) -> Vec<Finding> {
    let mut findings = configuration(places);
    findings.extend([
        directory("state directory", &places.state),
        directory("runtime directory", &places.runtime),
        djinnid(places),
    ]);
    findings
}

fn configuration(places: &Places) -> Vec<Finding> {
    let subject = format!("configuration in {}", places.config.display());
    if !places.config.is_dir() {
        let remedy = "make it, with masters/NAME.toml: examples are in etc/masters of the sources";
        return vec![Finding::warning(subject, "does not exist", remedy)];
    }
    let config = config::load(&places.config);
    match config.and_then(|config| config::shares_apart(&config, places).map(|()| config)) {
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

/// The rule is djinnid's own for its directories.
fn directory(subject: &str, path: &Path) -> Finding {
    let subject = format!("{subject} {}", path.display());
    match only_root_may_change_directory(path) {
        Err(error) => Finding::error(subject, error.reason, error.remedy),
        Ok(()) if path.is_dir() => Finding::ok(subject, "root's alone"),
        Ok(()) => Finding::ok(subject, "not there yet; it is made when needed"),
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
    use std::fs;

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
    fn a_missing_configuration_is_a_warning() {
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
