use super::*;

fn at(price: &str) -> (Snapshot, Vec<Tuple>) {
    let text = crate::testing::pricing("http://127.0.0.1:1", &["a"]).replacen("0.001", price, 1);
    let snapshot = farebox_pricing::load(&text).snapshot.unwrap();
    let series = snapshot.tuples.iter().map(|tuple| Tuple { born: 7, ..tuple.clone() }).collect();
    (snapshot, series)
}

#[test]
fn an_offer_is_known_by_its_terms_under_the_birth_that_was_published_for_a_day() {
    let start = Instant::now();
    let mut offered = Offered::default();
    let (cheap, series) = at("0.001");
    let (dear, dear_series) = at("0.5");
    let option = cheap.routes.iter().find_map(|route| route.options.first()).unwrap();
    assert_eq!(offered.tuple(option, &series[0]), None);
    offered.publish(&cheap, &series, start);
    assert_eq!(offered.tuple(option, &series[0]).as_ref(), Some(&series[0]));
    let of_another_life = Tuple { born: 3, ..series[0].clone() };
    assert_eq!(offered.tuple(option, &of_another_life).as_ref(), Some(&series[0]));
    let of_another_name = Tuple { offer_name: "b".to_owned(), ..series[0].clone() };
    assert_eq!(offered.tuple(option, &of_another_name), None);
    // A proxy may sell at the old price for a while.
    offered.publish(&dear, &dear_series, start);
    offered.publish(&dear, &dear_series, start + KEPT / 2);
    assert_eq!(offered.tuple(option, &series[0]).as_ref(), Some(&series[0]));
    offered.publish(&dear, &dear_series, start + KEPT);
    assert_eq!(offered.tuple(option, &series[0]), None);
}
