//! Properties that hold for every input.

mod calls;
mod frames;
mod policy;

pub use calls::calls;
pub use frames::frames;
pub use policy::policy;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target and of its directory in the corpus.
    pub name: &'static str,
    /// Panics if the property does not hold for these bytes. Returns whether they were accepted: the share
    /// of accepted inputs shows whether a corpus reaches further than the first check.
    pub run: fn(&[u8]) -> bool,
    /// Dictionary of this format.
    pub words: &'static [&'static str],
}

/// All targets.
pub const TARGETS: [Target; 3] = [
    Target { name: "frames", run: frames, words: WIRE },
    Target { name: "calls", run: calls, words: WIRE },
    Target { name: "policy", run: policy, words: CONFIGURATION },
];

const WIRE: &[&str] = &[
    "\0",
    "{\"method\":\"io.djinni.Master.Attach\",\"parameters\":",
    "{\"method\":\"io.djinni.Host.DropMaster\",\"parameters\":",
    "{\"slave\":\"a\",\"hold\":\"connection\"}",
    "{\"method\":\"io.djinni.Master.Mount\",\"parameters\":",
    "{\"slave\":\"a\",\"kind\":\"share\",\"what\":\"world\",\"target\":\"build/x\"}",
    "{\"slave\":\"a\",\"target\":\"build/taken\"}",
    "\"parameters\":{",
    "\"more\":true,",
    "\"oneway\":true,",
    "\"upgrade\":true,",
    "\"a/../b\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "1e999",
    "null",
    "[[[[[[[[",
    "\"slave\":\"host.socket\"",
];

const CONFIGURATION: &[&str] = &[
    "[slave.c]\nimage = \"i\"\nslice = 3\narea = { dir = \"/srv/areas/c\" }\n",
    "first = 4294967295",
    "count = 4294967295",
    "slice = 65535",
    "slice = 0",
    "\"/srv/areas\"",
    "\"/srv/areas/a/b\"",
    "\"/etc/djinni\"",
    "\"/../\"",
    "[share.x]\ndir = \"/srv/x\"\n",
    "shares = [\"world\", \"world\"]",
    "root = \"throwaway\"",
    "lease = \"99999999999h\"",
    "digest = \"sha256:",
    "\u{1}images.toml\n",
];
