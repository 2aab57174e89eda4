#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use mach_core::digest;

use super::*;

/// A spec's directory, a directory for its URLs, and replacements for cells.
struct Fixture {
    directory: tempfile::TempDir,
    spec_text: String,
    given: Vec<(String, Checksum)>,
    signer: Result<Signer, Error>,
    asked: RefCell<Vec<(String, String, usize)>>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["there", "package"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let signer = Signer { fingerprint: "F00D".to_owned(), name: "A Maker".to_owned() };
        let (spec_text, given, asked) = (String::new(), Vec::new(), RefCell::default());
        Self { directory, spec_text, given, signer: Ok(signer), asked }
    }

    /// A file that can be fetched, declared by the spec.
    fn remote(mut self, name: &str, content: &[u8]) -> Self {
        let path = self.directory.path().join("there").join(name);
        fs::write(&path, content).unwrap();
        self.spec_text += &format!("Source: file://{}\n", path.display());
        self
    }

    /// A file beside the spec.
    fn local(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.package().join(name), content).unwrap();
        self
    }

    fn declares(mut self, value: &str) -> Self {
        self.spec_text += &format!("Source: {value}\n");
        self
    }

    fn package(&self) -> PathBuf {
        self.directory.path().join("package")
    }

    fn bring(&self) -> Result<Vec<FetchedSource>, Error> {
        let spec = self.package().join("x.spec");
        let call = Call { spec: &spec, into: None, given: &self.given, network: Network::Allowed };
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let tools = Tools {
            expand: &|| Ok(self.spec_text.clone()),
            verify: &|signed, signature, keyrings| {
                self.asked.borrow_mut().push((name(signed), name(signature), keyrings.len()));
                self.signer.clone()
            },
        };
        bring(&call, &tools, &Progress::new("x"))
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.package()).unwrap().flatten();
        let mut names: Vec<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A key packet of version 4 (its numbers mean nothing).
const KEY: [u8; 14] = [0x98, 12, 4, 0, 0, 0, 1, 22, 1, 2, 3, 4, 5, 6];

fn sha256(content: &[u8]) -> Checksum {
    Checksum::parse(&format!("sha256:{}", digest::of_bytes(content))).unwrap()
}

