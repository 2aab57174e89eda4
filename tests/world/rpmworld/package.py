"""Making one RPM of one .deb, and the RPMs that are this world's own."""

import os
import shutil
import subprocess
import tempfile

from . import WorldError, deb
from .convert import dependencies, package_evr, provided_names, python_dist, spec_path

PKGCONFIG_FILES = r"^(/usr/lib/x86_64-linux-gnu|/usr/lib|/usr/share)/pkgconfig/.*\\.pc$"

DEFINES = {
    # Files stay byte for byte as Debian shipped them: nothing stripped, compressed or split off.
    "__os_install_post": "%{nil}",
    "debug_package": "%{nil}",
    "_build_id_links": "none",
    "_binaries_in_noarch_packages_terminate_build": "0",
    "_unpackaged_files_terminate_build": "0",
    # Of rpm's generators: sonames both ways, pkgconfig() and perl() as provides only. What scripts,
    # perl, python and .pc files require stands in Debian's Depends already.
    "__pkgconfig_path": PKGCONFIG_FILES,
    "__pkgconfig_requires": "%{nil}",
    "__perl_requires": "%{nil}",
    "__perllib_requires": "%{nil}",
    "__python_requires": "%{nil}",
    "__pythondist_requires": "%{nil}",
    "__script_requires": "%{nil}",
    # Debian's default is /bin/sh, there dash.
    "_buildshell": "/bin/bash",
    # The same .deb gives the same RPM.
    "_buildhost": "world",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_binary_payload": "w3.zstdio",
    "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
}


def rpmbuild(arguments, top, epoch, defines):
    """Run rpmbuild in `top` with nothing of the caller's configuration; raise WorldError with its last words."""
    command = ["rpmbuild", "--quiet"]
    for name, value in ({"_topdir": top} | defines).items():
        command += ["--define", f"{name} {value}"]
    environment = {"HOME": top, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(command + arguments, cwd=top, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = "\n  ".join(done.stderr.splitlines()[-12:])
        raise WorldError(f"rpmbuild failed on {arguments[-1]}:\n  {last}")


class Rules:
    """What world.toml says of packages: names, what to add, drop and leave out."""

    def __init__(self, world, own, packages):
        """`own`: paths that the filesystem package owns; `packages`: all names of packages in this world."""
        self.names = world["names"]
        self.changes = world.get("package", {})
        self.omit = frozenset(world["only_for_scripts"])
        self.own = own
        self.packages = packages

    def change(self, name):
        """The table of one package; empty if nothing is to be changed."""
        return self.changes.get(name, {})


def rpm_name(control):
    """The file name of the RPM that a .deb becomes."""
    version = package_evr(control["Version"])
    return f"{control['Package']}-{version.version}-{version.release}.{rpm_arch(control)}.rpm"


def rpm_arch(control):
    """rpm's word for a .deb's architecture."""
    return "noarch" if control["Architecture"] == "all" else "x86_64"


def from_deb(path, control, rules, repo, scratch):
    """Make the RPM of one .deb in `repo`; it appears there whole or not at all."""
    work = tempfile.mkdtemp(prefix=control["Package"] + "-", dir=scratch)
    try:
        tree = os.path.join(work, "tree")
        os.mkdir(tree)
        payload = deb.unpack(path, tree, rules.change(control["Package"]).get("drop", ()))
        spec = os.path.join(work, control["Package"] + ".spec")
        with open(spec, "w") as file:
            file.write(spec_of(control, payload, tree, rules))
        build(spec, work, repo, payload.newest, ["--target", rpm_arch(control)])
    finally:
        shutil.rmtree(work, ignore_errors=True)


def build(spec, work, repo, epoch, options=()):
    """Build the binary RPM of a spec below `work` and move it into `repo`."""
    rpms = os.path.join(work, "rpms")
    rpmbuild([*options, "-bb", spec], work, epoch, DEFINES | {"_rpmdir": rpms})
    for name in os.listdir(rpms):
        # The repository's metadata hold this time.
        os.utime(os.path.join(rpms, name), (epoch, epoch))
        os.rename(os.path.join(rpms, name), os.path.join(repo, name))


def spec_of(control, payload, tree, rules):
    """The spec of one package: header, an %install that takes the tree as it is, %files with owners."""
    change = rules.change(control["Package"])
    install = change.get("install", "").replace("%", "%%")
    sections = [
        header(control, payload, rules),
        "%description\n" + description(control),
        f"%install\nrmdir %{{buildroot}} 2>/dev/null || :\nmv {tree} %{{buildroot}}\ncd %{{buildroot}}\n{install}",
        change.get("scripts", ""),
        "%files\n" + "\n".join([*file_lines(payload, rules.own), *change.get("files", ())]),
    ]
    return "\n\n".join(sections) + "\n"


def description(control):
    """The long description, with Debian's "." lines empty again."""
    lines = control.get("Description", "").split("\n")[1:] or [control["Package"]]
    return "\n".join("" if line == "." else line for line in lines).replace("%", "%%")


def header(control, payload, rules):
    """Name, version and dependencies."""
    name = control["Package"]
    version = package_evr(control["Version"])
    tags = [("Name", name), ("Version", version.version), ("Release", version.release)]
    tags += [("Epoch", version.epoch)] if version.epoch else []
    tags += [
        ("Summary", control.get("Description", name).split("\n")[0].replace("%", "%%")),
        ("License", f"see /usr/share/doc/{name}/copyright"),
        ("Group", control.get("Section", "misc")),
        ("Vendor", "Debian, repackaged"),
    ]
    tags += [("BuildArch", "noarch")] if rpm_arch(control) == "noarch" else []
    tags += [("Provides", each) for each in provides(control, version, payload, rules)]
    tags += [("Requires", each) for each in requires(control, rules)]
    if any((entry.user, entry.group) != ("root", "root") for entry in payload.entries.values()):
        # rpm looks a group up in the root's own /etc/group and gives the file to root where there is none.
        tags += [("Requires(pre)", "base-passwd")]
    return "\n".join(f"{tag}: {value}" for tag, value in tags)


def provides(control, version, payload, rules):
    """Debian's virtual names, the Fedora family's names, and the old paths of what moved into /usr."""
    name = control["Package"]
    names = provided_names(name, rules.names.get(name, ()), rules.packages)
    found = [f"{each} = {version}" for each in names]
    found += dependencies(control.get("Provides", ""))
    found += sorted(path for path in payload.moved if path.startswith(("/bin/", "/sbin/")))
    found += sorted(filter(None, map(python_dist, payload.entries)))
    found += rules.change(name).get("provides", [])
    return list(dict.fromkeys(found))


def requires(control, rules):
    """Depends and Pre-Depends.

    Breaks, Conflicts and Replaces are not kept: they order upgrades between Debian's releases, and an
    unversioned rpm Provides would match them.
    """
    found = []
    for field in ("Pre-Depends", "Depends"):
        found += dependencies(control.get(field, ""), rules.omit)
    found += rules.change(control["Package"]).get("requires", [])
    return list(dict.fromkeys(found))


def file_lines(payload, own):
    """One line of %files for each entry that the filesystem package does not own."""
    for entry in payload.entries.values():
        if entry.path in own and entry.kind == "directory":
            continue
        yield file_line(entry)


def file_line(entry):
    """One entry with mode and owner; what is below /etc is configuration."""
    mode = "-" if entry.kind == "link" else f"{entry.mode:04o}"
    mark = "%dir " if entry.kind == "directory" else "%config(noreplace) " if entry.path.startswith("etc/") else ""
    return f"{mark}%attr({mode},{entry.user},{entry.group}) {spec_path(entry.path)}"
