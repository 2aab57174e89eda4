//! A spec's text after macro expansion, by the rpm of a root of the dist.
//!
//! Expanding a spec runs code of the spec (`%(...)`, Lua). So it has the limits of a build: the build user, no
//! network, a throw-away root and a time limit.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use mach_core::distribution::macro_file;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::options::Options;
use mach_roots::context::Context;
use mach_roots::root::Root;
use mach_run::area::entries;
use mach_run::cells::{self, CellPlace, Program, Streams};

const TIME_LIMIT: Duration = Duration::from_secs(300);
const TEXT_LIMIT_BYTES: u64 = 32 << 20;
/// Files beside a spec that it may include: macro files, lists; never a tarball.
const COMPANION_LIMIT_BYTES: u64 = 1 << 20;
const COMPANIONS_LIMIT: usize = 1000;
const ERRORS_SHOWN: usize = 10;

/// Output of `rpmspec -P` for `spec` in `root`.
pub fn expand(
    context: &Context<'_>,
    root: &Root,
    spec: &Path,
    options: &Options,
) -> Result<String, Error> {
    let phase = context.progress.phase("spec");
    let home = context.run.directory("home-of-spec")?;
    let name = lay_out(spec, &home)?;
    let builder = &context.dist.builder;
    let path = home.join(".rpmmacros");
    fs::write(&path, macro_file(&context.dist.build_macros)).on("write", &path)?;
    give(&home, builder.uid)?;
    let overlay = root.mount(&context.run.path.join("root-of-spec"))?;
    let cell = cells::builder(&CellPlace {
        root: &overlay.at,
        hostname: &builder.hostname,
        directory: &home,
        home: &builder.home,
        scratch: &context.run.path,
        read_only: true,
        network: false,
    })?;
    let program = Program {
        argv: argv(&builder.home, &name, options),
        environment: vec![("HOME".to_owned(), builder.home.clone())],
        user: Some(builder.uid),
        directory: builder.home.clone(),
        time_limit: Some(TIME_LIMIT),
        ..Program::default()
    };
    let [out, err] = ["spec-text", "spec-errors"].map(|name| context.run.path.join(name));
    let create = |path: &Path| File::create(path).on("create", path);
    let streams = Streams::Files { out: create(&out)?, err: create(&err)? };
    let ended = cells::run(cell, &program, streams, &mut || phase.tick())?;
    overlay.unmount()?;
    if ended.status != 0 {
        return Err(does_not_parse(spec, ended.status, &read(&err)?));
    }
    phase.end("expanded");
    read(&out)
}

