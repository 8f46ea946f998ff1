use super::*;
use farebox_core::evm::{chain_by_name, named_chains};

const OBOL_BASE_SEPOLIA: &str = "0x0a09371a8b011d5110656ceBCc70603e53FD2c78";
const CUSTOM: &str = "0x1111111111111111111111111111111111111111";

fn at<T>(value: T) -> Option<At<T>> {
    Some(At { line: 3, value })
}

fn text(value: &str) -> Option<At<String>> {
    at(value.to_owned())
}

fn money(price: &str) -> Money {
    Money { path: "routes[0]".into(), line: 2, price: text(price), ..Money::default() }
}

fn defaults() -> Defaults {
    Defaults {
        wallet: Some(Address([0x22; 20])),
        chain: chain_by_name("base-sepolia"),
        settle_timeout: 60,
        replay_horizon: 90_000,
    }
}

fn resolved(money: &Money) -> (Resolved, Vec<String>) {
    let mut warnings = Vec::new();
    let resolved = resolve(money, &defaults(), None, &Extra::default(), &mut warnings)
        .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    (resolved, warnings.into_iter().map(|warning| warning.key).collect())
}

fn ok(money: &Money) -> Resolved {
    let (resolved, warnings) = resolved(money);
    assert_eq!(warnings, [""; 0]);
    resolved
}

fn reason(money: &Money) -> &'static str {
    let refusal =
        resolve(money, &defaults(), None, &Extra::default(), &mut Vec::new()).expect_err("must be refused");
    refusal.reason.as_str()
}

#[test]
fn an_option_inherits_wallet_chain_and_the_usdc_of_the_chain() {
    let Resolved { option, symbol } = ok(&money("0.001"));
    assert_eq!(symbol, "USDC");
    assert_eq!(option.network.as_str(), "eip155:84532");
    assert_eq!(option.v1_network.as_deref(), Some("base-sepolia"));
    assert_eq!(option.amount, Amount::from_u64(1000));
    assert_eq!(option.asset.checksummed(), "0x036CbD53842c5426634e7929541eC2318f3dCF7e");
    assert_eq!(option.pay_to, Address([0x22; 20]));
    assert_eq!(option.max_timeout_seconds, 600);
    assert_eq!(option.flow, Flow::Authorization);
    assert_eq!((option.eip712_name.as_str(), option.eip712_version.as_str()), ("USDC", "2"));
    assert!(!option.gas_sponsoring);
}

#[test]
fn every_spelling_of_a_chain_resolves_to_its_caip2_id() {
    for (typed, id) in [
        ("base", "eip155:8453"),
        ("base-mainnet", "eip155:8453"),
        ("base-sepolia", "eip155:84532"),
        ("ethereum", "eip155:1"),
        ("ethereum-mainnet", "eip155:1"),
        ("polygon", "eip155:137"),
        ("polygon-mainnet", "eip155:137"),
        ("polygon-amoy", "eip155:80002"),
        ("avalanche", "eip155:43114"),
        ("avalanche-mainnet", "eip155:43114"),
        ("avalanche-fuji", "eip155:43113"),
        ("arbitrum-one", "eip155:42161"),
        ("arbitrum", "eip155:42161"),
        ("arbitrum-sepolia", "eip155:421614"),
    ] {
        for spelling in [typed.to_owned(), format!("  {} ", typed.to_uppercase()), id.to_owned()] {
            let (resolved, _) = resolved(&Money { network: text(&spelling), ..money("1") });
            assert_eq!(resolved.option.network.as_str(), id, "{spelling}");
            assert_eq!(resolved.symbol, "USDC");
        }
    }
    assert!(named_chains().count() >= 9);
}

#[test]
fn unknown_chains_are_refused() {
    for typed in [
        "sepolia",
        "eip155:999999",
        "solana",
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        "goerli",
        "eip155:01",
    ] {
        assert_eq!(reason(&Money { network: text(typed), ..money("1") }), "unsupported_chain", "{typed}");
    }
}

#[test]
fn another_evm_chain_is_taken_with_a_complete_asset() {
    let money = Money {
        network: text("eip155:999999"),
        asset_address: text(CUSTOM),
        asset_symbol: text("TOK"),
        asset_decimals: at(2),
        transfer_method: text("eip3009"),
        eip712_name: text("Token"),
        eip712_version: text("1"),
        ..money("1.5")
    };
    let Resolved { option, symbol } = ok(&money);
    assert_eq!((symbol.as_str(), option.network.as_str()), ("TOK", "eip155:999999"));
    assert_eq!((option.amount, option.decimals), (Amount::from_u64(150), 2));
    assert_eq!(option.v1_network, None);
}

