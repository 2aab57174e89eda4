//! Provides of sources of a chain that are not built yet.
//!
//! Some requirements show only then: what macros of a required package bring, what
//! `%generate_buildrequires` finds out. If another source yields one of them, the dist's package of that
//! name would silently be taken in its place: the build ends instead, lacking a
//! dependency, and the chain tries it again when the others are done.

use std::fs;
use std::path::{Path, PathBuf};

use mach_core::error::{Cause, Error, OnPath};
use mach_core::rpm::evr::Capability;
use mach_core::rpm::rich::Rich;
use mach_core::rpm::source::Needs;

/// Expected provides of one source.
pub type PendingProvides = Vec<(Capability, String)>;

/// The file beside a view, which is a repository of its own.
fn path(view: &Path) -> PathBuf {
    view.with_extension("coming")
}

/// Leaves for the build that sees `view` what the sources of `all` (name, yields) will yield.
pub fn write<'a>(
    view: &Path,
    all: impl Iterator<Item = (&'a str, &'a Capability)>,
) -> Result<(), Error> {
    let text: String = all.map(|(source, one)| format!("{source}\t{one}\n")).collect();
    let path = path(view);
    fs::write(&path, text).on("write", &path)
}

/// Reads the file that the chain wrote for the build that sees `view`.
pub fn read(view: &Path) -> Result<PendingProvides, Error> {
    let path = path(view);
    match path.exists() {
        true => Ok(parse(&fs::read_to_string(&path).on("read", &path)?)),
        false => Ok(PendingProvides::new()),
    }
}

fn parse(text: &str) -> PendingProvides {
    let one = |line: &str| {
        let (source, one) = line.split_once('\t')?;
        Some((Capability::parse(one)?, source.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

/// Refuses `needs` of `subject` that something of `coming` will meet.
pub fn refuse(coming: &PendingProvides, subject: &str, needs: &Needs) -> Result<(), Error> {
    for requirement in &needs.requirements {
        let rich = Rich::of(requirement);
        let needed = rich.needed();
        let meets = |(provided, _): &&(Capability, String)| {
            needed.iter().any(|capability| capability.is_met_by(provided))
        };
        if let Some((_, source)) = coming.iter().find(meets) {
            let what = format!(
                "{subject}: BuildRequires {requirement} will be a package of {source} of this chain, which is \
                 not built yet"
            );
            let remedy = "it is retried after the others; if the spec has the requirement without macros and \
                          without %generate_buildrequires, they are built in this order";
            return Err(Error::new(Cause::Dependency, what, remedy));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_another_will_yield_is_not_taken_from_the_dist() {
        let directory = tempfile::tempdir().unwrap();
        let view = directory.path().join("view-0");
        assert!(read(&view).unwrap().is_empty());
        let yields = ["m4 = 9-1", "pkgconfig(x)"].map(|text| Capability::parse(text).unwrap());
        write(&view, yields.iter().map(|one| ("m4-9-1", one))).unwrap();
        let coming = read(&view).unwrap();
        let refused = |text: &str| {
            let requirements = vec![Capability::parse(text).unwrap()];
            let needs = Needs { requirements, conflicts: Vec::new() };
            refuse(&coming, "housed-1-1", &needs).map_err(|failure| failure.what)
        };
        let what = refused("(make and m4 >= 2)").unwrap_err();
        assert!(what.contains("m4 >= 2) will be a package of m4-9-1 of this chain"), "{what}");
        assert!(refused("pkgconfig(x) > 1").is_err());
        // Other versions, and lines that are not capabilities.
        for fine in ["make", "m4 < 2", "(m4 or flex)", "(flex if m4)"] {
            assert_eq!(refused(fine), Ok(()), "{fine}");
        }
    }
}
