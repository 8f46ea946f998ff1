//! The cost of a hundred reloads.
//!
//! With each reload Traefik builds the plugin again for every router, and frees the old ones after several runs of its
//! garbage collector. Without a limit these runs come later and later, and the memory grows by 2 MB with each reload
//! (to 640 MB after 300). With a limit the memory stays. The companion publishes at most every two seconds, which is
//! Traefik's throttle. Here the rules come from the test's own provider, as fast as Traefik takes them, which is
//! worse.

use std::sync::{Arc, Mutex};

use farebox_testkit::stack::{Options, Part, Shell, Stack};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{PRICING, options};
use crate::reload::metrics::sum;

/// Traefik's `GOMEMLIMIT`, low enough to be reached.
const TRAEFIK_MEMORY: u64 = 128 << 20;
const RELOADS: u64 = 100;
/// Requests at once after each reload: as many instances of the plugin.
const AT_ONCE: usize = 8;
/// Number of reloads between two measurements.
const LOOK: u64 = 10;
/// Number of reloads until Traefik reaches its limit.
const WARM: u64 = 60;
/// Memory of Traefik that its garbage collector does not count, mostly the machine code of the plugin.
const BESIDE: u64 = 96 << 20;
/// Memory by which Traefik and companion may grow during the last reloads.
const BOUND: u64 = 24 << 20;

/// The configuration for Traefik's HTTP provider.
type Body = Arc<Mutex<String>>;

async fn provide(listener: TcpListener, body: Body) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = body.lock().unwrap().clone();
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", text.len());
            let answer = format!("HTTP/1.1 200 OK\r\n{head}connection: close\r\n\r\n{text}");
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

/// The companion's own text for Traefik, as another generation.
async fn text_of(stack: &Stack, generation: u64) -> String {
    let url = format!("{}/traefik", stack.companion_url());
    let text = stack.client().get(url).send().await.unwrap().text().await.unwrap();
    let mut body: Value = serde_json::from_str(&text).unwrap();
    let config = body.pointer_mut("/http/middlewares/farebox/plugin/farebox/config").unwrap();
    let mut plugin: Value = serde_json::from_str(config.as_str().unwrap()).unwrap();
    plugin["rules"]["generation"] = json!(generation);
    *config = json!(plugin.to_string());
    body.to_string()
}

/// Whether Traefik has this generation.
async fn has(stack: &Stack, generation: u64) -> bool {
    let url = format!("{}/api/http/middlewares/farebox@http", stack.api_url());
    let Ok(answer) = stack.client().get(url).send().await else { return false };
    let shown: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    let config = shown["plugin"]["farebox"]["config"].as_str().unwrap_or_default().to_owned();
    serde_json::from_str::<Value>(&config).unwrap_or_default()["rules"]["generation"] == generation
}

/// The generation the companion has loaded.
async fn loaded(stack: &Stack) -> u64 {
    stack.status().await.unwrap()["config_generation"].as_u64().unwrap()
}

async fn ask(stack: &Stack) {
    let asks = (0..AT_ONCE).map(|_| tokio::spawn(stack.get("/goods/a").send()));
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap().unwrap().status(), 402);
    }
}

fn memory(stack: &Stack, part: Part) -> u64 {
    stack.part(part).unwrap().resident_bytes().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_take_no_more_memory_than_is_stated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let body: Body = Arc::default();
    let tweak = move |traefik: &mut Value| {
        let own = json!({ "endpoint": endpoint, "pollInterval": "100ms", "pollTimeout": "5s" });
        traefik["providers"] = json!({ "providersThrottleDuration": "100ms", "http": own });
    };
    let mut stack = Stack::prepare(Options {
        traefik_memory: Some(TRAEFIK_MEMORY),
        tweak: Box::new(tweak),
        ..options(Shell::Traefik)
    })
    .unwrap();
    for part in [Part::Facilitator, Part::Companion] {
        stack.start_part(part).unwrap();
    }
    let is_ready =
        async |stack: &Stack| stack.status().await.is_ok_and(|status| status["facilitator"]["ready"] == true);
    stack.until("the companion is ready", is_ready).await.unwrap();
    *body.lock().unwrap() = text_of(&stack, 1).await;
    tokio::spawn(provide(listener, body.clone()));
    stack.start_part(Part::Proxy).unwrap();

    let mut looks = Vec::new();
    let mut generation = loaded(&stack).await;
    for number in 1..=RELOADS {
        stack.rewrite_pricing(&PRICING.replace("0.001", &format!("0.1{number:03}"))).unwrap();
        let is_later = async |stack: &Stack| loaded(stack).await > generation;
        stack.until("the companion takes the rules", is_later).await.unwrap();
        generation = loaded(&stack).await;
        *body.lock().unwrap() = text_of(&stack, number).await;
        stack.until("Traefik takes the rules", async |stack| has(stack, number).await).await.unwrap();
        stack
            .until("the plugin answers", async |stack| {
                stack.get("/goods/a").send().await.is_ok_and(|answer| answer.status() == 402)
            })
            .await
            .unwrap();
        ask(&stack).await;
        if number.is_multiple_of(LOOK) {
            let now = [Part::Proxy, Part::Companion].map(|part| memory(&stack, part));
            println!("after {number} reloads: {} MB and {} MB", now[0] >> 20, now[1] >> 20);
            looks.push((number, now));
        }
    }
    let late = |place: usize| {
        let late = looks.iter().filter(|(number, _)| *number >= WARM);
        late.map(|(_, memory)| memory[place]).collect::<Vec<_>>()
    };
    for (place, part) in [Part::Proxy, Part::Companion].into_iter().enumerate() {
        let (first, most) = (late(place)[0], late(place).into_iter().max().unwrap());
        assert!(most - first < BOUND, "{part:?} grew from {first} to {most} bytes after reload {WARM}");
    }
    let most = late(0).into_iter().max().unwrap();
    assert!(most < TRAEFIK_MEMORY + BESIDE, "Traefik has {most} bytes");
    let page = stack.metrics().await.unwrap();
    assert_eq!(sum(&page, "config_reloads_total", &[("result", "applied")]), u128::from(RELOADS) + 1);
}
