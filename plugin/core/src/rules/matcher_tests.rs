use super::*;

fn matcher(patterns: &[&str], protected: &[&str]) -> Matcher {
    let mut matcher = Matcher::default();
    for (index, pattern) in patterns.iter().enumerate() {
        matcher.add(RouteIndex(index as u32), pattern).unwrap();
    }
    for place in protected {
        matcher.protect(place).unwrap();
    }
    matcher
}

const fn route(index: u32) -> Lookup {
    Lookup::Route(RouteIndex(index))
}

#[test]
fn an_exact_pattern_also_takes_one_trailing_slash_more_or_less() {
    for pattern in ["/paid", "/paid/"] {
        let matcher = matcher(&[pattern], &[]);
        assert_eq!(matcher.lookup("/paid"), route(0));
        assert_eq!(matcher.lookup("/paid/"), route(0));
        for path in ["/", "/pai", "/paidx", "/paid/x", "/Paid", "/x/paid"] {
            assert_eq!(matcher.lookup(path), Lookup::Unmatched, "{path}");
        }
    }
    assert_eq!(matcher(&["/"], &[]).lookup("/"), route(0));
    assert_eq!(matcher(&["/"], &[]).lookup("/x"), Lookup::Unmatched);
}

#[test]
fn a_prefix_takes_its_bare_path_and_everything_below() {
    let rpc = matcher(&["/rpc/*"], &[]);
    for (path, expected) in [
        ("/rpc", true),
        ("/rpc/", true),
        ("/rpc/a", true),
        ("/rpc/a/b", true),
        ("/rpcx", false),
        ("/rp", false),
        ("/a/rpc/b", false),
    ] {
        assert_eq!(rpc.lookup(path) == route(0), expected, "{path}");
    }
    let all = matcher(&["/*"], &[]);
    for path in ["/", "/a", "/a/b/"] {
        assert_eq!(all.lookup(path), route(0), "{path}");
    }
}

#[test]
fn the_first_in_list_order_wins_whatever_its_kind() {
    let kinds = ["/a/b", "/a/*", "/*/b*"];
    for first in 0..3 {
        for second in 0..3 {
            if first == second {
                continue;
            }
            let third = 3 - first - second;
            let matcher = matcher(&[kinds[first], kinds[second], kinds[third]], &[]);
            assert_eq!(matcher.lookup("/a/b"), route(0), "{} first", kinds[first]);
        }
    }
    assert_eq!(matcher(&["/a/b/*", "/a/*"], &[]).lookup("/a/b/c"), route(0));
    assert_eq!(matcher(&["/a/*", "/a/b/*"], &[]).lookup("/a/b/c"), route(0));
    assert_eq!(matcher(&["/same", "/same"], &[]).lookup("/same"), route(0));
}

#[test]
fn no_routes_match_nothing() {
    assert_eq!(matcher(&[], &[]).lookup("/"), Lookup::Unmatched);
    assert_eq!(matcher(&[], &[]).lookup("/services/o"), Lookup::Unmatched);
}

#[test]
fn the_protected_set_is_tested_at_segment_boundaries_without_regard_to_case() {
    let set = matcher(&["/services/foo/x"], &["/services/foo", "/inference-*/v1"]);
    for (path, expected) in [
        ("/services/foo", Lookup::Protected),
        ("/services/foo/", Lookup::Protected),
        ("/services/foo/y", Lookup::Protected),
        ("/Services/FOO/x", Lookup::Protected),
        ("/services/foo/x", route(0)),
        ("/services/foobar", Lookup::Unmatched),
        ("/services", Lookup::Unmatched),
        ("/inference-a/v1", Lookup::Protected),
        ("/Inference-A/V1/x/y", Lookup::Protected),
        ("/inference-a/v2", Lookup::Unmatched),
    ] {
        assert_eq!(set.lookup(path), expected, "{path}");
    }
    assert_eq!(matcher(&[], &["/"]).lookup("/anything"), Lookup::Protected);
}

#[test]
fn parameters_that_change_the_verdict_are_ambiguous() {
    let set = matcher(&["/services/o/*", "/free"], &["/services/o"]);
    assert_eq!(set.lookup("/services;v=1/o/x"), Lookup::Ambiguous);
    assert_eq!(set.lookup("/free;v=1"), Lookup::Ambiguous);
    assert_eq!(set.lookup("/services/o;v=1"), Lookup::Ambiguous);
    assert_eq!(set.lookup("/;a/free"), Lookup::Ambiguous);
    assert_eq!(set.lookup("/services/o/x;v=1"), route(0));
    assert_eq!(set.lookup("/other;v=1"), Lookup::Unmatched);
}

