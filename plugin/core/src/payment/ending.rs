//! Endings of requests with payments, as a proxy sends them to the relay: one JSON object for each line.

use core::str;

use super::{End, Holder, PaymentKey};
use crate::evm::{Address, B256, Network, to_hex};
use crate::members::Members;

/// How one request ended for its payment, or that the request still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The payment.
    pub key: PaymentKey,
    /// The request.
    pub holder: Holder,
    /// How it ended.
    pub end: End,
}

// === impl Ending ===

impl Ending {
    /// Adds the ending as a line to the body of a call: `{"network","contract","payer","nonce","holder","end"}`,
    /// as CAIP-2 and lower-case 0x-hex.
    pub fn write(&self, body: &mut Vec<u8>) {
        let Self { key: PaymentKey { network, contract, payer, nonce }, holder, end } = self;
        let [contract, payer, nonce, holder] = [&contract.0[..], &payer.0, &nonce.0, &holder.0].map(to_hex);
        // None of these texts has a character that needs a JSON escape.
        let line = [
            "{\"network\":\"",
            network.as_str(),
            "\",\"contract\":\"",
            &contract,
            "\",\"payer\":\"",
            &payer,
            "\",\"nonce\":\"",
            &nonce,
            "\",\"holder\":\"",
            &holder,
            "\",\"end\":\"",
            end.as_str(),
            "\"}\n",
        ];
        body.extend(line.concat().into_bytes());
    }

    /// Reads the endings of a body. `None` if a line is not an ending.
    pub fn read_all(body: &[u8]) -> Option<Vec<Self>> {
        str::from_utf8(body).ok()?.lines().map(Self::read).collect()
    }

    fn read(line: &str) -> Option<Self> {
        let members = Members::read(line).ok()?;
        let text = |name| members.text(name).ok();
        let key = PaymentKey {
            network: Network::from_caip2(&text("network")?)?,
            contract: Address::parse(&text("contract")?).ok()?,
            payer: Address::parse(&text("payer")?).ok()?,
            nonce: B256::parse(&text("nonce")?).ok()?,
        };
        Some(Self { key, holder: Holder::parse(&text("holder")?)?, end: End::parse(&text("end")?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(nonce: u8, end: End) -> Ending {
        let network = Network::from_caip2("eip155:8453").unwrap();
        let (contract, payer, nonce) = (Address([0xab; 20]), Address([2; 20]), B256([nonce; 32]));
        Ending { key: PaymentKey { network, contract, payer, nonce }, holder: Holder([9; 16]), end }
    }

    #[test]
    fn endings_are_read_as_they_were_written() {
        let all = [End::Whole, End::Broken, End::Unsent, End::Unheard, End::NotYet].map(|end| ending(3, end));
        let mut body = Vec::new();
        for ending in &all {
            ending.write(&mut body);
        }
        assert!(body.starts_with(br#"{"network":"eip155:8453","contract":"0xabab"#));
        assert_eq!(Ending::read_all(&body).unwrap(), all);
        assert_eq!(Ending::read_all(b""), Some(Vec::new()));
    }

    #[test]
    fn a_body_of_which_one_line_cannot_be_read_is_none() {
        let mut good = Vec::new();
        ending(3, End::Whole).write(&mut good);
        let good = String::from_utf8(good).unwrap();
        let changes = [
            ("0303\"", "03\""),
            ("eip155", "solana"),
            ("\"whole\"", "\"half\""),
            ("0909\",\"end", "09\",\"end"),
        ];
        let broken = changes.map(|(from, to)| good.replace(from, to));
        for broken in ["{}\n", "[]\n", "\n", &good.replace("holder", "h")]
            .into_iter()
            .chain(broken.iter().map(|b| b.as_str()))
        {
            assert!(broken == "\n" || *broken != *good, "{broken}");
            assert_eq!(Ending::read_all([good.as_str(), broken].concat().as_bytes()), None, "{broken}");
        }
    }
}
