//! The JSON text of a payment, and its form in a header.

use farebox_host_tests::Dice;

pub(super) fn version(text: String, dice: &mut Dice) -> Vec<u8> {
    const VERSIONS: [&str; 8] = ["1", "2", "3", "\"2\"", "2.0", "02", "null", "[2]"];
    let version = if text.contains("\"x402Version\":1") { "1" } else { "2" };
    let other = format!("\"x402Version\":{}", dice.one_of(&VERSIONS));
    text.replacen(&format!("\"x402Version\":{version}"), &other, 1).into_bytes()
}

/// Repeats a member, with the same value or another, before or after the original.
pub(super) fn repeated(text: String, dice: &mut Dice) -> Vec<u8> {
    const NAMES: [&str; 10] = [
        "x402Version",
        "accepted",
        "payload",
        "network",
        "amount",
        "payTo",
        "signature",
        "from",
        "nonce",
        "value",
    ];
    let name = dice.one_of(&NAMES);
    let value = dice.one_of(&["2", "\"1\"", "{}", "null"]);
    let member = format!("\"{name}\":");
    text.replacen(&member, &format!("{member}{value},{member}"), 1).into_bytes()
}

/// Nests as deep as the limit, and one level more.
pub(super) fn nested(text: String, dice: &mut Dice) -> Vec<u8> {
    let levels = *dice.one_of(&[1, 30, 31, 32, 33, 200]);
    let (open, close) = if dice.once_in(2) { ("[", "]") } else { ("{\"a\":", "}") };
    let inner = if open == "[" { "" } else { "1" };
    let deep = format!("{}{inner}{}", open.repeat(levels), close.repeat(levels));
    text.replacen('{', &format!("{{\"other\":{deep},"), 1).into_bytes()
}

pub(super) fn cut(text: String, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.truncate(dice.below(bytes.len()));
    bytes
}

pub(super) fn bytes(text: String, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(3) {
            0 => bytes[at] = dice.byte(),
            1 => bytes.insert(at, dice.byte()),
            _ => _ = bytes.remove(at),
        }
    }
    bytes
}

pub(super) fn spaced(text: String, dice: &mut Dice) -> Vec<u8> {
    const SPACES: [&str; 5] = [" ", "\n\t", "\r\n", "\u{a0}", "\u{feff}"];
    let space = dice.one_of(&SPACES);
    match dice.below(3) {
        0 => format!("{space}{text}"),
        1 => format!("{text}{space}"),
        _ => text.replace(':', &format!("{space}:{space}")),
    }
    .into_bytes()
}

pub(super) fn escaped(text: String, dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        0 => text.replace("payload", "pay\\u006coad"),
        1 => text.replace("0x", "\\u0030x"),
        2 => text.replace("exact", "\\ud83d\\ude00"),
        _ => text.replace("exact", "\\ud83d"),
    }
    .into_bytes()
}

pub(super) fn no_object(text: String, dice: &mut Dice) -> Vec<u8> {
    match dice.below(6) {
        0 => "null".to_owned(),
        1 => format!("[{text}]"),
        2 => "{}".to_owned(),
        3 => String::new(),
        4 => format!("{text}{text}"),
        _ => "\"text\"".to_owned(),
    }
    .into_bytes()
}

pub(super) fn base64(value: String, _limit: usize, dice: &mut Dice) -> Vec<u8> {
    let bare = value.trim_end_matches('=').to_owned();
    match dice.below(9) {
        0 => bare,
        1 => value.replace('+', "-").replace('/', "_"),
        2 => format!("{bare}="),
        3 => format!("{bare}=="),
        4 => format!("{bare}==="),
        5 => format!("{} {}", &value[..8], &value[8..]),
        6 => format!("{bare}A"),
        7 => format!("  {value}\t"),
        _ => format!("-{}", &value[1..]),
    }
    .into_bytes()
}

pub(super) fn header_bytes(value: String, _limit: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = value.into_bytes();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        // A byte that no header can hold would not arrive.
        bytes[at] = match dice.byte() {
            0 | b'\r' | b'\n' => b'~',
            byte => byte,
        };
    }
    bytes
}

/// Makes a payment of the longest length, and near it. JSON may end with any number of spaces.
pub(super) fn size(value: String, limit: usize, dice: &mut Dice) -> Vec<u8> {
    let json = farebox_core::protocol::decode_base64(value.as_bytes()).expect("it was just encoded");
    let longest = limit / 4 * 3;
    let length = match dice.below(6) {
        0 => longest - 1,
        1 | 2 => longest,
        3 => longest + 1,
        4 => longest + 3,
        _ => longest + 8_000,
    };
    let mut padded = json;
    padded.resize(length, b' ');
    farebox_core::protocol::encode_base64(&padded).into_bytes()
}
