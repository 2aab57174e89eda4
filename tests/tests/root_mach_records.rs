//! Records of mach about its builds: they follow their schema, results are complete, and a second build
//! shows differences.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{
    DIST, builder_with_layers, files, made, rebuild, record, records_are_valid, source,
};
use djinni_tests::programs::{Ran, run};
use serde_json::Value;
use sha2::{Digest, Sha256};

const DESCRIPTION: &str = "%description\nx\n";

/// As [`rebuild`], with further options of mach.
fn rebuild_with(djinni: &Djinni, options: &[&str], source: &Path, out: &Path) -> Ran {
    let mut command = djinni.start_build(&["builder"]);
    command.arg("--in").arg(source).arg("--out").arg(out);
    command.args(["--", "mach", "-r", DIST]).args(options).arg("rebuild");
    run(command.arg(source.file_name().unwrap()))
}

/// The directory of the only run of this package.
fn run_of(out: &Path, package: &str) -> PathBuf {
    let mut runs = fs::read_dir(out.join(package)).unwrap().flatten();
    let (Some(only), None) = (runs.next(), runs.next()) else {
        panic!("{}: not one run", out.join(package).display());
    };
    only.path()
}

/// Whether each result in a record exists, with its digest and size.
#[track_caller]
fn results_agree_with_the_record(out: &Path, package: &str) {
    let record = record(out, package);
    let results = record["results"].as_array().unwrap();
    assert!(results.len() >= 2, "{record}");
    for result in results {
        let path = run_of(out, package).join(result["name"].as_str().unwrap());
        let bytes = fs::read(&path).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(result["sha256"], sha256, "{}", path.display());
        assert_eq!(result["size_bytes"], bytes.len() as u64, "{}", path.display());
    }
}

/// One slave, and so one build root, for all of it.
#[test]
fn root_builds_are_recorded_verified_and_collected() {
    let djinni = builder_with_layers();
    records_of_all_ends(&djinni);
    second_builds(&djinni);
    collected(&djinni);
    djinni.finish();
}

fn records_of_all_ends(djinni: &Djinni) {
    let out = |name: &str| djinni.base().join(name);
    let [built, again, defined] = ["built", "again", "defined"].map(out);
    let spec = format!("{DESCRIPTION}%install\nmkdir -p %{{buildroot}}/x\n%files\n/x\n");
    let fine = made(djinni, "fine", &spec);
    rebuild(djinni, std::slice::from_ref(&fine), &built).done();
    let first = record(&built, "fine");
    results_agree_with_the_record(&built, "fine-1-1");
    assert_eq!((&first["schema"], &first["kind"]), (&3.into(), &"rpm".into()));
    let packages = first["packages"].as_array().unwrap();
    assert!(packages.len() > 50 && packages.iter().any(|one| one["name"] == "bash"));
    let building = |phase: &&Value| phase["name"] == "rpmbuild";
    let phase = first["phases"].as_array().unwrap().iter().find(building).unwrap().clone();
    assert!(phase["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{phase}");
    // Unchanged and changed results.
    rebuild_with(djinni, &["-f", "-k", "-j", "1"], &fine, &again).done();
    assert_eq!(record(&again, "fine")["inputs"]["digest"], first["inputs"]["digest"]);
    rebuild_with(djinni, &["--define", "it is"], &fine, &defined).done();
    let other = record(&defined, "fine");
    assert_ne!(other["inputs"]["digest"], first["inputs"]["digest"]);
    assert_eq!(other["inputs"]["options"]["defines"], serde_json::json!([["it", "is"]]));
    // Failures have records of the same form.
    let [broken, unmet] = ["broken", "unmet"].map(out);
    let failing = format!("{DESCRIPTION}%build\necho x.c:1: error: no >&2\nexit 3\n%files\n");
    let failing = made(djinni, "broken", &failing);
    rebuild(djinni, &[failing], &broken).ended_with(1);
    let failed = record(&broken, "broken");
    assert_eq!(
        (&failed["exit"]["section"], &failed["exit"]["status"]),
        (&"%build".into(), &1.into())
    );
    assert!(!failed["exit"]["lines"].as_array().unwrap().is_empty(), "{failed}");
    assert!(failed["results"].as_array().unwrap().is_empty());
    let lacking = format!("BuildRequires: there-is-none\n{DESCRIPTION}%files\n");
    rebuild(djinni, &[made(djinni, "unmet", &lacking)], &unmet).ended_with(1);
    assert_eq!(record(&unmet, "unmet")["exit"]["cause"], "dependency");
    records_are_valid(&[&built, &again, &defined, &broken, &unmet]);
}

/// A static program that prints the date by each system call for it, and sleeps until a time in the near
/// future.
const DAYS: &str = r#"#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
int main(void) {
    struct timespec now, until;
    struct timeval also;
    sem_t never;
    clock_gettime(CLOCK_REALTIME, &now);
    gettimeofday(&also, 0);
    if (also.tv_sec - now.tv_sec > 1 || time(0) - now.tv_sec > 1) return 1;
    sem_init(&never, 0, 0);
    until = now;
    until.tv_sec += 1;
    if (sem_timedwait(&never, &until) != -1 || errno != ETIMEDOUT) return 2;
    if (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, 0) != 0) return 3;
    if (time(0) - now.tv_sec > 20) return 4;
    printf("%%ld\n", (long)(now.tv_sec / 86400));
    return 0;
}
"#;

