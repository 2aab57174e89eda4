"""Debian's versions, dependencies and paths in rpm's terms. Pure: nothing here touches a file.

Sources: deb-version(7), deb-control(5), the rpm manual's "Dependencies" and "Boolean dependencies".
"""

import os.path
import re
from typing import NamedTuple

RELEASE_OF_NATIVE = "0"
"""What a native package (a Debian version without a revision) gets as its Release."""

DEPENDENCY = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)"
    r"(?::(?P<qualifier>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<operator><<|<=|=|>=|>>)\s*(?P<version>[^)\s]+)\s*\))?"
)
OPERATORS = {"<<": "<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">"}

PYTHON_METADATA = re.compile(
    r"usr/lib/python3/dist-packages/(?P<name>[^/]+?)-(?P<version>[0-9][^/-]*)(-py[0-9.]+)?\.(dist|egg)-info"
)

TO_USR = re.compile(r"^(bin|sbin|lib|lib32|lib64|libx32)(?=/|$)")


class Evr(NamedTuple):
    """An rpm version: epoch ("" if none), version, release ("" if none)."""

    epoch: str
    version: str
    release: str

    def __str__(self):
        """As a dependency writes it: [EPOCH:]VERSION[-RELEASE]."""
        epoch = f"{self.epoch}:" if self.epoch else ""
        release = f"-{self.release}" if self.release else ""
        return f"{epoch}{self.version}{release}"


def evr(debian_version):
    """Split [EPOCH:]UPSTREAM[-REVISION]. A "-" inside of UPSTREAM, which rpm forbids, becomes "_"."""
    epoch, colon, rest = debian_version.partition(":")
    if not colon:
        epoch, rest = "", debian_version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return Evr(epoch, upstream.replace("-", "_"), revision)


def package_evr(debian_version):
    """The version of a package itself, which must have a release."""
    version = evr(debian_version)
    return version if version.release else version._replace(release=RELEASE_OF_NATIVE)


def dependency(text):
    """One Debian dependency, without alternatives: `libc6:any (>> 2.36)` -> `libc6 >= 2.36`."""
    match = DEPENDENCY.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a Debian dependency: {text!r}")
    if not match["operator"]:
        return match["name"]
    version = evr(match["version"])
    operator = OPERATORS[match["operator"]]
    # For dpkg 2.36-9 is later than 2.36; for rpm a version without a release equals all its releases.
    if operator == ">" and not version.release:
        operator = ">="
    return f"{match['name']} {operator} {version}"


def dependencies(field, omit=frozenset()):
    """A whole Depends or Provides field, alternatives as rich dependencies.

    A dependency is left out when one of its alternatives is a package of `omit`.
    """
    clauses = (clause.strip() for clause in field.replace("\n", " ").split(","))
    found = []
    for clause in filter(None, clauses):
        alternatives = list(dict.fromkeys(dependency(each) for each in clause.split("|")))
        if any(each.split()[0] in omit for each in alternatives):
            continue
        found.append(alternatives[0] if len(alternatives) == 1 else f"({' or '.join(alternatives)})")
    return found


def devel_names(package):
    """Names that the Fedora family would give a -dev package: libpopt-dev -> libpopt-devel, popt-devel.

    The number of a soname and the name of a TLS library vanish: libselinux1-dev -> libselinux-devel.
    """
    if not package.endswith("-dev"):
        return set()
    stem = package.removesuffix("-dev")
    stems = {stem, re.sub(r"([0-9][0-9.]*[a-z]?)?(-(gnutls|nss|openssl))?$", "", stem)}
    stems |= {each.removeprefix("lib") for each in stems}
    return {f"{each}-devel" for each in stems if len(each) > 1}


def provided_names(package, mapped, packages):
    """All Fedora names of a package, sorted: the mapped ones and, if none is, those by rule.

    None of them may be the name of a package (`packages`): whoever requires that package must get it.
    """
    names = set(mapped) or devel_names(package)
    return sorted(names - set(packages))


def python_dist(path):
    """`python3dist(NAME) = VERSION` for a Python package's metadata directory or file; None for another path."""
    match = PYTHON_METADATA.fullmatch(path)
    if not match:
        return None
    name = re.sub(r"[-_.]+", "-", match["name"]).lower()
    return f"python3dist({name}) = {match['version'].replace('-', '_')}"


def in_usr(path):
    """Where a path of a package lives in a merged /usr: bin/sh -> usr/bin/sh. No leading slash."""
    return f"usr/{path}" if TO_USR.match(path) else path


def link_target(path, target):
    """The target of the symbolic link `path` after a move into /usr; None for a link onto itself."""
    moved = in_usr(path)
    absolute = os.path.normpath(os.path.join("/", os.path.dirname(path), target))
    merged = "/" + in_usr(absolute.lstrip("/"))
    if merged == f"/{moved}":
        return None
    if moved == path or target.startswith("/"):
        return target
    return os.path.relpath(merged, "/" + os.path.dirname(moved))


def spec_path(path):
    """A path as %files wants it: quoted, macros taken literally.

    rpm has no escape for glob characters in a quoted name (a lone "[" is none): "?" stands for each.
    """
    if re.search(r"[*?{}\\]|\[.*\]", path):
        path = re.sub(r"[][*?{}\\]", "?", path)
    return '"/' + path.replace("%", "%%") + '"'
