//! Each refusal goes over the wire once, and says to its reader what to change.

use std::fmt::{Debug, Display};

use djinni_api::codec::{MESSAGE_LIMIT_BYTES, parse_answer};
use djinni_api::host::Refusal as HostRefusal;
use djinni_api::master::Refusal as MasterRefusal;
use djinni_api::{ServiceError, SlaveName, master};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Checks that `bytes` are the error `name` with `parameters`, that they decode to `refusal`, and that its
/// message contains `word`.
fn check<R>(refusal: &R, bytes: &[u8], name: &str, parameters: &Value, word: &str)
where
    R: DeserializeOwned + PartialEq + Debug + Display,
{
    let answer = parse_answer(bytes.strip_suffix(&[0]).unwrap()).unwrap();
    assert_eq!(answer.error.as_deref(), Some(name));
    assert_eq!(answer.continues, None);
    assert_eq!(answer.parameters.map(Value::Object).as_ref(), Some(parameters));
    let decoded: R =
        serde_json::from_value(json!({"error": name, "parameters": parameters})).unwrap();
    assert_eq!(&decoded, refusal);
    let sentence = refusal.to_string();
    assert!(sentence.contains(word) && !sentence.contains('\n'), "{sentence}");
}

fn slave() -> SlaveName {
    "bslave-1".parse().unwrap()
}

#[test]
fn each_refusal_to_a_master() {
    let holders = vec!["pid 7 (sleep)".to_owned()];
    let cases = [
        (
            MasterRefusal::NoSuchSlave { slave: slave() },
            "NoSuchSlave",
            json!({"slave": "bslave-1"}),
            "djinni describe",
        ),
        (
            MasterRefusal::SlaveBusy { slave: slave(), held_by: "uid 1000".to_owned() },
            "SlaveBusy",
            json!({"slave": "bslave-1", "held_by": "uid 1000"}),
            "uid 1000",
        ),
        (
            MasterRefusal::ImageUnavailable {
                slave: slave(),
                image: "debian-12".parse().unwrap(),
                reason: "gone: build it".to_owned(),
            },
            "ImageUnavailable",
            json!({"slave": "bslave-1", "image": "debian-12", "reason": "gone: build it"}),
            "gone: build it",
        ),
        (
            MasterRefusal::Draining { slave: slave(), holders },
            "Draining",
            json!({"slave": "bslave-1", "holders": ["pid 7 (sleep)"]}),
            "pid 7 (sleep)",
        ),
        (
            MasterRefusal::QuotaExceeded { quota: "slaves".to_owned(), limit: 4 },
            "QuotaExceeded",
            json!({"quota": "slaves", "limit": 4}),
            "limit 4",
        ),
        (
            MasterRefusal::NotPermitted { rule: "only root".to_owned() },
            "NotPermitted",
            json!({"rule": "only root"}),
            "only root",
        ),
        (
            MasterRefusal::InvalidRequest { field: "hold".to_owned(), reason: "twice".to_owned() },
            "InvalidRequest",
            json!({"field": "hold", "reason": "twice"}),
            "hold: twice",
        ),
        (
            MasterRefusal::Fault { reference: "f-1".to_owned(), step: "mount var".to_owned() },
            "Fault",
            json!({"reference": "f-1", "step": "mount var"}),
            "f-1",
        ),
    ];
    for (refusal, name, parameters, word) in cases {
        check(&refusal, &refusal.encode(), &format!("io.djinni.Master.{name}"), &parameters, word);
        assert_eq!(refusal.is_temporary(), ["SlaveBusy", "Draining"].contains(&name));
    }
}

#[test]
fn each_refusal_of_a_mount() {
    let cases = [
        (
            MasterRefusal::MountBusy {
                slave: slave(),
                target: "build/x".parse().unwrap(),
                reason: "a process uses it".to_owned(),
            },
            "MountBusy",
            json!({"slave": "bslave-1", "target": "build/x", "reason": "a process uses it"}),
            "build/x: busy: a process",
        ),
        (
            MasterRefusal::VolumeUnavailable {
                slave: slave(),
                volume: "ccache".parse().unwrap(),
                reason: "gone: create it".to_owned(),
            },
            "VolumeUnavailable",
            json!({"slave": "bslave-1", "volume": "ccache", "reason": "gone: create it"}),
            "gone: create it",
        ),
    ];
    for (refusal, name, parameters, word) in cases {
        check(&refusal, &refusal.encode(), &format!("io.djinni.Master.{name}"), &parameters, word);
        assert_eq!(refusal.is_temporary(), name == "MountBusy");
    }
}

