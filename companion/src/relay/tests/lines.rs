//! What is in the log.

use std::sync::Mutex;

use super::*;

/// Lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Takes those that have this text.
    fn with(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn everything_that_happens_to_money_is_one_line_that_says_what_and_for_whom() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let stage = Stage::open().await;

    stage.verify(1, &payment(1)).await;
    let RelayReply::Settled { transaction } = stage.settle(1, &payment(1)).await else { panic!() };
    stage.over(1, End::Unsent, &payment(1)).await;
    stage.verify(2, &payment(1)).await;
    let about = key_of(&payment(1));
    let [settled, redeemed] =
        ["INFO farebox::relay::books: settled ", "an answer that was paid for is fetched"]
            .map(|text| lines.with(text));
    for (line, holder) in [(settled, 1), (redeemed, 2)] {
        let [line] = &line[..] else { panic!("{line:?}") };
        for part in [
            "offer=\"ns/a\"".to_owned(),
            format!("payer=\"{}\"", about.payer),
            format!("nonce=\"{}\"", about.nonce),
            "amount=\"1000\"".to_owned(),
            format!("transaction=\"{transaction}\""),
            "proxy=\"e1\"".to_owned(),
            format!("holder=\"{}\"", Holder([holder; 16])),
            "ms=".to_owned(),
        ] {
            assert!(line.contains(&part), "{part}: {line}");
        }
    }

    stage.verify(1, &payment(2)).await;
    stage.dev.fail_next("settle", "invalid:insufficient_funds", 1).await;
    stage.settle(1, &payment(2)).await;
    let refused = lines.with("not settled, and nothing was charged");
    assert!(refused.len() == 1 && refused[0].contains("reason=\"insufficient_funds\""), "{refused:?}");
    assert_eq!(lines.with("does not settle a payment: insufficient_funds").len(), 1);

    stage.verify(1, &payment(3)).await;
    stage.dev.fail_next("settle", "http_500", 1).await;
    stage.settle(1, &payment(3)).await;
    assert_eq!(lines.with("it is not known yet whether money moved").len(), 1);
    stage.pass(Duration::from_secs(10));
    stage.reconcile_until("settled", async |stage| stage.charged().await == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(lines.with("nobody waited for it").len(), 1);

    stage.dev.fail("verify", "invalid:insufficient_funds").await;
    for nonce in 4..20 {
        stage.verify(1, &payment(nonce)).await;
    }
    let refusals = lines.with("refuses a payment: insufficient_funds").len();
    assert!((1..=10).contains(&refusals), "strangers cannot fill the log: {refusals}");
}
