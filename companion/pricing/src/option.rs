//! One way to pay, from the keys of the file to the requirement.

use farebox_core::evm::{
    Address, Amount, Asset, Network, PriceError, TransferMethod, asset_by_address, asset_by_symbol,
    default_asset, v1_name,
};
use farebox_core::terms::{Extra, Flow, PaymentOption, is_label};
use ruint::aliases::U256;

use super::SkipReason;
use super::chain::read_chain;
use super::load::{Finding, Severity};
use super::pricing_file::{At, Money};

/// Values for keys that an option does not set.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    /// `wallet`.
    pub(super) wallet: Option<Address>,
    /// `chain`.
    pub(super) chain: Option<Network>,
    /// How long a settlement may take, seconds.
    pub(super) settle_timeout: u64,
    /// Longest window of an authorization that is settled first, seconds.
    pub(super) replay_horizon: u64,
}

/// A resolved option and the symbol of its asset, which becomes a label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resolved {
    /// With tuple 0 until all tuples are known.
    pub(super) option: PaymentOption,
    /// Symbol of the asset.
    pub(super) symbol: String,
}

/// Why an option is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: SkipReason,
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) message: String,
}

/// `maxTimeoutSeconds` if the file does not set it.
const DEFAULT_TIMEOUT: i64 = 600;
/// Longest `maxTimeoutSeconds` that is offered.
const MAX_TIMEOUT: i64 = 86_400;
/// Tokens of one request if the file does not set them.
const DEFAULT_TOKENS: i64 = 1_000;

/// Resolves one option. `flow` is the route's; `extra` goes to the buyer unchanged.
pub(super) fn resolve(
    money: &Money,
    defaults: &Defaults,
    flow: Option<&At<String>>,
    extra: &Extra,
    warnings: &mut Vec<Finding>,
) -> Result<Resolved, Refusal> {
    let mut at = Resolver { money, warnings };
    let network = at.network(defaults)?;
    let token = at.token(&network)?;
    let amount = at.amount(token.decimals)?;
    let pay_to = at.pay_to(defaults)?;
    let max_timeout_seconds = at.timeout()?;
    let flow = at.flow(flow)?;
    at.dear(&token, amount);
    at.short(max_timeout_seconds, flow, defaults);
    // Protocol version 1 has no Permit2.
    let v1 = (token.method == TransferMethod::Eip3009).then(|| v1_name(&network)).flatten();
    let option = PaymentOption {
        tuple: 0,
        v1_network: v1.map(str::to_owned),
        v1_kind: false,
        network,
        amount,
        asset: token.address,
        decimals: token.decimals,
        pay_to,
        max_timeout_seconds,
        flow,
        transfer_method: token.method,
        eip712_name: token.name,
        eip712_version: token.version,
        gas_sponsoring: token.gas_sponsoring && token.method == TransferMethod::Permit2,
        extra: extra.clone(),
    };
    Ok(Resolved { option, symbol: token.symbol })
}

struct Resolver<'a> {
    money: &'a Money,
    warnings: &'a mut Vec<Finding>,
}

/// A token with all data for a payment.
struct Token {
    address: Address,
    symbol: String,
    decimals: u8,
    method: TransferMethod,
    name: String,
    version: String,
    gas_sponsoring: bool,
}

// === impl Resolver ===

