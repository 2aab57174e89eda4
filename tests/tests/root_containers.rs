//! Programs that create containers, and programs of i386, in a slave.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use djinni_tests::djinni::Djinni;
use djinni_tests::images;

/// A djinni with the slave `containers`, in which the user anna has subordinate ids, a runtime
/// directory and a home, and in which `/build/root` is the root of a container.
fn with_containers() -> Djinni {
    let image = images::containers();
    let djinni = Djinni::with(|djinni| {
        let entry = format!("[image.containers]\nsource = {{ erofs = {image:?} }}\n[image.ext4]");
        djinni.edit("etc/images.toml", "[image.ext4]", &entry);
        let slave = "[slave.containers]\nimage = \"containers\"\nslice = 9\nroot = \"throwaway\"\n\
                     area = { dir = \"SRV/areas/containers\" }\nshares = [\"tools\"]\n[slave.ext4]";
        djinni.edit("etc/masters/m.toml", "[slave.ext4]", slave);
        let busybox = djinni.srv().join("tools/busybox");
        fs::copy("/bin/busybox", &busybox).unwrap();
        fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).unwrap();
    });
    djinni.start_master();
    djinni
}

const FURNISHED: &str = "
set -e
echo anna:x:1000:1000::/build/anna:/bin/sh >>/etc/passwd
echo anna:x:1000: >>/etc/group
echo anna:2000:60000 | tee /etc/subuid >/etc/subgid
mkdir -p /build/root/bin /build/anna /run/user/1000
cp /mnt/shares/tools/busybox /build/root/bin
ln -s busybox /build/root/bin/sh
chmod -R a+rX /build/root
tar -C /build/root -c . >/build/root.tar
cp -r /build/root /build/anna
chown -R anna:anna /build/anna /run/user/1000
chmod 700 /run/user/1000
cd /build/anna
set +e
anna() {
    setpriv --reuid anna --regid anna --clear-groups \\
        env HOME=/build/anna USER=anna XDG_RUNTIME_DIR=/run/user/1000 \"$@\"
}
";

/// A title, and a command that ends well and prints `fine` if the feature works.
const PROGRAMS: &[(&str, &str)] = &[
    // It is a program with an interpreter, unlike the loader.
    ("a program of i386", "/lib32/libc.so.6 | grep -q '^GNU C Library' && echo fine"),
    (
        "bwrap of root",
        "bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent \
         sh -c 'touch /tmp/x && ! touch /x 2>/dev/null && test -d /proc/1 && echo fine'",
    ),
    (
        "bwrap of a user",
        "anna bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --new-session \
         sh -c 'touch /tmp/x && ! touch /x 2>/dev/null && test -d /proc/1 && echo fine'",
    ),
    (
        "bwrap in bwrap",
        "anna bwrap --bind / / --dev-bind /dev /dev --proc /proc --unshare-user --unshare-pid \
         bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all echo fine",
    ),
    (
        "podman of a user, on a directory",
        "anna podman run --rm --network none --rootfs /build/anna/root /bin/sh -c 'echo fine'",
    ),
    (
        "podman of a user, on an image",
        "anna podman import /build/root.tar tiny && \
         anna podman run --rm --network none tiny /bin/sh -c 'echo fine'",
    ),
    (
        "podman of root, on a directory",
        "podman run --rm --cgroups disabled --network none --rootfs /build/root /bin/sh -c 'echo fine'",
    ),
    (
        "podman of root, on an image",
        "podman --root /build/storage --storage-driver vfs import /build/root.tar tiny && \
         podman --root /build/storage --storage-driver vfs run --rm --cgroups disabled --network none tiny \
         /bin/sh -c 'echo fine'",
    ),
];

#[test]
fn root_programs_that_make_containers_work_in_a_slave() {
    let djinni = with_containers();
    let mut script = FURNISHED.to_owned();
    for (what, command) in PROGRAMS {
        script += &format!(
            "said=$({{ {command}; }} 2>/run/complaints)\n\
             case $said in *fine) ;; *) echo 'BROKEN {what}'; cat /run/complaints ;; esac\n"
        );
    }
    let said = djinni.in_slave("containers", &["bash", "-c", &script]).done();
    assert_eq!(said.text(), "", "{}", said.stderr);
    djinni.finish();
}

/// The limits in `start-build(1)`: this fails if one of them no longer exists.
#[test]
fn root_podman_of_root_has_no_cgroup_and_no_fuse_in_a_slave() {
    let djinni = with_containers();
    let run = "run --rm --network none";
    let script = format!(
        "{FURNISHED}
         podman {run} --rootfs /build/root /bin/sh -c 'echo fine' 2>&1 | tail -n 1
         test ! -e /dev/fuse && echo no fuse
         touch /sys/fs/cgroup/cgroup.procs 2>&1
         tail -n 1 /proc/self/cgroup"
    );
    let said = djinni.in_slave("containers", &["bash", "-c", &script]).done().text();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("cgroup.subtree_control` for writing: Read-only"), "{said}");
    assert_eq!(lines[1], "no fuse");
    assert!(lines[2].ends_with("cgroup.procs': Permission denied"), "{said}");
    assert_eq!(lines[3], "0::/", "its cgroup is the top of what it sees");
    djinni.finish();
}
