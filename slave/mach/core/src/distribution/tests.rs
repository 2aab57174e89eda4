use super::*;

fn text_of(name: &str) -> String {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).unwrap();
    (*text).to_owned()
}

#[track_caller]
fn refusal_of(name: &str, change: impl Fn(String) -> String) -> String {
    let changed = change(text_of(name));
    assert_ne!(changed, text_of(name), "nothing was changed");
    let failure = parse(&changed, "x.toml").unwrap_err();
    assert_eq!(failure.cause, Cause::Usage);
    failure.what
}

#[track_caller]
fn refusal(change: impl Fn(String) -> String) -> String {
    refusal_of("debian-12-rpm", change)
}

#[test]
fn every_built_in_dist_is_whole() {
    for (name, text) in BUILT_IN {
        assert_eq!(parse(text, name).unwrap().name, *name);
    }
}

#[test]
fn what_is_not_said_has_a_default() {
    let dist = sample();
    assert_eq!(dist.manager, Manager::Dnf);
    assert!(dist.builder.readonly_root && !dist.builder.network && dist.builder.nested_proc);
    let text = text_of("debian-12-rpm").replace("nested_proc = true", "nested_proc = false");
    assert!(!parse(&text, "x").unwrap().builder.nested_proc);
    assert_eq!(dist.personality, None);
    assert_eq!(dist.repositories[0].priority, 99);
    let debian = built_in("debian-12").unwrap().unwrap();
    assert_eq!((debian.manager, debian.rpm.as_str()), (Manager::Apt, ""));
    assert!(debian.repositories.iter().all(|each| each.check_metadata && each.suite.is_some()));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let what = refusal(|text| format!("flavour = 1\n{text}"));
    assert!(what.starts_with("x.toml, line 1: unknown field `flavour`"), "{what}");
}

#[test]
fn addresses_are_directories_or_urls() {
    let with = |url: &str| {
        let url = url.to_owned();
        move |text: String| text.replace("file:///mnt/shares/world/repo", &url)
    };
    for good in ["https://example.org/a/b", "http://127.0.0.1:8000/x", "file:///srv/x"] {
        assert!(parse(&with(good)(text_of("debian-12-rpm")), "x").is_ok(), "{good}");
    }
    for bad in ["ftp://x/y", "file:///../mnt", "https://", "https://a/b?c", "https://u@h/x", "x"] {
        assert!(refusal(with(bad)).contains("url"), "{bad}");
    }
    assert!(refusal(with("https://h/a//b")).contains("a part of its path is empty"));
    assert!(refusal(with("https://h/a?b")).contains("a query"));
}

#[test]
fn a_slash_at_the_end_of_an_address_says_nothing() {
    for (given, is) in [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://example.org/updates/x86_64/", "https://example.org/updates/x86_64"),
        ("file:///mnt/shares/world/repo/", "/mnt/shares/world/repo"),
    ] {
        let text = text_of("debian-12-rpm").replace("file:///mnt/shares/world/repo", given);
        assert_eq!(parse(&text, "x").unwrap().repositories[0].address.to_string(), is);
    }
}

#[test]
fn shared_packages_are_of_apt_only() {
    let debian = built_in("debian-12").unwrap().unwrap();
    assert_eq!(debian.sets.shared, ["debhelper"]);
    // Required or not, it is not in a root that does not ask for it.
    assert!(!debian.packages().contains(&"debhelper".to_owned()));
    let what = refusal(|text| text.replace("[sets]\n", "[sets]\nshared = [\"gcc\"]\n"));
    assert!(what.contains("sets.shared is for apt"), "{what}");
}

#[test]
fn signatures_want_keys() {
    let what = refusal(|text| text.replace("[\"/mnt/shares/world/key.asc\"]", "[]"));
    assert!(what.contains("names no key"), "{what}");
    let what = refusal_of("debian-12", |text| {
        text.replace("/usr/share/keyrings/debian-archive-keyring.gpg", "relative.gpg")
    });
    assert!(what.contains("relative.gpg"), "{what}");
}

#[test]
fn what_belongs_to_another_kind_of_package_is_refused() {
    let what = refusal_of("debian-12", |text| text.replace("suite = \"bookworm\"\n", ""));
    assert!(what.contains("suite is missing"), "{what}");
    let what = refusal_of("debian-12", |text| format!("{text}\n[macros.build]\ndist = \".x\"\n"));
    assert!(what.contains("rpm's"), "{what}");
    let what = refusal(|text| text.replace("rpm = \"4.18.0\"\n", ""));
    assert!(what.contains("rpm is missing"), "{what}");
    let what = refusal(|text| text.replace("\"dnf\"\n", "\"zypper\"\n"));
    assert!(what.contains("\"dnf5\""), "{what}");
}

#[test]
fn values_that_would_steer_a_program_are_refused() {
    assert!(refusal(|text| text.replace("\"bash\"", "\"--nogpgcheck\"")).contains("sets"));
    assert!(refusal(|text| text.replace("uid = 1000", "uid = 0")).contains("uid"));
    assert!(refusal(|text| text.replace("\"/builddir\"", "\"/a/../b\"")).contains("home"));
    assert!(refusal(|text| text.replace("\"3h\"", "\"soon\"")).contains("time_limit"));
    for size in ["a lot", "1K"] {
        let with = format!("log_limit = \"{size}\"");
        let said = refusal(|text| text.replace("log_limit = \"512M\"", &with));
        assert!(said.contains("build.log_limit"), "{said}");
    }
    let hosts = "[hosts]\n\"nowhere\" = [\"x\"]\n";
    assert!(refusal(|text| text.replace("[hosts]\n", hosts)).contains("not an address"));
    let variable = "[environment]\n\"A B\" = \"x\"\n";
    assert!(refusal(|text| text.replace("[environment]\n", variable)).contains("environment"));
    assert!(refusal(|text| text.replace("on_success = []", "on_success = [[]]")).contains("hook"));
}