#[test]
fn sources_come_beside_the_spec_in_its_order() {
    let fixture =
        Fixture::new().remote("b.tar", b"b").local("fix.patch", "p").declares("fix.patch");
    let fixture = fixture.remote("a.tar", b"a");
    let list = format!("SHA256 (b.tar) = {}\n", digest::of_bytes(b"b"));
    let fixture = fixture.local("sources", list);
    let brought = fixture.bring().unwrap();
    let names: Vec<_> =
        brought.iter().map(|one| one.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["b.tar", "fix.patch", "a.tar"]);
    assert_eq!(brought.iter().map(|one| one.is_new).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(brought[0].vouched, [sha256(b"b").to_string()]);
    assert_eq!(fixture.names(), ["a.tar", "b.tar", "fix.patch", "sources"]);
    // The second time all is there.
    assert!(fixture.bring().unwrap().iter().all(|one| !one.is_new));
}

#[test]
fn one_wrong_digest_and_nothing_gets_its_name() {
    let list = format!("SHA256 (b.tar) = {}\n", digest::of_bytes(b"other"));
    let fixture = Fixture::new().remote("a.tar", b"a").remote("b.tar", b"b").local("sources", list);
    let said = fixture.bring().unwrap_err().to_string();
    assert!(said.contains(&digest::of_bytes(b"b")), "{said}");
    assert!(said.contains(&digest::of_bytes(b"other")), "{said}");
    assert_eq!(fixture.names(), ["sources"]);
}

#[test]
fn a_file_that_is_there_but_wrong_is_named_and_left() {
    let mut fixture = Fixture::new().remote("a.tar", b"a").local("a.tar", "changed");
    fixture.given = vec![("a.tar".to_owned(), sha256(b"a"))];
    let said = fixture.bring().unwrap_err().to_string();
    assert!(said.contains("package/a.tar") && said.contains("remove it first"), "{said}");
    assert_eq!(fs::read(fixture.package().join("a.tar")).unwrap(), b"changed");
    fixture.given = vec![("c.tar".to_owned(), sha256(b"a"))];
    let failure = fixture.bring().unwrap_err();
    assert_eq!(failure.cause, Cause::Usage);
    assert!(failure.to_string().contains("its sources are: a.tar"), "{failure}");
}

#[test]
fn md5_alone_is_refused() {
    let fixture = Fixture::new()
        .remote("a.tar", b"a")
        .local("sources", "0cc175b9c0f1b6a831c399e269772661  a.tar\n");
    let said = fixture.bring().unwrap_err().to_string();
    assert!(said.contains("only md5 vouches") && said.contains("--sha256 a.tar="), "{said}");
    assert_eq!(fixture.names(), ["sources"]);
}

#[test]
fn what_cannot_be_had_is_listed_at_once() {
    let fixture = Fixture::new().declares("lost.patch").declares("ftp://a.example/x.tar");
    let failure = fixture.bring().unwrap_err();
    let said = failure.to_string();
    assert!(said.contains("lost.patch is not here") && said.contains("not ftp"), "{said}");
}

#[test]
fn signatures_are_verified_with_the_keys_that_were_here() {
    let fixture = Fixture::new().remote("a.tar", b"a").remote("a.tar.asc", b"signature");
    let fixture = fixture.local("maker.gpg", KEY).declares("maker.gpg");
    let brought = fixture.bring().unwrap();
    assert_eq!(fixture.asked.take(), [("a.tar".to_owned(), "a.tar.asc".to_owned(), 1)]);
    assert_eq!(brought[0].vouched, ["openpgp:F00D"]);
}

#[test]
fn a_bad_signature_ends_it_although_the_digest_is_right() {
    let mut fixture = Fixture::new().remote("a.tar", b"a").remote("a.tar.sig", b"signature");
    fixture = fixture.local("maker.gpg", KEY).declares("maker.gpg");
    fixture.given = vec![("a.tar".to_owned(), sha256(b"a"))];
    fixture.signer = Err(Error::new(Cause::Source, "a.tar cannot be trusted", "x"));
    assert!(fixture.bring().unwrap_err().what.contains("cannot be trusted"));
    assert_eq!(fixture.names(), ["maker.gpg"]);
}

#[test]
fn a_key_that_comes_along_with_what_it_signed_proves_nothing() {
    let fixture =
        Fixture::new().remote("a.tar", b"a").remote("a.tar.asc", b"s").remote("k.gpg", &KEY);
    let brought = fixture.bring().unwrap();
    assert!(fixture.asked.take().is_empty());
    assert!(brought[0].vouched.is_empty());
    // With a digest that the packager gave it is one to trust.
    let mut fixture = Fixture::new().remote("a.tar", b"a").remote("a.tar.asc", b"s");
    fixture = fixture.remote("k.gpg", &KEY);
    fixture.given = vec![("k.gpg".to_owned(), sha256(&KEY))];
    fixture.bring().unwrap();
    assert_eq!(fixture.asked.take().len(), 1);
}

#[test]
fn a_list_that_is_none_is_named_with_its_line() {
    let fixture = Fixture::new().remote("a.tar", b"a").local("sources", "# x\nhello\n");
    let said = fixture.bring().unwrap_err().to_string();
    assert!(said.contains("sources, line 2: \"hello\" is not a digest"), "{said}");
}

#[test]
fn what_a_killed_call_left_is_swept() {
    let fixture = Fixture::new().remote("a.tar", b"a");
    let left = fixture.package().join(".mach-fetch-1");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("half"), "x").unwrap();
    fixture.bring().unwrap();
    assert_eq!(fixture.names(), ["a.tar"]);
}

#[test]
fn what_is_beside_a_spec_is_held_to_its_list() {
    let list = format!("SHA256 (a.tar) = {0}\nSHA256 (absent) = {0}\n", digest::of_bytes(b"a"));
    let fixture = Fixture::new().local("a.tar", b"a").local("free", b"x").local("sources", list);
    check_listed(&fixture.package()).unwrap();
    let said = check_listed(&fixture.local("a.tar", b"b").package()).unwrap_err().to_string();
    assert!(said.contains("a.tar is not what it must be"), "{said}");
    check_listed(&Fixture::new().package()).unwrap();
}
