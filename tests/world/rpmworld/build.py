"""The whole of it: downloads, conversions, repository, source RPMs, and the rename that shows them."""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from . import WorldError, each_alone, deb, package, signing, srpm
from .archive import Archive

HERE = Path(__file__).resolve().parent.parent
TOP = HERE.parent.parent
EPOCH_OF_OWN = 1_700_000_000
"""The time of what has none of Debian's, so that the same recipe and .debs give the same world."""

PROGRAMS = {"apt-get": "apt", "createrepo_c": "createrepo-c", "dpkg-deb": "dpkg", "gpg": "gpg", "rpmbuild": "rpm", "rpmsign": "rpm"}


def needed_packages():
    """The Debian packages whose programs are called here, from the file debian-packages."""
    lines = (line.split("#")[0].strip() for line in (HERE / "debian-packages").read_text().splitlines())
    return list(filter(None, lines))


class Recipe:
    """Everything committed that decides what the world is made of."""

    def __init__(self):
        self.world = tomllib.loads((HERE / "world.toml").read_text())
        dist = TOP / self.world["dist"]
        self.sets = tomllib.loads(dist.read_text())["sets"]
        self.checksums = srpm.read_checksums((HERE / "checksums").read_text())
        self.digest = self._digest(dist)

    def _digest(self, dist):
        """One sum of all inputs: the dist's sets, the tables, the specs and this program."""
        found = hashlib.sha256(json.dumps(self.sets).encode())
        inputs = [*HERE.glob("rpmworld/*.py"), *HERE.glob("specs/*"), *HERE.glob("sources/*/*"), HERE / "world.toml", HERE / "checksums"]
        for path in sorted(inputs):
            found.update(path.name.encode() + b"\0" + path.read_bytes())
        return found.hexdigest()

    def seeds(self):
        """The Debian packages to start from: the dist's sets but for the world's own, and what builds require."""
        wanted = [name for names in self.sets.values() for name in names] + self.world["build_requires"]
        return sorted(set(wanted) - set(self.world["own"]))

    def owned_by_filesystem(self):
        """The paths of the filesystem package, without a leading slash."""
        spec = (HERE / "specs/filesystem.spec").read_text().split("\n%files\n")[1]
        return frozenset(line.split("/", 1)[1] for line in spec.splitlines() if "/" in line)


class Progress:
    """What happens, with seconds since the start, on standard error; one moving line on a terminal."""

    def __init__(self):
        self.start = time.monotonic()
        self.moving = sys.stderr.isatty()

    def say(self, text, last=True):
        """Print a line; one that is not the last of its kind is shown on a terminal only."""
        if not last and not self.moving:
            return
        begin = "\r\033[K" if self.moving else ""
        end = "\n" if last else ""
        print(f"{begin}world: {time.monotonic() - self.start:4.0f} s  {text}", end=end, file=sys.stderr, flush=True)


