#!/usr/bin/python3
"""What the world's pyproject macros do: PEP 517's hooks, called in the source's own directory.

  world-pyproject requirements            prints what the backend needs, as rpm writes it
  world-pyproject wheel DIR               builds the wheel into DIR
  world-pyproject files ROOT SITE NAME    prints lines of %files for the module NAME and its metadata
"""

import contextlib
import glob
import importlib
import os
import re
import sys
import tomllib

from packaging.requirements import Requirement

LEGACY = {"requires": ["setuptools", "wheel"], "build-backend": "setuptools.build_meta:__legacy__"}


def build_system():
    """The table of pyproject.toml, or what PEP 517 says where there is none."""
    try:
        with open("pyproject.toml", "rb") as file:
            return LEGACY | tomllib.load(file).get("build-system", {})
    except FileNotFoundError:
        return LEGACY


def backend(table):
    """The object with the hooks; ImportError where the backend is not installed."""
    sys.path[:0] = [os.path.abspath(each) for each in table.get("backend-path", ())]
    module, _, name = table["build-backend"].partition(":")
    found = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = getattr(found, part)
    return found


def as_rpm(text):
    """One requirement of Python's, as rpm's dependency; none where its marker says no."""
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate():
        return
    name = f"python3dist({re.sub(r'[-_.]+', '-', wanted.name).lower()})"
    bounds = [f"{each.operator} {each.version}" for each in wanted.specifier if each.operator in ("<", "<=", ">", ">=")]
    bounds += [f"= {each.version}" for each in wanted.specifier if each.operator == "==" and "*" not in each.version]
    yield from (f"{name} {each}" for each in sorted(bounds)) if bounds else (name,)


def requirements():
    """First what the table names; then, with that installed, what the backend itself asks for."""
    table = build_system()
    wanted = list(table["requires"])
    try:
        # Backends print; standard output is for requirements alone.
        with contextlib.redirect_stdout(sys.stderr):
            ask = getattr(backend(table), "get_requires_for_build_wheel", None)
            wanted += ask() if ask else []
    except ImportError as error:
        print(f"not asked yet: {error}", file=sys.stderr)
    for line in dict.fromkeys(line for text in wanted for line in as_rpm(text)):
        print(line)


def wheel(directory):
    """Build the wheel."""
    os.makedirs(directory, exist_ok=True)
    print(backend(build_system()).build_wheel(directory))


def files(root, site, name):
    """The module or package, and every .dist-info."""
    found = glob.glob(f"{root}{site}/{name}") + glob.glob(f"{root}{site}/{name}.py") + glob.glob(f"{root}{site}/*.dist-info")
    if not found:
        sys.exit(f"world-pyproject: {root}{site}: neither {name} nor metadata there")
    print("\n".join(sorted(each.removeprefix(root) for each in found)))


def main():
    """0: done; 2: usage."""
    actions = {"requirements": (requirements, 0), "wheel": (wheel, 1), "files": (files, 3)}
    action, count = actions.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if action is None or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    action(*sys.argv[2:])


if __name__ == "__main__":
    main()
