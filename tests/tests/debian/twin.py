"""Compare a layer of Debian packages that mach made with what dpkg alone makes of the same packages.

Runs in a slave, in a mount namespace of its own. Prints the paths that differ, then the number of all.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

LAYERS = Path("/build/mach/layers")
SHARE = Path("/mnt/shares/debian")
# Times, and numbers of inodes, of this very run.
OF_ONE_RUN = ("/var/log/", "/var/cache/ldconfig/aux-cache")
UNPACK = "set -e; dpkg $1 --unpack $(cat /run/order); dpkg $1 --configure --pending"
OPTIONS = "--force-unsafe-io --force-confdef --force-confold"
ENVIRONMENT = {
    "PATH": "/usr/bin:/usr/sbin:/bin:/sbin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LANGUAGE": "en",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
}


def run(*words, **options):
    subprocess.run(words, check=True, stdout=sys.stderr, **options)


def manifest(layer):
    return json.loads((layer / "layer.json").read_text())


def packages(added, at):
    """Copies the packages to `at` and names them in order, as a chroot there sees them."""
    (at / "debs").mkdir()
    for each in added:
        place = "security" if each["repository"].endswith("security") else "debian"
        path = SHARE / place / each["location"]
        shutil.copy(path, at / "debs" / path.name)
        yield f"/run/debs/{path.name}"


def twin(layer, top):
    """Installs the layer's packages by dpkg alone; the directory with what that wrote."""
    below = LAYERS / layer["parent"]
    had = [each["nevra"] for each in manifest(below)["root"]["packages"]]
    added = [each for each in layer["root"]["packages"] if each["nevra"] not in had]
    upper, work, merged = (top / name for name in ("upper", "work", "merged"))
    for each in (upper, work, merged):
        each.mkdir(parents=True)
    options = f"lowerdir={below}/root,upperdir={upper},workdir={work},userxattr"
    run("mount", "-t", "overlay", "twin", "-o", options, merged)
    run("mount", "--rbind", "/proc", merged / "proc")
    run("mount", "--rbind", "/dev", merged / "dev")
    run("mount", "-t", "tmpfs", "twin", merged / "run")
    (merged / "run/order").write_text("\n".join(packages(added, merged / "run")))
    run("chroot", merged, "/bin/sh", "-c", UNPACK, "sh", OPTIONS, env=ENVIRONMENT)
    run("umount", "--recursive", merged)
    return upper


def tree(top):
    """What is below `top`: by path, all that a build can see but times."""
    found = {}
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            about = os.lstat(path)
            content = ""
            if stat.S_ISREG(about.st_mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            links = 0 if stat.S_ISDIR(about.st_mode) else about.st_nlink
            found[path.removeprefix(str(top))] = (about.st_mode, about.st_uid, about.st_gid, links, content)
    return {path: each for path, each in found.items() if not path.startswith(OF_ONE_RUN)}


def main():
    layers = [layer for layer in map(manifest, LAYERS.iterdir()) if layer["kind"] == "dependencies"]
    (layer,) = layers
    ours = tree(LAYERS / layer["key"] / "root")
    theirs = tree(twin(layer, Path("/build/twin")))
    differing = [path for path in {**ours, **theirs} if ours.get(path) != theirs.get(path)]
    print("\n".join([*sorted(differing), f"{len(differing)} of {len(ours)} differ"]))


main()
