use super::*;
use crate::yaml::parse;

fn findings(text: &str) -> Vec<(usize, String, String)> {
    let root = parse(text).unwrap_or_else(|b| panic!("{}", b.message)).expect("a document");
    let mut findings = Vec::new();
    read(&root, &mut findings);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Reject));
    findings.into_iter().map(|finding| (finding.line, finding.key, finding.message)).collect()
}

fn finding(text: &str) -> (usize, String, String) {
    let mut all = findings(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_known_key() {
    assert_eq!(
        findings("walet: x\nroutes:\n- pattern: /a\n  Price: 1\n  payments:\n  - payto: x\n    zzz: 1\n"),
        [
            (1, "walet".into(), "is not a known key; did you mean `wallet`?".into()),
            (4, "routes[0].Price".into(), "is not a known key; did you mean `price`?".into()),
            (6, "routes[0].payments[0].payto".into(), "is not a known key; did you mean `payTo`?".into()),
            (7, "routes[0].payments[0].zzz".into(), "is not a known key".into()),
        ]
    );
}

#[test]
fn route_keys_are_not_payment_keys() {
    let text = "routes:\n- pattern: /a\n  payments:\n  - gate: free\n";
    assert_eq!(finding(text).1, "routes[0].payments[0].gate");
}

#[test]
fn a_duplicate_key_is_refused_where_it_repeats() {
    assert_eq!(
        finding("routes: []\nwallet: a\nwallet: a\n"),
        (3, "wallet".into(), "is repeated; the first one is on line 2".into())
    );
}

#[test]
fn a_merge_key_is_an_unknown_key() {
    assert_eq!(finding("routes: []\n<<: {wallet: a}\n").2, "is not a known key");
}

#[test]
fn wrong_types_are_refused_and_never_show_the_value() {
    let text = "verifyOnly: \"yes\"\nwallet: [a]\nroutes:\n- pattern: {a: 1}\n  freeQuota: 1.5\n  upstreamAuth: [secret]\n  \
                maxTimeoutSeconds: \"600\"\n  assetDecimals: 256\n  payments: x\n- just text\n";
    assert_eq!(
        findings(text),
        [
            (2, "wallet".into(), "must be a text, not a list".into()),
            (1, "verifyOnly".into(), "must be true or false, without quotes".into()),
            (4, "routes[0].pattern".into(), "must be a text, not a mapping".into()),
            (8, "routes[0].assetDecimals".into(), "must be from 0 to 255".into()),
            (7, "routes[0].maxTimeoutSeconds".into(), "must be a whole number, without quotes".into()),
            (9, "routes[0].payments".into(), "must be a list, not a single value".into()),
            (6, "routes[0].upstreamAuth".into(), "must be a text, not a list".into()),
            (5, "routes[0].freeQuota".into(), "must be a whole number, without quotes".into()),
            (10, "routes[1]".into(), "must be a mapping of keys, not a single value".into()),
        ]
    );
}

#[test]
fn routes_must_be_there_and_must_not_be_empty_by_accident() {
    assert_eq!(finding("wallet: a\n").1, "routes");
    assert_eq!(finding("wallet: a\nroutes:\n").2, "is empty; write `routes: []` if there are none");
    assert_eq!(finding("- a\n").2, "must be a mapping of keys, not a list");
    assert!(findings("routes: []\n").is_empty());
}

#[test]
fn null_tilde_and_empty_mean_unset_but_quoted_words_do_not() {
    let root =
        parse("wallet: null\nchain: ~\nfacilitatorURL: \"\"\nroutes:\n- pattern: \"null\"\n  price:\n")
            .ok()
            .flatten()
            .unwrap();
    let mut findings = Vec::new();
    let file = read(&root, &mut findings);
    assert!(findings.is_empty());
    assert!(file.wallet.is_none() && file.chain.is_none() && file.facilitator_url.is_none());
    assert_eq!(file.routes[0].pattern.as_ref().unwrap().value, "null");
    assert!(file.routes[0].inline.price.is_none());
}

#[test]
fn the_secret_is_not_shown() {
    let root = parse("routes:\n- pattern: /a\n  upstreamAuth: Bearer hush\n").ok().flatten().unwrap();
    let mut findings = Vec::new();
    let file = read(&root, &mut findings);
    let read = file.routes[0].upstream_auth.as_ref().unwrap();
    assert_eq!((read.line, &read.value), (3, &Some(Credential::Value("Bearer hush".into()))));
    assert!(!format!("{file:?}").contains("hush"));
}

#[test]
fn distances_count_single_letters() {
    assert_eq!(distance("price", "price"), 0);
    assert_eq!(distance("prise", "price"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
}
