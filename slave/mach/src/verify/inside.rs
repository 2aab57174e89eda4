//! Compares two package files inside: unpacked and compared in a cell, by the slave's programs.
//!
//! mach itself reads no unpacked file, only the output of the comparison.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mach_core::distribution::REPOSITORIES;
use mach_core::error::{Cause, Error, OnPath};
use mach_core::text::{clean, cut};
use mach_roots::context::Context;
use mach_run::cells::{self, Program, STATE, Streams};

/// Time limit for the explanation of a difference.
const TIME_LIMIT: Duration = Duration::from_secs(600);
const OUTPUT_LIMIT_BYTES: u64 = 4 << 20;
const TEXT_LIMIT: usize = 200;
const DIFFOSCOPE: &str = "/usr/bin/diffoscope";

/// `$1` and `$2` are two packages. Prints lines of fields between tabs: `first` or `second` and a line
/// of tar's list for an entry of only one; `content`, a path and the offset of the first different byte.
const SCRIPT: &str = r#"set -u
tab=$(printf '\t')
unpack() {
    rm -rf "$1" && mkdir -p "$1/files" "$1/control"
    case $2 in
    *.rpm) rpm2archive -n - <"$2" >"$1/files.tar" && : >"$1/control.tar" ;;
    *) dpkg-deb --fsys-tarfile "$2" >"$1/files.tar" && dpkg-deb --ctrl-tarfile "$2" >"$1/control.tar" ;;
    esac
    for part in control files; do
        [ -s "$1/$part.tar" ] || continue
        # A directory's size is the file system's business.
        tar --full-time --numeric-owner -tvf "$1/$part.tar" |
            sed -E 's/^(d[^ ]* +[^ ]+) +[0-9]+ /\1 0 /' >>"$1/list"
        tar --no-same-owner --delay-directory-restore -C "$1/$part" -xf "$1/$part.tar"
    done
    chmod -R u+rwX "$1"
}
unpack first "$1" || exit 1
unpack second "$2" || exit 1
diff --unchanged-line-format= --old-line-format="first$tab%L" --new-line-format="second$tab%L" \
    first/list second/list
for part in control files; do
    (cd "first/$part" && find . -type f -exec sh -c 'for file do
        other=../../second/$0/$file
        if [ -h "$other" ] || [ ! -f "$other" ]; then continue; fi
        said=$(cmp -- "$file" "$other" 2>&1) ||
            printf "content\t%s\t%s\n" "$file" "${said##*differ: }"
    done' "$part" {} +)
done
exit 0
"#;

/// Two directories with packages of the same names, shown in cells.
pub struct Pair<'a> {
    context: &'a Context<'a>,
    first: &'a Path,
    second: &'a Path,
    skeleton: PathBuf,
    scratch: PathBuf,
    /// The plain user that unpacks.
    uid: u32,
}

impl<'a> Pair<'a> {
    /// Compares the directories `first` and `second`; the scratch is below that of the context's run.
    pub fn new(context: &'a Context<'a>, first: &'a Path, second: &'a Path) -> Result<Self, Error> {
        let skeleton = context.run.path.join("comparer");
        cells::make_skeleton(&skeleton, &[])?;
        let scratch = context.run.directory("compared")?;
        let uid = context.dist.builder.uid;
        chown(&scratch, Some(uid), Some(uid)).on("set the owner of", &scratch)?;
        Ok(Self { context, first, second, skeleton, scratch, uid })
    }

    /// Path and kind of each difference within the packages called `name`, which are plain names.
    /// None: they could not be unpacked, or differ only in how they are packed.
    pub fn differences(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let (one, two) = self.shown(name);
        let text = self.say(["/bin/sh", "-c", SCRIPT, "compare", &one, &two])?;
        Ok(parse(&text))
    }

    /// Compares the packages called `name` with diffoscope, where the slave has it; its output.
    pub fn diffoscope(&self, name: &str) -> Result<Option<String>, Error> {
        if !Path::new(DIFFOSCOPE).exists() {
            return Ok(None);
        }
        let (one, two) = self.shown(name);
        let limit = OUTPUT_LIMIT_BYTES.to_string();
        let words = [DIFFOSCOPE, "--max-text-report-size", &limit, "--text", "-", &one, &two];
        self.say(words).map(Some)
    }

    fn shown(&self, name: &str) -> (String, String) {
        let at = |side: &str| format!("{REPOSITORIES}/{side}/{name}");
        (at("first"), at("second"))
    }

