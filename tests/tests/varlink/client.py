"""A Varlink client that knows nothing of ours: the one of PyPI, and what a master's socket tells it.

Usage: client.py SOCKET SLAVE
"""

import sys

import varlink


def main(socket, slave):
    """Introspects, then attaches and detaches; prints what a test compares."""
    with varlink.Client.new_with_address(f"unix:{socket}") as client:
        print("interfaces", " ".join(sorted(client.get_interfaces())))
        print("product", client.info["product"])
        description = client.get_interface("io.djinni.Master").description
        print("described", "method Attach(slave: string, hold: string)" in description)
        with client.open("io.djinni.Master") as djinni:
            print("lease", djinni.Describe()["lease_seconds"])
            print("path", djinni.Attach(slave, "master")["path"])
        # Another connection: the hold is the master's.
        with client.open("io.djinni.Master") as djinni:
            print("state", state(djinni, slave))
            try:
                djinni.Attach(slave, "master")
            except varlink.VarlinkError as error:
                print("refused", error.error(), error.parameters()["held_by"])
            try:
                djinni.Attach("nobody", "master")
            except varlink.VarlinkError as error:
                print("refused", error.error(), error.parameters()["slave"])
            print("detached", djinni.Detach(slave))
            print("state", state(djinni, slave))


def state(djinni, slave):
    """The state of one slave."""
    return next(each["state"] for each in djinni.Describe()["slaves"] if each["name"] == slave)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
