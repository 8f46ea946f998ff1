//! The same over HTTP/2.

use serde_json::Value;

use crate::hostile_input::{Scene, at_upstream};

pub(crate) async fn http_2_is_priced_like_any_other(scene: &Scene) {
    let tcp = tokio::net::TcpStream::connect(scene.stack.proxy_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let payment = scene.pay().await;
    let request = |path: &str| http::Request::get(format!("http://shop.example{path}"));
    let bytes = |bytes: &[u8]| http::HeaderValue::from_bytes(bytes).unwrap();
    let before = scene.hits();
    let refused = [
        (request("/paid/a"), 402),
        (request("//paid/a"), 402),
        (request("/%70aid/a"), 402),
        (request("/PAID/a"), 403),
        (request("/paid/a%252f"), 400),
        (request("/paid/a").header("x-payment-payer", bytes(b"\xff")), 402),
        (request("/paid/a").header("payment-signature", bytes(b"a\xff\xfe")), 400),
        (request("/paid/a").header("payment-signature", "e30="), 400),
        (request("/paid/a").header("payment-signature", "e30=").header("payment-signature", "e30="), 400),
    ];
    for (request, status) in refused {
        let request = request.body(()).unwrap();
        let what = format!("{request:?}");
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{what}");
    }
    assert_eq!(scene.hits(), before);
    let paid = request("/paid/a")
        .header("payment-signature", payment.header())
        .header("x-payment-payer", "0x1111111111111111111111111111111111111111")
        .header("x-payment", bytes(b"\xff"));
    let (response, _) = client.send_request(paid.body(()).unwrap(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("payment-response"));
    let mut body = response.into_body();
    let mut echo = Vec::new();
    while let Some(chunk) = body.data().await {
        echo.extend_from_slice(&chunk.unwrap());
    }
    let echo: Value = serde_json::from_slice(&echo).unwrap();
    let payer = payment.json["payload"]["authorization"]["from"].as_str().unwrap().to_owned();
    assert_eq!(at_upstream(&echo, "x-payment-payer"), [payer]);
    assert_eq!(at_upstream(&echo, "x-payment"), [""; 0]);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    connection.abort();
}
