//! Request targets: many spellings of a few paths, and of path traversals between them.

use std::collections::BTreeSet;

use farebox_host_tests::Dice;

/// Plain paths to begin with.
const PATHS: [&str; 10] = [
    "/desk/a",
    "/desk",
    "/desk/open/a",
    "/desk/sub/b.json",
    "/stick/a",
    "/stick/sub/b",
    "/exact",
    "/free/a",
    "/free",
    "/other/a",
];
/// Paths from which a traversal may start.
const FROM: [&str; 6] = ["/free", "/free/a", "/desk/open", "/stick", "/other", ""];
const TO: [&str; 4] = ["/desk/a", "/exact", "/stick/a", "desk/a"];
/// Texts that may be read as a parent segment, as the end of a path, or as nothing.
const WAYS: [&str; 47] = [
    "/..",
    "/.",
    "/%2e%2e",
    "/%2E.",
    "/.%2e",
    "/..;",
    "/..;x=1",
    "/.;/..",
    "/;/..",
    "/../..",
    "/..%2f..",
    "/..%2F",
    "/%2e%2e%2f",
    "/..%5c",
    "/..%5C..",
    "\\..",
    "/..\\",
    "\\",
    "%5c",
    "/...",
    "/.. ",
    "/..%20",
    "/..%09",
    "/..%00",
    "/%20..",
    "/.%20.",
    "%2f",
    "%2F..",
    "//",
    "///",
    "/.//..",
    "/./",
    "?",
    "#",
    "%3f",
    "%23",
    "%3F/..",
    ";",
    "%3b",
    ";/..",
    "%00",
    "%0a",
    "%0d%0a",
    "%252f",
    "/%252e%252e",
    "/%c0%ae%c0%ae",
    "/%ef%bc%8e%ef%bc%8e",
];
/// Texts that are inserted into a path at any place.
const BITS: [&str; 66] = [
    "/",
    "//",
    "/./",
    "/../",
    "/x/../",
    ".",
    "..",
    "...",
    "%2e",
    "%2E%2e",
    " ",
    "%20",
    "+",
    "%09",
    "\t",
    "%0a",
    "%0d",
    "%00",
    "%7f",
    "%",
    "%4",
    "%zz",
    "%u002f",
    "%25",
    "%252f",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "\\",
    ";",
    ";x=1",
    ";jsessionid=1",
    "%3b",
    "%3B",
    ",",
    ":",
    "@",
    "&",
    "=",
    "!",
    "~",
    "*",
    "'",
    "(",
    "|",
    "^",
    "`",
    "\"",
    "<",
    "{",
    "[",
    "?",
    "%3f",
    "#",
    "%23",
    "%c0%af",
    "%c0%ae",
    "%e0%80%af",
    "%ef%bc%8f",
    "%ef%bc%8e",
    "%e2%80%8b",
    "%e2%80%ae",
    "%c2%ad",
    "%cc%81",
    "%ff",
];
/// Before everything.
const STARTS: [&str; 12] = [
    "http://shop.example",
    "HTTP://SHOP.EXAMPLE",
    "http://shop.example:80",
    "http://user:password@shop.example",
    "https://shop.example",
    "http://elsewhere.example",
    "http:",
    "http://",
    "//shop.example",
    "/http://shop.example",
    "/%2f%2fshop.example",
    "shop.example",
];
/// After everything.
const ENDS: [&str; 10] =
    ["?", "?x=/free/a", "?../../free/a", "#", "#/free/a", "?#", "/?", ";?", "?a=%2f..%2f", "?%00"];

/// Letters that some rule folds to another letter: `ſ`, the Kelvin sign, and wide letters.
const LOOKALIKES: [(u8, &str); 6] = [
    (b's', "%c5%bf"),
    (b'k', "%e2%84%aa"),
    (b'd', "%ef%bd%84"),
    (b'e', "%c3%a9"),
    (b'i', "%c4%b1"),
    (b'i', "%c4%b0"),
];

/// Raw bytes that are inserted into a path at any place.
const RAW: [&[u8]; 8] =
    [b"\x01", b"\x7f", b"\x80", b"\xff", b"\xc0\xaf", b"\xc0\xae", b"\xe2\x80\xa8", b"\x00"];

/// All targets, each once: the listed ones, and so many random ones.
pub(super) fn corpus(seed: u64, by_chance: usize) -> Vec<Vec<u8>> {
    let mut all: BTreeSet<Vec<u8>> = PATHS.iter().map(|path| path.as_bytes().to_vec()).collect();
    for way in WAYS {
        for (from, to) in FROM.iter().flat_map(|from| TO.iter().map(move |to| (from, to))) {
            all.insert([from, way, to].concat().into_bytes());
        }
    }
    for path in PATHS {
        for at in 0..=path.len() {
            let (start, end) = path.as_bytes().split_at(at);
            all.extend(BITS.iter().map(|bit| [start, bit.as_bytes(), end].concat()));
            all.extend(RAW.iter().map(|bit| [start, bit, end].concat()));
            if let Some((byte, rest)) = end.split_first() {
                all.extend(spellings(*byte).into_iter().map(|other| [start, &other, rest].concat()));
            }
        }
        for (before, after) in STARTS.map(|start| (start, "")).into_iter().chain(ENDS.map(|end| ("", end))) {
            all.insert([before, path, after].concat().into_bytes());
        }
        all.insert(path.to_uppercase().into_bytes());
    }
    let mut dice = Dice::of(seed);
    let listed = all.len();
    while all.len() < listed + by_chance {
        let mut target = dice.one_of(&PATHS).as_bytes().to_vec();
        for _ in 0..2 + dice.below(3) {
            change(&mut target, &mut dice);
        }
        all.insert(target);
    }
    // A line of HTTP cannot hold a line break, so such a target is left out.
    all.retain(|target| !target.contains(&b'\n'));
    all.into_iter().collect()
}

/// Other spellings of one byte: in the other case, encoded once, twice, overlong, and lookalike letters.
fn spellings(byte: u8) -> Vec<Vec<u8>> {
    let mut all = vec![
        format!("%{byte:02x}"),
        format!("%{byte:02X}"),
        format!("%25{byte:02x}"),
        format!("%{:02x}%{:02x}", 0xc0 | byte >> 6, 0x80 | byte & 0x3f),
        format!("%u00{byte:02x}"),
    ];
    all.extend(LOOKALIKES.iter().filter(|(of, _)| *of == byte).map(|(_, other)| (*other).to_owned()));
    let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
    if byte.is_ascii_alphabetic() {
        all.push(vec![byte ^ 0x20]);
    }
    all
}

fn change(target: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(target.len() + 1);
    match dice.below(10) {
        0..=3 => drop(target.splice(at..at, dice.one_of(&BITS).bytes())),
        4..=6 if at < target.len() => {
            let spellings = spellings(target[at]);
            drop(target.splice(at..=at, dice.one_of(&spellings).iter().copied()));
        }
        7 => {
            let way = [*dice.one_of(&WAYS), *dice.one_of(&TO)].concat();
            let end = dice.one_of(&[at, target.len()]).to_owned();
            drop(target.splice(end.., way.bytes()));
        }
        8 => drop(target.splice(0..0, dice.one_of(&STARTS).bytes())),
        _ => target.extend(dice.one_of(&ENDS).bytes()),
    }
}
