//! The offers, with their proxies, and the results of their buyers.

use farebox_testkit::wallet::Wallet;

use crate::common::Tally;
use crate::reload::pricing::{file, free, paid};

/// An offer that is asked for at one proxy only, so that its numbers are those of that proxy. It has only
/// one payer, so that the facilitator's record shows its sales.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) name: &'static str,
    pub(super) proxy: usize,
    /// Whether it comes with the push.
    pub(super) is_late: bool,
    payer: u64,
    price: &'static str,
    later_price: &'static str,
}

/// Requests of one offer by their results.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) required: u128,
    pub(super) served: u128,
    /// Paid, and answered with neither the goods nor an upstream's failure.
    pub(super) failed: u128,
    pub(super) upstream_failed: u128,
    /// Requests whose counts in the proxy are not known.
    pub(super) unanswered: u128,
}

pub(super) const OFFERS: [Offer; 7] = [
    offer("goods-0", 0, "0.001", "0.001", false),
    offer("goods-1", 1, "0.002", "0.002", false),
    offer("goods-2", 2, "0.003", "0.003", false),
    offer("dear-0", 0, "0.004", "0.005", false),
    offer("dear-1", 1, "0.006", "0.007", false),
    offer("dear-2", 2, "0.008", "0.009", false),
    offer("late-1", 1, "0.011", "0.011", true),
];

const fn offer(
    name: &'static str,
    proxy: usize,
    price: &'static str,
    later_price: &'static str,
    is_late: bool,
) -> Offer {
    let payer = name.as_bytes()[0] as u64 * 256 + proxy as u64;
    Offer { name, proxy, is_late, payer, price, later_price }
}

/// The rules before the push, and after it.
pub(super) fn pricing(pushed: bool) -> String {
    let offers = OFFERS.iter().filter(|offer| pushed || !offer.is_late);
    let routes = offers.map(|offer| paid(offer.name, if pushed { offer.later_price } else { offer.price }));
    file(&routes.chain([free("open")]).collect::<Vec<_>>())
}

// === impl Offer ===

impl Offer {
    pub(super) fn payer(&self) -> Wallet {
        Wallet::numbered(self.payer)
    }
}

// === impl Seen ===

impl Seen {
    /// Whether the numbers shown are exactly these.
    pub(super) fn is(&self, shown: &Tally) -> bool {
        self.unanswered == 0 && self.counts() == shown_counts(shown)
    }

    pub(super) fn assert_is(&self, shown: &Tally, offer: &str) {
        assert_eq!(self.unanswered, 0, "{offer}: its proxy lived");
        assert_eq!(shown_counts(shown), self.counts(), "{offer}");
    }

    /// Checks that only unreported counts of the killed proxy are lost.
    pub(super) fn assert_covers(&self, shown: &Tally, offer: &str) {
        for ((name, shown), (_, seen)) in shown_counts(shown).into_iter().zip(self.counts()) {
            assert!(shown <= seen + self.unanswered, "{offer}: {name} is {shown}: {self:?}");
        }
        let (shown, sent) = (shown.requests, self.counts()[0].1);
        assert!(shown * 10 > sent * 8, "{offer}: {shown} of {sent} requests are counted");
    }

    fn counts(&self) -> [(&'static str, u128); 5] {
        let Self { required, served, failed, upstream_failed, .. } = *self;
        [
            ("requests_total", required + served + failed + upstream_failed),
            ("payment_required_total", required),
            ("payment_verified_total", served),
            ("payment_failed_total", failed),
            ("upstream_failed_after_verify_total", upstream_failed),
        ]
    }
}

fn shown_counts(shown: &Tally) -> [(&'static str, u128); 5] {
    [
        ("requests_total", shown.requests),
        ("payment_required_total", shown.required),
        ("payment_verified_total", shown.verified),
        ("payment_failed_total", shown.failed.values().sum()),
        ("upstream_failed_after_verify_total", shown.upstream_failed),
    ]
}
