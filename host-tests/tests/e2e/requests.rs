//! Ordinary requests that hosts read differently, on each host: `100 Continue`, offers of other protocols, other
//! methods in headers, trailers, bodies of a GET, and headers about a secure connection.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Shell, Stack};
use serde_json::{Value, json};

use crate::common::{Answer, Arrived, Payment, Request, Upstream, exchange, in_ledger, text};

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
- { pattern: /goods/*, price: 0.001, offerName: goods, description: "Käse über alles – für 1 €" }
- { pattern: /first/*, price: 0.002, paymentFlow: upfront, offerName: first }
- { pattern: /free/*, gate: free }
"#;
const HOSTS: [Shell; 3] = [Shell::Envoy, Shell::Traefik, Shell::Gateway];

/// A shop whose upstream records every request.
struct Shop {
    stack: Stack,
    log: Arc<Mutex<Vec<Arrived>>>,
}

// === impl Shop ===

impl Shop {
    async fn on(shell: Shell, filter: Value) -> Self {
        Self::of(Options { shell, settings: json!({ "filter": filter }), ..Options::priced(PRICING) }).await
    }

    /// A shop where host and rules trust a proxy in front about the connection.
    async fn trusting(shell: Shell) -> Self {
        Self::of(Options {
            shell,
            settings: json!({ "filter": { "trustForwarded": true } }),
            tweak: Box::new(move |settings| trust_what_is_forwarded(shell, settings)),
            ..Options::priced(PRICING)
        })
        .await
    }

    async fn of(options: Options) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&log);
        let upstream = Upstream::start(move |arrived| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
            "served".to_owned()
        });
        let options = Options { upstream: Some(upstream.url()), ..options };
        Self { stack: Stack::start(options).await.unwrap(), log }
    }

    /// What reached the upstream since the last time.
    fn arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// The one request that reached it.
    fn the_one(&self) -> Arrived {
        let mut arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{:?}: {arrived:?}", self.stack.shell());
        arrived.remove(0)
    }

    /// Buys with a request that is more than its payment, and ends with a body.
    async fn buy(&self, path: &str, request: impl FnOnce(Request) -> Request, body: &[u8]) -> Answer {
        let payment = Payment::of(&self.stack, path).await.unwrap();
        let request = request(Request::new("GET", path)).header("payment-signature", payment.header());
        let answer = exchange(self.stack.proxy_address(), &[&request.bytes(), body].concat());
        assert_eq!(answer.status, 200, "{:?}: {}", self.stack.shell(), answer.summary());
        assert_eq!(answer.receipt()["success"], true);
        assert_eq!(DevFacilitator::of(&self.stack).settled(&payment.nonce).await, 1);
        answer
    }
}

/// Makes the host trust the headers of a proxy in front about the connection.
fn trust_what_is_forwarded(shell: Shell, settings: &mut Value) {
    match shell {
        Shell::Envoy => {
            let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
            settings.pointer_mut(manager).unwrap()["xff_num_trusted_hops"] = json!(1);
        }
        Shell::Traefik => settings["entryPoints"]["web"]["forwardedHeaders"] = json!({ "insecure": true }),
        Shell::Gateway => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_leave_to_send_a_body_gets_the_terms_and_the_leave_once_it_is_paid() {
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        let upload = |path: &str| {
            Request::new("POST", path).header("expect", "100-continue").header("content-length", "5")
        };
        for path in ["/goods/a", "/first/a"] {
            let mut first = [0; 12];
            upload(path).begin(shop.stack.proxy_address()).read_exact(&mut first).expect("an answer");
            assert_eq!(text(&first), "HTTP/1.1 402", "{shell:?} {path}");
            assert!(shop.arrived().is_empty(), "{shell:?} {path}");

            let payment = Payment::of(&shop.stack, path).await.unwrap();
            let paid = upload(path).header("payment-signature", payment.header());
            let answer = exchange(shop.stack.proxy_address(), &[&paid.bytes(), &b"hello"[..]].concat());
            assert_eq!(answer.status, 200, "{shell:?} {path}: {}", answer.summary());
            assert_eq!(shop.the_one().body, b"hello", "{shell:?} {path}");
        }
    }
}

/// Java's HttpClient offers to go on in HTTP/2 with every request in the clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_offers_http_2_with_every_request_buys_in_http_1() {
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        let offering = |request: Request| {
            request
                .header("connection", "Upgrade, HTTP2-Settings")
                .header("upgrade", "h2c")
                .header("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
                .header("user-agent", "Java-http-client/21.0.1")
        };
        for path in ["/goods/a", "/first/a"] {
            let unpaid = offering(Request::get(path)).send(shop.stack.proxy_address());
            assert_eq!(unpaid.status, 402, "{shell:?} {path}: {}", unpaid.summary());
            assert!(shop.arrived().is_empty(), "{shell:?} {path}");
            shop.buy(path, offering, b"").await;
            let arrived = shop.the_one();
            for name in ["upgrade", "http2-settings"] {
                assert_eq!(arrived.header(name), None, "{shell:?} {path}: {arrived:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paid_upstream_sees_one_method_the_whole_body_and_no_trailers_of_ours() {
    const OTHER: [&str; 5] = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x.http.method.override",
        "x-http-method.override",
    ];
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        for path in ["/goods/a", "/first/a"] {
            let with_length = |request: Request| {
                OTHER
                    .iter()
                    .fold(request, |request, name| request.header(name, "DELETE"))
                    .header("content-length", "5")
            };
            shop.buy(path, with_length, b"hello").await;
            let arrived = shop.the_one();
            assert_eq!((arrived.method(), &*arrived.body), ("GET", &b"hello"[..]), "{shell:?} {path}");
            assert!(!text(&arrived.head).contains("DELETE"), "{shell:?} {path}: {arrived:?}");

            let in_chunks = |request: Request| {
                request
                    .header("transfer-encoding", "chunked")
                    .header("te", "trailers")
                    .header("trailer", "x-checksum, x-payment-payer, payment-signature")
            };
            let body = b"5\r\nhello\r\n0\r\nx-checksum: 1\r\nx-payment-payer: 0xforged\r\n\
                         X-Verified-Wallet: 0xforged\r\npayment-signature: e30=\r\n\r\n";
            shop.buy(path, in_chunks, body).await;
            let arrived = shop.the_one();
            assert_eq!((arrived.method(), &*arrived.body), ("GET", &b"hello"[..]), "{shell:?} {path}");
            let ours = |(name, _): &&(String, String)| name != "x-checksum";
            assert_eq!(arrived.trailers.iter().find(ours), None, "{shell:?} {path}: {arrived:?}");
        }
    }
}

/// Some upstreams leave such bodies unread, and take them for the next request on the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_an_upstream_leaves_unread_is_no_request_to_it() {
    let smuggled = b"GET /goods/a HTTP/1.1\r\nhost: a\r\n\r\n";
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        let with_body = |request: Request| {
            let request = request.header("content-length", smuggled.len().to_string());
            exchange(shop.stack.proxy_address(), &[&request.bytes(), &smuggled[..]].concat())
        };
        for method in ["GET", "DELETE", "OPTIONS"] {
            let answer = with_body(Request::new(method, "/free/a"));
            let arrived = shop.arrived();
            if shell == Shell::Traefik {
                assert_eq!((answer.status, answer.json()["reason"].as_str()), (400, Some("ambiguous_body")));
                assert!(arrived.is_empty(), "{method}: {arrived:?}");
            } else {
                assert_eq!(answer.status, 200, "{shell:?} {method}: {}", answer.summary());
                let [arrived] = &arrived[..] else { panic!("{shell:?} {method}: {arrived:?}") };
                let is_framed = arrived.header("transfer-encoding").is_some();
                let is_alone = arrived.header("connection").is_some_and(|value| value == "close");
                assert!(is_framed || is_alone, "{shell:?} {method}: {arrived:?}");
                assert_eq!(arrived.body, smuggled, "{shell:?} {method}");
            }
        }
        let upgrade = Request::get("/free/a").header("connection", "Upgrade").header("upgrade", "websocket");
        let answer =
            with_body(upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "x"));
        assert_eq!(answer.status, 400, "{shell:?}: {}", answer.summary());
        assert!(shop.arrived().is_empty(), "{shell:?}");
    }
}

/// Otherwise a client that sends a body slowly would keep one of the limited places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_of_ours_waits_for_the_body_of_its_request() {
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        for length in ["10", "100000", "3000000"] {
            let post = Request::new("POST", "/goods/a").header("content-length", length);
            let answer = exchange(shop.stack.proxy_address(), &[&post.bytes()[..], b"x"].concat());
            assert_eq!(answer.status, 402, "{shell:?} {length}: {}", answer.summary());
            assert!(answer.took < Duration::from_secs(2), "{shell:?} {length}: {:?}", answer.took);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_names_another_path_reaches_no_upstream() {
    for shell in HOSTS {
        let shop = Shop::on(shell, json!({})).await;
        let get = ["X-Original-URL", "X-Rewrite-URL"]
            .iter()
            .fold(Request::get("/free/a"), |request, name| request.header(name, "/goods/a"));
        assert_eq!(get.send(shop.stack.proxy_address()).status, 200, "{shell:?}");
        let head = text(&shop.the_one().head);
        assert!(!head.contains("/goods/a"), "{shell:?}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_that_says_wss_says_that_a_connection_is_secure() {
    for shell in HOSTS {
        let trusting = Shop::trusting(shell).await;
        let asked = |shop: &Shop, proto: &str| {
            let request =
                Request::get("/first/a").header("host", "localhost").header("x-forwarded-proto", proto);
            let answer = request.header("x-forwarded-for", "203.0.113.7").send(shop.stack.proxy_address());
            assert_eq!(answer.status, 402, "{shell:?} {proto}: {}", answer.summary());
            answer.decoded("payment-required")["resource"]["url"].as_str().unwrap().to_owned()
        };
        for (proto, url) in [
            ("https", "https://localhost/first/a"),
            ("wss", "https://localhost/first/a"),
            ("http", "http://localhost/first/a"),
            ("ws", "http://localhost/first/a"),
        ] {
            assert_eq!(asked(&trusting, proto), url, "{shell:?} {proto}");
        }
        let wary = Shop::on(shell, json!({})).await;
        assert_eq!(asked(&wary, "wss"), "http://localhost/first/a", "{shell:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_header_of_ours_is_ascii_whatever_was_sold_or_asked_for() {
    for shell in HOSTS {
        let filter =
            json!({ "catalog": "/Katalog für alle.json", "cors": { "origins": ["https://page.example"] } });
        let shop = Shop::on(shell, filter).await;
        let to = shop.stack.proxy_address();
        let path = "/goods/caf%C3%A9";
        let payment = Payment::of(&shop.stack, path).await.unwrap();
        let spoilt = Request::get(path).header("payment-signature", "e30=");
        let page = Request::get(path).header("accept", "text/html").header("user-agent", "Mozilla/5.0");
        let preflight = Request::new("OPTIONS", path)
            .header("origin", "https://page.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", b"x-\xff");
        for (request, status) in [
            (Request::get(path), 402),
            (Request::get(path).header("host", "b\u{fc}cher.example"), 402),
            (Request::get(path).header("origin", b"https://\xff.example"), 402),
            (page, 402),
            (preflight, 204),
            (spoilt, 400),
            (payment.request(path), 200),
            (payment.request(path), 402),
        ] {
            let answer = request.send(to);
            let what = format!("{shell:?} {}: {}", text(&request.bytes()), answer.summary());
            // A host may also refuse such bytes itself.
            assert!(answer.status == status || !request.bytes().is_ascii() && answer.status == 400, "{what}");
            assert!(answer.headers.iter().all(|(_, value)| value.is_ascii()), "{what}");
            if status == 200 {
                in_ledger(&shop.stack, &payment.nonce, "delivered").await;
            }
        }
    }
}
