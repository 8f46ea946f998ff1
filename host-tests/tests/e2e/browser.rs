//! A page in a real Chromium buys from another origin with the public client, if `filter.cors` names its origin, and
//! cannot buy otherwise.

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::page::{Page, Seen};
use farebox_testkit::stack::{Options, Shell, Stack};
use serde_json::json;

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
- { pattern: /goods/*, price: 0.001, offerName: goods }
- { pattern: /first/*, price: 0.002, paymentFlow: upfront, offerName: first }
"#;
const HOSTS: [Shell; 3] = [Shell::Envoy, Shell::Traefik, Shell::Gateway];

async fn shop(shell: Shell, cors: serde_json::Value) -> Stack {
    let settings = json!({ "filter": cors });
    Stack::start(Options { shell, settings, ..Options::priced(PRICING) }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_buys_from_every_host_where_a_setting_names_it_and_nowhere_else() {
    let page = Page::new().unwrap();
    let named = json!({ "cors": { "origins": [page.origin()] } });
    let another = json!({ "cors": { "origins": ["https://another.example"] } });
    let (mut open, mut shut) = (Vec::new(), Vec::new());
    for shell in HOSTS {
        open.push(shop(shell, named.clone()).await);
        shut.push(shop(shell, json!({})).await);
    }
    shut.push(shop(Shell::Gateway, another).await);

    let goods = |stack: &Stack| format!("{}/goods/a", stack.proxy_url());
    let first = |stack: &Stack| format!("{}/first/a", stack.proxy_url());
    let for_sale: Vec<String> = open.iter().flat_map(|stack| [goods(stack), first(stack)]).collect();
    let urls: Vec<String> = for_sale.iter().cloned().chain(shut.iter().map(goods)).collect();
    let seen = page.buy(&urls).await.unwrap();
    assert_eq!(seen.len(), urls.len());

    let (bought, refused) = seen.split_at(for_sale.len());
    for (url, seen) in for_sale.iter().zip(bought) {
        let Seen::Answer { status: 200, receipt, body } = seen else { panic!("{url}: {seen:?}") };
        assert_eq!(receipt["success"], true, "{url}: {seen:?}");
        assert!(body.contains("\"method\":\"POST\""), "{url}: {seen:?}");
    }
    for stack in &open {
        assert_eq!(DevFacilitator::of(stack).settled_payments().await.len(), 2, "{:?}", stack.shell());
    }
    for (stack, seen) in shut.iter().zip(refused) {
        assert!(matches!(seen, Seen::Refused { .. }), "{:?}: {seen:?}", stack.shell());
        assert_eq!(stack.origin().unwrap().hits().total(), 0, "{:?}", stack.shell());
        assert_eq!(DevFacilitator::of(stack).operations().await, [""; 0], "{:?}", stack.shell());
    }
}
