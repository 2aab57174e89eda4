//! Validates a dist's file and makes a [`Dist`] of it.
//!
//! The slave's owner trusts the author of a dist, but its text becomes arguments of programs, lines of their
//! configuration and parts of paths: each value must be valid for its purpose.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::file::{
    BuildTable, DistFile, EpochTable, HooksTable, Macros, RepositoryTable, SetsTable,
};
use super::{
    Address, Builder, Dist, Epoch, Hooks, Manager, Personality, Repository, Sets, TrustedKey,
};
use crate::distribution::CHAIN;
use crate::distribution::FETCHED;
use crate::quantity;

const PRIORITY_DEFAULT: u32 = 99;
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// The dist that `file` describes; `sha256` is the file's. An error is a sentence about a key.
pub(super) fn judge(file: DistFile, sha256: String) -> Result<Dist, String> {
    // Destructured, so that a new key does not compile until it is judged here.
    let DistFile {
        name,
        summary,
        package_manager,
        arch,
        releasever,
        rpm,
        personality,
        sets,
        repository,
        build,
        environment,
        macros: Macros { install: install_macros, build: build_macros },
        source_date_epoch,
        hooks,
        hosts,
        resolv,
        layers,
    } = file;
    plain("name", &name)?;
    plain("arch", &arch)?;
    plain("releasever", &releasever)?;
    let manager = manager(&package_manager)?;
    let rpm = rpm_version(manager, rpm)?;
    let macros = || install_macros.iter().chain(&build_macros);
    if manager == Manager::Apt && macros().next().is_some() {
        return Err("[macros.…] are rpm's: a dist of apt has none".to_owned());
    }
    macros().try_for_each(macro_is_one_line)?;
    environment.iter().try_for_each(variable_is_one_line)?;
    one_line("summary", &summary)?;
    let layers_size_bytes = layers
        .map(|table| quantity::size_bytes(&table.size).map_err(|why| format!("layers.size: {why}")))
        .transpose()?;
    Ok(Dist {
        personality: personality.as_deref().map(judge_personality).transpose()?,
        sets: judge_sets(manager, sets)?,
        repositories: judge_repositories(manager, repository)?,
        builder: judge_builder(build)?,
        source_date_epoch: source_date_epoch.map_or(Ok(Epoch::Changelog), judge_epoch)?,
        hooks: judge_hooks(hooks)?,
        hosts: judge_hosts(hosts)?,
        resolv_conf: resolv.map(|table| table.conf),
        name,
        summary,
        manager,
        arch,
        releasever,
        rpm,
        environment,
        install_macros,
        build_macros,
        layers_size_bytes,
        sha256,
    })
}

fn manager(word: &str) -> Result<Manager, String> {
    match word {
        "dnf" => Ok(Manager::Dnf),
        "dnf5" => Ok(Manager::Dnf5),
        "apt" => Ok(Manager::Apt),
        other => Err(format!("package_manager is {other:?}: one of \"dnf\", \"dnf5\", \"apt\"")),
    }
}

/// A dist of RPM packages says which rpm its roots have; one of Debian packages has none.
fn rpm_version(manager: Manager, rpm: Option<String>) -> Result<String, String> {
    match (manager, rpm) {
        (Manager::Apt, None) => Ok(String::new()),
        (Manager::Apt, Some(_)) => Err("rpm is set, but apt's roots have none".to_owned()),
        (_, Some(version)) => plain("rpm", &version).map(|()| version),
        (_, None) => {
            Err("rpm is missing: the version of rpm in the root, as 'rpm --version' prints it"
                .to_owned())
        }
    }
}

fn judge_personality(word: &str) -> Result<Personality, String> {
    match word {
        "linux32" => Ok(Personality::Linux32),
        "linux64" => Ok(Personality::Linux64),
        other => Err(format!("personality is {other:?}: \"linux32\" or \"linux64\"")),
    }
}

fn judge_sets(manager: Manager, table: SetsTable) -> Result<Sets, String> {
    let SetsTable { minimal, base, build, shared } = table;
    if minimal.is_empty() {
        return Err("sets.minimal is empty: a root needs packages".to_owned());
    }
    if manager != Manager::Apt && !shared.is_empty() {
        return Err("sets.shared is for apt: leave it out".to_owned());
    }
    let all = minimal.iter().chain(&base).chain(&build).chain(&shared);
    all.map(String::as_str).try_for_each(|package| plain("a package of the sets", package))?;
    Ok(Sets { minimal, base, build, shared })
}