    /// Output of `words` in a cell that has both directories to read and the scratch to write.
    fn say<const COUNT: usize>(&self, words: [&str; COUNT]) -> Result<String, Error> {
        let shown = [("first", self.first), ("second", self.second)]
            .map(|(name, path)| (name.to_owned(), path.to_owned()));
        let cell = cells::solver(&self.skeleton, &shown, &self.scratch, true);
        let mut program = Program::as_root(words, STATE);
        program.user = Some(self.uid);
        program.directory = STATE.to_owned();
        program.time_limit = Some(TIME_LIMIT);
        let path = self.context.run.path.join("comparison");
        let out = File::create(&path).on("create", &path)?;
        let err = self.context.open_root_log()?;
        match cells::run(cell, &program, Streams::Files { out, err }, &mut || ()) {
            // The differences found so far are reported.
            Err(failure) if failure.cause == Cause::Time => {}
            ended => drop(ended?),
        }
        read_capped(&path)
    }
}

fn read_capped(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).on("open", path)?;
    file.take(OUTPUT_LIMIT_BYTES).read_to_end(&mut bytes).on("read", path)?;
    fs::remove_file(path).on("remove", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The entries of a path in either list.
#[derive(Default)]
struct Entry {
    first: Option<String>,
    second: Option<String>,
    content: Option<String>,
}

/// The script's lines, by path; invalid lines are skipped.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            [side @ ("first" | "second"), listed] => {
                let Some((attributes, path)) = split_listed(listed) else { continue };
                let entry = entries.entry(shown_path(path)).or_default();
                match side {
                    "first" => entry.first = Some(attributes),
                    _ => entry.second = Some(attributes),
                }
            }
            ["content", path, what] => {
                entries.entry(shown_path(path)).or_default().content = Some(what.to_owned());
            }
            _ => {}
        }
    }
    entries.into_iter().map(|(path, entry)| (path, entry.describe())).collect()
}

impl Entry {
    fn describe(self) -> String {
        let attributes = match (self.first, self.second) {
            (Some(one), Some(two)) if one == two => Some("another place in the archive".to_owned()),
            (Some(one), Some(two)) => Some(format!("{one} and {two}")),
            (Some(_), None) => Some("only in the first".to_owned()),
            (None, Some(_)) => Some("only in the second".to_owned()),
            (None, None) => None,
        };
        let content = self.content.map(|at| format!("contents differ: {at}"));
        let both: Vec<String> = content.into_iter().chain(attributes).collect();
        cut(&clean(&both.join("; ")), TEXT_LIMIT)
    }
}

/// Splits a line of `tar -tv`: mode, owner, size and time; and the path (with its link target).
fn split_listed(line: &str) -> Option<(String, &str)> {
    let mut rest = line;
    let mut attributes = Vec::new();
    for _ in 0..5 {
        let (word, after) = rest.trim_start_matches(' ').split_once(' ')?;
        attributes.push(word);
        rest = after;
    }
    Some((attributes.join(" "), rest))
}

fn shown_path(path: &str) -> String {
    cut(&clean(path.strip_prefix('.').unwrap_or(path)), TEXT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_prints_is_put_together_by_path() {
        let text = "first\t-rw-r--r-- 0/0      12 2023-01-01 00:00:00 ./usr/bin/x\n\
                    second\t-rw-r--r-- 0/0      13 2023-01-01 00:00:00 ./usr/bin/x\n\
                    first\tlrwxrwxrwx 0/0 0 2023-01-01 00:00:00 ./usr/l -> x\n\
                    second\tdrwxr-xr-x 0/0 0 2023-01-01 00:00:00 ./new/\n\
                    first\tdrwxr-xr-x 0/0 0 2023-01-01 00:00:00 ./moved/\n\
                    second\tdrwxr-xr-x 0/0 0 2023-01-01 00:00:00 ./moved/\n\
                    content\t./usr/bin/x\tbyte 5, line 1\n\
                    tar: something\nfirst\tshort\n\n";
        let found = parse(text);
        let find = |path: &str| {
            let entry = found.iter().find(|(place, _)| place == path);
            entry.map(|(_, what)| what.as_str()).unwrap_or_default()
        };
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            find("/usr/bin/x").starts_with("contents differ: byte 5, line 1; -rw-r--r-- 0/0 12")
        );
        assert_eq!(find("/usr/l -> x"), "only in the first");
        assert_eq!(find("/new/"), "only in the second");
        assert_eq!(find("/moved/"), "another place in the archive");
    }

    #[test]
    fn nothing_of_a_package_steers_a_terminal() {
        let found = parse("content\t./\u{1b}[2Jx\tbyte 1\n");
        assert!(!found[0].0.contains('\u{1b}'));
    }
}
