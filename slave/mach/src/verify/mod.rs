//! `--verify`: builds the same source a second time under other conditions, compares the results bit for bit,
//! and names each difference: a tag of a header, a file, the byte.
//!
//! ```text
//!   first build ─▶ packages ──────────────────────────────▶ compare ─▶ record.json: verified
//!   second build, other BuildConditions ─▶ packages ─▶ removed ─────┘
//! ```
//!
//! The second build has a run of its own, and a copy of the dist with another builder: the same layers,
//! so nothing is made twice but the packages. A difference is not a failure: the packages are
//! published; the record and a line for people name the differences.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::tags::{self, Names};
use mach_roots::context::Context;
use mach_run::area::Run;
use mach_run::overlay;
use mach_run::progress::Progress;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::record::{Difference, FileKind, ResultFile, Verified};
use crate::variation::{BuildConditions, TIME_NOT_VARIED, Variation, memory_bytes};
use inside::Pair;

mod inside;

const DIFFERENCES_LIMIT: usize = 1_000;
/// Packages of one build whose differences are looked for inside.
const LOOKED_INTO_LIMIT: usize = 50;
const DIFFOSCOPE_FILE: &str = "diffoscope.txt";

/// Builds a second time by `build`, which is given a context of its own, and compares with `first`,
/// the results in `context.out`.
///
/// # Errors
/// The machinery's own, and [`Cause::Interrupted`]. That the second build failed is not an error but a
/// difference.
pub fn again(
    context: &Context<'_>,
    first: &[ResultFile],
    build: impl FnOnce(&Context<'_>, &Variation) -> Result<Vec<ResultFile>, Error>,
) -> Result<Verified, Error> {
    let run = context.area.new_run()?;
    let in_memory = move_to_memory(context, &run)?;
    let outcome = in_second_run(context, &run, in_memory, first, build);
    if in_memory {
        // What fails here ends with mach's mount namespace.
        let _ = rustix::mount::unmount(&run.path, UnmountFlags::DETACH);
    }
    run.remove();
    outcome
}

fn in_second_run(
    context: &Context<'_>,
    run: &Run,
    in_memory: bool,
    first: &[ResultFile],
    build: impl FnOnce(&Context<'_>, &Variation) -> Result<Vec<ResultFile>, Error>,
) -> Result<Verified, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let conditions = BuildConditions::second(context.dist, cores, in_memory);
    let dist = conditions.applied_to(context.dist);
    let progress = Progress::new(format!("{}, second", context.progress.subject()));
    let names = conditions.noted(context.dist);
    let second = Context::new(context.area, run, &dist, context.repositories, &progress)?
        .with_network(context.network);
    let variation = Variation::by(conditions.clone());
    wait_for_another_second();
    let phase = context.progress.phase("second build");
    let built = build(&second, &variation);
    let clock_moved = conditions.clock_ahead.is_some() && variation.clock_moved.get();
    let (note, differences) = match built {
        Ok(files) => {
            phase.end(format!("{} files", files.len()));
            let phase = context.progress.phase("comparison");
            let (one, two) = ((first, &*context.out), (&files[..], &*second.out));
            let differences = compare(context, one, two, &names)?;
            let note = summary(&differences, clock_moved);
            phase.end(&note);
            (note, differences)
        }
        Err(failure) if failure.cause == Cause::Interrupted => {
            context.take_up_log(&keep_log(&second, context)?);
            return Err(failure);
        }
        Err(failure) => {
            phase.end("failed");
            let place = keep_log(&second, context)?;
            let what = format!("the second build failed: {}", failure.what);
            let file = String::new();
            (what.clone(), vec![Difference { file, place, what }])
        }
    };
    tell(context, &note, &differences);
    let conditions = conditions.lines(clock_moved);
    Ok(Verified { identical: differences.is_empty(), conditions, differences })
}

/// Time stamps of files have seconds, and mach does not vary them.
fn wait_for_another_second() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let begun = Duration::from_nanos(now.subsec_nanos().into());
    std::thread::sleep(Duration::from_secs(1) - begun);
}

fn tell(context: &Context<'_>, note: &str, differences: &[Difference]) {
    const SHOWN: usize = 10;
    if differences.is_empty() {
        return;
    }
    context.progress.say(&format!("not reproducible: {note}"));
    for Difference { file, place, what } in differences.iter().take(SHOWN) {
        context.progress.say(&format!("  {file}: {place}: {what}"));
    }
    if let Some(more) = differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        context.progress.say(&format!("  and {more} more: see 'verified' in record.json"));
    }
}

fn summary(differences: &[Difference], clock_moved: bool) -> String {
    let mut files: Vec<&str> = differences.iter().map(|one| one.file.as_str()).collect();
    files.dedup();
    match files.len() {
        0 if clock_moved => "identical".to_owned(),
        0 => format!("identical, {}", TIME_NOT_VARIED),
        count => format!("{count} packages differ"),
    }
}

/// Puts the log that the second build wrote last beside those of the first; its name there.
fn keep_log(second: &Context<'_>, context: &Context<'_>) -> Result<String, Error> {
    let log = second.current_log();
    let name = format!("{}-second.log", log.trim_end_matches(".log"));
    let (from, to) = (second.out.join(log), context.out.join(&name));
    if from.exists() {
        fs::copy(&from, &to).on("write", &to)?;
    }
    Ok(name)
}