class World:
    """One world, in `directory`."""

    def __init__(self, directory, jobs=None):
        self.directory = Path(os.path.abspath(directory))
        self.making = self.directory.with_name(self.directory.name + ".making")
        self.tree = self.making / "world"
        self.repo = self.tree / "repo"
        self.signed = self.tree / "signed"
        self.srpms = self.tree / "srpms"
        self.scratch = self.making / "scratch"
        self.old = self.making / "old"
        self.jobs = jobs or os.cpu_count() or 1
        self.lacks = []
        self.recipe = Recipe()
        self.progress = Progress()

    def make(self):
        """Make the world unless this recipe's is there; its directory."""
        if self._is_made():
            return self.directory
        self._check_host()
        lock = self._lock()
        try:
            if not self._is_made():
                self._make()
        finally:
            os.close(lock)
        return self.directory

    def _make(self):
        self._prepare()
        archive = Archive(str(self.making / "apt"), self.recipe.world["release"])
        debs = self._download(archive)
        packages = self._convert(debs)
        sources = self._make_sources(archive)
        self._sign()
        self._describe(packages, sources)
        self._show()

    def _is_made(self):
        """Whether the directory holds a world that this recipe made."""
        try:
            made = json.loads((self.directory / "world.json").read_text())
            # What lacks a source may have it the next time.
            return made["recipe"] == self.recipe.digest and not made["lacks"]
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (ValueError, KeyError, TypeError):
            raise WorldError(f"{self.directory}/world.json is not a world's: remove the directory, or name another") from None

    def _check_host(self):
        """The programs, the machine and the place, before anything is fetched."""
        for program, debian in PROGRAMS.items():
            if not shutil.which(program):
                raise WorldError(f"{program} is not installed: apt-get install {debian}")
        architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()
        if architecture != "amd64":
            raise WorldError(f"this machine is {architecture}: the world is made of amd64 binaries on amd64 only")
        if self.directory.exists() and not (self.directory / "world.json").exists() and any(self.directory.iterdir()):
            raise WorldError(f"{self.directory} holds something else than a world: name another directory")

    def _lock(self):
        """Hold DIR.making alone; another run that makes the same world is waited for."""
        while True:
            try:
                self.making.mkdir(parents=True, exist_ok=True)
                lock = os.open(self.making, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise WorldError(f"{self.making}: {error.strerror}: name a directory that can be written") from None
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.say(f"waiting for another run in {self.making}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The run that was waited for may have removed this very directory.
            if self.making.exists() and os.path.samestat(os.fstat(lock), os.stat(self.making)):
                return lock
            os.close(lock)

    def _prepare(self):
        """Keep what an interrupted run of the same recipe left; of another recipe, keep the downloads only."""
        stamp = self.making / "recipe"
        if not stamp.exists() or stamp.read_text() != self.recipe.digest:
            shutil.rmtree(self.tree, ignore_errors=True)
        for each in (self.scratch, self.old):
            shutil.rmtree(each, ignore_errors=True)
        for each in (self.repo, self.srpms, self.scratch):
            each.mkdir(parents=True, exist_ok=True)
        stamp.write_text(self.recipe.digest)

    def _download(self, archive):
        archive.update()
        debs = archive.debs(self.recipe.seeds())
        size = sum(os.path.getsize(each) for each in debs)
        self.progress.say(f"downloaded {len(debs)} packages, {size / 1e6:.0f} MB")
        return debs

    def _convert(self, debs):
        """Make an RPM of each .deb that has none yet; what was made of what."""
        omit = set(self.recipe.world["only_for_scripts"])
        controls = {path: deb.control(path) for path in debs}
        controls = {path: fields for path, fields in controls.items() if fields["Package"] not in omit}
        names = {fields["Package"] for fields in controls.values()} | set(self.recipe.world["own"])
        rules = package.Rules(self.recipe.world, self.recipe.owned_by_filesystem(), names)
        self._forget_others({package.rpm_name(fields) for fields in controls.values()})
        jobs = [(package.from_deb, path, fields, rules, str(self.repo), str(self.scratch))
                for path, fields in controls.items() if not (self.repo / package.rpm_name(fields)).exists()]
        jobs += [(own_package, name, str(self.repo), str(self.scratch)) for name in self.recipe.world["own"]]
        self._run(jobs)
        return [{"deb": os.path.basename(path), "rpm": package.rpm_name(fields)} for path, fields in sorted(controls.items())]

    def _forget_others(self, wanted):
        """Remove the RPMs of packages that the archive has replaced since an interrupted run."""
        for path in self.repo.glob("*.rpm"):
            if path.name not in wanted:
                path.unlink()

    def _run(self, jobs):
        """Run the conversions, as many at a time as there are processors."""
        with concurrent.futures.ProcessPoolExecutor(self.jobs, initializer=ignore_interrupts) as pool:
            running = [pool.submit(*job) for job in jobs]
            try:
                for done, each in enumerate(concurrent.futures.as_completed(running), 1):
                    each.result()
                    self.progress.say(f"made {done} of {len(jobs)} RPMs", last=done == len(jobs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _make_sources(self, archive):
        """Make the SRPMs; which and of what."""
        sources = self.recipe.world["source"]
        shutil.rmtree(self.srpms)
        self.srpms.mkdir()
        by_name = {each["name"]: each for each in sources}
        specs, trees, checksums = str(HERE / "specs"), str(HERE / "sources"), self.recipe.checksums
        made = []

        def make_source(name):
            each = by_name[name]
            tarballs = archive.tarballs([each["debian"]] if "debian" in each else [])
            tarball = srpm.tarball_of(each, tarballs, trees, checksums, EPOCH_OF_OWN)
            path = srpm.make(each, tarball, specs, checksums, str(self.srpms), str(self.scratch / name))
            made.append({"name": name, "tarball": os.path.basename(tarball), "srpm": os.path.basename(path)})

        self.lacks = each_alone(by_name, make_source)
        self.progress.say(f"made {len(made)} source RPMs")
        return made

    def _sign(self):
        """Both repositories' metadata, signed, and in the small one a package that is."""
        shutil.rmtree(self.signed, ignore_errors=True)
        self.signed.mkdir()
        own_package("notes", str(self.signed), str(self.scratch))
        with signing.Key() as key:
            key.export(self.tree / "key.asc")
            for each in self.signed.glob("signed-*.rpm"):
                key.sign_package(each)
            for each in (self.repo, self.signed):
                self._index(each)
                key.sign(each / "repodata/repomd.xml")

    def _index(self, repository):
        """A repository's metadata."""
        command = ["createrepo_c", "--quiet", "--no-database", "--workers", str(self.jobs)]
        command += ["--revision", str(EPOCH_OF_OWN), "--set-timestamp-to-revision", str(repository)]
        signing.run(command)

    def _describe(self, packages, sources):
        """world.json: the recipe's digest, and each RPM with its sum and that of what it was made of."""
        debs, tarballs = self.making / "apt/cache/archives", self.making / "apt/tarballs"
        for each in packages:
            each |= {"deb_sha256": srpm.sha256_of(debs / each["deb"]), "rpm_sha256": srpm.sha256_of(self.repo / each["rpm"])}
        for each in sources:
            each |= {"tarball_sha256": srpm.sha256_of(tarballs / each["tarball"]),
                     "srpm_sha256": srpm.sha256_of(self.srpms / each["srpm"])}
        own = [{"rpm": path.name, "rpm_sha256": srpm.sha256_of(path)}
               for path in sorted(self.repo.glob("*.rpm")) if path.name not in {each["rpm"] for each in packages}]
        content = {"schema": 1, "recipe": self.recipe.digest, "packages": packages, "own": own, "sources": sources,
                   "lacks": self.lacks}
        (self.tree / "world.json").write_text(json.dumps(content, indent=1) + "\n")

    def _show(self):
        """Put the world in its place, an older one out of it, and remove what was needed on the way."""
        if self.directory.exists():
            self.directory.rename(self.old)
        self.tree.rename(self.directory)
        sizes = [path.stat().st_size for path in (self.directory / "repo").glob("*.rpm")]
        self.progress.say(f"{self.directory} is there: {len(sizes)} RPMs, {sum(sizes) / 1e6:.0f} MB")
        shutil.rmtree(self.making, ignore_errors=True)


def own_package(name, repo, scratch):
    """Build one of the world's own packages."""
    work = os.path.join(scratch, name)
    os.makedirs(work)
    options = ["--define", f"_sourcedir {HERE / 'specs'}"]
    package.build(str(HERE / "specs" / f"{name}.spec"), work, repo, EPOCH_OF_OWN, options)


def ignore_interrupts():
    """A worker leaves ^C to the main process, which ends the pool in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
