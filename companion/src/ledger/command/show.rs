//! Payments for people.

use std::io::{self, Write};

use jiff::Timestamp;

use super::super::{Entry, Total};

/// One payment a line, then what was settled.
pub(super) fn list(out: &mut impl Write, entries: &[Entry], totals: &[Total]) -> io::Result<()> {
    for entry in entries {
        writeln!(
            out,
            "{} {:9} {} atomic {} {} from {} for {}/{} nonce {}{}",
            time(entry.reserved_at),
            entry.state,
            entry.amount,
            entry.asset_symbol,
            entry.network,
            entry.payer,
            entry.offer_namespace,
            entry.offer_name,
            entry.nonce,
            outcome(entry),
        )?;
    }
    for total in totals {
        let Total { network, asset, asset_symbol, payments, amount } = total;
        writeln!(
            out,
            "settled: {amount} atomic {asset_symbol} ({asset} on {network}), payments: {payments}"
        )?;
    }
    Ok(())
}

/// The transaction, or why there is none, as the end of a line.
fn outcome(entry: &Entry) -> String {
    match (&entry.transaction, &entry.reason) {
        (Some(transaction), _) => format!(" transaction {transaction}"),
        (None, Some(reason)) => format!(" reason {reason}"),
        (None, None) => String::new(),
    }
}

/// Everything about a payment.
pub(super) fn everything(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, entry)?;
    writeln!(out)
}

fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(String::new, |time| format!("{time:.0}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn entry() -> Entry {
        Entry {
            state: "delivered".into(),
            network: "eip155:84532".into(),
            asset: "0xasset".into(),
            asset_symbol: "USDC".into(),
            amount: "1000".into(),
            payer: "0xpayer".into(),
            pay_to: "0xshop".into(),
            nonce: "0x01".into(),
            offer_namespace: "ns".into(),
            offer_name: "a, \"b\"".into(),
            route: "/v1/*".into(),
            transaction: Some("0xtx".into()),
            reason: None,
            facilitator: Some("https://pay.example.com".into()),
            calls: 1,
            identifier: None,
            source: "e1/1".into(),
            companion: "c1".into(),
            generation: 9,
            contract: "0xasset".into(),
            ends: 1_800_000_300,
            reserved_at: 1_800_000_000_000,
            verified_at: None,
            settling_at: Some(1_800_000_000_100),
            ended_at: Some(1_800_000_000_200),
        }
    }

    pub(in super::super) fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_about_a_payment_says_who_settles_it() {
        let shown: serde_json::Value = serde_json::from_str(&text(|out| everything(out, &entry()))).unwrap();
        assert_eq!(shown["facilitator"], "https://pay.example.com");
    }

    #[test]
    fn a_list_shows_time_state_money_and_totals() {
        let total = Total {
            network: "eip155:84532".into(),
            asset: "0xasset".into(),
            asset_symbol: "USDC".into(),
            payments: 1,
            amount: "1000".into(),
        };
        let list = text(|out| list(out, &[entry()], &[total]));
        assert_eq!(
            list,
            "2027-01-15T08:00:00Z delivered 1000 atomic USDC eip155:84532 from 0xpayer for ns/a, \"b\" nonce 0x01 transaction 0xtx\n\
             settled: 1000 atomic USDC (0xasset on eip155:84532), payments: 1\n"
        );
    }
}
