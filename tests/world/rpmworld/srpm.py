"""Real source RPMs: upstream's tarball with upstream's own spec, both checked against recorded sums; or a tree of ours."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile

from . import WorldError
from .package import rpmbuild

DEFINES = {
    "_buildhost": "world",
    "_source_payload": "w9.gzdio",
    "use_source_date_epoch_as_buildtime": "1",
    "debug_package": "%{nil}",
    # Whoever makes it, wherever and whenever: the same SRPM (it carries the spec with its macros expanded).
    "_topdir": ".",
    "_srcdefattr": "(0644,root,root)",
}


def read_checksums(text):
    """`SHA256  NAME` lines, as sha256sum writes them, to a table from name to sum."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words and len(words) != 2:
            raise WorldError(f"tests/world/checksums, line {number}: not 'SHA256  NAME': write it as sha256sum does")
        if words:
            found[words[1]] = words[0]
    return found


def sha256_of(path):
    """The sha256 sum of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(name, content_sum, checksums):
    """Raise WorldError unless `name` has the sum that was recorded."""
    recorded = checksums.get(name)
    if recorded != content_sum:
        raise WorldError(
            f"{name}: its sha256 sum is {content_sum}, but tests/world/checksums says {recorded or 'nothing of it'}: "
            "if the archive has another version now and you trust it, record it in world.toml and in checksums"
        )


def spec_text(source, tarball, specs, checksums):
    """The spec: upstream's own, checked, with the recorded lines added; or the project's, from `specs`."""
    if "own_spec" in source:
        with open(os.path.join(specs, source["own_spec"])) as file:
            return file.read()
    with tarfile.open(tarball) as archive:
        content = archive.extractfile(source["spec"]).read()
    check(source["spec"], hashlib.sha256(content).hexdigest(), checksums)
    return add_lines(content.decode(), source)


def add_lines(text, source):
    """Put `add` before the spec's %description: what upstream's spec forgot to say."""
    head, mark, rest = text.partition("\n%description")
    if not mark:
        raise WorldError(f"{source['spec']}: no %description in it: is it a spec?")
    return head + "".join(f"{line}\n" for line in source.get("add", ())) + mark + rest


def place_tarball(tarball, destination):
    """Put the tarball where the spec looks for it; one packed by xz is packed again by gzip if so named."""
    if destination.endswith((".gz", ".tgz")) and tarball.endswith(".xz"):
        with lzma.open(tarball) as packed, open(destination, "wb") as file:
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as out:
                shutil.copyfileobj(packed, out)
    else:
        shutil.copyfile(tarball, destination)


def newest_in(tarball):
    """The time of the newest file of a tarball: the SRPM's own time."""
    with tarfile.open(tarball) as archive:
        return max(int(member.mtime) for member in archive)


def pack(tree, top, destination, epoch):
    """Pack a directory as the tarball whose one directory is `top`: by the same files, the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted((each for each in os.scandir(tree) if each.is_file()), key=lambda each: each.name):
            member = tarfile.TarInfo(f"{top}/{path.name}")
            member.size, member.mtime = path.stat().st_size, epoch
            member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with open(path, "rb") as file:
                archive.addfile(member, file)
    with open(destination, "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as out:
        out.write(content.getvalue())


def tarball_of(source, tarballs, trees, checksums, epoch):
    """The path of a source's tarball: the archive's, checked; of one of our own, packed now."""
    if "tree" in source:
        path = os.path.join(tarballs, source["source0"])
        pack(os.path.join(trees, source["tree"]), source["source0"].removesuffix(".tar.gz"), path, epoch)
        return path
    path = os.path.join(tarballs, source["tarball"])
    if not os.path.exists(path):
        raise WorldError(f"{source['tarball']}: the archive's {source['debian']} did not bring it: correct world.toml")
    check(source["tarball"], sha256_of(path), checksums)
    return path


def make(source, tarball, specs, checksums, srpms, work):
    """Make one SRPM of a tarball in `srpms`; its path."""
    os.makedirs(os.path.join(work, "SOURCES"))
    place_tarball(tarball, os.path.join(work, "SOURCES", source["source0"]))
    spec = os.path.join(work, source["name"] + ".spec")
    with open(spec, "w") as file:
        file.write(spec_text(source, tarball, specs, checksums))
    made = os.path.join(work, "made")
    newest = newest_in(tarball)
    for path in (spec, os.path.join(work, "SOURCES", source["source0"])):
        os.utime(path, (newest, newest))
    rpmbuild(["-bs", spec], work, newest, DEFINES | {"_srcrpmdir": made})
    (name,) = os.listdir(made)
    os.rename(os.path.join(made, name), os.path.join(srpms, name))
    return os.path.join(srpms, name)
