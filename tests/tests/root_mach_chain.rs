//! Chains in a slave: order, parallel builds, failures, rebuilds, kills.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{DIST, builder_with_layers, files, made, source};
use djinni_tests::programs::{Ran, run};
use serde_json::Value;

/// A source that requires others by their pkg-config names and looks for their files; `build` is its
/// %build. It builds NAME and NAME-devel.
fn small(djinni: &Djinni, name: &str, requires: &[&str], build: &str) -> PathBuf {
    let requires: String =
        requires.iter().map(|name| format!("BuildRequires: pkgconfig({name}) = 1\n")).collect();
    let checks = requires.replace("BuildRequires: pkgconfig(", "test -e /usr/lib/pkgconfig/");
    let checks = checks.replace(") = 1", ".pc");
    let spec = format!(
        "{requires}%description\nx\n%package devel\nSummary: D\n\
         Provides: pkgconfig({name}) = 1\n%description devel\nx\n\
         %build\n{checks}{build}\n\
         %install\nmkdir -p %{{buildroot}}/usr/lib/pkgconfig %{{buildroot}}/usr/share/{name}\n\
         echo {name} > %{{buildroot}}/usr/share/{name}/file\n\
         printf 'Name: {name}\\nDescription: x\\nVersion: 1\\n' > \
         %{{buildroot}}/usr/lib/pkgconfig/{name}.pc\n\
         %files\n/usr/share/{name}\n%files devel\n/usr/lib/pkgconfig/{name}.pc\n\
         %changelog\n* Fri Nov 20 2026 A B <a@example.org> 1-1\n- x\n"
    );
    made(djinni, name, &spec)
}

/// Eight sources, shuffled: a diamond (base; left, right; top), a tail of two, and two by themselves.
fn eight(djinni: &Djinni, right: &str) -> Vec<PathBuf> {
    let nap = "sleep 1";
    // Long enough to overlap, although one begins later than the other on a busy machine.
    let long = "sleep 3";
    vec![
        small(djinni, "end", &["tail"], nap),
        small(djinni, "top", &["left", "right"], nap),
        small(djinni, "alone", &[], long),
        small(djinni, "right", &["base"], right),
        small(djinni, "tail", &["top"], nap),
        small(djinni, "base", &[], long),
        small(djinni, "other", &[], nap),
        small(djinni, "left", &["base"], nap),
    ]
}

fn chaining(djinni: &Djinni, sources: &[PathBuf], out: &Path, words: &[&str]) -> Command {
    let mut command = djinni.start_build(&["builder"]);
    for source in sources {
        command.arg("--in").arg(source);
    }
    command.arg("--out").arg(out).args(["--", "mach", "-r", DIST, "--json"]).args(words);
    command.arg("chain").args(sources.iter().map(|source| source.file_name().unwrap()));
    command
}

fn events(ran: &Ran) -> Vec<Value> {
    let text = ran.text();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["schema"]), (&"start".into(), &1.into()));
    events
}

/// Positions of states in the list of events: `base building` → 3.
fn course(events: &[Value]) -> BTreeMap<String, usize> {
    let states = events.iter().enumerate().filter(|(_, event)| event["event"] == "source");
    let named = states.map(|(place, event)| {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        (format!("{} {}", text("source").replace("-1-1", ""), text("state")), place)
    });
    named.collect()
}

/// The sources that ended in this state.
fn ended<'a>(course: &'a BTreeMap<String, usize>, state: &str) -> Vec<&'a str> {
    course.keys().filter_map(|key| key.strip_suffix(&format!(" {state}"))).collect()
}

