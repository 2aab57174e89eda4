//! Requests are destructured strictly, and the interface texts say what the code does.

use djinni_api::codec::{Call, parse_answer};
use djinni_api::master::Hold;
use djinni_api::{ServiceError, host, master, service};
use serde_json::{Value, json};

fn call(method: &str, parameters: Value) -> Call {
    Call { method: method.to_owned(), parameters, more: false, oneway: false }
}

fn invalid(parameter: &str) -> ServiceError {
    ServiceError::InvalidParameter { parameter: parameter.to_owned() }
}

/// The names after `keyword` in an interface text.
fn declared<'a>(keyword: &'a str, text: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(keyword)?.trim_start();
        rest.split([' ', '(']).next()
    })
}

#[test]
fn each_request_of_a_master_is_what_its_call_says() {
    let slave = || "bslave-1".parse().unwrap();
    let named = || json!({"slave": "bslave-1"});
    let held = |hold: &str| json!({"slave": "bslave-1", "hold": hold});
    let expected = [
        ("Describe", json!({}), master::Request::Describe),
        (
            "Attach",
            held("connection"),
            master::Request::Attach { slave: slave(), hold: Hold::Connection },
        ),
        ("Attach", held("master"), master::Request::Attach { slave: slave(), hold: Hold::Master }),
        ("Detach", named(), master::Request::Detach { slave: slave() }),
        ("Reset", named(), master::Request::Reset { slave: slave() }),
        ("Rub", json!({}), master::Request::Rub),
        (
            "Mount",
            json!({"slave": "bslave-1", "kind": "share", "what": "world", "target": "build/x"}),
            master::Request::Mount {
                slave: slave(),
                kind: master::MountKind::Share,
                what: "world".to_owned(),
                target: "build/x".parse().unwrap(),
            },
        ),
        (
            "Umount",
            json!({"slave": "bslave-1", "target": "mnt/x"}),
            master::Request::Umount { slave: slave(), target: "mnt/x".parse().unwrap() },
        ),
        ("ListMounts", named(), master::Request::ListMounts { slave: slave() }),
    ];
    for (method, parameters, request) in expected {
        let call = call(&format!("io.djinni.Master.{method}"), parameters);
        assert_eq!(master::Request::from_call(&call), Ok(request));
    }
    let mut monitor = call("io.djinni.Master.Monitor", json!({}));
    assert_eq!(master::Request::from_call(&monitor), Err(ServiceError::ExpectedMore {}));
    monitor.more = true;
    assert_eq!(master::Request::from_call(&monitor), Ok(master::Request::Monitor));
}

#[test]
fn each_request_of_an_administrator_is_what_its_call_says() {
    let name = || "bmaster".parse().unwrap();
    let named = || json!({"name": "bmaster"});
    let forced = json!({"name": "bmaster", "force": true});
    let expected = [
        ("NewMaster", named(), host::Request::NewMaster { name: name() }),
        ("DropMaster", forced, host::Request::DropMaster { name: name(), force: true }),
        ("List", json!({}), host::Request::List),
        ("Status", named(), host::Request::Status { name: name() }),
        ("Reload", json!({}), host::Request::Reload),
    ];
    for (method, parameters, request) in expected {
        let call = call(&format!("io.djinni.Host.{method}"), parameters);
        assert_eq!(host::Request::from_call(&call), Ok(request));
    }
}

#[test]
fn a_parameter_that_does_not_fit_is_named() {
    let attach = [
        (json!({"hold": "master"}), "slave"),
        (json!({"slave": "bslave-1"}), "hold"),
        (json!({"slave": "bslave-1", "hold": "forever"}), "hold"),
        (json!({"slave": "bslave-1", "hold": null}), "hold"),
        (json!({"slave": "bslave-1", "hold": {"master": null}}), "hold"),
        (json!({"slave": 1, "hold": "master"}), "slave"),
        (json!({"slave": "../x", "hold": "master"}), "slave"),
        (json!({"slave": "", "hold": "master"}), "slave"),
        (json!({"slave": "bslave-1", "hold": "master", "path": "/etc"}), "path"),
    ];
    for (parameters, wrong) in attach {
        let call = call("io.djinni.Master.Attach", parameters);
        assert_eq!(master::Request::from_call(&call), Err(invalid(wrong)), "{call:?}");
    }
    let describe = call("io.djinni.Master.Describe", json!({"slave": "bslave-1"}));
    assert_eq!(master::Request::from_call(&describe), Err(invalid("slave")));
    let drop = call("io.djinni.Host.DropMaster", json!({"name": "bmaster"}));
    assert_eq!(host::Request::from_call(&drop), Err(invalid("force")));
    let reserved = call("io.djinni.Host.NewMaster", json!({"name": "host.socket"}));
    assert_eq!(host::Request::from_call(&reserved), Err(invalid("name")));
}

