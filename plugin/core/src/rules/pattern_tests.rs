use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    match Pattern::parse(pattern).unwrap() {
        Pattern::Glob(glob) => glob.matches(path),
        other => panic!("{pattern} is {other:?}, not a glob"),
    }
}

#[test]
fn patterns_are_told_apart_by_their_stars() {
    let kind = |text: &str| Pattern::parse(text).unwrap();
    assert_eq!(kind("/paid"), Pattern::Exact("/paid".into()));
    assert_eq!(kind("/paid/"), Pattern::Exact("/paid".into()));
    assert_eq!(kind("/"), Pattern::Exact("".into()));
    assert_eq!(kind("/rpc/*"), Pattern::Prefix("/rpc".into()));
    assert_eq!(kind("/*"), Pattern::Prefix("".into()));
    assert_eq!(kind("/v[12]/chat"), Pattern::Exact("/v[12]/chat".into()));
    assert!(matches!(kind("/rpc*"), Pattern::Glob(_)));
    assert!(matches!(kind("/a-*/v1/*"), Pattern::Glob(_)));
}

#[test]
fn a_class_that_takes_nothing_or_never_ends_is_refused() {
    let reason = |text: &str| Pattern::parse(text).unwrap_err().to_string();
    assert_eq!(reason("/a*[b"), "a [ is never closed by ]");
    assert_eq!(reason("/a*[z-a]"), "the range z-a in [] is empty");
    assert_eq!(reason("rpc/*"), "a pattern starts with /");
}

#[test]
fn a_glob_takes_and_refuses_the_paths_of_the_contract() {
    for (path, expected) in [
        ("/inference-a/v1/x", true),
        ("/inference-a/v1/", true),
        ("/inference-a/v1/x/y", true),
        ("/inference-/v1/x", true),
        ("/inference-a/v1", false),
        ("/inference-a/v2/x", false),
        ("/Inference-a/v1/x", false),
    ] {
        assert_eq!(matches("/inference-*/v1/*", path), expected, "{path}");
    }
}

#[test]
fn a_star_stays_inside_its_segment_unless_it_is_the_last_one() {
    assert!(matches("/a/*/c", "/a/b/c"));
    assert!(!matches("/a/*/c", "/a/b/b/c"));
    assert!(!matches("/a/*/c", "/a/b/c/"));
    assert!(matches("/a*", "/a"));
    assert!(matches("/a*", "/abc"));
    assert!(!matches("/a*", "/abc/d"));
}

#[test]
fn question_marks_and_classes_take_one_character() {
    assert!(matches("/*-?/x", "/a-é/x"));
    assert!(!matches("/*-?/x", "/a-/x"));
    assert!(matches("/v[0-9]*", "/v1beta"));
    assert!(!matches("/v[0-9]*", "/vbeta"));
    assert!(matches("/v[^0-9]*", "/vbeta"));
    assert!(matches("/v[!0-9]*", "/vbeta"));
    assert!(matches("/*[]]", "/a]"));
}

#[test]
fn several_stars_find_their_way_back() {
    assert!(matches("/*ab*ab*c", "/abxabxababc"));
    assert!(!matches("/*ab*ab*c", "/abxaxbc"));
    let long = format!("/{}", "a".repeat(20_000));
    assert!(!matches("/*a*a*a*b", &long));
}