fn judge_repositories(
    manager: Manager,
    tables: Vec<RepositoryTable>,
) -> Result<Vec<Repository>, String> {
    if tables.is_empty() {
        return Err("there is no [[repository]]: packages must come from somewhere".to_owned());
    }
    let judged = tables.into_iter().map(|table| judge_repository(manager, table));
    let judged: Vec<Repository> = judged.collect::<Result<_, _>>()?;
    for (number, one) in judged.iter().enumerate() {
        if judged[..number].iter().any(|other| other.name == one.name) {
            return Err(format!("two repositories are called {}", one.name));
        }
    }
    Ok(judged)
}

fn judge_repository(manager: Manager, table: RepositoryTable) -> Result<Repository, String> {
    let RepositoryTable { name, url, priority, gpgcheck, repo_gpgcheck, keys, suite, components } =
        table;
    plain("a repository's name", &name)?;
    if [CHAIN, FETCHED].contains(&name.as_str()) {
        return Err(format!("no repository can be called {name}: mach's own is"));
    }
    let within = |what: String| format!("repository {name}: {what}");
    let address = judge_address(&url).map_err(within)?;
    let keys: Vec<TrustedKey> =
        keys.into_iter().map(judge_key).collect::<Result<_, _>>().map_err(within)?;
    if (gpgcheck || repo_gpgcheck) && keys.is_empty() {
        return Err(within("signatures are to be checked, but 'keys' names no key".to_owned()));
    }
    match (manager, &suite) {
        (Manager::Apt, None) => {
            return Err(within("suite is missing, as apt's sources name one".to_owned()));
        }
        (Manager::Apt, Some(suite)) => {
            plain("suite", suite).map_err(within)?;
            components.iter().try_for_each(|one| plain("a component", one)).map_err(within)?;
            if components.is_empty() {
                return Err(within("components is empty".to_owned()));
            }
            if gpgcheck {
                let what = "gpgcheck is rpm's: Debian's packages are vouched for by the signed \
                            metadata (repo_gpgcheck)";
                return Err(within(what.to_owned()));
            }
        }
        (_, Some(_)) => return Err(within("suite and components are apt's".to_owned())),
        (_, None) if !components.is_empty() => {
            return Err(within("suite and components are apt's".to_owned()));
        }
        (_, None) => {}
    }
    Ok(Repository {
        priority: priority.unwrap_or(PRIORITY_DEFAULT),
        check_packages: gpgcheck,
        check_metadata: repo_gpgcheck,
        name,
        address,
        keys,
        suite,
        components,
    })
}

/// One slash at its end says nothing, and most addresses of repositories have one.
fn judge_address(given: &str) -> Result<Address, String> {
    let url = given.strip_suffix('/').unwrap_or(given);
    if let Some(path) = url.strip_prefix("file://") {
        if is_clean_path(path) {
            return Ok(Address::Directory(path.into()));
        }
        return Err(format!("url {given:?}: file:///ABSOLUTE/PATH without . and .. and //"));
    }
    let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
    let refuse = |why: &str| Err(format!("url {given:?}: {why}"));
    match rest {
        None => refuse("file:///PATH, https://HOST/PATH or http://HOST/PATH"),
        Some(rest) if !rest.bytes().all(is_of_url) => {
            refuse("a query, a password and escaped characters other than %XX are not accepted")
        }
        Some(rest) if !is_clean_path(&format!("/{rest}")) => {
            refuse("a part of its path is empty, . or ..")
        }
        Some(_) => Ok(Address::Url(url.to_owned())),
    }
}

/// Characters allowed unescaped in a URL, without query and user information.
fn is_of_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/:%+[]".contains(&byte)
}

fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(char::is_control)
        && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..")
}

fn judge_key(text: String) -> Result<TrustedKey, String> {
    if text.trim_start().starts_with(ARMOR) {
        return Ok(TrustedKey::Armored(text));
    }
    match is_clean_path(&text) {
        true => Ok(TrustedKey::File(text.into())),
        false => Err(format!(
            "keys: {:?} is neither an absolute path nor an armored key ({ARMOR})",
            text.lines().next().unwrap_or_default()
        )),
    }
}