#[test]
fn each_refusal_to_an_administrator() {
    let cases = [
        (
            HostRefusal::NoSuchMaster { name: "bmaster".parse().unwrap() },
            "NoSuchMaster",
            json!({"name": "bmaster"}),
            "masters/bmaster.toml",
        ),
        (
            HostRefusal::MasterRunning { name: "bmaster".parse().unwrap(), holds: vec![slave()] },
            "MasterRunning",
            json!({"name": "bmaster", "holds": ["bslave-1"]}),
            "holds slaves (bslave-1): 'bhost stop bmaster'",
        ),
        (
            HostRefusal::MasterRunning { name: "bmaster".parse().unwrap(), holds: vec![] },
            "MasterRunning",
            json!({"name": "bmaster", "holds": []}),
            "holds slaves: 'bhost stop bmaster'",
        ),
        (
            HostRefusal::InvalidConfiguration {
                file: "/etc/djinni/images.toml".to_owned(),
                line: 3,
                reason: "unknown key".to_owned(),
                remedy: "remove it".to_owned(),
            },
            "InvalidConfiguration",
            json!({"file": "/etc/djinni/images.toml", "line": 3, "reason": "unknown key", "remedy": "remove it"}),
            "/etc/djinni/images.toml:3: unknown key: remove it",
        ),
        (
            HostRefusal::Fault { reference: "f-2".to_owned(), step: "pin".to_owned() },
            "Fault",
            json!({"reference": "f-2", "step": "pin"}),
            "f-2",
        ),
    ];
    for (refusal, name, parameters, word) in cases {
        check(&refusal, &refusal.encode(), &format!("io.djinni.Host.{name}"), &parameters, word);
    }
}

#[test]
fn an_error_about_a_whole_file_names_no_line() {
    let refusal = HostRefusal::InvalidConfiguration {
        file: "/etc/djinni/images.toml".to_owned(),
        line: 0,
        reason: "cannot be read".to_owned(),
        remedy: "create it".to_owned(),
    };
    assert_eq!(refusal.to_string(), "/etc/djinni/images.toml: cannot be read: create it");
}

#[test]
fn each_error_that_all_interfaces_share() {
    let text = |text: &str| text.to_owned();
    let cases = [
        (
            ServiceError::InterfaceNotFound { interface: text("a.b") },
            "InterfaceNotFound",
            json!({"interface": "a.b"}),
            "a.b",
        ),
        (
            ServiceError::MethodNotFound { method: text("a.B") },
            "MethodNotFound",
            json!({"method": "a.B"}),
            "a.B",
        ),
        (
            ServiceError::MethodNotImplemented { method: text("a.B") },
            "MethodNotImplemented",
            json!({"method": "a.B"}),
            "not implemented",
        ),
        (
            ServiceError::InvalidParameter { parameter: text("slave") },
            "InvalidParameter",
            json!({"parameter": "slave"}),
            "\"slave\"",
        ),
        (ServiceError::PermissionDenied {}, "PermissionDenied", json!({}), "another user"),
        (ServiceError::ExpectedMore {}, "ExpectedMore", json!({}), "\"more\""),
    ];
    for (error, name, parameters, word) in cases {
        check(&error, &error.encode(), &format!("org.varlink.service.{name}"), &parameters, word);
    }
}

#[test]
fn an_answer_too_long_to_send_is_a_fault() {
    let event = master::Event {
        event: "broken".to_owned(),
        slave: slave(),
        detail: "x".repeat(MESSAGE_LIMIT_BYTES),
    };
    let bytes = master::Reply::Event(event).encode();
    assert!(bytes.len() < 1000);
    let answer = parse_answer(bytes.strip_suffix(&[0]).unwrap()).unwrap();
    assert_eq!(answer.error.as_deref(), Some("io.djinni.Master.Fault"));
}
