use serde_json::{Value, json};

use super::*;

/// A push in which every member is there and none has its default.
fn full() -> Value {
    json!({
        "format": 1,
        "generation": 1_795_000_000_001_u64,
        "hash": "0xab",
        "settings": {
            "unmatched": "pass",
            "body": "v2",
            "legacyNetworks": false,
            "maxPaymentBytes": 1024,
            "requireSecureTransport": true,
            "trustForwarded": true,
            "deferMismatchingSignature": true,
            "deferUndecidableSignature": false,
            "strictRecoveryByte": true,
            "clockSkewSeconds": 5,
            "replayHorizonSeconds": 600,
            "minimalPayload": true,
            "publicFacilitator": "https://facilitator.example",
            "catalog": "/api/services.json",
            "cors": { "origins": ["https://app.example"], "credentials": true, "maxAge": 60 },
        },
        "facilitator": {
            "cluster": "facilitator",
            "authority": "facilitator.example",
            "pathPrefix": "/x402",
            "verifyTimeoutMs": 5000,
            "settleTimeoutMs": 60000,
            "ready": true,
            "relay": true,
        },
        "tuples": [{
            "offerNamespace": "ns",
            "offerName": "llm",
            "chain": "eip155:84532",
            "assetSymbol": "USDC",
            "born": 7,
        }],
        "routes": [{
            "pattern": "/v1/*",
            "gate": "paid",
            "offerNamespace": "ns",
            "offerName": "llm",
            "options": [{
                "tuple": 0,
                "network": "eip155:84532",
                "v1Network": "base-sepolia",
                "v1Kind": true,
                "amount": "1000",
                "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "decimals": 6,
                "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
                "maxTimeoutSeconds": 600,
                "flow": "upfront",
                "transferMethod": "permit2",
                "eip712Name": "USDC",
                "eip712Version": "2",
                "gasSponsoring": true,
                "extra": { "agentSkills": ["a", 1, null] },
            }],
            "minRemaining": 180,
            "description": "d",
            "public": { "host": "example.org", "dropPrefix": "/services/llm" },
        }],
        "protected": ["/v1"],
    })
}

fn read(push: &Value) -> Result<PushedRules, String> {
    PushedRules::from_json(&push.to_string())
}

/// The object or list at a pointer.
fn at<'a>(push: &'a mut Value, pointer: &str) -> &'a mut Value {
    push.pointer_mut(pointer).unwrap()
}

const OBJECTS: [&str; 8] = [
    "",
    "/settings",
    "/settings/cors",
    "/facilitator",
    "/tuples/0",
    "/routes/0",
    "/routes/0/public",
    "/routes/0/options/0",
];

#[test]
fn what_is_written_is_what_was_read() {
    let rules = read(&full()).unwrap();
    assert_eq!(serde_json::to_value(&rules).unwrap(), full());
    assert_eq!(serde_json::from_value::<PushedRules>(full()).unwrap(), rules);
}

#[test]
fn every_word_of_a_choice_is_read_as_it_is_written() {
    for gate in ["paid", "free", "auth", "blocked"] {
        let mut push = full();
        push["routes"][0]["gate"] = json!(gate);
        assert_eq!(serde_json::to_value(read(&push).unwrap()).unwrap()["routes"][0]["gate"], gate);
    }
    for (member, words) in
        [("flow", ["authorization", "upfront"]), ("transferMethod", ["eip3009", "permit2"])]
    {
        for word in words {
            let mut push = full();
            push["routes"][0]["options"][0][member] = json!(word);
            let written = serde_json::to_value(read(&push).unwrap()).unwrap();
            assert_eq!(written["routes"][0]["options"][0][member], word);
        }
    }
}

#[test]
fn settings_are_read_from_a_push_as_from_an_operators_file() {
    let mut push = full();
    let settings = push["settings"].clone();
    assert_eq!(read(&push).unwrap().settings, serde_json::from_value(settings.clone()).unwrap());
    for member in settings.as_object().unwrap().keys() {
        let mut fewer = settings.clone();
        fewer.as_object_mut().unwrap().remove(member);
        push["settings"] = fewer.clone();
        assert_eq!(read(&push).unwrap().settings, serde_json::from_value(fewer).unwrap(), "{member}");
    }
    push["settings"] = json!({});
    assert_eq!(read(&push).unwrap().settings, Settings::default());
}

#[test]
fn unknown_members_are_refused_everywhere() {
    for object in OBJECTS {
        let mut push = full();
        at(&mut push, object)["surprise"] = json!(1);
        let reason = read(&push).unwrap_err();
        assert!(reason.ends_with("unknown field `surprise`"), "{object}: {reason}");
    }
}

#[test]
fn only_the_members_with_a_default_may_be_absent() {
    let optional = [
        "/settings/cors/credentials",
        "/settings/cors/maxAge",
        "/facilitator",
        "/routes/0/offerNamespace",
        "/routes/0/offerName",
        "/routes/0/options",
        "/routes/0/minRemaining",
        "/routes/0/description",
        "/routes/0/public",
        "/routes/0/options/0/v1Network",
        "/routes/0/options/0/v1Kind",
        "/routes/0/options/0/flow",
        "/routes/0/options/0/gasSponsoring",
        "/routes/0/options/0/extra",
    ];
    for object in OBJECTS.into_iter().filter(|object| *object != "/settings") {
        let names: Vec<String> = at(&mut full(), object).as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut push = full();
            at(&mut push, object).as_object_mut().unwrap().remove(&name);
            let place = format!("{object}/{name}");
            match read(&push) {
                Ok(_) => assert!(optional.contains(&place.as_str()), "{place} may not be absent"),
                Err(reason) => {
                    assert!(!optional.contains(&place.as_str()), "{place}: {reason}");
                    assert!(reason.ends_with(&format!("missing field `{name}`")), "{place}: {reason}");
                }
            }
        }
    }
}

#[test]
fn a_bad_value_is_refused_with_its_place() {
    let cases = [
        ("/format", json!(5_000_000_000_u64), "`format` is too large"),
        ("/generation", json!(-1), "`generation` is not a whole number"),
        ("/settings/unmatched", json!("open"), "settings: `unmatched` is `open`, which is not known"),
        ("/settings/trustForwarded", json!("yes"), "settings: `trustForwarded` is not true or false"),
        ("/facilitator/verifyTimeoutMs", json!("5s"), "facilitator: `verifyTimeoutMs` is not a whole number"),
        ("/tuples/0/chain", json!(8453), "tuples[0]: `chain` is not a string"),
        ("/routes", json!({}), "`routes` is not a list"),
        ("/routes/0", json!([]), "routes[0]: not an object"),
        ("/routes/0/gate", json!("open"), "routes[0]: `gate` is `open`, which is not known"),
        (
            "/routes/0/options/0/network",
            json!("base"),
            "routes[0]: options[0]: `network` is not an eip155 CAIP-2 id",
        ),
        (
            "/routes/0/options/0/amount",
            json!("1.5"),
            "routes[0]: options[0]: `amount` is not a decimal integer",
        ),
        ("/routes/0/options/0/decimals", json!(256), "routes[0]: options[0]: `decimals` is too large"),
        ("/protected/0", json!(1), "protected[0]: not a string"),
    ];
    for (pointer, value, expected) in cases {
        let mut push = full();
        *at(&mut push, pointer) = value;
        assert_eq!(read(&push).unwrap_err(), expected, "{pointer}");
    }
}
