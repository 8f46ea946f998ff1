//! The named ways to fail.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// One of the three endpoints of the facilitator API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// `POST /verify`.
    Verify,
    /// `POST /settle`.
    Settle,
    /// `GET /supported`.
    Supported,
}

/// A way to fail. The ledger gets a payment only if the mode says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// `none`: do not fail.
    Honest,
    /// `http_500`, `http_503`, `http_429`: this status with a JSON error.
    Status(u16),
    /// `html_502` and `html_200`: a page, as a broken gateway answers.
    Html(u16),
    /// `garbage`: 200 with bytes that are not JSON.
    Garbage,
    /// `truncated`: the right headers and half of the body, then the connection is cut.
    Truncated,
    /// `cut_after_headers`: the right headers, then the connection is cut.
    CutAfterHeaders,
    /// `reset`: the connection is closed without any reply.
    Reset,
    /// `hang` (or `timeout`): no reply, ever.
    Hang,
    /// `slow:<ms>`: the honest reply, late.
    Slow(Duration),
    /// `redirect_302`, `redirect_308`: to the same endpoint under `/moved`, which answers honestly.
    Redirect(u16),
    /// `redirect_302:<url>`, `redirect_308:<url>`: to the same endpoint of another server.
    RedirectAway(u16, String),
    /// `wrong_types`: the members of an honest reply with values of other types.
    WrongTypes,
    /// `invalid` or `invalid:<code>`: a refusal before anything is broadcast.
    Invalid(String),
    /// `unknown_code`: a refusal with an unknown code.
    UnknownCode,
    /// `pending`: settle only; broadcast and never final, even after several calls.
    Pending,
    /// `pending_then_success`: settle only; pending at the first call of a payment, settled at the next.
    PendingThenSuccess,
    /// `success_but_hang`: settle only; settled, without a reply.
    SuccessButHang,
    /// `success_503`: settled (or valid), with an error status.
    SuccessUnder503,
    /// `wrong_network`: settle only; settled, and the reply names another network.
    WrongNetwork,
    /// `another_payer`: the honest reply, but with another payer.
    AnotherPayer,
    /// `settled_but:<code>`: settle only; settled, and the reply is a refusal with this code.
    SettledBut(String),
}

/// The names of all modes, for messages.
const NAMES: &str = "none, http_500, http_503, http_429, html_502, html_200, garbage, truncated, \
    cut_after_headers, reset, hang, timeout, slow:<ms>, redirect_302, redirect_308, redirect_302:<url>, \
    redirect_308:<url>, wrong_types, invalid, invalid:<code>, unknown_code, pending, pending_then_success, success_but_hang, success_503, wrong_network, \
    another_payer, settled_but:<code>";

/// The code of `invalid` without a code.
const DEFAULT_REFUSAL: &str = "insufficient_funds";

// === impl Mode ===