/// Copies the spec and the files that it may include into the builder's home; returns the spec's name there.
fn lay_out(spec: &Path, home: &Path) -> Result<String, Error> {
    let refuse = |why: &str| {
        let what = format!("{} is not a spec: {why}", spec.display());
        Error::new(Cause::Source, what, "give the path of a .spec file")
    };
    let name = spec.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.ends_with(".spec") || name.contains(char::is_control) || name.starts_with('-') {
        return Err(refuse("its name does not end in .spec"));
    }
    match fs::metadata(spec) {
        Ok(metadata) if !metadata.is_file() => return Err(refuse("it is not a regular file")),
        Ok(metadata) if metadata.len() > COMPANION_LIMIT_BYTES => {
            return Err(refuse("it is larger than a MiB"));
        }
        Ok(_) => {}
        Err(error) => return Err(refuse(&error.to_string())),
    }
    let beside = spec.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in entries(beside.unwrap_or(Path::new(".")))?.into_iter().take(COMPANIONS_LIMIT) {
        let is_small = |data: fs::Metadata| data.is_file() && data.len() <= COMPANION_LIMIT_BYTES;
        if path.symlink_metadata().is_ok_and(is_small) {
            copy(&path, &home.join(path.file_name().unwrap_or_default()))?;
        }
    }
    // Itself even where its name is a link.
    let at = home.join(name);
    if !at.exists() {
        copy(spec, &at)?;
    }
    Ok(name.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::copy(from, to).map(drop).on("copy", from)
}

fn give(home: &Path, uid: u32) -> Result<(), Error> {
    for path in entries(home)?.iter().map(std::path::PathBuf::as_path).chain([home]) {
        chown(path, Some(uid), Some(uid)).on("set the owner of", path)?;
    }
    Ok(())
}

fn argv(home: &str, spec: &str, options: &Options) -> Vec<String> {
    let mut argv: Vec<String> = ["/usr/bin/rpmspec", "-P"].map(str::to_owned).into();
    let own = [("_topdir", format!("{home}/build")), ("_sourcedir", home.to_owned())];
    let own = own.map(|(name, body)| (name.to_owned(), body));
    for (name, body) in own.iter().chain(&options.defines) {
        argv.extend(["--define".to_owned(), format!("{name} {body}")]);
    }
    let switches = options.with.iter().map(|name| format!("--with={name}"));
    argv.extend(switches.chain(options.without.iter().map(|name| format!("--without={name}"))));
    argv.extend(options.target.iter().map(|arch| format!("--target={arch}")));
    argv.push(format!("{home}/{spec}"));
    argv
}

fn read(path: &Path) -> Result<String, Error> {
    let mut text = Vec::new();
    let file = File::open(path).on("open", path)?;
    file.take(TEXT_LIMIT_BYTES).read_to_end(&mut text).on("read", path)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// rpm's own words, which name the line.
fn does_not_parse(spec: &Path, status: i32, said: &str) -> Error {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let (errors, others): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("error:") || line.starts_with("mach:"));
    let shown = if errors.is_empty() { others } else { errors };
    let details = shown.into_iter().take(ERRORS_SHOWN).map(str::to_owned).collect();
    let what = format!("{} does not parse (rpmspec ended with {status})", spec.display());
    Error::new(Cause::Source, what, "correct the spec").with_details(details)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn small_files_beside_a_spec_go_along_and_links_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let [beside, home] = ["beside", "home"].map(|name| directory.path().join(name));
        fs::create_dir(&beside).unwrap();
        fs::create_dir(&home).unwrap();
        fs::write(beside.join("x.spec"), "Name: x\n").unwrap();
        fs::write(beside.join("macros.x"), "%x 1\n").unwrap();
        let tarball = fs::File::create(beside.join("x.tar")).unwrap();
        tarball.set_len(COMPANION_LIMIT_BYTES + 1).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", beside.join("link")).unwrap();
        assert_eq!(lay_out(&beside.join("x.spec"), &home).unwrap(), "x.spec");
        let names: Vec<_> = entries(&home).unwrap();
        assert_eq!(names, ["macros.x", "x.spec"].map(|name| home.join(name)));
        for (name, wanted) in [("x.tar", "does not end"), ("y.spec", "No such file")] {
            let failure = lay_out(&beside.join(name), &home).unwrap_err();
            assert!(failure.what.contains(wanted), "{failure}");
        }
    }

    #[test]
    fn options_reach_rpm_as_one_argument_each() {
        let options = Options {
            defines: vec![("x".to_owned(), "a b".to_owned())],
            with: vec!["tests".to_owned()],
            ..Options::default()
        };
        let argv = argv("/builddir", "x.spec", &options);
        assert_eq!(argv[6..], ["--define", "x a b", "--with=tests", "/builddir/x.spec"]);
    }

    #[test]
    fn errors_of_rpm_are_shown_and_not_its_warnings() {
        let said = "warning: odd\nerror: line 3: Unknown tag: Foo\n";
        let failure = does_not_parse(Path::new("x.spec"), 1, said);
        assert_eq!(failure.details, ["error: line 3: Unknown tag: Foo"]);
        let failure = does_not_parse(Path::new("x.spec"), 1, "warning: odd\n");
        assert_eq!(failure.details, ["warning: odd"]);
    }
}