fn judge_builder(table: BuildTable) -> Result<Builder, String> {
    let BuildTable {
        user,
        uid,
        home,
        hostname,
        readonly_root,
        network,
        nested_proc,
        time_limit,
        log_limit,
    } = table;
    plain("build.user", &user)?;
    plain("build.hostname", &hostname)?;
    if hostname.len() > 64 {
        return Err("build.hostname has more than 64 characters".to_owned());
    }
    if !(1..65_534).contains(&uid) {
        return Err(format!("build.uid is {uid}: 1 to 65533"));
    }
    match home.strip_prefix('/') {
        Some(name) => plain("build.home below /", name)?,
        None => return Err(format!("build.home is {home:?}: a directory directly below /")),
    }
    let time_limit = time_limit
        .map(|text| quantity::duration(&text).map_err(|why| format!("build.time_limit: {why}")))
        .transpose()?;
    let log_limit_bytes = log_limit.as_deref().map(log_limit_bytes).transpose()?;
    Ok(Builder {
        user,
        uid,
        home,
        hostname,
        readonly_root: readonly_root.unwrap_or(true),
        network: network.unwrap_or(false),
        nested_proc: nested_proc.unwrap_or(true),
        time_limit,
        log_limit_bytes,
    })
}

/// Less would not hold the reasons of a failure.
const LOG_LIMIT_FLOOR_BYTES: u64 = 64 << 10;

fn log_limit_bytes(text: &str) -> Result<u64, String> {
    match quantity::size_bytes(text) {
        Ok(bytes) if bytes < LOG_LIMIT_FLOOR_BYTES => {
            Err(format!("build.log_limit is {text:?}: 64K at least"))
        }
        outcome => outcome.map_err(|why| format!("build.log_limit: {why}")),
    }
}

fn judge_epoch(table: EpochTable) -> Result<Epoch, String> {
    match (table.policy.as_str(), table.value) {
        ("changelog", None) => Ok(Epoch::Changelog),
        ("none", None) => Ok(Epoch::None),
        ("fixed", Some(seconds)) => Ok(Epoch::Fixed(seconds)),
        ("fixed", None) => Err("source_date_epoch.value is missing: seconds since 1970".to_owned()),
        ("changelog" | "none", Some(_)) => {
            Err("source_date_epoch.value is for policy = \"fixed\" only".to_owned())
        }
        (other, _) => Err(format!(
            "source_date_epoch.policy is {other:?}: \"changelog\", \"fixed\" or \"none\""
        )),
    }
}

fn judge_hooks(table: HooksTable) -> Result<Hooks, String> {
    let HooksTable { on_success, on_failure } = table;
    for argv in on_success.iter().chain(&on_failure) {
        let fine = |word: &String| !word.contains('\0');
        if argv.is_empty() || !argv.iter().all(fine) {
            return Err("a hook is a program and its arguments: [\"/usr/bin/true\"]".to_owned());
        }
    }
    Ok(Hooks { on_success, on_failure })
}

fn judge_hosts(table: BTreeMap<String, Vec<String>>) -> Result<Vec<(IpAddr, Vec<String>)>, String> {
    let judge = |(address, names): (String, Vec<String>)| {
        let parsed: IpAddr =
            address.parse().map_err(|_| format!("hosts: {address:?} is not an address"))?;
        names.iter().try_for_each(|name| plain("a name of hosts", name))?;
        Ok((parsed, names))
    };
    table.into_iter().map(judge).collect()
}

/// Accepts a word that becomes part of a path, an option or a line of a configuration file.
fn plain(key: &str, value: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let begins_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && value.len() <= 128 && value.chars().all(fine) {
        return Ok(());
    }
    Err(format!("{key} is {value:?}: use letters, digits and ._+- only"))
}

fn one_line(key: &str, value: &str) -> Result<(), String> {
    match value.contains(char::is_control) {
        true => Err(format!("{key} is {value:?}: one line without control characters")),
        false => Ok(()),
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn macro_is_one_line((name, body): (&String, &String)) -> Result<(), String> {
    if is_word(name) && !body.contains('\n') {
        return Ok(());
    }
    Err(format!("macro {name:?}: letters, digits and _ in its name, one line in its body"))
}

fn variable_is_one_line((name, value): (&String, &String)) -> Result<(), String> {
    if is_word(name) && !value.contains(['\n', '\0']) {
        return Ok(());
    }
    Err(format!("environment {name:?}: letters, digits and _ in its name, one line as its value"))
}