/// Signals act on a traced process as on others: one that stops it, one without a name.
const SIGNALS: &str = "sh -c 'kill -STOP $$; echo >went-on' &\nsleep 0.5\ntest ! -e went-on\nkill -CONT $!\n\
                       wait $!\ntest -e went-on\nsh -c 'trap \"echo >got\" 40; kill -40 $$'\ntest -e got\n";

fn second_builds(djinni: &Djinni) {
    let [same, other] = ["same", "other"].map(|name| djinni.base().join(name));
    let ran = rebuild_with(djinni, &["--verify"], &source("diffstat"), &same).done();
    ran.complains(&["second build", "identical"]);
    let verified = record(&same, "diffstat")["verified"].clone();
    assert_eq!(verified["identical"], true, "{verified}");
    let conditions = verified["conditions"].to_string();
    let time = "a later time: 34387200 s for programs";
    for wanted in ["TZ=", "umask 002", "build directory", "host name", "user ", time] {
        assert!(conditions.contains(wanted), "{conditions}");
    }
    // A package that records its build conditions, in a file each.
    let telling = [
        ("host", "hostname"),
        ("where", "pwd"),
        ("zone", "date +%z"),
        ("user", "id -un"),
        ("time", "date +%N"),
        ("day", "date -u +%%Y%%m%%d"),
        ("month", "date -u +%%m"),
        ("static", "./days"),
    ];
    let commands: Vec<String> = telling
        .iter()
        .map(|(name, command)| format!("{command} >%{{buildroot}}/told/{name}\n"))
        .collect();
    let spec = format!(
        "{DESCRIPTION}%build\ncat >days.c <<'END'\n{DAYS}END\ngcc -static -o days days.c\ntimeout 30 ./days\n{SIGNALS}\
         %install\nmkdir -p %{{buildroot}}/told\necho always >%{{buildroot}}/told/same\n{}\
         %files\n/told\n",
        commands.concat()
    );
    let ran = rebuild_with(djinni, &["--verify"], &made(djinni, "telling", &spec), &other).done();
    ran.complains(&["not reproducible: 1 packages differ", "telling-1-1.noarch.rpm"]);
    let verified = record(&other, "telling")["verified"].clone();
    assert_eq!(verified["identical"], false);
    let places: Vec<&str> = verified["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["place"].as_str().unwrap())
        .collect();
    for (name, _) in telling {
        assert!(places.contains(&format!("/told/{name}").as_str()), "{name}: {places:?}");
    }
    assert!(places.contains(&"FILEDIGESTS") && !places.contains(&"/told/same"), "{places:?}");
    // A second build that fails is a difference, and the first one's packages are kept.
    let spec = format!("{DESCRIPTION}%build\n[ \"$(hostname)\" = mach ]\n%files\n");
    let once = djinni.base().join("once");
    let ran = rebuild_with(djinni, &["--verify"], &made(djinni, "once", &spec), &once).done();
    ran.complains(&["the second build failed"]);
    assert_eq!(record(&once, "once")["verified"]["identical"], false);
    assert!(run_of(&once, "once-1-1").join("build-second.log").is_file());
    results_agree_with_the_record(&once, "once-1-1");
    records_are_valid(&[&same, &other, &once]);
}

/// Results are copied to a second directory too, and replace nothing there.
fn collected(djinni: &Djinni) {
    let spec = format!("{DESCRIPTION}%install\nmkdir -p %{{buildroot}}/x\n%files\n/x\n");
    let small = made(djinni, "small", &spec);
    let out = djinni.base().join("out");
    rebuild_with(djinni, &["-c=/build/mine"], &small, &out).done();
    let mine = djinni.srv().join("areas/builder/mine");
    let names = files(&mine);
    for wanted in ["small-1-1.noarch.rpm", "-build.log", "-record.json"] {
        assert!(names.iter().any(|name| name.ends_with(wanted)), "{wanted}: {names:?}");
    }
    // Once more: the same package, other logs. Then another package under the same name.
    let again = |out: &str| {
        rebuild_with(djinni, &["-f", "-c=/build/mine"], &small, &djinni.base().join(out))
    };
    again("out2").done();
    let rpm = mine.join("small-1-1.noarch.rpm");
    fs::remove_file(&rpm).unwrap();
    fs::write(&rpm, "mine").unwrap();
    again("out3").ended_with(2).complains(&["is there already", "another directory"]);
    assert_eq!(fs::read_to_string(&rpm).unwrap(), "mine");
}
