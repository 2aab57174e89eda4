"""An RPM distribution made of Debian binaries: see README.md beside this package."""

import sys


class WorldError(Exception):
    """What failed, on what, and what to do: one sentence or two, for people."""


def each_alone(names, make):
    """Call `make` for each name, the failure of one leaving the others alone; the names that failed, each said."""
    lacks = []
    for name in names:
        try:
            make(name)
        except WorldError as error:
            print(f"world: {name} cannot be had, going on without it: {error}", file=sys.stderr)
            lacks.append(name)
    return lacks
