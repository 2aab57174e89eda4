//! `kill -9` of mach and its children in a slave, at random moments.
//!
//! After each kill nothing of the build may be left in the slave: no process, no mount, no lock. Named
//! results and layers must be complete. Every fifth round a build runs without a kill; its results must be
//! the same as ever, to the byte. In the end all layers are built again without kills, and must be the
//! same, file for file.
//!
//! `DJINNI_KILLS` sets the number of kills (30 by default), `DJINNI_SEED` repeats a run whose seed was
//! printed: `DJINNI_KILLS=200 cargo test --release -p djinni-tests --test root -- --nocapture
//! root_mach_kills::`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use djinni_tests::baseline::{PATIENCE, children, eventually};
use djinni_tests::djinni::Djinni;
use djinni_tests::mach::{DIST, builder, files, made};
use djinni_tests::programs::Ran;
use serde_json::Value;
use sha2::{Digest, Sha256};
use slave_sys::kill;

const SIGKILL: i32 = 9;
const SLAVE: &str = "builder";
/// One of this number of rounds has no kill.
const ALONE: usize = 5;
/// Time limit for a build to end after one of its processes was killed.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// Runs `mach "$@"`, and reports leftovers. mach itself may end a moment before its children.
const AROUND: &str = r#"
here() {
    set -- /proc/[0-9]*
    processes=$# mounts=0
    while read -r _; do mounts=$((mounts + 1)); done </proc/self/mountinfo
}
here
before_processes=$processes before_mounts=$mounts tries=0
mach "$@"
status=$?
here
while [ "$processes $mounts" != "$before_processes $before_mounts" ] && [ $tries -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
    here
done
echo "left of it: $((processes - before_processes)) processes, $((mounts - before_mounts)) mounts"
exit $status
"#;

/// Sources that differ in their requirements. Each starts a process that tries to outlive the build.
fn sources(djinni: &Djinni) -> Vec<Vec<PathBuf>> {
    let body = "%description\nx\n%prep\nmkdir -p work\nfor i in $(seq 100); do echo $i >work/$i; done\n\
                %build\nsetsid sleep 300 >/dev/null 2>&1 </dev/null &\n\
                for i in 1 2 3 4 5 6; do sleep 0.1; cat work/[0-9]* >work/all; done\n\
                %install\nmkdir -p %{buildroot}/usr/share\ncp work/100 %{buildroot}/usr/share/%{name}\n\
                %files\n/usr/share/%{name}\n\
                %changelog\n* Mon Jan 01 2024 A <a@example.org> 1-1\n- x\n";
    let requiring = |name: &str, requirements: &str| {
        let rest = if requirements.is_empty() {
            String::new()
        } else {
            format!("BuildRequires: {requirements}\n")
        };
        made(djinni, name, &format!("{rest}{body}"))
    };
    vec![
        vec![requiring("kill-nothing", "")],
        vec![requiring("kill-zlib", "zlib-devel")],
        vec![requiring("kill-popt", "pkgconfig(popt) flex")],
        vec![requiring("kill-acl", "libacl-devel m4")],
        vec![requiring("kill-first", ""), requiring("kill-second", "kill-first")],
    ]
}

/// Pseudo-random numbers, repeatable by their seed (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % limit
    }
}

/// A number from an environment variable.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// State of one run of this test.
struct Scene {
    djinni: Djinni,
    random: Random,
    sources: Vec<Vec<PathBuf>>,
    /// Duration of each kind of build without a kill, by the caches that it finds.
    lasts: BTreeMap<(usize, Cold), Duration>,
    /// Digests of built packages, by name: always the same.
    built: BTreeMap<String, String>,
    /// Directories of runs that have been checked.
    seen: BTreeSet<PathBuf>,
    /// Number of kills by process name.
    victims: BTreeMap<String, usize>,
}

/// Caches that are removed before a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cold {
    Nothing,
    /// Layers of requirements.
    Dependencies,
    /// All layers, and the solver cache.
    Everything,
}

impl Scene {
    fn area(&self) -> PathBuf {
        self.djinni.srv().join("areas").join(SLAVE)
    }

    /// Removes layers, as `mach clean` would.
    fn chill(&self, cold: Cold) {
        let layers = self.area().join("mach/layers");
        for layer in fs::read_dir(&layers).into_iter().flatten().flatten() {
            let manifest = fs::read_to_string(layer.path().join("layer.json")).unwrap();
            let wanted = match cold {
                Cold::Nothing => false,
                Cold::Dependencies => manifest.contains("\"dependencies\""),
                Cold::Everything => true,
            };
            if wanted {
                fs::remove_dir_all(layer.path()).unwrap();
            }
        }
        if cold == Cold::Everything {
            let _ = fs::remove_dir_all(self.area().join("mach/resolutions"));
        }
    }

