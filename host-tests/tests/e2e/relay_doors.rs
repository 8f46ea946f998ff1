//! The ways in which a relay recognises its proxies, with the real Envoy: sales work over each, and a stranger gets
//! nothing.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::http::client_builder;
use farebox_testkit::stack::{
    GrpcDiscovery, Options, ProxyCertificate, Stack, install_relay_secret, install_relay_socket,
    install_relay_tls,
};
use reqwest::{Certificate, ClientBuilder, Identity};
use serde_json::{Value, json};

use crate::common::{Payment, Settlement, certificates, exchange};

const PRICING: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
    - { pattern: /goods/*, price: 0.001, offerName: goods }\n";
/// A user that is not the companion's and not in its group.
const NOBODY: u32 = 65_534;

/// Starts a stack whose Envoy reaches the relay as `tweak` says, and checks that it sells.
async fn selling(
    relay: Value,
    tweak: impl Fn(&mut Value) -> anyhow::Result<()> + Send + Sync + 'static,
) -> (Stack, DevFacilitator) {
    let mut settings = Settlement::Relay.settings(2_000, 2_000);
    settings["relay"] = relay;
    let tweak = Box::new(move |bootstrap: &mut Value| tweak(bootstrap).unwrap());
    let stack = Stack::start(Options { settings, tweak, ..Options::priced(PRICING) }).await.unwrap();
    for _ in 0..3 {
        let payment = Payment::of(&stack, "/goods/a").await.unwrap();
        let answer = payment.send(&stack, "/goods/a").await;
        assert_eq!(answer.status, 200, "{}", answer.summary());
        assert_eq!(answer.receipt()["success"], true);
    }
    let facilitator = DevFacilitator::of(&stack);
    (stack, facilitator)
}

/// Checks that strangers' calls had no effect.
async fn assert_untouched(stack: &Stack, facilitator: &DevFacilitator) {
    assert_eq!(facilitator.operations().await, ["verify", "settle"].repeat(3));
    assert_eq!(stack.ledger().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_shows_the_secret_sells_and_a_stranger_gets_nothing() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay-secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let shown = file.clone();
    let tweak = move |bootstrap: &mut Value| install_relay_secret(bootstrap, &shown);
    let (stack, facilitator) = selling(json!({ "secret": file }), tweak).await;
    let call = facilitator.bodies("settle").await.remove(0);
    for path in ["/verify", "/settle", "/over"] {
        for shown in [None, Some(""), Some("0123456789abcdef0123456789abcdeF")] {
            let mut request = stack.client().post(format!("{}{path}", stack.relay_url())).body(call.clone());
            if let Some(shown) = shown {
                request = request.header("x-farebox-relay-secret", shown);
            }
            assert_eq!(request.send().await.unwrap().status(), 401, "{path} {shown:?}");
        }
    }
    assert_untouched(&stack, &facilitator).await;
    let pushed = std::fs::read_to_string(stack.folder().join("discovery/filter.yaml")).unwrap();
    assert!(!pushed.contains(SECRET), "the secret is part of the rules");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_shows_a_certificate_sells_and_a_stranger_gets_no_answer() {
    let (ours, theirs) = (certificates(), certificates());
    let file = |name: &str| ours.path().join(name);
    let relay = json!({ "tls": {
        "certificate": file("companion.pem"), "key": file("companion.key"), "clientCa": file("ca.pem"),
    } });
    let shown = ProxyCertificate {
        certificate: file("proxy.pem"),
        key: file("proxy.key"),
        authority: file("ca.pem"),
    };
    let tweak = move |bootstrap: &mut Value| install_relay_tls(bootstrap, &shown);
    let (stack, facilitator) = selling(relay, tweak).await;
    let address: SocketAddr = stack.relay_url().trim_start_matches("http://").parse().unwrap();
    let call = facilitator.bodies("settle").await.remove(0);

    let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
    let authority = Certificate::from_pem(&read(ours.path(), "ca.pem")).unwrap();
    let settle = async |client: ClientBuilder| {
        let client = client.tls_certs_only([authority.clone()]).resolve(GrpcDiscovery::COMPANION, address);
        let url = format!("https://{}:{}/settle", GrpcDiscovery::COMPANION, address.port());
        client.build().unwrap().post(url).body(call.clone()).send().await
    };
    let identity = |folder: &Path| {
        Identity::from_pem(&[read(folder, "proxy.pem"), read(folder, "proxy.key")].concat()).unwrap()
    };
    assert!(settle(client_builder()).await.is_err(), "without a certificate");
    let foreign = client_builder().identity(identity(theirs.path()));
    assert!(settle(foreign).await.is_err(), "with another authority's");
    let plain = exchange(address, b"POST /settle HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(plain.status, 0, "{}", plain.summary());
    assert_untouched(&stack, &facilitator).await;
    // With the right certificate the same client is accepted, so the certificate was the reason.
    let own = settle(client_builder().identity(identity(ours.path()))).await.unwrap();
    assert!(own.status().is_client_error() || own.status().is_success(), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_calls_over_a_unix_socket_sells_and_another_user_cannot_connect() {
    let folder = tempfile::tempdir().unwrap();
    // Every user may enter the folder; only the socket is protected.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = folder.path().join("relay.sock");
    let relay = json!({ "listen": format!("unix:{}", socket.display()) });
    let called = socket.clone();
    let tweak = move |bootstrap: &mut Value| install_relay_socket(bootstrap, &called);
    let (stack, facilitator) = selling(relay, tweak).await;
    let connects = |user: Option<u32>| {
        let mut command = Command::new("python3");
        command.args(["-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"]);
        command.arg(&socket).stderr(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.status().expect("python3 runs as this user, which takes root").success()
    };
    assert!(connects(None), "the companion's own user connects");
    assert!(!connects(Some(NOBODY)), "a stranger has connected");
    // There is no other way in.
    let address: SocketAddr = stack.relay_url().trim_start_matches("http://").parse().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_untouched(&stack, &facilitator).await;
}
