//! Every way a configuration can be wrong, with the file, line and remedy that it gets.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use djinni_plan::config::{Config, ConfigError, Files, parse, shares_apart};
use djinni_plan::places::Places;

const IMAGES: &str = r#"[image.debian-12]
source = { erofs = "/images/debian-12.erofs" }
"#;

const MASTER: &str = r#"root = { image = "debian-12" }
var = { dir = "/srv/m/var" }
ids = { first = 1_000_000, count = 1_048_576 }
lease = "30s"
users = "djinni"
[share.world]
dir = "/srv/world"
[slave.one]
image = "debian-12"
slice = 1
area = { dir = "/srv/m/areas/one" }
shares = ["world"]
network = "none"
[slave.two]
image = "debian-12"
slice = 2
root = "throwaway"
var = "keep"
suid = false
area = { dir = "/srv/m/areas/two" }
"#;

fn files(images: &str, masters: &[(&str, &str)]) -> Files {
    let path = |name: &str| format!("/etc/djinni/masters/{name}.toml").into();
    Files {
        images: Some(("/etc/djinni/images.toml".into(), images.into())),
        masters: masters.iter().map(|(name, text)| (path(name), text.to_string())).collect(),
        subordinate_ids: vec![("/etc/subuid".into(), "alice:100000:65536\n".into())],
    }
}

fn with(text: &str) -> Result<Config, ConfigError> {
    parse(&files(IMAGES, &[("bm", text)]))
}

/// The error of the good master file after one replacement.
fn broken(from: &str, to: &str) -> ConfigError {
    assert!(MASTER.contains(from), "{from:?} is not in the sample");
    with(&MASTER.replacen(from, to, 1)).expect_err(to)
}

#[track_caller]
fn says(error: &ConfigError, line: usize, reason: &str) {
    let shown = error.to_string();
    assert_eq!(error.line, line, "{shown}");
    assert!(error.reason.contains(reason), "{shown}");
    assert!(!error.remedy.is_empty(), "{shown}");
    assert!(error.file.starts_with("/etc"), "{shown}");
}

#[test]
fn a_good_configuration_is_read_whole() {
    let config = with(MASTER).unwrap();
    let master = &config.masters[&"bm".parse().unwrap()];
    assert_eq!(master.slaves.len(), 2);
    assert_eq!(master.slaves[&"two".parse().unwrap()].ids.first, 1_131_072);
    assert_eq!(master.lease.as_secs(), 30);
    assert!(config.warnings.is_empty());
}

#[test]
fn syntax_and_keys_are_named_by_line() {
    says(&broken("lease = \"30s\"", "lease = "), 4, "");
    says(&broken("lease = \"30s\"", "leese = \"30s\""), 4, "leese");
    says(&broken("slice = 1", "slice = \"1\""), 10, "");
    says(&broken("slice = 1", "slice = -1"), 10, "");
    says(&broken("shares = [\"world\"]", "sharez = []"), 12, "sharez");
    says(&with("root = 1").unwrap_err(), 1, "");
    says(&with("").unwrap_err(), 1, "");
}

#[test]
fn what_cannot_be_enforced_is_refused_or_warned_about() {
    let limits = "limits = { memory = \"4G\" }";
    says(&broken("lease = \"30s\"", limits), 4, "not enforced");
    says(&broken("network = \"none\"", limits), 13, "not enforced");
    let sized = "area = { dir = \"/srv/m/areas/one\", size = \"20G\" }";
    says(&broken("area = { dir = \"/srv/m/areas/one\" }", sized), 11, "not enforced");
    says(&broken("network = \"none\"", "network = \"open\""), 13, "open");
    let bridge = "network = { address = \"10.90.0.2/24\", bridge = \"djinni0\" }";
    says(&broken("lease = \"30s\"", bridge), 4, "network");
    let lax = MASTER.replacen("lease = \"30s\"", &format!("strict = false\n{limits}"), 1);
    let config = with(&lax).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].line, 5);
}

