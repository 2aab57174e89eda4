//! Compares the headers of two RPM packages.

use std::collections::BTreeMap;
use std::io::Read;

use rpm::{IndexData, IndexTag};

use crate::rpm::header;
use crate::text::{clean, cut};

const VALUE_LIMIT: usize = 120;

/// Tags that follow from other tags or from the payload: digests and sizes of compared data.
const CONSEQUENCES: &[IndexTag] = &[
    IndexTag::RPMTAG_HEADERIMMUTABLE,
    IndexTag::RPMTAG_PAYLOADSHA256,
    IndexTag::RPMTAG_PAYLOADSHA256ALT,
    IndexTag::RPMTAG_SIZE,
    IndexTag::RPMTAG_LONGSIZE,
    IndexTag::RPMTAG_SOURCESIGMD5,
    IndexTag::RPMTAG_SPEC,
];

/// Tags that differ where builds do, by the names `rpm --querytags` has for them.
const NAMES: &[(IndexTag, &str)] = &[
    (IndexTag::RPMTAG_BUILDTIME, "BUILDTIME"),
    (IndexTag::RPMTAG_BUILDHOST, "BUILDHOST"),
    (IndexTag::RPMTAG_DESCRIPTION, "DESCRIPTION"),
    (IndexTag::RPMTAG_RELEASE, "RELEASE"),
    (IndexTag::RPMTAG_OPTFLAGS, "OPTFLAGS"),
    (IndexTag::RPMTAG_PLATFORM, "PLATFORM"),
    (IndexTag::RPMTAG_COOKIE, "COOKIE"),
    (IndexTag::RPMTAG_PREIN, "PREIN"),
    (IndexTag::RPMTAG_POSTIN, "POSTIN"),
    (IndexTag::RPMTAG_PREUN, "PREUN"),
    (IndexTag::RPMTAG_POSTUN, "POSTUN"),
    (IndexTag::RPMTAG_BASENAMES, "BASENAMES"),
    (IndexTag::RPMTAG_DIRNAMES, "DIRNAMES"),
    (IndexTag::RPMTAG_FILEDIGESTS, "FILEDIGESTS"),
    (IndexTag::RPMTAG_FILESIZES, "FILESIZES"),
    (IndexTag::RPMTAG_FILEMODES, "FILEMODES"),
    (IndexTag::RPMTAG_FILEMTIMES, "FILEMTIMES"),
    (IndexTag::RPMTAG_FILELINKTOS, "FILELINKTOS"),
    (IndexTag::RPMTAG_FILEUSERNAME, "FILEUSERNAME"),
    (IndexTag::RPMTAG_FILEGROUPNAME, "FILEGROUPNAME"),
    (IndexTag::RPMTAG_PROVIDENAME, "PROVIDENAME"),
    (IndexTag::RPMTAG_PROVIDEVERSION, "PROVIDEVERSION"),
    (IndexTag::RPMTAG_REQUIRENAME, "REQUIRENAME"),
    (IndexTag::RPMTAG_REQUIREVERSION, "REQUIREVERSION"),
    (IndexTag::RPMTAG_CHANGELOGTIME, "CHANGELOGTIME"),
    (IndexTag::RPMTAG_SOURCERPM, "SOURCERPM"),
    (IndexTag::RPMTAG_CLASSDICT, "CLASSDICT"),
];

/// Names that rpm records of a build in source packages: its user, as the owner of each file.
/// The second build's names, and those of the first that they stand for.
#[derive(Debug, Clone, Default)]
pub struct Names(pub Vec<(String, String)>);

impl Names {
    fn of_first(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (second, first)| text.replace(second, first))
    }

    fn in_data(&self, data: &mut IndexData) {
        match data {
            IndexData::StringTag(text) => *text = self.of_first(text),
            IndexData::StringArray(texts) | IndexData::I18NString(texts) => {
                texts.iter_mut().for_each(|text| *text = self.of_first(text));
            }
            _ => {}
        }
    }
}

/// A tag and how its two values differ, for each that does; none when only consequences of others do
/// and the payloads are the same.
pub fn differences(
    one: &mut impl Read,
    two: &mut impl Read,
    names: &Names,
) -> Result<Vec<(String, String)>, String> {
    let (mut one, mut two) = (entries(one)?, entries(two)?);
    [&mut one, &mut two].into_iter().for_each(without_sizes_of_directories);
    two.values_mut().for_each(|data| names.in_data(data));
    let mut tags: Vec<u32> = one.keys().chain(two.keys()).copied().collect();
    tags.sort_unstable();
    tags.dedup();
    let differs = |tag: &u32| one.get(tag) != two.get(tag) && !is_consequence(*tag);
    let told = |tag: u32| (name(tag), describe(one.get(&tag), two.get(&tag)));
    let mut found: Vec<(String, String)> = tags.into_iter().filter(differs).map(told).collect();
    let payload = IndexTag::RPMTAG_PAYLOADSHA256 as u32;
    if found.is_empty() && one.get(&payload) != two.get(&payload) {
        found.push((String::new(), "the payloads differ".to_owned()));
    }
    Ok(found)
}

