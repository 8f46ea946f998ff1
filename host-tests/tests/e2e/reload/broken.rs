//! Rules that cannot be taken: by the companion, and by Envoy.

use std::fs::{File, FileTimes};

use farebox_testkit::stack::Part;
use serde_json::{Value, json};

use crate::reload::metrics::sum;
use crate::reload::pricing::{file, free, paid};
use crate::reload::stage::Stage;

/// The key or text that explains a rejected file, and its line.
struct Broken {
    what: &'static str,
    text: String,
    line: Option<u32>,
}

fn broken_files(good: &str) -> Vec<Broken> {
    let broken = |what, text: String, line| Broken { what, text, line: Some(line) };
    vec![
        broken("bad YAML", good.replace("routes:", "routes: ["), 4),
        broken("an unknown key", good.replace("  price:", "  prize:"), 5),
        broken("truncated before the routes", good.split_inclusive('\n').take(2).collect(), 1),
        broken("truncated in the middle of a line", good.trim_end().to_owned(), good.lines().count() as u32),
        broken("contradicting routes", format!("{good}{}", paid("kept", "0.5")), 12),
        Broken { what: "vanished", text: String::new(), line: None },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_is_reported_and_its_repair_needs_no_new_mtime() {
    let good = file(&[paid("kept", "0.001"), free("open")]);
    let stage = Stage::start(&good).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/kept/api").await.unwrap();
    let applied = stage.stack.status().await.unwrap();

    let broken_files = broken_files(&good);
    for (index, broken) in broken_files.iter().enumerate() {
        let rejected = index as u128 + 1;
        let pricing = stage.stack.pricing();
        if broken.line.is_none() {
            std::fs::remove_file(&pricing).unwrap();
        } else {
            stage.stack.rewrite_pricing(&broken.text).unwrap();
        }
        let is_rejected =
            async || sum(&stage.page().await, "config_reloads_total", &[("result", "rejected")]) == rejected;
        stage.until(broken.what, is_rejected).await;

        // Reported, with its place.
        let page = stage.counted().await;
        assert_eq!(sum(&page, "config_last_reload_successful", &[("source", "file")]), 0, "{}", broken.what);
        let status = stage.stack.status().await.unwrap();
        let reload = &status["last_reload"];
        assert_eq!(reload["result"], "rejected", "{}", broken.what);
        match broken.line {
            Some(line) => {
                let place = format!("{}:{line}", pricing.display());
                let findings = reload["findings"].as_array().unwrap();
                let found =
                    findings.iter().any(|f| f["severity"] == "reject" && f["place"] == place.as_str());
                assert!(found, "{}: no {place} in {reload:#}", broken.what);
            }
            None => assert!(reload["error"].as_str().unwrap().contains("cannot be read"), "{reload:#}"),
        }
        assert!(status["config_err_since"].is_u64());

        // And nothing changed.
        assert_eq!(status["ready"], true);
        for member in ["config_generation", "config_hash"] {
            assert_eq!(status[member], applied[member], "{}", broken.what);
        }
        assert_eq!(stage.stack.enforced().await.unwrap(), Some(stage.generation));
        assert_eq!(buyer.ask("/kept/api").await.unwrap().status, 402);
        assert_eq!(buyer.pay("/kept/api", &terms).await.unwrap().status, 200);
        assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);
        assert_eq!(buyer.ask("/elsewhere").await.unwrap().status, 404);

        repair(&stage, &good, broken).await;
    }
    let page = stage.counted().await;
    let charged = sum(&page, "charged_requests_total", &[("offer_name", "kept")]);
    assert_eq!(charged, broken_files.len() as u128);
    assert_eq!(stage.stack.enforced().await.unwrap(), Some(stage.generation));
}

/// Writes the good file with the modification time of the broken one, and waits until it is taken.
async fn repair(stage: &Stage, good: &str, broken: &Broken) {
    let pricing = stage.stack.pricing();
    let before = std::fs::metadata(&pricing).ok().map(|of| of.modified().unwrap());
    let next = stage.stack.folder().join(".repaired");
    std::fs::write(&next, good).unwrap();
    if let Some(before) = before {
        File::options()
            .write(true)
            .open(&next)
            .unwrap()
            .set_times(FileTimes::new().set_modified(before))
            .unwrap();
    }
    std::fs::rename(next, &pricing).unwrap();
    let is_taken = async || {
        let page = stage.counted().await;
        sum(&page, "config_last_reload_successful", &[("source", "file")]) == 1
    };
    stage.until(&format!("the file is repaired after: {}", broken.what), is_taken).await;
    let status = stage.stack.status().await.unwrap();
    assert_eq!(status["last_reload"]["result"], "unchanged");
    assert!(status["config_err_since"].is_null());
}

/// The rest of the pattern is not written yet. Without the rule about the last line, all that is sold would be free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_that_starts_with_half_a_line_frees_nothing() {
    let good = file(&[paid("kept", "0.001")]);
    let mut stage = Stage::start(&good).await;
    let buyer = stage.buyer();
    stage.stack.kill_part(Part::Companion);
    let cut = file(&["- gate: free\n  pattern: /*\n".into(), paid("kept", "0.001")]);
    let (cut, _) = cut.split_at(cut.find("/*").unwrap() + 2);
    stage.stack.rewrite_pricing(cut).unwrap();
    stage.stack.start_part(Part::Companion).unwrap();
    let error = async || {
        let status = stage.stack.status().await.ok();
        status.and_then(|status| status["not_ready"].as_str().map(str::to_owned)).unwrap_or_default()
    };
    let is_named = async || error().await.contains("the last line has no end");
    stage.until("the status says what is missing", is_named).await;
    assert_eq!(buyer.ask("/kept/api").await.unwrap().status, 402);
    assert_eq!(buyer.ask("/elsewhere").await.unwrap().status, 404);
    stage.reload(&file(&[paid("kept", "0.002")])).await;
    let terms = buyer.terms("/kept/api").await.unwrap();
    assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_envoy_refuses_leaves_the_last_good_in_force_until_the_next_good_one() {
    let mut stage = Stage::start(&file(&[paid("kept", "0.001")])).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/kept/api").await.unwrap();

    // By hand: the companion compiles what it publishes with the filter's own code first.
    let discovery = stage.stack.folder().join("discovery/filter.yaml");
    let mut resource: Value = serde_json::from_slice(&std::fs::read(&discovery).unwrap()).unwrap();
    let configuration = "/resources/0/typed_config/config/configuration/value";
    *resource.pointer_mut(configuration).unwrap() = json!(r#"{"generation":1,"routes":"none"}"#);
    let next = stage.stack.folder().join("discovery/.by-hand");
    std::fs::write(&next, resource.to_string()).unwrap();
    std::fs::rename(next, &discovery).unwrap();

    let refused = "extension_config_discovery[.]http_filter[.]farebox[.]update_rejected";
    stage.until("Envoy refuses the push", async || stage.envoy_counter(refused).await == 1).await;
    assert_eq!(stage.stack.enforced().await.unwrap(), Some(stage.generation));
    assert_eq!(buyer.ask("/kept/api").await.unwrap().status, 402);
    let served = buyer.pay("/kept/api", &terms).await.unwrap();
    assert_eq!((served.status, served.is_settled()), (200, true));

    let refusal = async || stage.stack.status().await.unwrap()["proxies"][0]["refusal"].clone();
    stage.until("the status says why", async || refusal().await.is_string()).await;
    assert_eq!(stage.stack.status().await.unwrap()["proxies"][0]["generation_confirmed"], stage.generation);

    stage.reload(&file(&[paid("kept", "0.002")])).await;
    let healed = async || {
        let status = stage.stack.status().await.unwrap();
        let proxy = &status["proxies"][0];
        proxy["state"] == "confirmed"
            && proxy["generation_confirmed"] == stage.generation
            && proxy["refusal"].is_null()
    };
    stage.until("the next good push heals it", healed).await;
    assert_eq!(buyer.terms("/kept/api").await.unwrap()["amount"], "2000");
    let page = stage.counted().await;
    assert_eq!(sum(&page, "charged_requests_total", &[("offer_name", "kept")]), 1);
}