#[test]
fn mounts_name_what_is_defined_and_one_slave_writes_to_a_share() {
    let listed =
        |text: &str| broken("network = \"none\"", &format!("mounts = [\"share:world\",\n{text}]"));
    for (entry, why) in [
        ("\"share:other\"", "share \"other\" is not defined"),
        ("\"share:../etc\"", "is not defined"),
        ("\"volume:ccache\"", "volume \"ccache\" is not defined"),
        ("\"layers:fedora\"", "is not in images.toml"),
        ("\"layers:debian-12:rw\"", "is not a mount"),
        ("\"tmpfs:much\"", "is not a size"),
        ("\"tmpfs:1G:rw\"", "is not a mount"),
        ("\"proc:\"", "is not a mount"),
        ("\"share:world\"", "listed twice"),
        ("\"world\"", "is not a mount"),
    ] {
        says(&listed(entry), 14, why);
    }
    let many = (0..64).map(|n| format!("\"tmpfs:{}K\",", n + 1)).collect::<String>();
    says(&listed(&many), 14, "more than 64");
    let volume = "[volume.v]\nsource = { erofs = \"/images/debian-12.erofs\" }\n[slave.one]\nmounts = [\"volume:v:rw\"]";
    says(&broken("[slave.one]", volume), 11, "cannot be written");
    let written = "shares = [\"world\"]\nmounts = [\"share:world:rw\"]";
    let both =
        MASTER.replacen("shares = [\"world\"]", written, 1) + "mounts = [\"share:world:rw\"]\n";
    says(&with(&both).unwrap_err(), 22, "of one and of two");
}

#[test]
fn an_image_that_is_a_directory_holds_no_area() {
    for path in ["/srv/m", "/srv/m/areas/one", "/srv/m/areas/one/root", "/srv/world"] {
        let images = format!("{IMAGES}[image.d]\nsource = {{ dir = \"{path}\" }}\n");
        let error = parse(&files(&images, &[("bm", MASTER)])).err();
        let Some(error) = error else {
            assert_eq!(path, "/srv/world", "shares are read-only");
            continue;
        };
        assert!(error.reason.contains("image d overlap"), "{error}");
    }
}

#[test]
fn a_volume_that_slaves_write_is_not_an_image() {
    let images = format!("{IMAGES}[image.e]\nsource = {{ loop = \"/images/e\", fs = \"ext4\" }}\n");
    let volume = "[volume.v]\nsource = { loop = \"/images/e\", fs = \"ext4\" }\n[slave.one]\nmounts = [\"volume:v\"]";
    let text = MASTER.replacen("[slave.one]", volume, 1);
    assert!(parse(&files(&images, &[("bm", &text)])).is_ok());
    let text = text.replacen("volume:v", "volume:v:rw", 1);
    says(&parse(&files(&images, &[("bm", &text)])).unwrap_err(), 11, "file of an image");
}

#[test]
fn ids_and_slices_are_kept_apart() {
    says(&broken("first = 1_000_000", "first = 1000"), 3, "host's own users");
    says(&broken("count = 1_048_576", "count = 4294967295"), 3, "fewer");
    says(&broken("count = 1_048_576", "count = 1"), 3, "less than one slice");
    says(&broken("slice = 2", "slice = 1"), 16, "slice 1 like one");
    says(&broken("slice = 2", "slice = 0"), 16, "not in the master's ids");
    says(&broken("slice = 2", "slice = 16"), 16, "not in the master's ids");
    let error = broken("first = 1_000_000", "first = 150_000");
    says(&error, 0, "overlap those of alice");
    let other = MASTER.replace("/srv/m", "/srv/n").replace("1_000_000", "1_500_000");
    let both = parse(&files(IMAGES, &[("bm", MASTER), ("bn", &other)]));
    says(&both.unwrap_err(), 0, "overlap those of master bm");
}

