use super::*;
use serde_json::{Value, json};

fn push() -> PushedRules {
    let option = |tuple: usize| {
        json!({
            "tuple": tuple,
            "network": "eip155:84532",
            "amount": "1000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "decimals": 6,
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 600,
            "transferMethod": "eip3009",
            "eip712Name": "USDC",
            "eip712Version": "2",
        })
    };
    let paid = |pattern: &str, name: &str, tuple: usize, description: &str| {
        json!({
            "pattern": pattern,
            "gate": "paid",
            "offerName": name,
            "options": [option(tuple)],
            "description": description,
        })
    };
    let tuple = |name: &str| {
        json!({
            "offerNamespace": "",
            "offerName": name,
            "chain": "eip155:84532",
            "assetSymbol": "USDC",
            "born": 7,
        })
    };
    let push: Value = json!({
        "format": 1,
        "generation": 7,
        "hash": "0xab",
        "settings": {},
        "facilitator": {
            "cluster": "facilitator",
            "authority": "facilitator.example",
            "pathPrefix": "",
            "verifyTimeoutMs": 5_000,
            "settleTimeoutMs": 60_000,
            "ready": true,
            "relay": true,
        },
        "tuples": [tuple("one"), tuple("two")],
        "routes": [
            { "pattern": "/free/*", "gate": "free" },
            paid("/V1/*", "one", 0, "two\nlines, and ],\"routes\":["),
            paid("/v2/*/x", "two", 1, ""),
        ],
        "protected": ["/V1", "/v2/*/x"],
    });
    PushedRules::from_json(&push.to_string()).unwrap()
}

fn compiled(text: &str, at_a_time: usize) -> Result<RuleSet, String> {
    let begun = GradualCompile::begin(text.as_bytes()).expect("it is in lines");
    let mut begun = begun.map_err(|error| error.0)?;
    loop {
        match begun.advance(at_a_time).map_err(|error| error.0)? {
            Progress::More(more) => begun = more,
            Progress::Done(rules) => return Ok(*rules),
        }
    }
}

#[test]
fn a_push_in_lines_is_the_same_json() {
    let push = push();
    let text = push.to_lines();
    assert_eq!(PushedRules::from_json(&text).unwrap(), push);
    assert_eq!(text.lines().count(), 4 + push.tuples.len() + push.routes.len() + push.protected.len());
}

#[test]
fn rules_are_the_same_however_many_lines_are_compiled_at_a_time() {
    let text = push().to_lines();
    let whole = format!("{:?}", RuleSet::from_json(text.as_bytes()).unwrap());
    for at_a_time in [1, 200, 1_000, 1_000_000] {
        assert_eq!(format!("{:?}", compiled(&text, at_a_time).unwrap()), whole, "{at_a_time}");
    }
}

#[test]
fn a_push_without_entries_is_in_lines_too() {
    let push = PushedRules { tuples: Vec::new(), routes: Vec::new(), protected: Vec::new(), ..push() };
    assert!(compiled(&push.to_lines(), 1).unwrap().is_loaded());
}

#[test]
fn a_push_in_another_form_is_left_to_the_other_reader() {
    for text in ["", "{}", "{\n}", &serde_json::to_string(&push()).unwrap()] {
        assert!(GradualCompile::begin(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn what_is_refused_as_a_whole_is_refused_line_by_line_with_the_same_words() {
    let text = push().to_lines();
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("\"generation\":7", "\"generation\":0"),
        ("\"born\"", "\"barn\""),
        ("\"gate\":\"free\"", "\"gate\":\"open\""),
        ("\"pattern\":\"/free/*\"", "\"pattern\":\"free\""),
        ("\"tuple\":1", "\"tuple\":9"),
        ("\"assetSymbol\":\"USDC\"", "\"assetSymbol\":\"a;.;b\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let whole = RuleSet::from_json(changed.as_bytes()).unwrap_err().0;
        assert_eq!(compiled(&changed, 1).unwrap_err(), whole, "{from}");
    }
}

#[test]
fn a_push_that_is_cut_off_is_refused() {
    let text = push().to_lines();
    let head = text.find('\n').unwrap() + 1;
    for end in (head..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(compiled(&text[..end], 1).is_err(), "{end}");
    }
    assert!(compiled(&format!("{text}\n"), 1).is_err());
}