impl Resolver<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.money.path)
    }

    fn refuse<T>(&self, reason: SkipReason, line: usize, key: &str, message: String) -> Result<T, Refusal> {
        Err(Refusal { reason, line, key: self.key(key), message })
    }

    fn warn(&mut self, line: usize, key: &str, message: String) {
        let key = self.key(key);
        self.warnings.push(Finding { severity: Severity::Warning, line, key, message });
    }

    fn network(&self, defaults: &Defaults) -> Result<Network, Refusal> {
        match (&self.money.network, &defaults.chain) {
            (Some(typed), _) => read_chain(&typed.value)
                .or_else(|message| self.refuse(SkipReason::UnsupportedChain, typed.line, "network", message)),
            (None, Some(chain)) => Ok(chain.clone()),
            (None, None) => {
                let message = "is not set, and there is no `chain` to fall back to; write `chain: base-sepolia` (test \
                               money) or `chain: base` (real money) at the top of the file";
                self.refuse(SkipReason::MissingChain, self.money.line, "network", message.into())
            }
        }
    }

    fn address(&mut self, typed: &At<String>, key: &str) -> Result<Address, Refusal> {
        let address = match read_address(&typed.value) {
            Ok(address) => address,
            Err(message) => return self.refuse(SkipReason::BadAddress, typed.line, key, message),
        };
        if !Address::checksum_holds(&typed.value) {
            return self.refuse(SkipReason::BadAddress, typed.line, key, CHECKSUM_FAILS.into());
        }
        Ok(address)
    }

    fn pay_to(&mut self, defaults: &Defaults) -> Result<Address, Refusal> {
        match (&self.money.pay_to, defaults.wallet) {
            (Some(typed), _) => {
                let address = self.address(typed, "payTo")?;
                if lacks_checksum(&typed.value) {
                    self.warn(typed.line, "payTo", NO_CHECKSUM.into());
                }
                Ok(address)
            }
            (None, Some(wallet)) => Ok(wallet),
            (None, None) => {
                let message = "is not set, and there is no wallet to fall back to".into();
                self.refuse(SkipReason::MissingPayTo, self.money.line, "payTo", message)
            }
        }
    }

    /// The registry's asset, if there is one, with the overrides of the file; else the file's own asset.
    fn token(&mut self, network: &Network) -> Result<Token, Refusal> {
        let money = self.money;
        let method = self.transfer_method()?;
        let Some(typed) = &money.asset_address else {
            let asset = self.named_asset(network)?;
            return self.registry_token(asset, method);
        };
        // An address of the registry is right in any letter case.
        if let Some(asset) = read_address(&typed.value).ok().and_then(|it| asset_by_address(network, &it)) {
            return self.registry_token(asset, method);
        }
        let address = self.address(typed, "assetAddress")?;
        let (Some(symbol), Some(decimals), Some(method), Some(name), Some(version)) = (
            &money.asset_symbol,
            money.asset_decimals.as_ref().and_then(|decimals| u8::try_from(decimals.value).ok()),
            method,
            &money.eip712_name,
            &money.eip712_version,
        ) else {
            let message = format!(
                "is not an asset known on {network}: it needs assetSymbol, assetDecimals, assetTransferMethod, \
                 eip712Name and eip712Version too"
            );
            return self.refuse(SkipReason::AssetIncomplete, typed.line, "assetAddress", message);
        };
        let printable =
            (1..=32).contains(&symbol.value.len()) && symbol.value.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !printable || !is_label(&symbol.value) {
            let message =
                "must be 1 to 32 printable ASCII characters, because it becomes a metric label".into();
            return self.refuse(SkipReason::Other, symbol.line, "assetSymbol", message);
        }
        Ok(Token {
            address,
            symbol: symbol.value.clone(),
            decimals,
            method,
            name: name.value.clone(),
            version: version.value.clone(),
            gas_sponsoring: false,
        })
    }

    /// The registry asset that the file names without an address.
    fn named_asset(&self, network: &Network) -> Result<&'static Asset, Refusal> {
        let default = default_asset(network);
        let (line, key, asset) = match &self.money.asset_symbol {
            Some(typed) => (typed.line, "assetSymbol", asset_by_symbol(network, &typed.value)),
            None => {
                (self.money.network.as_ref().map_or(self.money.line, |typed| typed.line), "network", default)
            }
        };
        match asset {
            Some(asset) => Ok(asset),
            None if default.is_none() => {
                let message =
                    format!("unsupported chain {network} without a complete custom asset (assetAddress, …)");
                self.refuse(SkipReason::UnsupportedChain, line, key, message)
            }
            None => {
                let message =
                    format!("is not an asset that Farebox knows on {network}; set assetAddress, too");
                self.refuse(SkipReason::AssetIncomplete, line, key, message)
            }
        }
    }

    fn registry_token(
        &mut self,
        asset: &'static Asset,
        method: Option<TransferMethod>,
    ) -> Result<Token, Refusal> {
        let money = self.money;
        if let Some(typed) = &money.asset_symbol
            && !typed.value.eq_ignore_ascii_case(asset.symbol)
        {
            let message = format!("contradicts the asset at {}, which is {}", asset.address, asset.symbol);
            return self.refuse(SkipReason::AssetMismatch, typed.line, "assetSymbol", message);
        }
        if let Some(typed) = &money.asset_decimals
            && typed.value != i64::from(asset.decimals)
        {
            let message = format!("contradicts {}, which has {} decimals", asset.symbol, asset.decimals);
            return self.refuse(SkipReason::AssetMismatch, typed.line, "assetDecimals", message);
        }
        if let Some(typed) = &money.transfer_method
            && method.is_some_and(|method| method != asset.transfer_method)
        {
            self.warn(typed.line, "assetTransferMethod", overrides(asset, asset.transfer_method.as_str()));
        }
        for (typed, key, known) in [
            (&money.eip712_name, "eip712Name", asset.eip712_name),
            (&money.eip712_version, "eip712Version", asset.eip712_version),
        ] {
            if let Some(typed) = typed.as_ref().filter(|typed| typed.value != known) {
                self.warn(typed.line, key, overrides(asset, known));
            }
        }
        if asset.disputed && money.eip712_name.is_none() {
            let message = format!(
                "sources disagree on the EIP-712 name of {} on {}; {:?} is used, set eip712Name to be sure",
                asset.symbol, asset.network, asset.eip712_name
            );
            self.warn(money.line, "eip712Name", message);
        }
        let or =
            |typed: &Option<At<String>>, known: &str| typed.as_ref().map_or(known, |t| &t.value).to_owned();
        Ok(Token {
            address: asset.address,
            symbol: asset.symbol.to_owned(),
            decimals: asset.decimals,
            method: method.unwrap_or(asset.transfer_method),
            name: or(&money.eip712_name, asset.eip712_name),
            version: or(&money.eip712_version, asset.eip712_version),
            gas_sponsoring: asset.gas_sponsoring,
        })
    }

    fn transfer_method(&self) -> Result<Option<TransferMethod>, Refusal> {
        let Some(typed) = &self.money.transfer_method else { return Ok(None) };
        match typed.value.as_str() {
            "eip3009" => Ok(Some(TransferMethod::Eip3009)),
            "permit2" => Ok(Some(TransferMethod::Permit2)),
            other => {
                let message = format!("is {other:?}; known are eip3009 and permit2");
                self.refuse(SkipReason::UnsupportedTransferMethod, typed.line, "assetTransferMethod", message)
            }
        }
    }

    fn amount(&mut self, decimals: u8) -> Result<Amount, Refusal> {
        let model = self.money.price_model.as_ref();
        let by_tokens = match model.map(|model| model.value.as_str()) {
            None | Some("perMTok") => true,
            Some("perRequest") => false,
            Some("perHour") => {
                let line = model.map_or(self.money.line, |model| model.line);
                self.warn(line, "priceModel", "perHour is charged per request, unchanged".into());
                false
            }
            Some(other) => {
                let line = model.map_or(self.money.line, |model| model.line);
                let message = format!("is {other:?}; supported are perRequest, perMTok and perHour");
                return self.refuse(SkipReason::UnsupportedPriceModel, line, "priceModel", message);
            }
        };
        let per_mtok = self.money.per_mtok.as_ref().filter(|_| by_tokens);
        let amount = match (&self.money.price, per_mtok) {
            (Some(price), per_mtok) => {
                let amount = self.shift(&price.value, decimals, price.line, "price")?;
                let derived = per_mtok.and_then(|typed| self.per_request(typed).ok());
                let derived = derived.and_then(|text| Amount::from_price(&text, decimals).ok());
                if let (Some(typed), true) = (per_mtok, derived != Some(amount)) {
                    self.warn(typed.line, "perMTok", "differs from `price`, and `price` is charged".into());
                }
                (amount, price.line, "price")
            }
            (None, Some(typed)) => {
                let text = self.per_request(typed)?;
                (self.shift(&text, decimals, typed.line, "perMTok")?, typed.line, "perMTok")
            }
            (None, None) => {
                let message = "is not set; write `gate: free` for a free route".into();
                return self.refuse(SkipReason::MissingPrice, self.money.line, "price", message);
            }
        };
        let (amount, line, key) = amount;
        if amount.is_zero() {
            let message = "is zero; write `gate: free` for a free route".into();
            return self.refuse(SkipReason::ZeroPrice, line, key, message);
        }
        Ok(amount)
    }

    fn shift(&self, price: &str, decimals: u8, line: usize, key: &str) -> Result<Amount, Refusal> {
        Amount::from_price(price, decimals).or_else(|error| {
            let reason = match error {
                PriceError::Precision { .. } => SkipReason::PricePrecision,
                PriceError::Syntax | PriceError::TooLarge => SkipReason::BadPrice,
            };
            self.refuse(reason, line, key, format!("{} {error}", shown(price)))
        })
    }

    /// The price of one request at `perMTok`.
    fn per_request(&self, per_mtok: &At<String>) -> Result<String, Refusal> {
        let tokens = self.money.tokens.as_ref().map_or(DEFAULT_TOKENS, |tokens| tokens.value);
        let Ok(tokens) = u64::try_from(tokens) else {
            let line = self.money.tokens.as_ref().map_or(self.money.line, |tokens| tokens.line);
            return self.refuse(SkipReason::BadPrice, line, "approxTokensPerRequest", "is negative".into());
        };
        match per_million(&per_mtok.value, tokens) {
            Some(price) => Ok(price),
            None => {
                let message = format!("{} is not a plain decimal number such as 2.5", shown(&per_mtok.value));
                self.refuse(SkipReason::BadPrice, per_mtok.line, "perMTok", message)
            }
        }
    }

    fn timeout(&mut self) -> Result<u64, Refusal> {
        let Some(typed) = &self.money.max_timeout else { return Ok(DEFAULT_TIMEOUT.unsigned_abs()) };
        match typed.value {
            ..=-1 => {
                self.refuse(SkipReason::BadTimeout, typed.line, "maxTimeoutSeconds", "is negative".into())
            }
            0 => Ok(DEFAULT_TIMEOUT.unsigned_abs()),
            1..=MAX_TIMEOUT => Ok(typed.value.unsigned_abs()),
            _ => {
                let message = format!("{} is more than a day; {MAX_TIMEOUT} is used", typed.value);
                self.warn(typed.line, "maxTimeoutSeconds", message);
                Ok(MAX_TIMEOUT.unsigned_abs())
            }
        }
    }

    /// Warns about more than a dollar, because the reference libraries of buyers refuse that by default.
    fn dear(&mut self, token: &Token, amount: Amount) {
        let is_dear = Amount::from_price("1", token.decimals).is_ok_and(|dollar| amount.0 > dollar.0);
        if is_dear && token.symbol.to_ascii_uppercase().contains("USD") {
            let (key, line) = match (&self.money.price, &self.money.per_mtok) {
                (Some(price), _) => ("price", price.line),
                (None, Some(price)) => ("perMTok", price.line),
                (None, None) => ("price", self.money.line),
            };
            let message =
                "is more than 1 USD, which buyer libraries refuse by default (spendControls)".into();
            self.warn(line, key, message);
        }
    }

    /// Warns about times that a payment cannot meet.
    fn short(&mut self, max_timeout: u64, flow: Flow, defaults: &Defaults) {
        let line = self.money.max_timeout.as_ref().map_or(self.money.line, |typed| typed.line);
        let settle = defaults.settle_timeout;
        if max_timeout < settle {
            let message = format!(
                "{max_timeout} is below the {settle} s that a settlement may take: the window of a payment can end during the settlement"
            );
            self.warn(line, "maxTimeoutSeconds", message);
        }
        let horizon = defaults.replay_horizon;
        if flow == Flow::Upfront && max_timeout > horizon {
            let message = format!(
                "{max_timeout} is above filter.replayHorizonSeconds, and this option is settled first: {horizon} is offered"
            );
            self.warn(line, "maxTimeoutSeconds", message);
        }
    }

    fn flow(&self, of_route: Option<&At<String>>) -> Result<Flow, Refusal> {
        let Some(typed) = self.money.payment_flow.as_ref().or(of_route) else {
            return Ok(Flow::Authorization);
        };
        match typed.value.as_str() {
            "authorization" => Ok(Flow::Authorization),
            "upfront" => Ok(Flow::Upfront),
            other => {
                let message = format!("is {other:?}; known are authorization and upfront");
                self.refuse(SkipReason::UnsupportedFeature, typed.line, "paymentFlow", message)
            }
        }
    }
}

