//! Layers of mach that tests share: one test of a slot makes them, later ones of that slot get hard links.
//!
//! ```text
//! BASE/cache/layers/IDS/key       whose mach, in which image, made them
//! BASE/cache/layers/IDS/listing   every file of theirs as it was then
//! BASE/cache/layers/IDS/mach/     layers, and what the solver has answered
//! ```
//!
//! Who owns their files depends on the ids of the slot, so each slot has its own. A slot is one test's at
//! a time ([`crate::claims::build`]), hence no lock. A layer is never written to once it is complete; that
//! this is so is checked before each loan.
//!
//! A panic is a test's way to fail, so this unwraps.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::djinni::Djinni;
use crate::images;
use crate::programs::{program, run};

/// Copies what mach keeps of roots from `$1` to `$2`: files of layers as links. A manifest is a new file: mach
/// takes it for a layer's age, and writes out the data of old ones.
const COPY: &str = r#"
cd "$1"
for layer in layers/*; do
    mkdir -p "$2/$layer"
    cp -a --link "$layer/root" "$2/$layer/"
    cp --preserve=ownership,mode "$layer/layer.json" "$2/$layer/"
done
for each in cache resolutions; do ! test -e $each || cp -a $each "$2/"; done
chown --reference=. "$2" "$2/layers" "$2"/layers/*
"#;

/// Lists every file of the layers in `$1` with the attributes that a write would change.
const LIST: &str =
    r#"cd "$1"; find layers/*/root ! -type d -printf '%P %i %s %T@ %m %U %G\n' | LC_ALL=C sort"#;

fn script(text: &str, arguments: &[&Path]) -> String {
    run(Command::new("sh").args(["-euc", text, "sh"]).args(arguments)).done().text()
}

/// Where the slot of this djinni keeps them.
fn kept(djinni: &Djinni) -> PathBuf {
    images::base().join(format!("cache/layers/{}", djinni.ids_first()))
}

/// Changes with the mach that makes layers, with the image it runs in, and with the boot: layers are written
/// to the disk later than they are made.
fn key() -> String {
    let text = run(Command::new("sha256sum").arg(program("mach"))).done().text();
    let image = fs::metadata(images::real().image).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!("{text}{} {} {boot}", image.mtime(), image.size())
}

/// Puts layers into the working area `area`, which is not there yet, and gives it to `owner`; whether there
/// were any.
///
/// # Panics
/// If one of them has been written to since it was made.
pub fn lend(djinni: &Djinni, area: &Path, owner: u32) -> bool {
    let kept = kept(djinni);
    let is_usable = fs::read_to_string(kept.join("key")).is_ok_and(|found| found == key());
    if !is_usable {
        let _ = fs::remove_dir_all(&kept);
        return false;
    }
    let listing = fs::read_to_string(kept.join("listing")).unwrap();
    if script(LIST, &[&kept.join("mach")]) != listing {
        fs::remove_dir_all(&kept).unwrap();
        panic!("an earlier test or mach has written to files of {}: now removed", kept.display());
    }
    fs::create_dir_all(area.join("mach")).unwrap();
    script(COPY, &[&kept.join("mach"), &area.join("mach")]);
    chown(area, Some(owner), Some(owner)).unwrap();
    true
}

/// Keeps the layers of `area` for later tests of this slot.
///
/// # Panics
/// If that fails.
pub fn keep(djinni: &Djinni, area: &Path) {
    let kept = kept(djinni);
    let made = kept.with_extension("new");
    let _ = fs::remove_dir_all(&made);
    fs::create_dir_all(made.join("mach")).unwrap();
    script(COPY, &[&area.join("mach"), &made.join("mach")]);
    fs::write(made.join("listing"), script(LIST, &[&made.join("mach")])).unwrap();
    fs::write(made.join("key"), key()).unwrap();
    fs::rename(&made, &kept).unwrap();
}