#[test]
fn root_eight_sources_are_ordered_and_only_failed_ones_are_built_again() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    // "right" fails in the middle of them.
    let fails = "sleep 1\necho about to go wrong\nfalse";
    let sources = eight(&djinni, fails);
    let ran = run(&mut chaining(&djinni, &sources, &out, &["--jobs", "2", "--continue"]));
    let ran = ran.ended_with(1);
    let first = course(&events(&ran));
    assert_eq!(ended(&first, "built"), ["alone", "base", "left", "other"], "{first:#?}");
    assert_eq!(ended(&first, "failed"), ["right"], "{first:#?}");
    assert_eq!(ended(&first, "skipped"), ["end", "tail", "top"], "{first:#?}");
    assert!(first["base built"] < first["left building"], "{first:#?}");
    // Two at a time: the second has begun before the first has ended.
    assert!(first["alone building"] < first["base built"], "{first:#?}");
    assert!(first["base building"] < first["alone built"], "{first:#?}");
    // Fixed, in another order: unchanged packages are reused.
    let mended = small(&djinni, "right", &["base"], "sleep 1");
    let mut sources: Vec<PathBuf> = sources.into_iter().rev().collect();
    assert!(sources.contains(&mended));
    let ran = run(&mut chaining(&djinni, &sources, &out, &[])).done();
    let second = course(&events(&ran));
    assert_eq!(ended(&second, "built"), ["end", "right", "tail", "top"], "{second:#?}");
    assert_eq!(ended(&second, "reused"), ["alone", "base", "left", "other"], "{second:#?}");
    for [earlier, later] in [["right", "top"], ["top", "tail"], ["tail", "end"]] {
        let [built, begun] = [format!("{earlier} built"), format!("{later} building")];
        assert!(second[&built] < second[&begun], "{second:#?}");
    }
    // Nothing has changed at all, then one in the middle has.
    let third = course(&events(&run(&mut chaining(&djinni, &sources, &out, &[])).done()));
    assert_eq!(ended(&third, "reused").len(), 8, "{third:#?}");
    sources.retain(|source| !source.ends_with("alone-1-1.src.rpm"));
    small(&djinni, "top", &["left", "right"], "echo changed");
    let fourth = course(&events(&run(&mut chaining(&djinni, &sources, &out, &[])).done()));
    assert!(ended(&fourth, "built").contains(&"top"), "{fourth:#?}");
    assert!(ended(&fourth, "reused").contains(&"left"), "{fourth:#?}");
    djinni.finish();
}

#[test]
fn root_a_failure_ends_a_chain_and_circles_are_named() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    let sources = [
        small(&djinni, "after", &["broken"], ""),
        small(&djinni, "broken", &[], "echo 'main.c:1:1: error: wrong'\nfalse"),
        small(&djinni, "unbegun", &[], ""),
    ];
    let ran = run(&mut chaining(&djinni, &sources, &out, &["--jobs", "1"])).ended_with(1);
    let all = events(&ran);
    let course = course(&all);
    assert_eq!(ended(&course, "failed"), ["broken"], "{course:#?}");
    assert_eq!(ended(&course, "skipped"), ["after", "unbegun"], "{course:#?}");
    let failures: Vec<&Value> = all.iter().filter(|event| event["event"] == "failure").collect();
    let [one, whole] = failures[..] else { panic!("{failures:#?}") };
    assert_eq!((&one["source"], &one["cause"]), (&"broken-1-1".into(), &"compile".into()));
    assert!(one["details"].to_string().contains("main.c:1:1: error: wrong"), "{one}");
    assert!(whole["what"].to_string().contains("1 of 3 sources failed"), "{whole}");
    // A cycle is named with the requirement at each of its edges; nothing is built.
    let circle = [
        small(&djinni, "one", &["two"], ""),
        small(&djinni, "two", &["three"], ""),
        small(&djinni, "three", &["one"], ""),
    ];
    let ran = run(&mut chaining(&djinni, &circle, &out, &[])).ended_with(1);
    let all = events(&ran);
    let what = all.last().unwrap()["what"].as_str().unwrap();
    for edge in ["one-1-1 needs pkgconfig(two) = 1 of two-1-1", "two-1-1 needs pkgconfig(three)"] {
        assert!(what.contains(edge), "{what}");
    }
    assert!(!all.iter().any(|event| event["event"] == "source"), "{all:#?}");
    specs_count_as_the_dist_expands_them(&djinni, &out);
    djinni.finish();
}

