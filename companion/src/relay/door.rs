//! Who may call the relay over a socket, and how fast a call has to come.
//!
//! Whoever calls it can have payments settled. On loopback and on a Unix socket the machine decides who does; with TLS
//! a client certificate does. With `relay.secret` each call shows words that Envoy's cluster adds and no rules contain.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::port::{Arrival, Descriptors, Limits, Protocol, Share};
use crate::settings::SettingsError;

use super::MAX_BODY;

/// Header: the words of `relay.secret`.
pub const RELAY_SECRET: &str = "x-farebox-relay-secret";

/// The words that proxies show. The file is read again when it is older than [`FRESH`].
pub struct Secret {
    file: PathBuf,
    /// Of this process. Tags of it are compared, which takes as long whatever differs.
    key: hmac::Key,
    words: Mutex<Words>,
}

struct Words {
    tags: Vec<hmac::Tag>,
    read_at: Instant,
    of_file: Seldom,
    of_calls: Seldom,
}

/// When something was said last that would otherwise be said with every call. Each thing has its own, so that a stranger's
/// calls hide nothing.
#[derive(Default)]
struct Seldom(Option<Instant>);

/// How long words are used before the file is looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// Fewer characters can be guessed.
const MIN_CHARACTERS: usize = 16;
/// How long a proxy may take for the body of a call.
const BODY: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(5);
/// Longer than Envoy's cluster keeps a silent connection, so that it is Envoy who closes it.
const IDLE: Duration = Duration::from_secs(60);
const WRITE: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 64 * 1024;
/// Between two log lines about callers without the words.
const LOG_AGAIN: Duration = Duration::from_secs(60);

// === impl Secret ===

impl Secret {
    /// Reads the file: each line is a secret that opens, so that one can be replaced while the other is still shown.
    pub fn load(file: PathBuf) -> Result<Self, SettingsError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| SettingsError("this machine gives no random bytes".to_owned()))?;
        let tags = read(&file, &key).map_err(SettingsError)?;
        let words =
            Words { tags, read_at: Instant::now(), of_file: Seldom::default(), of_calls: Seldom::default() };
        Ok(Self { file, key, words: Mutex::new(words) })
    }

    fn opens(&self, headers: &HeaderMap) -> bool {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.read_at.elapsed() >= FRESH {
            words.read_at = Instant::now();
            match read(&self.file, &self.key) {
                Ok(tags) => words.tags = tags,
                Err(error) => words.of_file.say(|| warn!("{error}; the secret read before stays in use")),
            }
        }
        let shown = headers.get(RELAY_SECRET).map(|value| value.as_bytes()).unwrap_or_default();
        let opens =
            words.tags.iter().filter(|tag| hmac::verify(&self.key, shown, tag.as_ref()).is_ok()).count() > 0;
        if !opens {
            words.of_calls.say(|| {
                let what = if shown.is_empty() { "without" } else { "with another secret than" };
                warn!(
                    "the relay was called {what} the words of {}: a proxy of yours shows them in the header \
                     {RELAY_SECRET} (see the cluster `farebox` in envoy/README.md)",
                    self.file.display()
                );
            });
        }
        opens
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.file.display())
    }
}

impl Seldom {
    fn say(&mut self, say: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= LOG_AGAIN) {
            self.0 = Some(Instant::now());
            say();
        }
    }
}

fn read(file: &PathBuf, key: &hmac::Key) -> Result<Vec<hmac::Tag>, String> {
    let path = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("relay.secret: {path} cannot be read ({error}): name a file with a secret")
    })?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_weak =
        |line: &&str| line.len() < MIN_CHARACTERS || !line.bytes().all(|byte| byte.is_ascii_graphic());
    if lines.is_empty() || lines.iter().any(is_weak) {
        return Err(format!(
            "relay.secret: {path} has no secret of {MIN_CHARACTERS} printable characters or more on each line: make \
             one with `openssl rand -hex 32`"
        ));
    }
    Ok(lines.into_iter().map(|line| hmac::sign(key, line.as_bytes())).collect())
}

/// The relay as it is reached over a socket. `on_refused` hears of each call that does not show the secret.
pub fn at_the_door(
    relay: Router,
    secret: Option<Arc<Secret>>,
    on_refused: impl Fn() + Clone + Send + Sync + 'static,
) -> Router {
    let guard = move |request: Request, next: Next| {
        let (secret, on_refused) = (secret.clone(), on_refused.clone());
        async move {
            if secret.is_some_and(|secret| !secret.opens(request.headers())) {
                on_refused();
                let text = format!("{RELAY_SECRET}: the secret of this relay is not shown\n");
                return refused(StatusCode::UNAUTHORIZED, text);
            }
            match whole(request).await {
                Ok(request) => next.run(request).await,
                Err(refusal) => refusal,
            }
        }
    };
    relay.layer(middleware::from_fn(guard))
}

