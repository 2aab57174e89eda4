"""An RPM distribution made of Debian binaries: see README.md beside this package."""


class WorldError(Exception):
    """What failed, on what, and what to do: one sentence or two, for people."""
