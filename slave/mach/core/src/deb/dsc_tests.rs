use super::*;

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn body() -> String {
    format!(
        "Format: 3.0 (quilt)\nSource: hello\nBinary: hello, hello-doc\nArchitecture: any all\n\
         Version: 1:2.10-3+deb12u1\nBuild-Depends: debhelper-compat (= 13)\n\
         Build-Depends-Indep: doxygen <!nodoc>\nBuild-Conflicts: bad\nPackage-List:\n hello deb x y arch=any\n\
         Checksums-Sha256:\n {SUM} 0 hello_2.10.orig.tar.gz\n {SUM} 0 hello_2.10-3+deb12u1.debian.tar.xz\n"
    )
}

fn signed(body: &str) -> String {
    format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{body}\n\
         -----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----\n"
    )
}

fn parsed(text: &str) -> Result<Dsc, String> {
    parse(text.as_bytes(), Path::new("/x/hello.dsc"))
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let error = parsed(text).unwrap_err();
    assert!(error.contains(why), "{error}\n{text}");
}

#[test]
fn a_dsc_is_read_signed_or_not() {
    for (text, is_signed) in [(body(), false), (signed(&body()), true)] {
        let dsc = parsed(&text).unwrap();
        assert_eq!((dsc.name.as_str(), dsc.version.as_str()), ("hello", "1:2.10-3+deb12u1"));
        assert_eq!((dsc.is_signed, dsc.files.len()), (is_signed, 2));
        assert_eq!(dsc.file_name(), "hello_2.10-3+deb12u1.dsc");
        assert_eq!((dsc.architectures, dsc.binaries.len()), (vec!["any".into(), "all".into()], 2));
    }
    let conditions =
        RelationConditions { architecture: "amd64".to_owned(), ..RelationConditions::default() };
    let dsc = parsed(&body()).unwrap();
    assert_eq!(dsc.depends(&conditions).unwrap().to_string(), "debhelper-compat (= 13), doxygen");
    assert_eq!(dsc.conflicts(&conditions).unwrap().to_string(), "bad");
}

fn amd64(parts: Parts) -> RelationConditions {
    RelationConditions { architecture: "amd64".to_owned(), profiles: Vec::new(), parts }
}

#[test]
fn a_part_of_a_source_needs_what_its_fields_say() {
    let fields = "Build-Depends: always\nBuild-Depends-Arch: cc\nBuild-Depends-Indep: tex\n\
                  Build-Conflicts: bad\nBuild-Conflicts-Arch: old\nBuild-Conflicts-Indep: odd\n";
    let kept = body();
    let kept = kept.lines().filter(|line| !line.starts_with("Build-"));
    let text = format!("{fields}{}\n", kept.collect::<Vec<_>>().join("\n"));
    let dsc = parsed(&text).unwrap();
    for (parts, depends, conflicts) in [
        (Parts::All, "always, cc, tex", "bad, odd, old"),
        (Parts::Arch, "always, cc", "bad, old"),
        (Parts::Indep, "always, tex", "bad, odd"),
    ] {
        assert_eq!(dsc.depends(&amd64(parts)).unwrap().to_string(), depends);
        assert_eq!(dsc.conflicts(&amd64(parts)).unwrap().to_string(), conflicts);
    }
}

#[test]
fn a_part_that_a_source_does_not_have_is_refused() {
    let of = |architectures: &str, parts| {
        let text = body().replace("any all", architectures);
        parsed(&text).unwrap().refusal(&amd64(parts)).map(|failure| failure.what)
    };
    assert!(of("any", Parts::Indep).unwrap().contains("no architecture-independent package"));
    assert!(of("all", Parts::Arch).unwrap().contains("no package for amd64 alone"));
    assert!(of("arm64 all", Parts::Arch).is_some());
    for parts in [Parts::All, Parts::Arch, Parts::Indep] {
        assert_eq!(of("any all", parts), None, "{parts:?}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../hello_x",
        "/etc/passwd",
        "hello_../x",
        ".hello_x",
        "other_1.tar.gz",
        "hello_1 .x",
        "hello_x.dsc",
    ] {
        let text = body().replace("hello_2.10.orig.tar.gz", name);
        assert!(parsed(&text).is_err(), "{name}");
    }
    refused(&body().replace("Source: hello", "Source: ../hello"), "which no source may have");
    refused(&body().replace("1:2.10-3", "1:2.10/3"), "which no source may have");
    refused(&body().replace("1:2.10-3", "-2"), "which no source may have");
    refused(&body().replace(".debian.tar.xz", ".tar.xz\n DDD 1 hello_x"), "has the line");
}

#[test]
fn what_readers_would_understand_differently_is_refused() {
    refused(&format!("{}\nSource: other\n", body()), "not one paragraph");
    refused(&format!("{}source: other\n", body()), "twice");
    refused(&format!("Source: other\n\n{}", signed(&body())), "before its signed message");
    refused(&format!("{}\nSource: other\n", signed(&body())), "does not end as one must");
    let cut = signed(&body());
    refused(cut.split("-----END").next().unwrap(), "does not end as one must");
    refused(&signed(&body()).replace("Hash:", "Comment:"), "odd header");
    refused(
        &body().replace("_2.10.orig.tar.gz", "_2.10-3+deb12u1.debian.tar.xz"),
        "which no source",
    );
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    for field in ["Format", "Source", "Version", "Architecture", "Checksums-Sha256"] {
        refused(&body().replace(&format!("{field}:"), "X-Other:"), field);
    }
    refused(&body().replace("3.0 (quilt)", "3.0 (git)"), "does not know");
    refused("", "not one paragraph");
    assert!(parsed("\u{0}\u{1}: :\n:\n").is_err());
    assert!(parse(&[0xff, 0xfe], Path::new("x")).is_err());
}

proptest::proptest! {
    // A source is untrusted: reading any content ends with a verdict.
    #[test]
    fn nothing_makes_the_reader_fail(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        let _ = parse(&bytes, Path::new("x"));
    }

    #[test]
    fn damaged_text_gives_plain_names_or_none(at in 0usize..400, with in "[ -~\n]{0,6}") {
        let mut text = body();
        let at = at.min(text.len());
        text.insert_str(at, &with);
        if let Ok(dsc) = parsed(&text) {
            proptest::prop_assert!(is_package_name(&dsc.name) && is_version(&dsc.version));
            proptest::prop_assert!(dsc.files.iter().all(|file| !file.name.contains('/')));
        }
    }
}

#[test]
fn a_source_without_a_package_for_the_machine_says_so() {
    let of = |architectures: &str| {
        let text = body().replace("any all", architectures);
        parsed(&text).unwrap().refusal(&amd64(Parts::All)).map(|failure| failure.what)
    };
    for fitting in ["any", "all", "arm64 all", "linux-any", "any-amd64", "i386 amd64"] {
        assert_eq!(of(fitting), None, "{fitting}");
    }
    let what = of("arm64 riscv64").unwrap();
    assert_eq!(what, "hello-2.10-3+deb12u1 is not for amd64: Architecture: arm64 riscv64");
    assert!(of("hurd-any").is_some() && of("any-i386").is_some() && of("kfreebsd-amd64").is_some());
}