/// Whether two packages are equal except for `names` and the tags that follow from them.
pub fn are_equal((mut one, mut two): (impl Read, impl Read), names: &Names) -> bool {
    differences(&mut one, &mut two, names).is_ok_and(|found| found.is_empty())
}

fn entries(file: &mut impl Read) -> Result<BTreeMap<u32, IndexData>, String> {
    let preamble = header::read_preamble(file).map_err(|error| error.to_string())?;
    let entries = preamble.metadata.header.get_all_entries().map_err(|error| error.to_string())?;
    Ok(entries.into_iter().collect())
}

/// The size of a directory is the file system's business; rpm before 4.14 notes it.
fn without_sizes_of_directories(entries: &mut BTreeMap<u32, IndexData>) {
    const KIND: u16 = 0o170_000;
    const DIRECTORY: u16 = 0o040_000;
    let modes = match entries.get(&(IndexTag::RPMTAG_FILEMODES as u32)) {
        Some(IndexData::Int16(modes)) => modes.clone(),
        _ => return,
    };
    let is_directory = |mode: &u16| mode & KIND == DIRECTORY;
    if let Some(IndexData::Int32(sizes)) = entries.get_mut(&(IndexTag::RPMTAG_FILESIZES as u32)) {
        for (size, _) in sizes.iter_mut().zip(&modes).filter(|(_, mode)| is_directory(mode)) {
            *size = 0;
        }
    }
    if let Some(IndexData::Int64(sizes)) = entries.get_mut(&(IndexTag::RPMTAG_LONGFILESIZES as u32))
    {
        for (size, _) in sizes.iter_mut().zip(&modes).filter(|(_, mode)| is_directory(mode)) {
            *size = 0;
        }
    }
}

fn is_consequence(tag: u32) -> bool {
    CONSEQUENCES.iter().any(|known| *known as u32 == tag)
}

fn name(tag: u32) -> String {
    let known = NAMES.iter().find(|(known, _)| *known as u32 == tag);
    known.map_or_else(|| format!("tag {tag}"), |(_, name)| (*name).to_owned())
}

/// The values, or of lists the first items that differ.
fn describe(one: Option<&IndexData>, two: Option<&IndexData>) -> String {
    let (one, two) = match (one, two) {
        (Some(one), Some(two)) => (items(one), items(two)),
        (Some(_), None) => return "only in the first".to_owned(),
        (None, Some(_)) => return "only in the second".to_owned(),
        (None, None) => return String::new(),
    };
    let at = one.iter().zip(&two).position(|(one, two)| one != two);
    let at = at.unwrap_or(one.len().min(two.len()));
    let empty = String::new();
    let begin = differ_at(one.get(at).unwrap_or(&empty), two.get(at).unwrap_or(&empty));
    let shown = |items: &[String]| match items.get(at) {
        Some(item) => excerpt(item, begin),
        None => "nothing".to_owned(),
    };
    let place = if one.len().max(two.len()) > 1 { format!("item {at}: ") } else { String::new() };
    format!("{place}{} and {}", shown(&one), shown(&two))
}

/// Begin of an excerpt: the number of characters that are the same in both, less a few.
fn differ_at(one: &str, two: &str) -> usize {
    const BEFORE: usize = 20;
    let same = one.chars().zip(two.chars()).take_while(|(one, two)| one == two).count();
    if same < VALUE_LIMIT / 2 { 0 } else { same.saturating_sub(BEFORE) }
}

fn excerpt(text: &str, begin: usize) -> String {
    let rest: String = text.chars().skip(begin).take(VALUE_LIMIT * 2).collect();
    let mark = if begin == 0 { "" } else { "…" };
    format!("{:?}", format!("{mark}{}", cut(&clean(&rest), VALUE_LIMIT)))
}

