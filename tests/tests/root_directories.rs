//! Images that are directory trees of the host.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use djinni_tests::djinni::Djinni;
use djinni_tests::images;
use djinni_tests::programs::run;

const SLICE: u32 = 65_536;
const SIGKILL: i32 = 9;

/// A djinni whose slaves `squashfs`, `throwaway` and `kept` have a copy of the small image's tree for a root.
fn with_tree() -> Djinni {
    let djinni = Djinni::with(|djinni| {
        djinni.lend("attacker");
        let tree = djinni.base().join("tree");
        fs::create_dir(&tree).unwrap();
        let unpack = "mkdir \"$2.from\" && mount -o loop,ro \"$1\" \"$2.from\" && cp -a \"$2.from/.\" \"$2\"; \
                      umount \"$2.from\" && rmdir \"$2.from\"";
        let image = images::tiny().join("tiny.ext4");
        run(Command::new("sh").args(["-c", unpack, "sh"]).arg(image).arg(&tree)).done();
        let of_squashfs = "source = { loop = \"TINY/tiny.squashfs\", fs = \"squashfs\" }";
        djinni.edit(
            "etc/images.toml",
            of_squashfs,
            &format!("source = {{ dir = \"{}\" }}", tree.display()),
        );
        for slave in ["throwaway", "kept"] {
            let section = format!("[slave.{slave}]\nimage = \"erofs\"");
            djinni.edit(
                "etc/masters/m.toml",
                &section,
                &format!("[slave.{slave}]\nimage = \"squashfs\""),
            );
        }
    });
    djinni.start_master();
    djinni
}

#[test]
fn root_a_directory_is_the_root_of_several_slaves_and_stays_as_it_is() {
    let mut djinni = with_tree();
    let tree = djinni.base().join("tree");
    // A mount below the directory is not part of the image.
    let below = tree.join("mnt");
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&below)).done();
    fs::write(below.join("secret"), "of the host").unwrap();
    for (slave, slice) in [("squashfs", 3), ("throwaway", 4), ("kept", 5)] {
        djinni.asks(&["attach", slave]).done();
        let owner = fs::metadata(djinni.tree(slave, "/bin/busybox")).unwrap().uid();
        assert_eq!(owner, djinni.ids_first() + slice * SLICE, "{slave}");
        assert!(!djinni.tree(slave, "/mnt/secret").exists(), "{slave}");
    }
    run(Command::new("umount").arg(&below)).done();
    djinni.end_daemon(SIGKILL);
    djinni.start();
    assert_eq!(djinni.state("kept"), "attached");
    for slave in ["squashfs", "throwaway", "kept"] {
        djinni.asks(&["detach", slave]).done();
    }
    let script = "id -u; touch /etc/x 2>&1; echo y > /var/lib/y; cat /var/lib/from-the-image";
    let text = djinni.in_slave("squashfs", &["sh", "-c", script]).done().text();
    assert_eq!(text, "0\ntouch: /etc/x: Read-only file system\nof the image\n");
    djinni.in_slave("throwaway", &["sh", "-c", "rm -rf /etc; echo z > /opt/z"]).done();
    assert!(tree.join("etc/passwd").exists() && !tree.join("opt/z").exists());
    assert_eq!(fs::metadata(tree.join("bin/busybox")).unwrap().uid(), 0);
    djinni.finish_by_force();
}

#[test]
fn root_a_slave_gains_nothing_from_a_directory_of_the_host() {
    let djinni = with_tree();
    let attack = |words: &[&str]| {
        // No share in this slave: the set-user-id copy of the attacker is part of the tree.
        let argv = [&["/opt/suid"], words].concat();
        djinni.in_slave("squashfs", &argv).done().text().trim().to_owned()
    };
    for flag in ["ro", "nodev"] {
        assert_eq!(attack(&["clear", flag, "/"]), "EPERM", "{flag}");
    }
    assert_eq!(attack(&["remount", "/"]), "EPERM");
    for node in ["/opt/null", "/opt/disk"] {
        assert_eq!(attack(&["open", node]), "EACCES", "{node}");
    }
    assert_eq!(attack(&["write", "/etc/written"]), "EROFS");
    let copied = attack(&["clear-copy", "/"]);
    assert!(matches!(copied.as_str(), "EPERM" | "EINVAL"), "{copied}");
    assert!(!djinni.base().join("tree/etc/written").exists());
    djinni.finish_by_force();
}

#[test]
fn root_a_directory_that_cannot_be_an_image_is_refused() {
    let djinni = with_tree();
    let tree = djinni.base().join("tree");
    let aside = djinni.base().join("aside");
    fs::rename(&tree, &aside).unwrap();
    djinni.asks(&["attach", "squashfs"]).ended_with(1).complains(&["not available", "ENOENT"]);
    fs::write(&tree, "a file").unwrap();
    djinni.asks(&["attach", "squashfs"]).ended_with(1).complains(&["not a directory"]);
    fs::remove_file(&tree).unwrap();
    fs::rename(&aside, &tree).unwrap();
    djinni.asks(&["attach", "squashfs"]).done();
    djinni.asks(&["detach", "squashfs"]).done();
    // Another directory of the name is the image from the next reload on.
    fs::rename(&tree, &aside).unwrap();
    run(Command::new("cp").arg("-a").arg(&aside).arg(&tree)).done();
    fs::remove_dir_all(&aside).unwrap();
    fs::write(tree.join("var/lib/from-the-image"), "of another\n").unwrap();
    djinni.djinni(&["reload"]).done();
    let text = djinni.in_slave("squashfs", &["cat", "/var/lib/from-the-image"]).done().text();
    assert_eq!(text, "of another\n");
    fs::remove_dir(tree.join("build")).unwrap();
    djinni.asks(&["attach", "squashfs"]).ended_with(1).complains(&["no directory /build"]);
    fs::create_dir(tree.join("build")).unwrap();
    djinni.asks(&["attach", "squashfs"]).done();
    djinni.asks(&["detach", "squashfs"]).done();
    run(Command::new("chmod").arg("o+w").arg(&tree)).done();
    djinni.djinni(&["reload"]).ended_with(1).complains(&["can be changed by everybody"]);
    djinni.finish_by_force();
}