/// A source of one package; `head` goes into its preamble, `build` is its %build.
fn plain(djinni: &Djinni, name: &str, head: &str, build: &str) -> PathBuf {
    let text = format!(
        "{head}%description\nx\n%build\n{build}\n%install\nmkdir -p %{{buildroot}}/usr/share/{name}\n\
         %files\n/usr/share/{name}\n"
    );
    made(djinni, name, &text)
}

/// Sources that would fail if only their header, or only their spec, were used.
fn misleading(djinni: &Djinni) -> [PathBuf; 13] {
    let in_world = |text: &str| format!("%if \"%{{?dist}}\" == \".world\"\n{text}\n%endif\n");
    let unless_early = |name: &str| {
        format!("%bcond_with early\n%if %{{without early}}\nBuildRequires: {name}\n%endif\n")
    };
    let macros = "%description\nx\n%install\nmkdir -p %{buildroot}/usr/lib/rpm/macros.d\n\
                  (echo '%%house_tools BuildRequires: m4'; echo '%%house_url URL: https://example.org/'; \
                  echo '%%house_lexer BuildRequires: flex') > \
                  %{buildroot}/usr/lib/rpm/macros.d/macros.house\n%files\n/usr/lib/rpm/macros.d/macros.house\n";
    let house = "BuildRequires: house-macros\n";
    [
        // Required only here, and the dist has a package of that name.
        plain(djinni, "lexed", &in_world("BuildRequires: flex"), "rpm -q flex"),
        plain(djinni, "flex", "", ""),
        // A cycle, but not under these options; a conditional requirement that does not apply.
        plain(djinni, "hen", &unless_early("egg"), ""),
        plain(djinni, "egg", &unless_early("hen"), ""),
        plain(djinni, "perhaps", "BuildRequires: (gettext if surely)\n", ""),
        plain(djinni, "surely", "BuildRequires: perhaps\n", ""),
        // Macros of a required package add a requirement, and a tag without which the spec cannot be
        // parsed.
        made(djinni, "house-macros", macros),
        plain(djinni, "housed", &format!("{house}%{{?house_tools}}\n"), "m4 --version"),
        plain(djinni, "lexing", &format!("{house}%{{?house_lexer}}\n"), "rpm -q flex"),
        plain(djinni, "titled", &format!("{house}{}", in_world("%{house_url}")), ""),
        // For other architectures; a requirement that no index contains.
        plain(djinni, "elsewhere", "ExclusiveArch: s390x\n", ""),
        plain(djinni, "wants-it", "BuildRequires: elsewhere\n", ""),
        made(
            djinni,
            "bell",
            &format!(
                "%description\nx\n{}%files\n%changelog\n* Fri Nov 20 2026 A B <a@example.org> 1-1\n- \x07\n",
                "%install\n".to_owned() + &"# filler, so that rpm takes it for a spec\n".repeat(40)
            ),
        ),
    ]
}