fn items(data: &IndexData) -> Vec<String> {
    fn all<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }
    match data {
        IndexData::Null => Vec::new(),
        IndexData::Char(bytes) | IndexData::Int8(bytes) | IndexData::Bin(bytes) => all(bytes),
        IndexData::Int16(numbers) => all(numbers),
        IndexData::Int32(numbers) => all(numbers),
        IndexData::Int64(numbers) => all(numbers),
        IndexData::StringTag(text) => vec![text.clone()],
        IndexData::StringArray(texts) | IndexData::I18NString(texts) => texts.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::digest;
    use crate::rpm::header::forge::{self, Value, tag};

    fn package(change: impl FnOnce(&mut forge::Entries)) -> Vec<u8> {
        let mut entries = forge::named("x");
        entries.insert(tag::FILE_DIGESTS, Value::strings(&["aa", "bb"]));
        change(&mut entries);
        forge::package(&entries, b"", digest::of_bytes)
    }

    fn compared(change: impl FnOnce(&mut forge::Entries)) -> Vec<(String, String)> {
        let (one, two) = (package(|_| ()), package(change));
        differences(&mut one.as_slice(), &mut two.as_slice(), &Names::default()).unwrap()
    }

    #[test]
    fn tags_that_differ_are_named_with_their_first_difference() {
        assert_eq!(compared(|_| ()), []);
        let found = compared(|entries| {
            entries.insert(tag::FILE_DIGESTS, Value::strings(&["aa", "cc"]));
            entries.insert(tag::RELEASE, Value::text("2\u{1b}[2J"));
            entries.insert(9_999, Value::Words(vec![1]));
        });
        let found: Vec<_> = found.iter().map(|(tag, how)| (tag.as_str(), how.as_str())).collect();
        assert_eq!(found[0].0, "RELEASE");
        assert!(found[0].1.starts_with("\"1.world\" and \"2") && !found[0].1.contains('\u{1b}'));
        assert_eq!(found[1], ("FILEDIGESTS", "item 1: \"bb\" and \"cc\""));
        assert_eq!(found[2], ("tag 9999", "only in the second"));
    }

    #[test]
    fn names_that_rpm_itself_notes_are_no_difference() {
        let forge = |user: &str| {
            package(|entries| {
                entries.insert(IndexTag::RPMTAG_SPEC as u32, Value::text(user));
                entries.insert(tag::FILE_USERS, Value::strings(&[user, user]));
            })
        };
        let (one, two) = (forge("me"), forge("me2"));
        let names = Names(vec![("me2".to_owned(), "me".to_owned())]);
        let found = |names| differences(&mut one.as_slice(), &mut two.as_slice(), &names).unwrap();
        assert_eq!(found(names), []);
        assert_eq!(found(Names::default())[0].0, "FILEUSERNAME");
    }

    #[test]
    fn the_size_of_a_directory_is_no_difference_and_that_of_a_file_is() {
        let forge = |sizes: [u32; 2]| {
            package(|entries| {
                let modes = Value::Shorts(vec![0o040_755, 0o100_644]);
                entries.insert(IndexTag::RPMTAG_FILEMODES as u32, modes);
                let sizes = Value::Words(sizes.to_vec());
                entries.insert(IndexTag::RPMTAG_FILESIZES as u32, sizes);
            })
        };
        let found = |one: Vec<u8>, two: Vec<u8>| {
            differences(&mut one.as_slice(), &mut two.as_slice(), &Names::default()).unwrap()
        };
        assert_eq!(found(forge([4096, 7]), forge([60, 7])), []);
        assert_eq!(found(forge([4096, 7]), forge([60, 8]))[0].0, "FILESIZES");
    }

    #[test]
    fn of_long_values_the_place_is_shown_where_they_differ() {
        let forge = |end: &str| {
            package(|entries| {
                let text = format!("{}{end}", "x ".repeat(500));
                entries.insert(IndexTag::RPMTAG_DESCRIPTION as u32, Value::Text(text));
            })
        };
        let (one, two) = (forge("this"), forge("that"));
        let found =
            differences(&mut one.as_slice(), &mut two.as_slice(), &Names::default()).unwrap();
        assert!(found[0].1.contains("x this\" and \"…"), "{found:?}");
    }

    #[test]
    fn digests_are_no_news_beside_what_they_are_of() {
        let compared = |one: &[u8], two: &[u8]| {
            let forge =
                |payload: &[u8]| forge::package(&forge::named("x"), payload, digest::of_bytes);
            let (one, two) = (forge(one), forge(two));
            differences(&mut one.as_slice(), &mut two.as_slice(), &Names::default()).unwrap()
        };
        assert_eq!(compared(b"a", b"a"), []);
        assert_eq!(compared(b"a", b"b"), [(String::new(), "the payloads differ".to_owned())]);
    }

    #[test]
    fn what_is_no_package_is_told() {
        assert!(differences(&mut &b"x"[..], &mut &b"y"[..], &Names::default()).is_err());
    }
}
