"""Reading a .deb: its control fields, and its payload laid out below a directory without privilege."""

import os
import shutil
import subprocess
import tarfile
from typing import NamedTuple

from .convert import in_usr, link_target

LEFT_OUT = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug", "usr/share/doc-base")
"""Directories a build root has no use for. Of usr/share/doc only the copyright files stay."""


class Entry(NamedTuple):
    """One path of a payload, as its tar had it: the owner is a name, since no file here has that owner."""

    path: str
    kind: str
    mode: int
    user: str
    group: str


class Payload(NamedTuple):
    """What a .deb carries: entries by path, paths that moved into /usr, time of the newest file."""

    entries: dict
    moved: list
    newest: int


def control(deb):
    """The control fields of a .deb; continuation lines keep their line breaks."""
    text = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
    fields, name = {}, None
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            fields[name] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def is_left_out(path, is_directory):
    """Whether a path of a payload is documentation that the world does without."""
    if any(path == each or path.startswith(each + "/") for each in LEFT_OUT):
        return True
    return path.startswith("usr/share/doc/") and not is_directory and not path.endswith("/copyright")


def unpack(deb, tree, drop=()):
    """Lay the payload of a .deb out below `tree`, /usr merged, but for the paths in `drop`."""
    payload = Payload({}, [], 0)
    newest = 0
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as source:
        with tarfile.open(fileobj=source.stdout, mode="r|") as archive:
            for member in archive:
                path = os.path.normpath(member.name).lstrip("/")
                if path == "." or is_left_out(path, member.isdir()) or in_usr(path) in drop:
                    continue
                newest = max(newest, int(member.mtime))
                _place(archive, member, path, tree, payload)
    if source.returncode:
        raise subprocess.CalledProcessError(source.returncode, source.args)
    return payload._replace(newest=newest)


def _place(archive, member, path, tree, payload):
    """Make one member of the tar at its place in `tree` and note it."""
    place = in_usr(path)
    if place in payload.entries or not _make(archive, member, path, os.path.join(tree, place), tree):
        return
    kind = "directory" if member.isdir() else "link" if member.issym() else "file"
    payload.entries[place] = Entry(place, kind, member.mode & 0o7777, member.uname or "root", member.gname or "root")
    if place != path and kind != "directory":
        payload.moved.append("/" + path)


def _make(archive, member, path, destination, tree):
    """Make one file, directory or link; False where there is nothing to make."""
    if member.isdir():
        os.makedirs(destination, exist_ok=True)
        return True
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if member.issym():
        target = link_target(path, member.linkname)
        if target is None:
            return False
        os.symlink(target, destination)
    elif member.islnk():
        os.link(os.path.join(tree, in_usr(os.path.normpath(member.linkname).lstrip("/"))), destination)
    elif member.isreg():
        _write(archive.extractfile(member), destination, member)
    else:
        return False
    return True


def _write(content, destination, member):
    """Write one regular file; rpm's generators look at its executable bit, rpm at its time."""
    with open(destination, "wb") as file:
        shutil.copyfileobj(content, file)
    os.chmod(destination, member.mode & 0o777 | 0o600)
    os.utime(destination, (member.mtime, member.mtime))
