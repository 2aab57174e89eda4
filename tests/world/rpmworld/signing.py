"""A key of the world's own, made with it and thrown away after: what it has signed stays, and its public half."""

import os
import shutil
import subprocess
import tempfile

from . import WorldError

NAME = "The RPM world"


class Key:
    """A key pair in a directory of its own; use it in a `with`, which removes it."""

    def __enter__(self):
        # Short: the agent's socket is in it.
        self.home = tempfile.mkdtemp(prefix="world-key-")
        self._gpg("--quick-generate-key", NAME, "rsa3072", "sign", "never")
        return self

    def __exit__(self, *_):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def _gpg(self, *arguments):
        run(["gpg", "--batch", "--quiet", "--homedir", self.home, "--passphrase", "", "--pinentry-mode", "loopback", *arguments])

    def export(self, destination):
        """Write the public half, armored."""
        self._gpg("--armor", "--output", str(destination), "--export", NAME)

    def sign(self, path):
        """Write PATH.asc, a detached signature."""
        self._gpg("--armor", "--yes", "--output", f"{path}.asc", "--detach-sign", str(path))

    def sign_package(self, path):
        """Put a signature into an RPM; its time stays."""
        found = os.stat(path)
        defines = {"_gpg_name": NAME, "_gpg_path": self.home, "__gpg": shutil.which("gpg")}
        run(["rpmsign", *(each for pair in defines.items() for each in ("--define", " ".join(pair))), "--addsign", str(path)])
        os.utime(path, (found.st_mtime, found.st_mtime))


def run(command):
    """Run a command; raise WorldError with its last words."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        last = "\n  ".join((done.stdout + done.stderr).splitlines()[-8:])
        raise WorldError(f"{command[0]} failed on {command[-1]}:\n  {last}")
