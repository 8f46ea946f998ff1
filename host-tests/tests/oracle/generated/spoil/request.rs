//! Faults in how a payment is sent, and for which path.

use farebox_host_tests::traefik::Request;

use farebox_host_tests::Dice;

/// The request at another target.
fn moved(request: &Request, target: &[u8]) -> Request {
    let method = request.lines()[0].1.to_vec();
    let mut moved = Request::with_method(std::str::from_utf8(&method).expect("a method is text"), target);
    moved.headers.clone_from(&request.headers);
    moved
}

const fn other(header: &str) -> &'static str {
    if header.len() == "x-payment".len() { "payment-signature" } else { "x-payment" }
}

pub(super) fn none(request: Request, header: &str, _value: String, dice: &mut Dice) -> Request {
    if dice.once_in(3) { request.header(header, "") } else { request }
}

pub(super) fn twice(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    let again = if dice.once_in(3) { String::new() } else { value.clone() };
    request.header(header, value).header(header, again)
}

pub(super) fn both(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    let beside = if dice.once_in(2) { value.clone() } else { "e30=".to_owned() };
    request.header(other(header), beside).header(header, value)
}

pub(super) fn other_header(request: Request, header: &str, value: String, _dice: &mut Dice) -> Request {
    request.header(other(header), value)
}

/// Another spelling that some readers take for the same path.
pub(super) fn path(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    let uri = request.uri();
    let (first, rest) = uri.split_at(2);
    let target = match dice.below(10) {
        0 => format!("{first}%61{rest}").into_bytes(),
        1 => format!("/{uri}").into_bytes(),
        2 => uri.replacen("/x", "/./x", 1).into_bytes(),
        3 => uri.replacen("/x", "/../free/x", 1).into_bytes(),
        4 => uri.replacen("/x", "%2Fx", 1).into_bytes(),
        5 => uri.replacen("/x", ";v=1/x", 1).into_bytes(),
        6 => uri.replacen("/x", "/%78%41", 1).into_bytes(),
        7 => uri.to_uppercase().into_bytes(),
        8 => [uri.as_bytes(), &[0xff, b'%']].concat(),
        _ => uri.replacen("/x", "", 1).into_bytes(),
    };
    moved(&request, &target).header(header, value)
}

pub(super) fn route(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    const PLACES: [&str; 12] = [
        "/free/x",
        "/free/%41?q",
        "/broken/x",
        "/auth/x",
        "/elsewhere",
        "/",
        "*",
        "/paid",
        "/many/x",
        "/permit/x",
        "/upfront/x",
        "/custom/x",
    ];
    moved(&request, dice.one_of(&PLACES).as_bytes()).header(header, value)
}

pub(super) fn free(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    const PLACES: [&str; 4] = ["/free/x", "/free/%41?q", "/free/", "/free/x/y?price=1"];
    moved(&request, dice.one_of(&PLACES).as_bytes()).header(header, value)
}

pub(super) fn upgrade(request: Request, header: &str, value: String, _dice: &mut Dice) -> Request {
    request.header("connection", "upgrade").header("upgrade", "websocket").header(header, value)
}

pub(super) fn preflight(request: Request, header: &str, value: String, dice: &mut Dice) -> Request {
    let mut asking = Request::with_method("OPTIONS", request.uri());
    asking.headers.clone_from(&request.headers);
    if !dice.once_in(4) {
        asking = asking.header("origin", "https://page.example");
    }
    asking.header("access-control-request-method", "POST").header(header, value)
}