/// A request with all of its body.
async fn whole(request: Request) -> Result<Request, Response> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(RELAY_SECRET);
    // Whoever sends only a part takes no place from those that send all.
    let partial = parts.extensions.remove::<Arrival>().and_then(|arrival| arrival.awaited());
    let whole = timeout(BODY, to_bytes(body, MAX_BODY)).await;
    drop(partial);
    match whole {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(error)) => {
            Err(refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body cannot be used: {error}\n")))
        }
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n".to_owned())),
    }
}

fn refused(status: StatusCode, text: String) -> Response {
    (status, [(header::CONNECTION, "close")], text).into_response()
}

/// What the relay grants the proxies.
pub fn limits(descriptors: Descriptors) -> Limits {
    let connections = descriptors.of(Share::Relay);
    Limits {
        protocol: Protocol::Http1,
        connections,
        requests: connections,
        head_bytes: MAX_HEAD,
        head: HEAD,
        idle: IDLE,
        write: WRITE,
    }
}

/// Payments of one chain that may wait for facilitators: neither the relay's places nor the gateway's, which are more.
pub fn most_of_a_chain(descriptors: Descriptors) -> usize {
    descriptors.of(Share::Relay) / 2
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;
    use tower::ServiceExt;

    use super::*;
    use crate::port::Port;
    use crate::settings::Listen;
    use crate::testing::tcp;

    async fn status(router: &Router, secret: Option<&str>) -> u16 {
        let mut request = Request::post("/verify");
        if let Some(secret) = secret {
            request = request.header(RELAY_SECRET, secret);
        }
        let request = request.body(Body::from("hello")).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    fn relay(secret: Option<Arc<Secret>>) -> Router {
        watched(secret, || {})
    }

    fn watched(secret: Option<Arc<Secret>>, on_refused: impl Fn() + Clone + Send + Sync + 'static) -> Router {
        let echo = async |headers: HeaderMap, body: String| {
            assert!(!headers.contains_key(RELAY_SECRET), "the secret goes no further");
            assert_eq!(body, "hello");
        };
        at_the_door(Router::new().route("/verify", post(echo)), secret, on_refused)
    }

    #[tokio::test]
    async fn a_call_without_the_words_of_the_file_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "0123456789abcdef-one\n").unwrap();
        let router = relay(Some(Arc::new(Secret::load(file.clone()).unwrap())));
        assert_eq!(status(&router, Some("0123456789abcdef-one")).await, 200);
        for wrong in [None, Some(""), Some("0123456789abcdef-on"), Some("0123456789abcdef-two")] {
            assert_eq!(status(&router, wrong).await, 401, "{wrong:?}");
        }
        // It is replaced without a moment in which proxies that show either are refused, and what cannot be read
        // changes nothing.
        for text in ["0123456789abcdef-one\n0123456789abcdef-two\n", "short"] {
            std::fs::write(&file, text).unwrap();
            tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
            assert_eq!(status(&router, Some("0123456789abcdef-one")).await, 200);
            assert_eq!(status(&router, Some("0123456789abcdef-two")).await, 200);
        }
        assert_eq!(status(&relay(None), None).await, 200);
    }

    #[tokio::test]
    async fn calls_that_are_never_sent_whole_take_no_place_from_a_proxy() {
        let few = Limits { connections: 4, requests: 4, ..limits(Descriptors::raise()) };
        let any = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let port = Port::bind("relay.listen", &any, None, few).await.unwrap();
        let address = tcp(&port.address().unwrap());
        let (_routers, router) = watch::channel(relay(None));
        let (_stop, finished) = watch::channel(());
        tokio::spawn(port.serve_router(router, finished, Duration::ZERO));
        let connect = async |body: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = "POST /verify HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
            stream.write_all([head, body].concat().as_bytes()).await.unwrap();
            stream
        };
        let mut crowd = Vec::new();
        for _ in 0..12 {
            crowd.push(connect("hell").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut answer = [0; 12];
            connect("hello").await.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_refused_for_its_secret_is_noted_for_readiness() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        let noted = Arc::new(AtomicBool::new(false));
        let note = noted.clone();
        let router =
            watched(Some(Arc::new(Secret::load(file).unwrap())), move || note.store(true, Ordering::Relaxed));
        let is_noted = || noted.load(Ordering::Relaxed);
        assert_eq!((status(&router, Some("0123456789abcdef")).await, is_noted()), (200, false));
        assert_eq!((status(&router, None).await, is_noted()), (401, true));
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_with_the_way_to_a_better_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        for text in ["", "\n \n", "short", "0123456789abcdef\nshort", "0123456789 abcdef"] {
            std::fs::write(&file, text).unwrap();
            let error = Secret::load(file.clone()).unwrap_err().to_string();
            assert!(
                error.starts_with("relay.secret: ") && error.ends_with("`openssl rand -hex 32`"),
                "{error}"
            );
        }
        let error = Secret::load(folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn the_secret_is_in_no_debug_output() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        assert!(!format!("{:?}", Secret::load(file).unwrap()).contains("0123456789abcdef"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let request = Request::post("/verify").body(Body::from_stream(futures_util::stream::pending::<
            Result<bytes::Bytes, std::convert::Infallible>,
        >()));
        let response = relay(None).oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 408);
    }
}