#[test]
fn another_interface_and_another_method_are_told_apart() {
    let interface =
        |interface: &str| ServiceError::InterfaceNotFound { interface: interface.to_owned() };
    let crossed = call("io.djinni.Host.List", json!({}));
    assert_eq!(master::Request::from_call(&crossed), Err(interface("io.djinni.Host")));
    let dotless = call("Describe", json!({}));
    assert_eq!(master::Request::from_call(&dotless), Err(interface("")));
    let later = call("io.djinni.Master.Clone", json!({}));
    let method = "io.djinni.Master.Clone".to_owned();
    assert_eq!(master::Request::from_call(&later), Err(ServiceError::MethodNotFound { method }));
}

#[test]
fn every_method_of_the_texts_is_decoded() {
    for (interface, text, count) in
        [(master::INTERFACE, master::DESCRIPTION, 9), (host::INTERFACE, host::DESCRIPTION, 5)]
    {
        let methods: Vec<_> = declared("method", text).collect();
        assert_eq!(methods.len(), count, "{methods:?}");
        for method in methods {
            let call = call(&format!("{interface}.{method}"), json!({}));
            let errors =
                [master::Request::from_call(&call).err(), host::Request::from_call(&call).err()];
            let unknown =
                |error: &Option<_>| matches!(error, Some(ServiceError::MethodNotFound { .. }));
            assert!(!errors.iter().any(unknown), "{method}");
        }
    }
}

#[test]
fn types_methods_and_errors_have_different_names() {
    // Clients look a name up among all members of an interface.
    for text in [master::DESCRIPTION, host::DESCRIPTION] {
        let mut names: Vec<_> =
            ["type", "method", "error"].iter().flat_map(|k| declared(k, text)).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
}

#[test]
fn every_error_of_the_texts_is_a_refusal() {
    assert_eq!(declared("error", master::DESCRIPTION).count(), 10);
    assert_eq!(declared("error", host::DESCRIPTION).count(), 4);
    for error in declared("error", master::DESCRIPTION) {
        let wire = json!({"error": format!("io.djinni.Master.{error}"), "parameters": {}});
        let message = serde_json::from_value::<master::Refusal>(wire).unwrap_err().to_string();
        assert!(message.contains("missing field"), "{error}: {message}");
    }
    for error in declared("error", host::DESCRIPTION) {
        let wire = json!({"error": format!("io.djinni.Host.{error}"), "parameters": {}});
        let message = serde_json::from_value::<host::Refusal>(wire).unwrap_err().to_string();
        assert!(message.contains("missing field"), "{error}: {message}");
    }
}

#[test]
fn a_service_introduces_itself() {
    let offers = [(master::INTERFACE, master::DESCRIPTION)];
    let ask = |method: &str, parameters: Value| {
        let bytes =
            service::answer(&call(&format!("org.varlink.service.{method}"), parameters), &offers)
                .unwrap();
        let answer = parse_answer(&bytes[..bytes.len() - 1]).unwrap();
        assert_ne!(answer.continues, Some(true), "{method}: no other reply follows");
        (answer.error, Value::Object(answer.parameters.unwrap()))
    };
    let (error, info) = ask("GetInfo", json!({}));
    assert_eq!(error, None);
    assert_eq!(info["interfaces"], json!(["org.varlink.service", "io.djinni.Master"]));
    let (_, text) = ask("GetInterfaceDescription", json!({"interface": "io.djinni.Master"}));
    assert_eq!(text["description"], json!(master::DESCRIPTION));
    let (_, text) = ask("GetInterfaceDescription", json!({"interface": "org.varlink.service"}));
    assert_eq!(text["description"], json!(service::DESCRIPTION));

    let (error, said) = ask("GetInterfaceDescription", json!({"interface": "io.djinni.Host"}));
    assert_eq!(error.as_deref(), Some("org.varlink.service.InterfaceNotFound"));
    assert_eq!(said, json!({"interface": "io.djinni.Host"}));
    let (error, said) = ask("GetInfo", json!({"x": 1}));
    assert_eq!(error.as_deref(), Some("org.varlink.service.InvalidParameter"));
    assert_eq!(said, json!({"parameter": "x"}));
    let (error, _) = ask("Shutdown", json!({}));
    assert_eq!(error.as_deref(), Some("org.varlink.service.MethodNotFound"));
    assert_eq!(service::answer(&call("io.djinni.Master.Rub", json!({})), &offers), None);
}
