//! A payment as a row: the record of the machine, and what the books know beside it.

use std::sync::Arc;

use farebox_core::evm::{Address, Amount, B256, Network, from_hex, keccak256, to_hex};
use farebox_core::payment::{Fingerprint, Hold, Holder, PaymentKey, Record, State, Terms, Trust};
use farebox_core::terms::{Flow, Tuple};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::store::unsigned;

const DAY_MS: u64 = 86_400_000;

/// A row that is in the database, or will be.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The record; of a refused payment the last one it had.
    pub(super) record: Record,
    /// It is kept for the books alone: for the machine there is no record.
    pub(super) refused: bool,
    /// What it is counted under.
    pub(super) tuple: Tuple,
    pub(super) generation: u64,
    pub(super) proxy: String,
    pub(super) companion: String,
    pub(super) identifier: Option<String>,
    pub(super) facilitator: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) times: Times,
}

/// When a payment came how far, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) reserved: u64,
    pub(super) verified: Option<u64>,
    pub(super) settling: Option<u64>,
    pub(super) ended: Option<u64>,
}

/// What a key has in the database.
#[derive(Debug)]
pub(super) enum Loaded {
    /// A row that is no record any more.
    Refused,
    /// A record.
    Live(Box<Row>),
}

/// The columns [`Loaded::read`] reads, in its order.
pub(super) const LOADED: &str = "payments.state, payments.fingerprint, payments.offer_namespace, \
    payments.offer_name, payments.route, payments.asset, payments.amount, payments.pay_to, payments.flow, \
    payments.call_body, payments.ends_s, payments.holder, payments.hold_until, payments.waits, payments.epoch, \
    payments.redeemed, payments.transaction_hash, payments.since, payments.facilitator, payments.reason, \
    payments.identifier, payments.asset_symbol, payments.born, payments.generation, payments.proxy, \
    payments.companion, payments.reserved_at, payments.verified_at, payments.settling_at, payments.ended_at, \
    payments.holder_before";

/// What is no text a database takes is written in hex, after this.
const HEX: &str = "hex:";

// === impl Row ===

impl Row {
    /// Its word in the column `state`.
    pub(super) const fn state(&self) -> &'static str {
        match self.record.state {
            _ if self.refused => "refused",
            State::Reserved { trust: Trust::Claimed, .. } => "claimed",
            State::Reserved { trust: Trust::Proven, .. } => "reserved",
            State::Reserved { trust: Trust::Vouched, .. } => "verified",
            State::Settling { .. } => "settling",
            State::Unknown => "unknown",
            State::Owed { .. } => "owed",
            State::Delivered => "delivered",
        }
    }

    /// Whether nothing is known of its signature.
    pub(super) const fn is_unproven(&self) -> bool {
        matches!(self.record.state, State::Reserved { trust: Trust::Claimed, .. })
    }

    /// Who holds it; nobody holds what is refused.
    pub(super) const fn hold(&self) -> Option<Hold> {
        match self.record.state {
            _ if self.refused => None,
            State::Reserved { hold, .. } | State::Settling { hold, .. } => Some(hold),
            State::Owed { hold } => hold,
            State::Unknown | State::Delivered => None,
        }
    }

    /// From when on somebody has to look at it. The same while it is sold: see migration 6.
    pub(super) fn look_at(&self) -> Option<u64> {
        let Record { ends, since_ms, .. } = self.record;
        match self.record.state {
            // When it goes: its window has closed, or a day is over, as buyers choose their windows.
            _ if self.refused => Some(ends.saturating_mul(1000).min(since_ms.saturating_add(DAY_MS))),
            State::Reserved { .. }
            | State::Settling { .. }
            | State::Unknown
            | State::Owed { hold: Some(_) } => Some(self.times.reserved),
            State::Owed { hold: None } | State::Delivered => None,
        }
    }

    /// When the reconciliation has to look at it.
    pub(super) fn due(&self) -> Option<u64> {
        farebox_core::payment::due(&self.record).filter(|_| !self.refused)
    }

    /// Whether a buyer waits for the settle call under way.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.record.state, State::Settling { waits: true, .. }) && !self.refused
    }

    /// Whether a settle call may still be made.
    pub(super) fn has_call(&self) -> bool {
        !self.refused && !self.record.call.is_empty()
    }

    /// The body of its settle calls, as text, while one may be made.
    pub(super) fn call(&self) -> Option<String> {
        let call = &self.record.call;
        self.has_call().then(|| match core::str::from_utf8(call) {
            Ok(text) if !text.contains('\0') && !text.starts_with(HEX) => text.to_owned(),
            _ => [HEX, &to_hex(call)].concat(),
        })
    }
}

// === impl Loaded ===