#[test]
fn directories_are_kept_apart() {
    says(&broken("/srv/m/areas/one", "srv/m"), 11, "not absolute");
    says(&broken("/srv/m/areas/one", "/srv/m/../x"), 11, "'..'");
    says(&broken("/srv/m/areas/two", "/srv/m/areas/one/x"), 20, "overlap");
    says(&broken("/srv/m/areas/two", "/srv/m/var"), 20, "overlap");
    says(&broken("/srv/m/areas/two", "/srv/world/x"), 20, "overlap");
    says(&broken("/srv/m/var", "/srv"), 2, "overlap");
    let other = MASTER.replace("/srv/m/", "/srv/n/").replace("1_000_000", "3_000_000");
    let other = other.replace("/srv/n/areas/two", "/srv/m/areas");
    let both = parse(&files(IMAGES, &[("bm", MASTER), ("bn", &other)]));
    says(&both.unwrap_err(), 0, "of master bm");
}

#[test]
fn names_and_references_must_exist() {
    says(&broken("[slave.one]", "[slave.One]"), 8, "not a name of a slave");
    says(&broken("shares = [\"world\"]", "shares = [\"moon\"]"), 12, "\"moon\" is not defined");
    says(&broken("root = { image = \"debian-12\" }", "root = { image = \"fedora\" }"), 1, "fedora");
    says(&broken("lease = \"30s\"", "lease = \"1s\""), 4, "lease");
    says(&broken("lease = \"30s\"", "lease = \"99999999999s\""), 4, "lease");
    says(&broken("root = \"throwaway\"", "root = \"writable\""), 17, "writable");
    let named = |name| parse(&files(IMAGES, &[(name, MASTER)])).unwrap_err();
    says(&named("host.socket"), 0, "administrator's socket");
    says(&named("Master"), 0, "not a name of a master");
}

#[test]
fn images_of_unknown_kind_are_refused() {
    let image = |text: &str| parse(&files(&format!("[image.x]\n{text}\n"), &[])).unwrap_err();
    says(&image("source = { lvm = \"vg0/x\" }"), 2, "lvm");
    says(&image("source = { nfs = \"h:/x\" }"), 2, "nfs");
    says(&image("source = { loop = \"/x\" }"), 2, "exactly one source");
    says(&image("source = { loop = \"/x\", fs = \"f2fs\" }"), 2, "f2fs");
    says(&image("source = { dir = \"/x\", erofs = \"/x\" }"), 2, "exactly one source");
    says(&image("source = { dir = \"/x\" }\ndigest = \"sha256:0\""), 3, "sha256");
    let digest = format!("digest = \"sha256:{}\"", "0".repeat(64));
    says(&image(&format!("source = {{ dir = \"/x\" }}\n{digest}")), 3, "no digest");
    for path in ["/proc/1/root", "/root", "/etc", "/dev"] {
        says(&image(&format!("source = {{ dir = \"{path}\" }}")), 2, "would show");
    }
    says(&image("source = { erofs = \"x\" }"), 2, "not absolute");
    says(&image("source = { erofs = \"/x\" }\ndigest = \"md5:1\""), 3, "sha256");
    says(&image("source = { erofs = \"/x\" }\nvar = \"/x.tar\""), 3, "not enforced");
}

#[test]
fn a_digest_is_64_hexadecimal_digits() {
    let digest = |hex: &str| {
        let text = format!(
            "[image.debian-12]\nsource = {{ erofs = \"/x\" }}\ndigest = \"sha256:{hex}\"\n"
        );
        parse(&files(&text, &[]))
    };
    let good = digest(&"0aF9".repeat(16)).unwrap();
    let image = &good.images[&"debian-12".parse().unwrap()];
    assert_eq!(image.digest.unwrap().0[..2], [0x0a, 0xf9]);
    for hex in ["0".repeat(62), "0".repeat(63), "0".repeat(65), "0".repeat(66), String::new()] {
        says(&digest(&hex).unwrap_err(), 3, "64 hexadecimal digits");
    }
    // As long, and not of digits: a sign that numbers may have, letters of two bytes, spaces.
    for hex in ["+f".repeat(32), "\u{e9}".repeat(32), " 0".repeat(32), "0g".repeat(32)] {
        says(&digest(&hex).unwrap_err(), 3, "64 hexadecimal digits");
    }
}

