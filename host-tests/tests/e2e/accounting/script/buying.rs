//! Asking, buying, and using a payment twice.

use farebox_testkit::wallet::header_value;
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::super::shop::{
    BASIC, BASIC_GOODS, MULTI, MULTI_GOODS, MULTI_ON_BASE_GOODS, OBOL, OBOL_GOODS, TWIN, TWIN_GOODS, UNNAMED,
    UNNAMED_GOODS, UPFRONT, UPFRONT_GOODS,
};
use super::Script;
use crate::support::{Answer, PAYMENT, X_PAYMENT};

// === impl Script ===

impl Script<'_> {
    pub(super) async fn look_at_the_prices(&mut self) {
        for (route, path, primary) in [
            ("/basic/", "/basic/1", BASIC),
            ("/twin/", "/twin/1", TWIN),
            ("/multi/", "/multi/1", MULTI),
            ("/upfront/", "/upfront/1", UPFRONT),
            ("/obol/", "/obol/1", OBOL),
            ("/unnamed", "/unnamed", UNNAMED),
        ] {
            self.requests += 1;
            let offers = self.buyer.offers(path).await;
            self.tally.challenged(primary);
            self.offers.insert(route, offers);
        }
    }

    pub(super) async fn ask_without_paying(&mut self) {
        for number in 0..30 {
            let request = self.buyer.get(&format!("/basic/{number}?n={number}"));
            let answer = self.send(request, 402).await;
            assert_eq!(answer.json()["accepts"][0]["maxAmountRequired"], "1000");
            self.tally.challenged(BASIC);
        }
        for goods in [TWIN_GOODS, MULTI_GOODS, UPFRONT_GOODS, OBOL_GOODS, UNNAMED_GOODS] {
            for _ in 0..3 {
                // An empty header is none.
                let request = self.buyer.get(goods.route).header(X_PAYMENT, "");
                self.send(request, 402).await;
                self.tally.challenged(goods.primary);
            }
        }
        for _ in 0..6 {
            let request = self.buyer.get("/basic/page").header("accept", "text/html,*/*;q=0.8");
            let request = request.header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
            let answer = self.send(request, 402).await;
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
            self.tally.challenged(BASIC);
        }
        for _ in 0..2 {
            let request = || self.buyer.request(Method::HEAD, "/basic/1");
            let paying = request().header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
            let asking = request();
            assert!(self.send(asking, 402).await.body.is_empty());
            self.tally.challenged(BASIC);
            assert!(self.send(paying, 400).await.body.is_empty());
            self.tally.refused(BASIC, BASIC, "invalid_payment_header");
        }
    }

    pub(super) async fn ask_for_what_is_not_sold(&mut self) {
        for _ in 0..4 {
            let request = self.buyer.request(Method::OPTIONS, "/basic/preflight");
            let request = request.header("origin", "https://shop.example");
            let request = request.header("access-control-request-method", "GET");
            self.send(request, 204).await;
        }
        for number in 0..12 {
            let mut request = self.buyer.get("/free/sample").header("x-payment-payer", "0xforged");
            if number % 2 == 0 {
                request = request.header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
            }
            let answer = self.send(request, 200).await;
            let headers = &answer.json()["headers"];
            assert_eq!(
                (&headers["x-payment-payer"], &headers["payment-signature"]),
                (&Value::Null, &Value::Null)
            );
            self.reached += 1;
        }
        let nobody = ("", "");
        for (path, status, offer, reason) in [
            ("/nowhere", 404, nobody, "unmatched"),
            ("/", 404, nobody, "unmatched"),
            ("/basics/1", 404, nobody, "unmatched"),
            ("/unnamed/below", 403, nobody, "protected_prefix"),
            ("/BASIC/1", 403, nobody, "protected_prefix"),
            ("/basic/%2541", 400, nobody, "ambiguous_path"),
            ("/free/%2561", 400, nobody, "ambiguous_path"),
            ("/basic/%ff", 400, nobody, "ambiguous_path"),
            ("/broken/1", 403, ("shop", "broken"), "route_skipped"),
            ("/member/1", 403, ("shop", "member"), "auth_unsupported"),
        ] {
            for paid in [false, true] {
                let mut request = self.buyer.get(path);
                if paid {
                    request = request.header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
                }
                self.send(request, status).await;
                self.tally.blocked(offer, reason);
            }
        }
        for _ in 0..2 {
            let request = self.buyer.get("/basic/socket").header("connection", "upgrade");
            let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
            self.send(request.header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="), 501).await;
            self.tally.blocked(("shop", "basic"), "upgrade_refused");
        }
    }

    pub(super) async fn buy_everything(&mut self) {
        let mut buyers = JoinSet::new();
        for number in 0..24 {
            let header = if number % 3 == 0 { X_PAYMENT } else { PAYMENT };
            let payment = header_value(&self.payment(BASIC_GOODS));
            let request = self.buyer.get(&format!("/basic/{number}")).header(header, payment);
            buyers.spawn(Answer::to(request));
        }
        for answer in buyers.join_all().await {
            self.requests += 1;
            self.note_sale(BASIC_GOODS, &answer, 200);
        }
        for (goods, rest, status, times) in [
            (MULTI_GOODS, "1", 200, 5),
            (MULTI_ON_BASE_GOODS, "1", 200, 5),
            (TWIN_GOODS, "1", 200, 3),
            (OBOL_GOODS, "1", 200, 4),
            (UNNAMED_GOODS, "", 200, 3),
            (BASIC_GOODS, "empty", 204, 2),
            (BASIC_GOODS, "events/2", 200, 2),
        ] {
            for _ in 0..times {
                let payment = self.payment(goods);
                let answer = self.pay(goods, rest, &payment, status).await;
                self.note_sale(goods, &answer, status);
            }
        }
    }

    pub(super) async fn pay_twice(&mut self) {
        let used = self.sell(BASIC_GOODS, "once").await;
        self.is_known(&used, "delivered").await;
        for _ in 0..5 {
            let answer = self.pay(BASIC_GOODS, "once", &used, 402).await;
            assert_eq!(answer.receipt(), None);
            self.note_replay(BASIC, "settled");
        }
        for _ in 0..3 {
            self.pay(TWIN_GOODS, "once", &used, 402).await;
            self.note_replay(TWIN, "settled");
        }
    }
}