impl Mode {
    /// Reads a mode and checks that the endpoint can fail that way.
    pub fn parse_for(text: &str, endpoint: Endpoint) -> Result<Self, String> {
        let mode: Self = text.parse()?;
        let fits = match mode {
            Self::Pending
            | Self::PendingThenSuccess
            | Self::SuccessButHang
            | Self::WrongNetwork
            | Self::SettledBut(_) => endpoint == Endpoint::Settle,
            Self::Invalid(_) | Self::UnknownCode | Self::AnotherPayer => endpoint != Endpoint::Supported,
            _ => true,
        };
        if fits { Ok(mode) } else { Err(format!("{endpoint} cannot fail with `{text}`")) }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Self::Honest,
            "http_500" => Self::Status(500),
            "http_503" => Self::Status(503),
            "http_429" => Self::Status(429),
            "html_502" => Self::Html(502),
            "html_200" => Self::Html(200),
            "garbage" => Self::Garbage,
            "truncated" => Self::Truncated,
            "cut_after_headers" => Self::CutAfterHeaders,
            "reset" => Self::Reset,
            "hang" | "timeout" => Self::Hang,
            "redirect_302" => Self::Redirect(302),
            "redirect_308" => Self::Redirect(308),
            "wrong_types" => Self::WrongTypes,
            "invalid" => Self::Invalid(DEFAULT_REFUSAL.to_owned()),
            "unknown_code" => Self::UnknownCode,
            "pending" => Self::Pending,
            "pending_then_success" => Self::PendingThenSuccess,
            "success_but_hang" => Self::SuccessButHang,
            "success_503" => Self::SuccessUnder503,
            "wrong_network" => Self::WrongNetwork,
            "another_payer" => Self::AnotherPayer,
            text => match text.split_once(':') {
                Some(("slow", ms)) => Self::Slow(Duration::from_millis(
                    ms.parse().map_err(|_| format!("`{ms}` is not a number of milliseconds"))?,
                )),
                Some(("redirect_302", url)) => Self::RedirectAway(302, url.to_owned()),
                Some(("redirect_308", url)) => Self::RedirectAway(308, url.to_owned()),
                Some(("settled_but", code)) if !code.is_empty() => Self::SettledBut(code.to_owned()),
                Some(("invalid", code)) if !code.is_empty() => Self::Invalid(code.to_owned()),
                _ => return Err(format!("`{text}` is not a mode; modes are {NAMES}")),
            },
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Honest => f.write_str("none"),
            Self::Status(status) => write!(f, "http_{status}"),
            Self::Html(status) => write!(f, "html_{status}"),
            Self::Garbage => f.write_str("garbage"),
            Self::Truncated => f.write_str("truncated"),
            Self::CutAfterHeaders => f.write_str("cut_after_headers"),
            Self::Reset => f.write_str("reset"),
            Self::Hang => f.write_str("hang"),
            Self::Slow(delay) => write!(f, "slow:{}", delay.as_millis()),
            Self::Redirect(status) => write!(f, "redirect_{status}"),
            Self::RedirectAway(status, url) => write!(f, "redirect_{status}:{url}"),
            Self::WrongTypes => f.write_str("wrong_types"),
            Self::Invalid(code) => write!(f, "invalid:{code}"),
            Self::UnknownCode => f.write_str("unknown_code"),
            Self::Pending => f.write_str("pending"),
            Self::PendingThenSuccess => f.write_str("pending_then_success"),
            Self::SuccessButHang => f.write_str("success_but_hang"),
            Self::SuccessUnder503 => f.write_str("success_503"),
            Self::WrongNetwork => f.write_str("wrong_network"),
            Self::AnotherPayer => f.write_str("another_payer"),
            Self::SettledBut(code) => write!(f, "settled_but:{code}"),
        }
    }
}

// === impl Endpoint ===

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "verify" => Ok(Self::Verify),
            "settle" => Ok(Self::Settle),
            "supported" => Ok(Self::Supported),
            other => Err(format!("`{other}` is not an endpoint; endpoints are verify, settle and supported")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Supported => "supported",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_failure;

    #[test]
    fn every_mode_reads_back_from_its_own_name() {
        for name in [
            "none",
            "http_500",
            "http_503",
            "http_429",
            "html_502",
            "html_200",
            "garbage",
            "truncated",
            "cut_after_headers",
            "reset",
            "hang",
            "slow:25",
            "redirect_302",
            "redirect_308",
            "redirect_302:http://elsewhere.example",
            "redirect_308:http://elsewhere.example/x",
            "wrong_types",
            "invalid:x",
            "unknown_code",
            "pending",
            "pending_then_success",
            "success_but_hang",
            "success_503",
            "wrong_network",
            "another_payer",
            "settled_but:x",
        ] {
            assert_eq!(Mode::parse_for(name, Endpoint::Settle).unwrap().to_string(), name);
        }
        assert_eq!(parse_failure("settle=timeout").unwrap(), (Endpoint::Settle, Mode::Hang));
        assert!(parse_failure("settle").is_err());
        assert!(parse_failure("refund=hang").is_err());
        assert!(parse_failure("supported=unknown_code").is_err());
    }
}