#[test]
fn ids_begin_above_the_hosts_and_end_below_the_reserved_ones() {
    let ids = |first: u64, count: u64| {
        let ids = format!("first = {first}, count = {count}");
        with(&MASTER.replacen("first = 1_000_000, count = 1_048_576", &ids, 1))
    };
    // Without the subordinate ids of the sample, which belong to another user.
    let alone = |first: u64| {
        let text = MASTER.replacen("first = 1_000_000", &format!("first = {first}"), 1);
        let mut files = files(IMAGES, &[("bm", &text)]);
        files.subordinate_ids.clear();
        parse(&files)
    };
    assert_eq!(alone(65_536).unwrap().masters.len(), 1);
    says(&alone(65_535).unwrap_err(), 3, "host's own users");
    let end = u64::from(u32::MAX) - 1;
    assert!(ids(end - 1_048_576, 1_048_576).is_ok());
    says(&ids(end - 1_048_576 + 1, 1_048_576).unwrap_err(), 3, "are fewer");
    says(&ids(1_000_000, 65_535).unwrap_err(), 3, "less than one slice");
    // One slice is the master's own, so its slaves have none.
    says(&ids(1_000_000, 65_536).unwrap_err(), 10, "not in the master's ids");
}

#[test]
fn a_share_of_the_systems_own_is_refused() {
    for whole in ["/proc", "/proc/sys", "/sys", "/dev", "/dev/shm", "/etc", "/run", "/root"] {
        let error = broken("dir = \"/srv/world\"", &format!("dir = {whole:?}"));
        says(&error, 7, "would show");
    }
    // What lies in some of them is an administrator's choice.
    let shared = MASTER.replace("/srv/world", "/etc/ssl/certs");
    assert!(with(&shared).is_ok());
}

#[test]
fn a_share_of_what_is_djinnids_is_refused() {
    let places = Places {
        config: "/etc/djinni".into(),
        state: "/var/lib/djinni".into(),
        runtime: "/srv/run".into(),
    };
    let shares = |dir: &str| {
        let config = with(&MASTER.replace("/srv/world", dir)).unwrap();
        shares_apart(&config, &places)
    };
    for dir in ["/etc/djinni", "/etc/djinni/masters", "/srv/run/bm", "/srv", "/var/lib/djinni/var"]
    {
        // Above an area or var is refused before.
        if with(&MASTER.replace("/srv/world", dir)).is_ok() {
            assert!(shares(dir).unwrap_err().reason.contains("would show"), "{dir}");
        }
    }
    assert!(shares("/srv/world").is_ok() && shares("/var/lib/djinni/images").is_ok());
}

#[test]
fn a_master_that_is_up_keeps_its_ids_var_and_root() {
    let directory = std::path::Path::new("/etc/djinni");
    let images = format!("{IMAGES}[image.other]\nsource = {{ erofs = \"/images/other.erofs\" }}\n");
    let config = |text: &str| parse(&files(&images, &[("bm", text)])).unwrap();
    let old = config(MASTER);
    let judge = |new: &Config| old.keeps(&"bm".parse().unwrap(), new, directory);
    let changed = |from: &str, to: &str| judge(&config(&MASTER.replacen(from, to, 1)));
    assert_eq!(judge(&old), Ok(()));
    assert_eq!(changed("lease = \"30s\"", "lease = \"60s\""), Ok(()));
    assert_eq!(changed("slice = 2", "slice = 3"), Ok(()));
    let gone = parse(&files(&images, &[])).unwrap();
    for refused in [
        changed("first = 1_000_000", "first = 3_000_000"),
        changed("/srv/m/var", "/srv/m/other"),
        changed("root = { image = \"debian-12\" }", "root = { image = \"other\" }"),
        judge(&gone),
    ] {
        let error = refused.unwrap_err();
        says(&error, 0, "master bm is up; its ids, var and root cannot change");
        assert!(error.file.ends_with("masters/bm.toml"), "{error}");
    }
    assert_eq!(old.keeps(&"absent".parse().unwrap(), &gone, directory), Ok(()));
}