#[test]
fn an_unknown_address_needs_all_five_terms() {
    let complete = Money {
        asset_address: text(CUSTOM),
        asset_symbol: text("TOK"),
        asset_decimals: at(6),
        transfer_method: text("permit2"),
        eip712_name: text("Token"),
        eip712_version: text("1"),
        ..money("1")
    };
    assert_eq!(ok(&complete).option.transfer_method, TransferMethod::Permit2);
    for incomplete in [
        Money { asset_symbol: None, ..complete.clone() },
        Money { asset_decimals: None, ..complete.clone() },
        Money { transfer_method: None, ..complete.clone() },
        Money { eip712_name: None, ..complete.clone() },
        Money { eip712_version: None, ..complete.clone() },
        Money { asset_address: text(CUSTOM), ..money("1") },
    ] {
        assert_eq!(reason(&incomplete), "asset_incomplete");
    }
    for symbol in ["ü", "a\tb", "a;.;b", "123456789012345678901234567890123"] {
        assert_eq!(reason(&Money { asset_symbol: text(symbol), ..complete.clone() }), "other", "{symbol}");
    }
}

#[test]
fn a_registry_address_takes_all_defaults_of_that_asset() {
    for typed in [OBOL_BASE_SEPOLIA.to_owned(), OBOL_BASE_SEPOLIA.to_lowercase()] {
        let Resolved { option, symbol } = ok(&Money { asset_address: text(&typed), ..money("0.001") });
        assert_eq!(symbol, "OBOL");
        assert_eq!(option.decimals, 18);
        assert_eq!(option.amount.to_string(), "1000000000000000");
        assert_eq!(option.transfer_method, TransferMethod::Permit2);
        assert_eq!((option.eip712_name.as_str(), option.eip712_version.as_str()), ("Obol Network", "1"));
        assert!(option.gas_sponsoring, "whatever case the address is typed in");
        assert_eq!(option.v1_network, None, "version 1 has no Permit2");
    }
}

#[test]
fn a_symbol_alone_selects_a_registry_asset_of_the_chain() {
    assert_eq!(ok(&Money { asset_symbol: text("obol"), ..money("1") }).symbol, "OBOL");
    assert_eq!(reason(&Money { asset_symbol: text("DAI"), ..money("1") }), "asset_incomplete");
}

#[test]
fn terms_that_contradict_the_registry_are_refused() {
    let obol = Money { asset_address: text(OBOL_BASE_SEPOLIA), ..money("1") };
    assert_eq!(reason(&Money { asset_decimals: at(6), ..obol.clone() }), "asset_mismatch");
    assert_eq!(reason(&Money { asset_symbol: text("USDC"), ..obol.clone() }), "asset_mismatch");
    assert_eq!(reason(&Money { asset_decimals: at(18), ..money("1") }), "asset_mismatch");
    assert_eq!(ok(&Money { asset_decimals: at(18), asset_symbol: text("obol"), ..obol }).symbol, "OBOL");
}

#[test]
fn explicit_domain_and_method_win_over_the_registry_with_a_warning() {
    let (resolved, warnings) = resolved(&Money {
        eip712_name: text("Other"),
        eip712_version: text("3"),
        transfer_method: text("permit2"),
        ..money("1")
    });
    assert_eq!(
        warnings,
        ["routes[0].assetTransferMethod", "routes[0].eip712Name", "routes[0].eip712Version"]
    );
    assert_eq!(
        (resolved.option.eip712_name.as_str(), resolved.option.eip712_version.as_str()),
        ("Other", "3")
    );
    assert_eq!(resolved.option.transfer_method, TransferMethod::Permit2);
    assert!(!resolved.option.gas_sponsoring, "only the registry grants it");
}

#[test]
fn a_disputed_domain_warns_unless_the_file_names_it() {
    let amoy = Money { network: text("polygon-amoy"), ..money("1") };
    assert_eq!(resolved(&amoy).1, ["routes[0].eip712Name"]);
    let named = Money { eip712_name: text("USDC"), ..amoy };
    assert_eq!(ok(&named).option.eip712_name, "USDC");
}

#[test]
fn prices_are_exact_or_refused_by_their_reason() {
    assert_eq!(reason(&money("0.0000001")), "price_precision");
    assert_eq!(reason(&money("0")), "zero_price");
    assert_eq!(reason(&money("0.000000")), "zero_price");
    for typed in ["1e-3", "-1", "+1", ".5", "1.", "$1", "1_000", " 1", "1 ", "0x1", "１", "1,5"] {
        assert_eq!(reason(&money(typed)), "bad_price", "{typed}");
    }
    assert_eq!(reason(&money(&"9".repeat(79))), "bad_price");
    let two_to_256 = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    let whole = Money {
        asset_address: text(CUSTOM),
        asset_symbol: text("TOK"),
        asset_decimals: at(0),
        transfer_method: text("permit2"),
        eip712_name: text("Token"),
        eip712_version: text("1"),
        ..money(two_to_256)
    };
    assert_eq!(reason(&whole), "bad_price");
    assert_eq!(ok(&Money { price: text("1"), ..whole }).option.amount, Amount::from_u64(1));
    assert_eq!(reason(&Money { price: None, ..money("1") }), "missing_price");
}