impl Loaded {
    /// Reads the columns [`LOADED`], of which the first is the one at `first`.
    pub(super) fn read(row: &AnyRow, first: usize, key: &PaymentKey) -> Result<Self, String> {
        let columns = Columns { row, first };
        let state = columns.text(0)?;
        if state == "refused" {
            return Ok(Self::Refused);
        }
        let hold = columns.hold()?;
        let needed = || hold.ok_or_else(|| format!("a payment that is {state} has no holder"));
        let life = match state {
            "claimed" => State::Reserved { hold: needed()?, trust: Trust::Claimed },
            "reserved" => State::Reserved { hold: needed()?, trust: Trust::Proven },
            "verified" => State::Reserved { hold: needed()?, trust: Trust::Vouched },
            "settling" => State::Settling { hold: needed()?, waits: columns.number(13)? != 0 },
            "unknown" => State::Unknown,
            "owed" => State::Owed { hold },
            "delivered" => State::Delivered,
            other => return Err(format!("the state `{other}` is not known")),
        };
        let (offer_namespace, offer_name) = (columns.text(2)?, columns.text(3)?);
        let record = Record {
            fingerprint: columns.fingerprint()?,
            terms: Terms {
                offer: [offer_namespace, "/", offer_name].concat(),
                route: columns.text(4)?.to_owned(),
                asset: columns.parsed(5, |text| Address::parse(text).ok())?,
                amount: columns.parsed(6, |text| Amount::parse(text).ok())?,
                pay_to: columns.parsed(7, |text| Address::parse(text).ok())?,
                flow: columns.parsed(8, parse_flow)?,
            },
            call: columns.call()?,
            ends: columns.number(10)?,
            epoch: u32::try_from(columns.number(14)?).unwrap_or(u32::MAX),
            redeemed: columns.number(15)? != 0,
            before: columns.holder(30)?,
            transaction: columns.optional(16)?.map(str::to_owned),
            since_ms: columns.number(17)?,
            state: life,
        };
        let owned = |column| Ok::<_, String>(columns.optional(column)?.map(str::to_owned));
        Ok(Self::Live(Box::new(Row {
            tuple: Tuple {
                offer_namespace: offer_namespace.to_owned(),
                offer_name: offer_name.to_owned(),
                chain: key.network.as_str().to_owned(),
                asset_symbol: columns.text(21)?.to_owned(),
                born: columns.number(22)?,
            },
            record,
            refused: false,
            facilitator: owned(18)?,
            reason: owned(19)?,
            identifier: owned(20)?,
            generation: columns.number(23)?,
            proxy: columns.text(24)?.to_owned(),
            companion: columns.text(25)?.to_owned(),
            times: Times {
                reserved: columns.number(26)?,
                verified: columns.optional_number(27)?,
                settling: columns.optional_number(28)?,
                ended: columns.optional_number(29)?,
            },
        })))
    }
}

/// The columns of a row, by their place among [`LOADED`].
struct Columns<'r> {
    row: &'r AnyRow,
    first: usize,
}

// === impl Columns ===

impl<'r> Columns<'r> {
    fn text(&self, column: usize) -> Result<&'r str, String> {
        self.row.try_get(self.first + column).map_err(|error| error.to_string())
    }

    fn optional(&self, column: usize) -> Result<Option<&'r str>, String> {
        self.row.try_get(self.first + column).map_err(|error| error.to_string())
    }

    fn optional_number(&self, column: usize) -> Result<Option<u64>, String> {
        let number = self.row.try_get::<Option<i64>, _>(self.first + column);
        Ok(number.map_err(|error| error.to_string())?.map(unsigned))
    }

    fn number(&self, column: usize) -> Result<u64, String> {
        self.optional_number(column)?.ok_or_else(|| format!("column {column} is empty"))
    }

    fn parsed<T>(&self, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let text = self.text(column)?;
        parse(text).ok_or_else(|| format!("`{text}` is not what it should be"))
    }

    fn fingerprint(&self) -> Result<Option<Fingerprint>, String> {
        let Some(text) = self.optional(1)? else { return Ok(None) };
        let bytes = B256::parse(text).map_err(|_| format!("`{text}` is no fingerprint"))?;
        Ok(Some(Fingerprint(bytes.0)))
    }

    fn call(&self) -> Result<Arc<[u8]>, String> {
        let text = self.optional(9)?.unwrap_or_default();
        let Some(digits) = text.strip_prefix(HEX) else { return Ok(Arc::from(text.as_bytes())) };
        from_hex(digits).map(Arc::from).ok_or_else(|| "a call is no hex".to_owned())
    }

    fn hold(&self) -> Result<Option<Hold>, String> {
        let Some(holder) = self.holder(11)? else { return Ok(None) };
        Ok(Some(Hold { holder, until_ms: self.number(12)? }))
    }

    fn holder(&self, column: usize) -> Result<Option<Holder>, String> {
        let parsed = |text| Holder::parse(text).ok_or_else(|| format!("`{text}` is no holder"));
        self.optional(column)?.map(parsed).transpose()
    }
}

/// The key in the columns from `first` on: network, contract, payer, nonce.
pub(super) fn read_key(row: &AnyRow, first: usize) -> Result<PaymentKey, String> {
    let columns = Columns { row, first };
    key_of([columns.text(0)?, columns.text(1)?, columns.text(2)?, columns.text(3)?])
}

/// The key these texts name: network, contract, payer, nonce.
pub(super) fn key_of([network, contract, payer, nonce]: [&str; 4]) -> Result<PaymentKey, String> {
    let address = |text: &str| Address::parse(text).map_err(|_| format!("`{text}` is no address"));
    Ok(PaymentKey {
        network: Network::from_caip2(network).ok_or_else(|| format!("`{network}` is no chain"))?,
        contract: address(contract)?,
        payer: address(payer)?,
        nonce: B256::parse(nonce).map_err(|_| format!("`{nonce}` is no nonce"))?,
    })
}

/// The word of a flow.
pub(super) const fn flow_word(flow: Flow) -> &'static str {
    match flow {
        Flow::Authorization => "authorization",
        Flow::Upfront => "upfront",
    }
}

fn parse_flow(word: &str) -> Option<Flow> {
    [Flow::Authorization, Flow::Upfront].into_iter().find(|flow| flow_word(*flow) == word)
}

/// An identifier that an index takes: a long one is its hash.
pub(super) fn identifier_column(identifier: &str) -> String {
    const LONGEST: usize = 200;
    if identifier.len() <= LONGEST && !identifier.contains('\0') {
        return identifier.to_owned();
    }
    to_hex(&keccak256(identifier.as_bytes()))
}