/// Mounts a tmpfs over the scratch of `run`, in mach's own mount namespace, if there is memory for twice
/// what the first build has written, and the kernel can have an overlay on it; whether it did.
fn move_to_memory(context: &Context<'_>, run: &Run) -> Result<bool, Error> {
    let wanted = size_of(&context.run.path).saturating_mul(2);
    let free = memory_bytes() / 2;
    if wanted > free {
        return Ok(false);
    }
    let options = format!("mode=0755,size={free}");
    let options = std::ffi::CString::new(options).on("mount a tmpfs at", &run.path)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("mach", &run.path, "tmpfs", flags, options.as_c_str())
        .on("mount a tmpfs at", &run.path)?;
    let can_be_upper = overlay::can_be_upper(&run.path);
    if !can_be_upper {
        rustix::mount::unmount(&run.path, UnmountFlags::empty()).on("unmount", &run.path)?;
    }
    Ok(can_be_upper)
}

/// Bytes that a tree takes, no link followed, no other file system entered.
fn size_of(path: &Path) -> u64 {
    fn below(path: &Path, device: u64) -> u64 {
        let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
        if metadata.dev() != device {
            return 0;
        }
        let entries = metadata.is_dir().then(|| fs::read_dir(path).ok()).flatten();
        let entries = entries.into_iter().flatten().flatten();
        metadata.blocks() * 512 + entries.map(|entry| below(&entry.path(), device)).sum::<u64>()
    }
    fs::symlink_metadata(path).map_or(0, |metadata| below(path, metadata.dev()))
}

/// Compares two builds' packages, each list with its directory. `.changes` and `.buildinfo` tell of
/// the build, not of the source, and are left out; so is what rpm itself notes in a source package: the
/// directory and the user of the build, `names`.
fn compare(
    context: &Context<'_>,
    (first, first_in): (&[ResultFile], &Path),
    (second, second_in): (&[ResultFile], &Path),
    names: &Names,
) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    let (first, second) = (packages(first), packages(second));
    for file in second.iter().filter(|file| first.iter().all(|one| one.name != file.name)) {
        differences.push(whole(file, "only the second build has it"));
    }
    let mut pair = None;
    let mut looked_into = 0;
    for file in &first {
        let Some(other) = second.iter().find(|other| other.name == file.name) else {
            differences.push(whole(file, "only the first build has it"));
            continue;
        };
        if other.sha256 == file.sha256 {
            continue;
        }
        let opened = || -> Result<_, Error> { Ok((open(first_in, file)?, open(second_in, file)?)) };
        if is_rpm(file) && tags::are_equal(opened()?, names) {
            continue;
        }
        looked_into += 1;
        if looked_into > LOOKED_INTO_LIMIT || !is_unpackable(file) {
            differences.push(whole(file, "its bytes differ"));
            continue;
        }
        let pair = match &mut pair {
            Some(pair) => pair,
            none => none.insert(Pair::new(context, first_in, second_in)?),
        };
        differences.extend(look_into(pair, file, opened()?, names)?);
        add_diffoscope(context, pair, &file.name)?;
    }
    differences.truncate(DIFFERENCES_LIMIT);
    Ok(differences)
}

fn packages(files: &[ResultFile]) -> Vec<&ResultFile> {
    let is_package = |file: &&ResultFile| {
        file.kind.is_binary() || matches!(file.kind, FileKind::SourceRpm | FileKind::Other)
    };
    files.iter().filter(is_package).collect()
}

fn whole(file: &ResultFile, what: &str) -> Difference {
    Difference { file: file.name.clone(), place: String::new(), what: what.to_owned() }
}

fn is_rpm(file: &ResultFile) -> bool {
    matches!(file.kind, FileKind::Rpm | FileKind::SourceRpm)
}

fn is_unpackable(file: &ResultFile) -> bool {
    file.kind != FileKind::Other
}

fn open(directory: &Path, file: &ResultFile) -> Result<File, Error> {
    let path = directory.join(&file.name);
    File::open(&path).on("open", &path)
}

/// Differences between two packages whose bytes differ; at least one line.
fn look_into(
    pair: &Pair<'_>,
    file: &ResultFile,
    (mut one, mut two): (File, File),
    names: &Names,
) -> Result<Vec<Difference>, Error> {
    let mut found = match is_rpm(file) {
        true => tags::differences(&mut one, &mut two, names)
            .unwrap_or_else(|why| vec![(String::new(), why)]),
        false => Vec::new(),
    };
    found.extend(pair.differences(&file.name)?);
    if found.is_empty() {
        found
            .push((String::new(), "its bytes differ, but nothing that is packed in it".to_owned()));
    }
    let of = |(place, what)| Difference { file: file.name.clone(), place, what };
    Ok(found.into_iter().map(of).collect())
}

/// Adds what diffoscope says, where the slave has it, to a file among the results.
fn add_diffoscope(context: &Context<'_>, pair: &Pair<'_>, name: &str) -> Result<(), Error> {
    let Some(text) = pair.diffoscope(name)? else {
        return Ok(());
    };
    let path = context.out.join(DIFFOSCOPE_FILE);
    let mut file = mach_run::log::open_log(&path)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).on("write", &path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_packages() {
        let one = |file: &str| Difference {
            file: file.to_owned(),
            place: String::new(),
            what: String::new(),
        };
        assert_eq!(summary(&[], true), "identical");
        assert_eq!(summary(&[], false), "identical, time not varied");
        assert_eq!(summary(&[one("a"), one("a"), one("b")], true), "2 packages differ");
    }

    #[test]
    fn the_size_of_a_tree_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), vec![0; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", directory.path().join("b")).unwrap();
        let size = size_of(directory.path());
        assert!((100_000..200_000).contains(&size), "{size}");
    }
}
