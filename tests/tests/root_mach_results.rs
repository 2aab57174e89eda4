//! Results of RPM builds: all packages, the unchanged sources, or a failure that names the file.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{DIST, builder_with_layers, files, made};
use djinni_tests::programs::{Ran, run};

/// Runs `script` in the slave, with files; results are written to `out`.
fn shell(djinni: &Djinni, inputs: &[&Path], script: &str, out: &Path) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    for input in inputs {
        command.arg("--in").arg(input);
    }
    run(command.arg("--out").arg(out).args(["--", "sh", "-c", script]))
}

/// Names of the result files, without directories.
fn names(out: &Path) -> Vec<String> {
    let name = |path: String| path.rsplit('/').next().unwrap().to_owned();
    files(out).into_iter().map(name).collect()
}

/// A source of a spec that is made next.
fn source(djinni: &Djinni, name: &str, text: &str) -> PathBuf {
    let directory = djinni.base().join("made/SOURCES");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), text).unwrap();
    directory.join(name)
}

#[test]
fn root_everything_that_a_build_made_comes_out_and_sources_as_they_went_in() {
    let djinni = builder_with_layers();
    let out = djinni.base().join("out");
    let install = |name: &str| {
        format!(
            "%install\nmkdir -p %{{buildroot}}/opt/{name}/ro\ntouch %{{buildroot}}/opt/{name}/ro/f\n"
        )
    };
    // A package whose file name has the maximum length, beside a short one.
    let long = "l".repeat(255 - "-1-1.noarch.rpm".len());
    let spec = format!(
        "%description\nx\n%package -n {long}\nSummary: x\n%description -n {long}\nx\n{}%files\n\
         %files -n {long}\n/opt/long\n",
        install("long")
    );
    let many = made(&djinni, "many", &spec);
    // Names that put packages beside each other, as configurations of other builders do.
    let flat = format!(
        "%global _build_name_fmt %%{{NAME}}-%%{{VERSION}}-%%{{RELEASE}}.%%{{ARCH}}.rpm\n\
         %description\nx\n{}%files\n/opt/flat\n",
        install("flat")
    );
    let flat = made(&djinni, "flat", &flat);
    // A tree that cannot be removed, and sources that %prep moves away and edits.
    source(&djinni, "moved.txt", "moved\n");
    source(&djinni, "edited.txt", "as given\n");
    let moving = format!(
        "Source0: moved.txt\nSource1: edited.txt\n%description\nx\n%prep\n%setup -q -c -T\n\
         mv %{{SOURCE0}} .\necho edited >%{{SOURCE1}}\n{}chmod 555 %{{buildroot}}/opt/moving/ro\n\
         %files\n/opt/moving\n",
        install("moving")
    );
    let moving = made(&djinni, "moving", &moving);
    let bare = made(&djinni, "bare", "%description\nx\n%build\ntrue\n");
    let script = format!(
        "set -e\nfor name in many flat moving bare; do mach -r {DIST} rebuild $name-1-1.src.rpm; done"
    );
    let ran = shell(&djinni, &[&many, &flat, &moving, &bare], &script, &out).done();
    ran.complains(&["the source package alone: its spec has no %files"]);
    let names = names(&out);
    let long = format!("{long}-1-1.noarch.rpm");
    assert_eq!(long.len(), 255);
    let binaries = ["many-1-1.noarch.rpm", &long, "flat-1-1.noarch.rpm", "moving-1-1.noarch.rpm"];
    let sources = ["many", "flat", "moving", "bare"].map(|name| format!("{name}-1-1.src.rpm"));
    for wanted in binaries.into_iter().chain(sources.iter().map(String::as_str)) {
        assert!(names.contains(&wanted.to_owned()), "{wanted}: {names:#?}");
    }
    let package =
        files(&out).into_iter().find(|path| path.ends_with("moving-1-1.src.rpm")).unwrap();
    let mut unpack = Command::new("sh");
    let script = "rpm2archive -n - <\"$1\" | tar -xO --wildcards '*edited.txt'";
    let unpack = unpack.args(["-c", script, "sh"]).arg(out.join(package));
    assert_eq!(run(unpack).done().text(), "as given\n");
    packages_elsewhere(&djinni);
    sources_that_are_kept_out(&djinni);
    djinni.finish();
}

/// A file that rpmbuild wrote outside the collected directories is a failure that names it and the log.
fn packages_elsewhere(djinni: &Djinni) {
    let out = djinni.base().join("elsewhere");
    let spec = "%global _rpmdir /tmp/elsewhere\n%description\nx\n%files\n";
    let away = made(djinni, "away", spec);
    let script = format!("mach -r {DIST} rebuild away-1-1.src.rpm");
    let ran = shell(djinni, &[&away], &script, &out).ended_with(1);
    let wanted = "rpmbuild wrote /tmp/elsewhere/noarch/away-1-1.noarch.rpm, which is not among";
    ran.complains(&[wanted, "build.log"]);
    assert!(!names(&out).iter().any(|name| name.ends_with(".rpm")), "{:?}", names(&out));
}

/// A spec with such sources beside it can be built, and so can its package; a missing source is named.
fn sources_that_are_kept_out(djinni: &Djinni) {
    let out = djinni.base().join("kept-out");
    let secret = source(djinni, "secret.bin", "not for everybody\n");
    let free = source(djinni, "free.txt", "free\n");
    let spec = "Name: partly\nVersion: 1\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n\
                Source0: free.txt\nSource1: secret.bin\nNoSource: 1\n%description\nx\n%install\n\
                mkdir -p %{buildroot}/opt\ncp %{SOURCE0} %{SOURCE1} %{buildroot}/opt\n%files\n/opt/*\n";
    let file = djinni.base().join("partly.spec");
    fs::write(&file, spec).unwrap();
    let script = format!(
        "mach -r {DIST} build partly.spec && mkdir alone && \
         cp $(find /build/results -name 'partly-*.nosrc.rpm') alone && cd alone && \
         ! mach -r {DIST} rebuild partly-1-1.nosrc.rpm && cp ../secret.bin . && \
         mach -r {DIST} rebuild partly-1-1.nosrc.rpm"
    );
    let ran = shell(djinni, &[&file, &free, &secret], &script, &out).done();
    ran.complains(&["keeps sources out (NoSource)", "secret.bin: "]);
    let names = names(&out);
    for (name, count) in
        [("partly-1-1.noarch.rpm", 2), ("partly-1-1.nosrc.rpm", 2), ("record.json", 2)]
    {
        assert_eq!(names.iter().filter(|one| *one == name).count(), count, "{name}: {names:#?}");
    }
}
