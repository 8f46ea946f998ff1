//! No input makes the plugin trap, and every result is the core's.

use farebox_host_tests::traefik::Request;

use crate::parity::{in_traefik, natively};
use crate::shop::open;

/// xorshift64*, for the same story on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(next).unwrap() % bound
    }
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        let mut byte = || u8::try_from(self.below(256)).unwrap();
        (0..length).map(|_| byte()).filter(|byte| !matches!(byte, 0 | b'\r' | b'\n')).collect()
    }
}

#[test]
fn random_requests_never_trap() {
    const NAMES: [&str; 7] = [
        "payment-signature",
        "x-payment",
        "accept",
        "origin",
        "upgrade",
        "x-payment-payer",
        "x-forwarded-host",
    ];
    const METHODS: [&str; 5] = ["GET", "POST", "OPTIONS", "HEAD", "X"];
    const PLACES: [&str; 6] = ["/paid/", "/upfront/", "/free/", "/broken/", "/", ""];
    let traefik = open();
    let mut dice = Dice(1);
    for _ in 0..1_500 {
        let mut uri = PLACES[dice.below(PLACES.len())].as_bytes().to_vec();
        uri.extend(dice.bytes(40));
        let mut request = Request::with_method(METHODS[dice.below(METHODS.len())], uri);
        for _ in 0..dice.below(4) {
            let value = dice.bytes(300);
            request = request.header(NAMES[dice.below(NAMES.len())], value);
        }
        assert_eq!(in_traefik(&traefik, &request), natively(&request), "{request:?}");
    }
}
