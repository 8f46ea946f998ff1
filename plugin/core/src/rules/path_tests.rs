use super::*;

fn path(target: &str) -> String {
    canonicalize(target.as_bytes()).unwrap_or_else(|e| panic!("{target} refused: {e}")).path.into_owned()
}

fn refusal(target: &[u8]) -> &'static str {
    canonicalize(target).expect_err("must be refused").0
}

#[test]
fn a_plain_path_stays_byte_for_byte_as_sent() {
    for target in ["/", "/services/o/x", "/a/", "/a.b/~c/(d)", "/v1/models/gpt-4o:free", "/100%25", "/a%20b"]
    {
        let canonical = canonicalize(target.as_bytes()).unwrap();
        assert_eq!(canonical.rewritten, None, "{target}");
        assert_eq!(canonical.query, "");
    }
}

#[test]
fn the_query_is_kept_as_sent_and_never_part_of_the_path() {
    let canonical = canonicalize(b"/a?b=%2F..%2F&c=//#d").unwrap();
    assert_eq!(canonical.path, "/a");
    assert_eq!(canonical.query, "?b=%2F..%2F&c=//#d");
    assert_eq!(canonical.rewritten, None);
}

#[test]
fn a_rewritten_path_carries_the_original_query() {
    let canonical = canonicalize(b"//a?x=%2f").unwrap();
    assert_eq!(canonical.rewritten.as_deref(), Some("/a?x=%2f"));
}

#[test]
fn a_fragment_neither_creates_a_match_nor_reaches_the_upstream() {
    let canonical = canonicalize(b"/paid#/free?x=1").unwrap();
    assert_eq!(canonical.path, "/paid");
    assert_eq!(canonical.query, "");
    assert_eq!(canonical.rewritten.as_deref(), Some("/paid"));
}

#[test]
fn slashes_collapse_and_one_trailing_slash_stays() {
    assert_eq!(path("//services//o//x"), "/services/o/x");
    assert_eq!(path("/services/o//"), "/services/o/");
    assert_eq!(path("////"), "/");
    assert_eq!(canonicalize(b"//services//o//x").unwrap().rewritten.as_deref(), Some("/services/o/x"));
}

#[test]
fn encoded_ordinary_letters_are_decoded_once_and_the_upstream_sees_the_decoded_path() {
    let canonical = canonicalize(b"/%73ervices/o/x").unwrap();
    assert_eq!(canonical.path, "/services/o/x");
    assert_eq!(canonical.rewritten.as_deref(), Some("/services/o/x"));
}

#[test]
fn what_must_stay_encoded_is_encoded_again() {
    let canonical = canonicalize(b"//caf%c3%a9/a%5bb%5ec%20d").unwrap();
    assert_eq!(canonical.path, "/café/a[b^c d");
    assert_eq!(canonical.rewritten.as_deref(), Some("/caf%C3%A9/a%5Bb%5Ec%20d"));
}

#[test]
fn a_raw_space_is_encoded_before_it_reaches_a_request_line() {
    assert_eq!(canonicalize(b"/a b").unwrap().rewritten.as_deref(), Some("/a%20b"));
}

#[test]
fn every_ambiguous_form_is_refused_with_its_reason() {
    let table: [(&[u8], &str); 46] = [
        (b"", "the path does not start with /"),
        (b"*", "the path does not start with /"),
        (b"?x", "the path does not start with /"),
        (b"http://host/paid", "the path does not start with /"),
        (b"%2Fpaid", "the path does not start with /"),
        (b"/p\\", "the path holds a backslash"),
        (b"/a\\b", "the path holds a backslash"),
        (b"\\paid", "the path does not start with /"),
        (b"/a%5Cb", "the path holds an encoded backslash (%5C)"),
        (b"/a%5cb", "the path holds an encoded backslash (%5C)"),
        (b"/api%2Fpremium", "the path holds an encoded slash (%2F)"),
        (b"/api%2fpremium", "the path holds an encoded slash (%2F)"),
        (b"/api%252Fpremium", "the path is percent-encoded twice"),
        (b"/%2561", "the path is percent-encoded twice"),
        (b"/%25%36%31", "the path is percent-encoded twice"),
        (b"/a%", "a % is not followed by two hex digits"),
        (b"/a%c", "a % is not followed by two hex digits"),
        (b"/%zz", "a % is not followed by two hex digits"),
        (b"/%+1", "a % is not followed by two hex digits"),
        (b"/%%20", "a % is not followed by two hex digits"),
        (b"/%c0", "the decoded path is not UTF-8"),
        (b"/%c0%af", "the decoded path is not UTF-8"),
        (b"/%ff", "the decoded path is not UTF-8"),
        (b"/a%00", "the path holds an encoded control character"),
        (b"/a%0a", "the path holds an encoded control character"),
        (b"/a%1F", "the path holds an encoded control character"),
        (b"/a%7f", "the path holds an encoded control character"),
        (b"/a\nb", "the path holds a control character"),
        (b"/a\x00", "the path holds a control character"),
        (b"/a\x7f", "the path holds a control character"),
        (b"/caf\xc3\xa9", "the path holds a byte that must be percent-encoded"),
        (b"/\xff", "the path holds a byte that must be percent-encoded"),
        (b"/a/../b", "the path holds a . or .. segment"),
        (b"/a/./b", "the path holds a . or .. segment"),
        (b"/a/..", "the path holds a . or .. segment"),
        (b"/%2e%2e/b", "the path holds a . or .. segment"),
        (b"/.%2E;x=1/b", "the path holds a . or .. segment"),
        (b"/..%20/b", "the path holds a . or .. segment"),
        (b"/%20./b", "the path holds a . or .. segment"),
        (b"/a/.%20.;x/b", "the path holds a . or .. segment"),
        (b"/a/%20/b", "the path holds a . or .. segment"),
        (b"/paid%3Fx", "the path holds an encoded ? or # (%3F, %23)"),
        (b"/paid%3fx", "the path holds an encoded ? or # (%3F, %23)"),
        (b"/paid%23x", "the path holds an encoded ? or # (%3F, %23)"),
        (b"/paid%23", "the path holds an encoded ? or # (%3F, %23)"),
        (b"/a?\xff", "the query is not UTF-8"),
    ];
    for (target, reason) in table {
        assert_eq!(refusal(target), reason, "{}", String::from_utf8_lossy(target));
    }
    assert_eq!(refusal(b"/a?b\r\nx: y"), "the query holds a control character");
}