    fn begin(&self, which: usize) -> Child {
        let mut command = self.djinni.start_build(&[SLAVE]);
        for source in &self.sources[which] {
            command.arg("--in").arg(source);
        }
        command.args(["--", "sh", "-c", AROUND, "sh", "-q", "-r", DIST, "rebuild"]);
        command.args(self.sources[which].iter().map(|source| source.file_name().unwrap()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// mach and its descendants, as (pid, name): mach itself comes first.
    fn processes(&self) -> Vec<(i32, String)> {
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let all = self.djinni.processes(&format!("slaves/{SLAVE}"));
        let mut found = Vec::new();
        let mut left: Vec<u32> = Vec::new();
        // Its parent is the script, of which there is one.
        let script = all.iter().find(|pid| name(**pid).trim() == "sh");
        left.extend(script.into_iter().flat_map(|pid| children(*pid as u32)));
        while let Some(pid) = left.pop() {
            found.push((pid as i32, name(pid as i32).trim().to_owned()));
            left.extend(children(pid));
        }
        found
    }

    /// Kills one process of the build, mach itself every other time; returns whether there was one.
    fn strike(&mut self) -> Option<String> {
        let found = self.processes();
        let chosen = match self.random.below(2) {
            0 => found.first()?,
            _ => &found[self.random.below(found.len().max(1)).min(found.len().checked_sub(1)?)],
        };
        let name = match chosen.0 == found[0].0 {
            true => "mach itself".to_owned(),
            false => chosen.1.clone(),
        };
        kill(chosen.0, SIGKILL).ok()?;
        *self.victims.entry(name.clone()).or_default() += 1;
        Some(name)
    }

    /// Waits for a build to end; fails if it does not.
    fn end(&self, mut child: Child) -> Ran {
        let deadline = Instant::now() + BUILD_LIMIT;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let left = self.processes();
                child.kill().unwrap();
                panic!("the build does not end: {left:#?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap().into()
    }

    /// One build, killed at `moment`, to its end.
    fn round(&mut self, which: usize, cold: Cold, moment: Option<Duration>) -> String {
        self.chill(cold);
        let since = Instant::now();
        let child = self.begin(which);
        let killed = moment.and_then(|moment| {
            std::thread::sleep(moment);
            self.strike()
        });
        let ran = self.end(child);
        if killed.is_none() && ran.status == 0 {
            self.lasts.insert((which, cold), since.elapsed());
        }
        let what = format!("{which} {cold:?} {moment:.1?} {killed:?} -> {}", ran.status);
        assert!(ran.text().contains("left of it: 0 processes, 0 mounts"), "{what}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{what}: {ran:?}");
        match killed.as_deref() {
            None => assert_eq!(ran.status, 0, "{what}: {ran:?}"),
            Some("mach itself") => assert!([0, 137].contains(&ran.status), "{what}: {ran:?}"),
            // A build can succeed without some of its processes.
            Some(_) => assert!(
                ran.status == 0 || (ran.status == 1 && !ran.stderr.is_empty()),
                "{what}: {ran:?}"
            ),
        }
        self.djinni.becomes(SLAVE, "free");
        self.unlocked(&what);
        self.whole(&what);
        what
    }

    /// No file of the area is locked.
    fn unlocked(&self, what: &str) {
        let area = self.area();
        let files = files(&area.join("mach/locks"))
            .into_iter()
            .map(|name| area.join("mach/locks").join(name));
        // proc_locks(5): the sixth field is MAJOR:MINOR:INODE, the first two in hexadecimal digits.
        let place = |found: fs::Metadata| {
            let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
            format!("{major:02x}:{minor:02x}:{}", found.ino())
        };
        let places: BTreeSet<String> = files.flat_map(fs::metadata).map(place).collect();
        let table = fs::read_to_string("/proc/locks").unwrap();
        let held = |line: &&str| {
            line.contains("FLOCK") && line.split_whitespace().any(|field| places.contains(field))
        };
        let held: Vec<_> = table.lines().filter(held).collect();
        assert!(held.is_empty(), "{what}: locked: {held:#?}");
    }

    /// Each named run of the results, and each named layer, is complete.
    fn whole(&mut self, what: &str) {
        let results = self.area().join("results");
        for run in directories(&results).iter().flat_map(|package| directories(package)) {
            if self.seen.insert(run.clone()) {
                self.judge(&run, what);
            }
        }
        for layer in directories(&self.area().join("mach/layers")) {
            let manifest = fs::read(layer.join("layer.json"))
                .unwrap_or_else(|error| panic!("{what}: {layer:?}: {error}"));
            serde_json::from_slice::<Value>(&manifest).unwrap();
            assert!(layer.join("root").is_dir(), "{what}: {layer:?} has no root");
        }
    }

    /// A run has a record that is correct about all files; packages are always the same.
    fn judge(&mut self, run: &Path, what: &str) {
        let text = fs::read_to_string(run.join("record.json"));
        let text = text.unwrap_or_else(|error| panic!("{what}: {run:?}: {error}"));
        let record: Value = serde_json::from_str(&text).unwrap();
        for result in record["results"].as_array().unwrap() {
            let name = result["name"].as_str().unwrap();
            let found = sum(&run.join(name));
            assert_eq!(result["sha256"], found, "{what}: {run:?}: {name}");
            if name.ends_with(".rpm") {
                let first = self.built.entry(name.to_owned()).or_insert_with(|| found.clone());
                assert_eq!(*first, found, "{what}: {run:?}: {name} is not what it was");
            }
        }
    }
}

/// Directories in a directory.
fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let found = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    found.map(|entry| entry.path()).collect()
}

fn sum(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file of a layer's root with type, mode, owner and digest; rpm's database is left out, because it
/// contains times.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            let inside = path.strip_prefix(root).unwrap().display().to_string();
            if ["var/lib/rpm", "var/cache", "etc/ld.so.cache"]
                .iter()
                .any(|each| inside.starts_with(each))
            {
                continue;
            }
            let about = entry.metadata().unwrap();
            let content = match about.file_type() {
                kind if kind.is_file() => sum(&path),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => String::new(),
            };
            found.push(format!(
                "{inside} {:o} {}:{} {content}",
                about.mode(),
                about.uid(),
                about.gid()
            ));
            if about.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Layers by key, with their files.
fn layers(area: &Path) -> BTreeMap<String, Vec<String>> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let all = directories(&area.join("mach/layers"));
    all.iter().map(|path| (name(path), listing(&path.join("root")))).collect()
}

#[test]
fn root_mach_is_killed_at_random_moments() {
    let kills = number("DJINNI_KILLS").unwrap_or(30) as usize;
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("DJINNI_SEED").unwrap_or_else(now) | 1;
    println!("{kills} kills; DJINNI_SEED={seed} repeats them");
    let djinni = builder();
    let sources = sources(&djinni);
    let mut scene = Scene {
        djinni,
        random: Random(seed),
        sources,
        lasts: BTreeMap::new(),
        built: BTreeMap::new(),
        seen: BTreeSet::new(),
        victims: BTreeMap::new(),
    };
    let (mut struck, mut round) = (0, 0);
    while struck < kills {
        round += 1;
        let which = scene.random.below(scene.sources.len());
        let cold = match scene.random.below(20) {
            _ if round == 1 => Cold::Everything,
            0 => Cold::Everything,
            1..=9 => Cold::Dependencies,
            _ => Cold::Nothing,
        };
        // A moment within the build, once its duration is known.
        let lasted = scene.lasts.get(&(which, cold)).map(|lasted| lasted.as_millis() as usize);
        let limit = lasted.unwrap_or(if cold == Cold::Everything { 10_000 } else { 4_000 });
        let at = Duration::from_millis(scene.random.below(limit) as u64);
        let before = scene.victims.values().sum::<usize>();
        let what = scene.round(which, cold, (round % ALONE != 0).then_some(at));
        struck += scene.victims.values().sum::<usize>() - before;
        println!("{round:4} {struck:4} {what}");
    }
    println!("killed: {:?}", scene.victims);
    // Build all layers that were built during kills again without kills.
    for which in 0..scene.sources.len() {
        scene.round(which, Cold::Nothing, None);
    }
    let under_fire = layers(&scene.area());
    scene.chill(Cold::Everything);
    for which in 0..scene.sources.len() {
        scene.round(which, Cold::Nothing, None);
    }
    let in_peace = layers(&scene.area());
    for (key, content) in &in_peace {
        let other =
            under_fire.get(key).unwrap_or_else(|| panic!("{key}: was not there under fire"));
        let differing: Vec<_> = content.iter().filter(|line| !other.contains(line)).collect();
        assert!(content == other, "{key}: {differing:#?}");
    }
    scene_left_nothing(&scene);
    scene.djinni.finish();
}

/// The next mach removes leftovers of killed ones, and no lock is held.
fn scene_left_nothing(scene: &Scene) {
    let status = scene.djinni.in_slave(SLAVE, &["mach", "status", "--json"]).done().text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["runs"].as_array().unwrap().len(), 0, "{status}");
    eventually("scratch is gone", PATIENCE, || {
        directories(&scene.area().join("mach/tmp")).is_empty()
    });
}