#[test]
fn dots_and_spaces_at_the_end_of_a_segment_that_change_the_verdict_are_ambiguous() {
    let set = matcher(&["/v1/chat", "/v1/*", "/*"], &[]);
    for path in ["/v1./chat", "/v1 /chat", "/v1/chat.", "/v1/chat. .", "/v1/chat;x", "/v1.;x/chat"] {
        assert_eq!(set.lookup(path), Lookup::Ambiguous, "{path}");
    }
    assert_eq!(set.lookup("/v1/other.."), route(1));
    assert_eq!(set.lookup("/.v1/ chat"), route(2));
}

#[test]
fn a_letter_is_folded_with_its_other_case_and_never_taken_for_two() {
    for (upper, lower) in
        [("AZ", "az"), ("ÀÞ", "àþ"), ("ΑΩ", "αω"), ("АЯЁ", "аяё"), ("ŁŸ", "łÿ"), ("Ｋ", "ｋ")]
    {
        assert_eq!(without_case(upper), without_case(lower));
        assert_eq!(without_case(&without_case(upper)), without_case(upper));
    }
    for text in ["az09-._~", "图书", "日本語", "àþ", "аё"] {
        assert_eq!(without_case(text), text);
    }
}

/// The simple algorithm that the index replaces: try every pattern in list order.
fn scan(patterns: &[String], path: &str) -> Lookup {
    for (index, pattern) in patterns.iter().enumerate() {
        let hit = match Pattern::parse(pattern).unwrap() {
            Pattern::Exact(exact) => path == exact || path == format!("{exact}/"),
            Pattern::Prefix(prefix) => path == prefix || path.starts_with(&format!("{prefix}/")),
            Pattern::Glob(glob) => glob.matches(path),
        };
        if hit {
            return route(index as u32);
        }
    }
    Lookup::Unmatched
}

#[test]
fn the_index_finds_what_a_scan_in_list_order_finds() {
    let names = ["a", "b", "ab", "c*", "*", "?b"];
    let mut seed = 3_u64;
    let mut pick = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..300 {
        let patterns: Vec<String> = (0..12)
            .map(|_| {
                let depth = 1 + pick(4);
                (0..depth).map(|_| format!("/{}", names[pick(6)])).collect()
            })
            .collect();
        let mut indexed = Matcher::default();
        for (index, pattern) in patterns.iter().enumerate() {
            indexed.add(RouteIndex(index as u32), pattern).unwrap();
        }
        for _ in 0..60 {
            let mut path: String =
                (0..1 + pick(4)).map(|_| format!("/{}", ["a", "b", "ab", "cc"][pick(4)])).collect();
            if pick(4) == 0 {
                path.push('/');
            }
            assert_eq!(indexed.lookup(&path), scan(&patterns, &path), "{path} in {patterns:?}");
        }
    }
}

#[test]
fn ten_thousand_exact_and_prefix_routes_leave_nothing_to_scan() {
    let mut set = Matcher::default();
    for index in 0..10_000_u32 {
        let pattern = if index % 2 == 0 { format!("/s/{index}/*") } else { format!("/s/{index}/x") };
        set.add(RouteIndex(index), &pattern).unwrap();
    }
    assert_eq!(set.lookup("/s/9998/a/b"), route(9998));
    assert_eq!(set.lookup("/s/9999/x"), route(9999));
    assert_eq!(set.lookup("/s/9999/y"), Lookup::Unmatched);
    assert_eq!(set.globs.candidates("/s/9999/x").count(), 0);
    let deep = "/s/1".to_owned() + &"/x".repeat(30_000);
    assert!(boundaries(&deep, set.longest_prefix).count() <= 5, "a deep path must not cost more lookups");
}

#[test]
fn only_globs_of_the_same_first_segment_are_tried() {
    let mut set = Matcher::default();
    for index in 0..1_000_u32 {
        set.add(RouteIndex(index), &format!("/offer{index}/*/x")).unwrap();
    }
    set.add(RouteIndex(1_000), "/*-any/x").unwrap();
    assert_eq!(set.globs.candidates("/offer7/a/x").count(), 2);
    assert_eq!(set.lookup("/offer7/a/x"), route(7));
}