#[test]
fn names_that_only_look_like_dot_segments_pass() {
    assert_eq!(path("/a/...;x/.b/c.."), "/a/...;x/.b/c..");
}

/// A small generator, so that the property tests need no clock and no dependency.
struct Forms(u64);

impl Forms {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
    fn target(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 28] = [
            b"/",
            b"//",
            b"a",
            b"b",
            b".",
            b"..",
            b"%2e",
            b"%2E",
            b"%2f",
            b"%5c",
            b"%25",
            b"%73",
            b"%c3%a9",
            b"%c3",
            b"%",
            b"%4",
            b";",
            b";v=1",
            b"?",
            b"#",
            b" ",
            b"\\",
            b"\xc3\xa9",
            b"[",
            b"%00",
            b"*",
            b"25",
            b"61",
        ];
        let mut out = b"/".to_vec();
        for _ in 0..self.next(9) {
            out.extend_from_slice(PIECES[self.next(PIECES.len() as u64) as usize]);
        }
        out
    }
}

#[test]
fn reading_what_was_forwarded_gives_the_same_path_again() {
    let mut forms = Forms(7);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let target = forms.target();
        let Ok(first) = canonicalize(&target) else { continue };
        accepted += 1;
        let forwarded = first.rewritten.clone().map_or_else(|| target.clone(), String::into_bytes);
        let second = canonicalize(&forwarded)
            .unwrap_or_else(|e| panic!("{} is refused: {e}", String::from_utf8_lossy(&forwarded)));
        assert_eq!(second.path, first.path);
        assert_eq!(second.query, first.query);
        assert_eq!(second.rewritten, None);
    }
    assert!(accepted > 20_000, "the generator made only {accepted} acceptable targets");
}

#[test]
fn no_accepted_path_has_dot_segments_empty_segments_or_control_characters() {
    let mut forms = Forms(11);
    for _ in 0..200_000 {
        let target = forms.target();
        let Ok(canonical) = canonicalize(&target) else { continue };
        assert!(canonical.path.starts_with('/'), "{:?}", canonical.path);
        assert!(!canonical.path.contains("//"), "{:?}", canonical.path);
        assert!(!canonical.path.contains('\\'), "{:?}", canonical.path);
        assert!(!canonical.path.chars().any(|c| c.is_ascii_control()), "{:?}", canonical.path);
        for segment in canonical.path.split('/') {
            assert!(!matches!(segment, "." | ".."), "{:?}", canonical.path);
        }
    }
}

#[test]
fn a_path_that_looks_plain_is_its_own_canonical_form() {
    let alphabet = b"/.a%;\\ #?*\x7f\xff~";
    let mut plain = 0;
    for length in 0..5_u32 {
        for number in 0..alphabet.len().pow(length) {
            let letter = |place| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let raw: Vec<u8> = b"/".iter().copied().chain((0..length).map(letter)).collect();
            if is_plain(&raw) {
                let path = canonical_text(&raw).unwrap();
                assert_eq!(path.as_bytes(), raw);
                assert_eq!(encode(&path, &raw).as_bytes(), raw);
                plain += 1;
            }
        }
    }
    assert!(plain > 100, "{plain}");
    assert!(!is_plain(b""));
    assert!(!is_plain(b"a"));
}
