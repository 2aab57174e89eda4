"""What Debian's archive gives: .debs and source tarballs, by a private apt that leaves the host's alone.

No archive is named here: the host's own apt sources say where Debian is, and its keys, proxies and
credentials stay in force.
"""

import glob
import os
import re
import subprocess

from . import WorldError

SUITES = ("{release}", "{release}-updates", "{release}-security")

CONFIGURATION = """\
Dir::State "{top}/state";
Dir::State::status "{top}/status";
Dir::Cache "{top}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{top}/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
// Private directories: _apt cannot write there, nor is there another apt to lock out.
APT::Sandbox::User "";
Debug::NoLocking "true";
// Hooks of the host would act on the host; indexes beside Packages and Sources are of no use here.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
"""


def stanzas_of_list(text):
    """The stanzas of a one-line-style file (sources.list(5)), as deb822 fields."""
    for line in text.splitlines():
        words = line.split("#")[0].strip()
        match = re.match(r"(deb|deb-src)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)$", words)
        if not match:
            continue
        options = dict(each.split("=", 1) for each in (match[2] or "").split() if "=" in each)
        fields = {"Types": match[1], "URIs": match[3], "Suites": match[4], "Components": match[5]}
        names = {"signed-by": "Signed-By", "trusted": "Trusted"}
        yield fields | {names[key]: value for key, value in options.items() if key in names}


def stanzas_of_sources(text):
    """The stanzas of a deb822-style file; continuation lines stay as they are (a key may be embedded)."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        fields, name = {}, None
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = {"uris": "URIs", "signed-by": "Signed-By"}.get(name.lower(), name.capitalize())
                fields[name] = value.strip()
        if fields and fields.get("Enabled", "yes").lower() not in ("no", "false", "0", "off"):
            yield fields


def private_sources(stanzas, release):
    """A .sources file of the host's entries for Debian `release`, main only, and its sources beside it."""
    wanted = [each.format(release=release) for each in SUITES]
    blocks = []
    for fields in stanzas:
        suites = [each for each in fields.get("Suites", "").split() if each.rstrip("/") in wanted]
        if not suites or "deb" not in fields.get("Types", "").split() or "main" not in fields.get("Components", "").split():
            continue
        kept = {key: fields[key] for key in ("URIs", "Signed-By", "Trusted") if key in fields}
        blocks.append({"Types": "deb", "Suites": " ".join(suites), "Components": "main"} | kept)
        if release in suites:
            blocks.append({"Types": "deb-src", "Suites": release, "Components": "main"} | kept)
    return "\n".join("".join(f"{key}: {value}\n" for key, value in each.items()) for each in blocks)


def planned_debs(plan):
    """The file names, as apt's cache has them, of what `apt-get --simulate` would install."""
    for name, version, arch in re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", plan, re.M):
        yield f"{name}_{version.replace(':', '%3a')}_{arch}.deb"


def host_stanzas(etc="/etc/apt"):
    """All stanzas of the host's apt."""
    for path in [f"{etc}/sources.list", *sorted(glob.glob(f"{etc}/sources.list.d/*.list"))]:
        if os.path.exists(path):
            with open(path) as file:
                yield from stanzas_of_list(file.read())
    for path in sorted(glob.glob(f"{etc}/sources.list.d/*.sources")):
        with open(path) as file:
            yield from stanzas_of_sources(file.read())


class Archive:
    """Debian's archive as the host's apt sources name it, seen through directories of our own."""

    def __init__(self, top, release):
        """Write the private configuration below `top` (what was downloaded there before stays)."""
        self.top = top
        for each in ("state/lists/partial", "cache/archives/partial", "sources.d", "tarballs"):
            os.makedirs(os.path.join(top, each), exist_ok=True)
        sources = private_sources(host_stanzas(), release)
        if "deb-src" not in sources:
            raise WorldError(
                f"/etc/apt: no entry for Debian's {release}, component main: "
                "the world is made of what the host's own apt can reach; add such an entry to /etc/apt/sources.list.d"
            )
        self._write("sources.d/debian.sources", sources)
        self._write("apt.conf", CONFIGURATION.format(top=top))
        self._write("status", "")

    def _write(self, name, text):
        with open(os.path.join(self.top, name), "w") as file:
            file.write(text)

    def _apt_get(self, *arguments, cwd=None):
        command = ["apt-get", "-qq", "-c", os.path.join(self.top, "apt.conf"), *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = "\n  ".join(done.stderr.splitlines()[-8:])
            raise WorldError(f"apt-get {arguments[0]} failed: is the archive reachable ('apt-get update')?\n  {last}")
        return done.stdout

    def update(self):
        """Fetch the indexes."""
        self._apt_get("update")

    def debs(self, packages):
        """Download packages with all they depend on; their paths, largest first."""
        self._apt_get("install", "--download-only", "--yes", *packages)
        plan = self._apt_get("install", "--simulate", "--yes", *packages)
        directory = os.path.join(self.top, "cache/archives")
        found = [os.path.join(directory, name) for name in planned_debs(plan)]
        return sorted(found, key=os.path.getsize, reverse=True)

    def tarballs(self, packages):
        """Download source packages (NAME=VERSION each); the directory that holds their files."""
        directory = os.path.join(self.top, "tarballs")
        if not packages:
            return directory
        # Nothing but tarballs: Debian's changes to them are no use here, and may not be there.
        self._apt_get("source", "--download-only", "--tar-only", *packages, cwd=directory)
        return directory
