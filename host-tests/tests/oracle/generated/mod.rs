//! Ten thousand payments, good and bad, each made only from its number.
//!
//! * [`shops`]: the rules they are offered under.
//! * [`purchase`]: one request with its payment.
//! * [`spoil`]: the faults of a payment.
//! * [`tally`]: the results, so that a mix that misses cases is noticed.

mod purchase;
mod shops;
mod spoil;
mod tally;

use std::thread;

use crate::three::Three;
use purchase::purchase;
use shops::{Shop, shops};
use tally::Tally;

const PAYMENTS: u64 = 10_000;

#[test]
fn all_three_decide_ten_thousand_payments_alike() {
    let shops = shops();
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64;
    let tally = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|first| {
                scope.spawn({
                    let shops = &shops;
                    move || share(shops, first, workers)
                })
            })
            .collect();
        let mut tally = Tally::default();
        for worker in workers {
            tally.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        tally
    });
    tally.check(PAYMENTS);
}

/// Every `step`-th payment from the `first` on.
fn share(shops: &[Shop], first: u64, step: u64) -> Tally {
    let mut open: Vec<_> = shops.iter().map(|shop| Three::with(&shop.rules)).collect();
    let mut tally = Tally::default();
    for number in (first..PAYMENTS).step_by(usize::try_from(step).unwrap()) {
        let purchase = purchase(number, shops);
        let place = format!("payment {number}, {}", purchase.what);
        let decision = open[purchase.shop].decide(&purchase.asked, &place);
        tally.count(purchase, decision);
    }
    tally
}
