use super::*;
use ruint::aliases::U256;

fn tuple(namespace: &str, name: &str) -> Tuple {
    Tuple {
        offer_namespace: namespace.into(),
        offer_name: name.into(),
        chain: "eip155:8453".into(),
        asset_symbol: "USDC".into(),
        born: 0,
    }
}

/// Every series of a tuple and every call series.
fn every_series(t: &Tuple) -> Vec<MetricSeries> {
    let mut all: Vec<_> = TupleCounter::all().map(|c| MetricSeries::Tuple(t.clone(), c)).collect();
    all.push(MetricSeries::LastSuccess(t.clone()));
    all.push(MetricSeries::ConfigGeneration);
    for reason in BlockedReason::ALL {
        all.push(MetricSeries::Blocked(t.offer_namespace.clone(), t.offer_name.clone(), *reason));
    }
    for operation in [Operation::Verify, Operation::Settle] {
        for outcome in CallOutcome::ALL {
            all.push(MetricSeries::CallMillis(operation, *outcome));
            for bucket in 0..=DURATION_BUCKETS.len() {
                all.push(MetricSeries::CallBucket(operation, *outcome, bucket));
            }
        }
    }
    all
}

#[test]
fn names_are_tags_before_the_family() {
    let t = tuple("ns", "llm");
    let head =
        "offer_namespace=.=ns;.;offer_name=.=llm;.;chain=.=eip155:8453;.;asset_symbol=.=USDC;.;born=.=0;.;";
    let name = |counter| series_name(&MetricSeries::Tuple(t.clone(), counter));
    assert_eq!(name(TupleCounter::PaymentPresented), format!("{head}farebox_payments_presented_total"));
    assert_eq!(
        name(TupleCounter::PaymentFailed(FailureReason::PaymentReplayed)),
        format!("{head}reason=.=payment_replayed;.;farebox_payment_failure_reasons_total")
    );
    assert_eq!(
        series_name(&MetricSeries::Charged(t.clone(), Amount(U256::from(1000u64)))),
        format!("{head}amount=.=1000;.;farebox_charged_requests_total")
    );
    assert_eq!(
        series_name(&MetricSeries::CallBucket(Operation::Settle, CallOutcome::Timeout, 13)),
        "operation=.=settle;.;outcome=.=timeout;.;le=.=+Inf;.;farebox_facilitator_request_duration_seconds_bucket"
    );
    assert_eq!(series_name(&MetricSeries::ConfigGeneration), "farebox_config_generation");
}

#[test]
fn every_series_survives_the_round_trip_and_has_its_own_name() {
    let all = every_series(&tuple("ns", "llm"));
    let names: std::collections::BTreeSet<_> = all.iter().map(series_name).collect();
    assert_eq!(names.len(), all.len());
    for series in all {
        assert_eq!(read_series_name(&series_name(&series)), Some(series));
    }
}

#[test]
fn odd_label_values_survive_the_round_trip() {
    let odd = [
        "",
        ";.;",
        "a;.",
        "a;",
        ".;x",
        "=.=",
        "offer_name=.=forged;.;",
        "farebox_payments_presented_total",
        "x;.;farebox_",
        "%",
        "%3b",
        "a b\"c\\d",
        "ünïcode…",
        "line\nbreak\tand\u{7f}",
        "..",
    ];
    for namespace in odd {
        for name in odd {
            let t = tuple(namespace, name);
            for series in every_series(&t) {
                let text = series_name(&series);
                assert_eq!(read_series_name(&text), Some(series), "{text}");
            }
        }
    }
}

#[test]
fn a_value_never_ends_its_own_tag() {
    let name = series_name(&MetricSeries::LastSuccess(tuple("a;.;chain=.=eip155:1;.;", "b;.")));
    assert_eq!(name.matches(";.;").count(), 5);
    assert_eq!(name.matches("=.=").count(), 5);
}

#[test]
fn amounts_beyond_64_bits_survive() {
    for amount in [U256::from(1u64) << 64, U256::MAX] {
        let series = MetricSeries::Charged(tuple("", ""), Amount(amount));
        assert_eq!(read_series_name(&series_name(&series)), Some(series));
    }
}

#[test]
fn foreign_and_broken_names_are_refused() {
    let good = series_name(&MetricSeries::LastSuccess(tuple("ns", "o")));
    assert!(read_series_name(&good).is_some());
    let bad = [
        String::new(),
        "requests_total".into(),
        "farebox_payments_presented_total".into(),
        format!("x{good}"),
        format!("{good}x"),
        good.replace("born=.=0", "born=.=-1"),
        good.replace("born=.=0", "born=.="),
        good.replace("chain", "Chain"),
        good.replace("=.=ns", "=.=%"),
        good.replace("=.=ns", "=.=%ff"),
        good.replace("=.=ns", "=.=%zz"),
        good.replace("farebox_", "extra=.=1;.;farebox_"),
        "operation=.=verify;.;outcome=.=success;.;le=.=7;.;farebox_facilitator_request_duration_seconds_bucket"
            .into(),
    ];
    for name in bad {
        assert_eq!(read_series_name(&name), None, "{name}");
    }
}

#[test]
fn durations_fall_into_the_first_bucket_that_holds_them() {
    let cases =
        [(0, 0), (5, 0), (6, 1), (25, 2), (26, 3), (1_000, 7), (1_001, 8), (60_000, 12), (60_001, 13)];
    for (millis, bucket) in cases {
        assert_eq!(histogram_bucket(millis), bucket, "{millis} ms");
    }
    assert_eq!(histogram_bucket(u64::MAX), DURATION_BUCKETS.len());
    for (bound, millis) in DURATION_BUCKETS.iter().zip(BUCKET_MILLIS) {
        assert_eq!(bound.parse::<f64>().unwrap() * 1000.0, millis as f64);
    }
}