/// One chain of them.
fn specs_count_as_the_dist_expands_them(djinni: &Djinni, out: &Path) {
    let sources = misleading(djinni);
    let words = ["--continue", "--with", "early"];
    let all = events(&run(&mut chaining(djinni, &sources, out, &words)).ended_with(1));
    let course = course(&all);
    assert_eq!(ended(&course, "failed"), ["bell"], "{all:#?}");
    assert_eq!(ended(&course, "skipped"), ["elsewhere", "wants-it"], "{all:#?}");
    assert_eq!(ended(&course, "built").len(), 10, "{all:#?}");
    // A provide that only a macro reveals comes from another source too: not taken from the dist, retried.
    assert_eq!(ended(&course, "deferred"), ["lexing"], "{all:#?}");
    let note = |source: &str| {
        let is_last = |event: &&Value| event["source"] == source && event["event"] == "source";
        all.iter().rfind(is_last).unwrap()["note"].as_str().unwrap().to_owned()
    };
    assert_eq!(note("elsewhere-1-1"), "not for x86_64: ExclusiveArch: s390x");
    assert!(note("wants-it-1-1").starts_with("needs elsewhere-1-1, which is not for"), "{all:#?}");
    let failure =
        all.iter().find(|event| event["source"] == "bell-1-1" && event["event"] == "failure");
    assert!(
        failure.unwrap()["what"].to_string().contains("%changelog has the control character 0x07")
    );
    let log = |name: &str| {
        let is_log = |file: &&String| file.starts_with(name) && file.ends_with("/build.log");
        std::fs::read_to_string(out.join(files(out).iter().rfind(is_log).unwrap())).unwrap()
    };
    for name in ["lexed", "lexing"] {
        assert!(log(name).contains("\nflex-1-1.noarch\n"), "{}", log(name));
    }
    let record = |name: &str| djinni_tests::mach::record(out, name);
    assert_eq!(
        record("housed")["inputs"]["requirements"],
        serde_json::json!(["house-macros", "m4"])
    );
    assert_eq!(record("titled")["inputs"]["requirements"], serde_json::json!(["house-macros"]));
    assert_eq!(record("elsewhere")["exit"]["cause"], "architecture");
    // Nothing failed and nothing was missing: success. A second call builds nothing.
    let [lexed, flex, .., elsewhere, _, _] = &sources;
    let few = [lexed, flex, elsewhere].map(PathBuf::clone);
    let course = self::course(&events(&run(&mut chaining(djinni, &few, out, &words)).done()));
    assert_eq!(ended(&course, "reused"), ["flex", "lexed"], "{course:#?}");
    assert_eq!(ended(&course, "skipped"), ["elsewhere"], "{course:#?}");
}

#[test]
fn root_a_chain_that_was_killed_goes_on_where_it_was() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    let sources = eight(&djinni, "sleep 1");
    let area = djinni.srv().join("areas/builder");
    // After two have been built, kill every process of the slave.
    let mut command = chaining(&djinni, &sources, &out, &["--jobs", "2"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    let built = || {
        let results = area.join("results");
        let files = if results.is_dir() { files(&results) } else { Vec::new() };
        files.iter().filter(|file| file.ends_with("/record.json")).count()
    };
    while built() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing is built");
        assert!(child.try_wait().unwrap().is_none(), "the chain has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    djinni.becomes("builder", "free");
    let ran = run(&mut chaining(&djinni, &sources, &out, &[])).done();
    let course = course(&events(&ran));
    let (built, reused) = (ended(&course, "built"), ended(&course, "reused"));
    assert_eq!(built.len() + reused.len(), 8, "{course:#?}");
    assert!(reused.len() >= 2, "{course:#?}");
    let status = djinni.in_slave("builder", &["mach", "--json", "status"]).done().text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["runs"].as_array().unwrap().len(), 0, "{status}");
    djinni.finish();
}

#[test]
fn root_real_sources_are_ordered_by_their_requirements() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    // In the wrong order. More of them are built by `root_every_sample_is_built_twice_alike`.
    let sources = ["cproto", "byacc"].map(source);
    let ran = run(&mut chaining(&djinni, &sources, &out, &[])).done();
    let events = events(&ran);
    let place = |name: &str, state: &str| {
        events.iter().position(|event| {
            event["state"] == state
                && event["source"].as_str().is_some_and(|source| source.starts_with(name))
        })
    };
    let (built, begun) = (place("byacc", "built").unwrap(), place("cproto", "building").unwrap());
    assert!(built < begun);
    djinni.finish();
}
