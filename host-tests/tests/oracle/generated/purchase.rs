//! One request with its payment.

use std::net::IpAddr;
use std::sync::OnceLock;

use farebox_core::protocol::encode_base64;
use farebox_core::terms::Flow;
use farebox_host_tests::traefik::{Request, START};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::Value;

use super::shops::{Offer, Shop};
use super::spoil::{self, Kind};
use crate::three::Asked;
use farebox_host_tests::Dice;

/// A request, with its special feature.
pub(super) struct Purchase {
    /// Place of its shop.
    pub(super) shop: usize,
    pub(super) asked: Asked,
    /// Name of its fault, or that it has none.
    pub(super) what: &'static str,
    /// Protocol version, network, and how the asset moves.
    pub(super) form: String,
}

/// A payment before it becomes a request.
struct Draft<'a> {
    shop: &'a Shop,
    offer: &'a Offer,
    /// Unix milliseconds.
    now: u64,
    v1: bool,
}

/// The shares of the shops. The shop that cannot sell gets few requests.
const SHARES: [usize; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4];

/// The purchase of this number.
pub(super) fn purchase(number: u64, shops: &[Shop]) -> Purchase {
    let mut dice = Dice::of(number);
    let shop = *dice.one_of(&SHARES);
    let offer = dice.one_of(&shops[shop].offers);
    let now = START * 1_000 + u64::try_from(dice.below(864_000_000)).unwrap();
    let v1 = offer.option.v1_network.is_some() && offer.option.flow == Flow::Authorization && dice.once_in(4);
    let draft = Draft { shop: &shops[shop], offer, now, v1 };
    let payment = draft.payment(number, &mut dice);
    let request = draft.request(&mut dice);
    let header = if v1 || dice.once_in(8) { "x-payment" } else { "payment-signature" };
    let (what, request) = if dice.below(5) < 3 {
        let (what, kind) = dice.one_of(spoil::ALL);
        (*what, draft.spoiled(*kind, payment, header, request, &mut dice))
    } else {
        ("as it should be", request.header(header, header_value(&payment)))
    };
    let peer = *dice.one_of(&[[127, 0, 0, 1], [10, 1, 2, 3], [203, 0, 113, 9]]);
    let asked = Asked { request, peer: IpAddr::from(peer), now };
    Purchase { shop, asked, what, form: draft.form() }
}

// === impl Draft ===

impl Draft<'_> {
    fn payment(&self, number: u64, dice: &mut Dice) -> Value {
        let payer = dice.one_of(payers());
        let window = self.window(number, dice);
        let Offer { accepted, option, .. } = self.offer;
        match &option.v1_network {
            Some(name) if self.v1 => payer.pay_v1(accepted, name, window),
            _ => payer.pay_v2(accepted, window),
        }
        .expect("the offer can be paid")
    }

    fn form(&self) -> String {
        let option = &self.offer.option;
        let version = if self.v1 { "v1" } else { "v2" };
        format!("{version} {} {}", option.network, option.transfer_method.as_str())
    }

    /// A good one mostly, else one at a bound.
    fn window(&self, number: u64, dice: &mut Dice) -> Window {
        let (now, skew) = (self.now / 1_000, self.shop.settings.clock_skew_seconds);
        let horizon = self.shop.settings.replay_horizon_seconds;
        let window = Window::numbered(number, now, 600);
        if !dice.once_in(4) {
            return window;
        }
        let begins = [now - 60, now, now + 1, now + skew, now + skew + 1, 0];
        let ends = [0, 5, 6, 7, horizon - 1, horizon, horizon + 1].map(|seconds| now + seconds);
        let early = ends.map(|end| end.saturating_sub(skew));
        Window {
            valid_after: if dice.once_in(2) { *dice.one_of(&begins) } else { window.valid_after },
            valid_before: *dice.one_of(&[ends, early].concat()),
            ..window
        }
    }

    /// Without the payment.
    fn request(&self, dice: &mut Dice) -> Request {
        let method = dice.one_of(&["GET", "GET", "GET", "POST", "POST", "HEAD", "PUT"]);
        let query = dice.one_of(&["", "", "?q=1", "?q=%20&payment=free"]);
        let mut request = Request::with_method(method, format!("{}{query}", self.offer.path));
        if self.shop.settings.require_secure_transport && !dice.once_in(6) {
            request.headers.insert("x-forwarded-proto".into(), vec![b"https".to_vec()]);
        }
        const OTHERS: [(&str, &str); 8] = [
            ("origin", "https://page.example"),
            ("accept", "text/html,application/xhtml+xml"),
            ("x-forwarded-host", "public.example.com, inner.example.com"),
            ("x-payment-payer", "0x0000000000000000000000000000000000000001"),
            ("x_verified_wallet", "0x1"),
            ("sec-fetch-site", "cross-site"),
            ("x-other", "kept"),
            ("cookie", "a=b"),
        ];
        for _ in 0..dice.below(3) {
            let (name, value) = dice.one_of(&OTHERS);
            request = request.header(name, value);
        }
        if dice.once_in(12) {
            request.headers.insert("user-agent".into(), vec![b"Mozilla/5.0".to_vec()]);
        }
        request
    }

    /// The request with its payment, after a fault was put into one of them.
    fn spoiled(
        &self,
        kind: Kind,
        mut payment: Value,
        header: &str,
        request: Request,
        dice: &mut Dice,
    ) -> Request {
        match kind {
            Kind::Payment(spoil) => {
                spoil(&mut payment, dice);
                request.header(header, header_value(&payment))
            }
            Kind::Text(spoil) => request.header(header, encode_base64(&spoil(payment.to_string(), dice))),
            Kind::Value(spoil) => {
                let limit = self.shop.settings.max_payment_bytes;
                request.header(header, spoil(header_value(&payment), limit, dice))
            }
            Kind::Request(spoil) => spoil(request, header, header_value(&payment), dice),
        }
    }
}

fn payers() -> &'static [Wallet] {
    static PAYERS: OnceLock<Vec<Wallet>> = OnceLock::new();
    PAYERS.get_or_init(|| (1..=5).map(Wallet::numbered).collect())
}