/// The message about a mixed-case address with a wrong checksum.
pub(super) const CHECKSUM_FAILS: &str = "fails its EIP-55 checksum, so a digit or the case of a letter is wrong, and \
                                         money sent to a wrong address is lost; copy it again from where it comes from";

/// The message about an address whose wrong digits nobody would notice.
pub(super) const NO_CHECKSUM: &str = "has no checksum, because its letters are all in one case, so a wrong digit is not \
                                      noticed; copy it from your wallet with its capital and small letters";

/// Whether an address has letters, and all of them in one case.
pub(super) fn lacks_checksum(text: &str) -> bool {
    let digits = text.get("0x".len()..).unwrap_or_default();
    let has = |case: fn(&u8) -> bool| digits.bytes().any(|byte| case(&byte));
    has(u8::is_ascii_lowercase) != has(u8::is_ascii_uppercase)
}

/// Reads an address that can be paid.
pub(super) fn read_address(text: &str) -> Result<Address, String> {
    match Address::parse(text) {
        Ok(address) if address.is_zero() => Err("is the zero address, which has no owner".into()),
        Ok(address) => Ok(address),
        Err(error) => Err(format!("{} is not an address: it {error}", shown(text))),
    }
}

fn overrides(asset: &Asset, known: &str) -> String {
    format!(
        "replaces {known:?} of {} on {}; if it is wrong, every payment fails",
        asset.symbol, asset.network
    )
}

/// A value for messages: quoted, and cut if it is longer than any good value.
fn shown(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// `price` x `tokens` / 1,000,000 as an exact plain decimal. `None` if `price` is not a plain decimal of
/// at most 78 digits.
fn per_million(price: &str, tokens: u64) -> Option<String> {
    // This checks only the syntax; the shift is done below.
    if matches!(Amount::from_price(price, 0), Err(PriceError::Syntax)) {
        return None;
    }
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    let digits = Amount::parse(&format!("{whole}{fraction}")).ok()?;
    let product = digits.0.checked_mul(U256::from(tokens))?.to_string();
    let scale = fraction.len() + 6;
    let padded = format!("{product:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at_checked(padded.len() - scale)?;
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
#[path = "option_tests.rs"]
mod tests;
