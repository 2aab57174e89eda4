//! Any Varlink client can speak to the djinni: here the one of PyPI.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use djinni_tests::djinni::{Djinni, master_name};
use djinni_tests::{images, programs};

#[test]
fn root_a_foreign_client_introspects_attaches_and_detaches() {
    let djinni = Djinni::started();
    let mut command = Command::new(images::varlink_python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/varlink/client.py"));
    command.arg(djinni.places.master_socket(&master_name())).arg("ext4");
    let said = programs::run(&mut command).done().text();
    let wanted = "interfaces io.djinni.Master org.varlink.service\n\
                  product djinnid\n\
                  described True\n\
                  lease 30\n\
                  path /mnt/slaves/ext4/root\n\
                  state attached\n\
                  refused io.djinni.Master.SlaveBusy master\n\
                  refused io.djinni.Master.NoSuchSlave nobody\n\
                  detached {}\n\
                  state free\n";
    assert_eq!(said, wanted);
    djinni.finish();
}