#[test]
fn a_price_per_million_tokens_is_charged_per_request_unless_a_price_is_set() {
    let per_mtok = Money { price: None, per_mtok: text("2.5"), ..money("1") };
    assert_eq!(ok(&per_mtok).option.amount, Amount::from_u64(2500));
    let by_name = Money { price_model: text("perMTok"), ..per_mtok.clone() };
    assert_eq!(ok(&by_name).option.amount, Amount::from_u64(2500));
    let many = Money { tokens: at(4000), ..per_mtok.clone() };
    assert_eq!(ok(&many).option.amount, Amount::from_u64(10_000));
    let both = Money { price: text("0.01"), ..per_mtok.clone() };
    assert_eq!(resolved(&both).0.option.amount, Amount::from_u64(10_000));
    assert_eq!(resolved(&both).1, ["routes[0].perMTok"]);
    assert_eq!(
        ok(&Money { price: text("0.0025"), ..per_mtok.clone() }).option.amount,
        Amount::from_u64(2500)
    );
    assert_eq!(reason(&Money { tokens: at(0), ..per_mtok.clone() }), "zero_price");
    assert_eq!(reason(&Money { tokens: at(-1), ..per_mtok.clone() }), "bad_price");
    assert_eq!(reason(&Money { per_mtok: text("2e3"), ..per_mtok.clone() }), "bad_price");
    assert_eq!(reason(&Money { per_mtok: text("0.0001"), ..per_mtok }), "price_precision");
}

#[test]
fn price_models_follow_the_contract() {
    assert_eq!(
        ok(&Money { price_model: text("perRequest"), ..money("1") }).option.amount,
        Amount::from_u64(1_000_000)
    );
    let (hour, warnings) = resolved(&Money { price_model: text("perHour"), ..money("1") });
    assert_eq!(hour.option.amount, Amount::from_u64(1_000_000));
    assert_eq!(warnings, ["routes[0].priceModel"]);
    for model in ["perEpoch", "perrequest", "x"] {
        assert_eq!(reason(&Money { price_model: text(model), ..money("1") }), "unsupported_price_model");
    }
    let unpriced = Money { price: None, per_mtok: text("1"), price_model: text("perRequest"), ..money("1") };
    assert_eq!(reason(&unpriced), "missing_price");
}

#[test]
fn millions_are_divided_without_rounding() {
    assert_eq!(per_million("2.5", 1000).as_deref(), Some("0.0025"));
    assert_eq!(per_million("3", 1_000_000).as_deref(), Some("3"));
    assert_eq!(per_million("0.000001", 1).as_deref(), Some("0.000000000001"));
    assert_eq!(per_million("0", 1000).as_deref(), Some("0"));
    assert_eq!(per_million("1.", 1000), None);
    assert_eq!(per_million(&"9".repeat(78), 1000), None);
}

#[test]
fn recipients_are_checked() {
    assert_eq!(
        reason(&Money { pay_to: text("0x0000000000000000000000000000000000000000"), ..money("1") }),
        "bad_address"
    );
    assert_eq!(reason(&Money { pay_to: text("0x11"), ..money("1") }), "bad_address");
    assert_eq!(reason(&Money { asset_address: text("x"), ..money("1") }), "bad_address");
    let wrong_case = "0x036cbD53842c5426634e7929541eC2318f3dCF7e";
    assert_eq!(reason(&Money { pay_to: text(wrong_case), ..money("1") }), "bad_address");
    let asset = Money { asset_address: text(wrong_case), ..money("1") };
    assert_eq!(ok(&asset).option.asset.checksummed(), "0x036CbD53842c5426634e7929541eC2318f3dCF7e");
    let homeless = Defaults { wallet: None, ..defaults() };
    let refusal = resolve(&money("1"), &homeless, None, &Extra::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(
        (refusal.reason.as_str(), refusal.line, refusal.key.as_str()),
        ("missing_pay_to", 2, "routes[0].payTo")
    );
}

#[test]
fn timeouts_have_a_default_a_cap_and_no_negative_values() {
    let timeout = |seconds: i64| Money { max_timeout: at(seconds), ..money("1") };
    assert_eq!(ok(&timeout(0)).option.max_timeout_seconds, 600);
    assert_eq!(ok(&timeout(86_400)).option.max_timeout_seconds, 86_400);
    assert_eq!(resolved(&timeout(86_401)).0.option.max_timeout_seconds, 86_400);
    assert_eq!(resolved(&timeout(86_401)).1, ["routes[0].maxTimeoutSeconds"]);
    assert_eq!(reason(&timeout(-1)), "bad_timeout");
}

#[test]
fn methods_and_flows_are_closed_sets() {
    assert_eq!(
        reason(&Money { transfer_method: text("EIP3009"), ..money("1") }),
        "unsupported_transfer_method"
    );
    assert_eq!(reason(&Money { payment_flow: text("later"), ..money("1") }), "unsupported_feature");
    assert_eq!(ok(&Money { payment_flow: text("upfront"), ..money("1") }).option.flow, Flow::Upfront);
    let of_route = text("upfront");
    let flow = |money: &Money| {
        resolve(money, &defaults(), of_route.as_ref(), &Extra::default(), &mut Vec::new())
            .unwrap()
            .option
            .flow
    };
    assert_eq!(flow(&money("1")), Flow::Upfront);
    assert_eq!(flow(&Money { payment_flow: text("authorization"), ..money("1") }), Flow::Authorization);
}
