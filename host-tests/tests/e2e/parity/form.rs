//! The forms of an answer, with their headers and bodies.

use serde_json::Value;

use crate::common::Answer;

/// The form of an answer, with its headers and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The upstream's own.
    Upstream,
    /// Terms, because there was no payment.
    Terms,
    /// Terms, and why the payment was refused.
    Refusal(&'static str),
    /// An error of this reason, and no terms.
    Error(&'static str),
    /// Headers of terms, a page for people.
    Page,
    /// Headers of terms, no body.
    Head,
    /// No terms, and no body.
    Bare,
    /// None: the client is gone.
    Nothing,
}

/// Checks that an answer has everything that its form needs.
pub(super) fn has_form(answer: &Answer, form: Form) -> Result<(), String> {
    let header = |name: &str| answer.header(name);
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {form:?}")) };
    let is_json = header("content-type").as_deref() == Some("application/json");
    let is_kept_by_nobody = header("cache-control").as_deref() == Some("no-store");
    match form {
        Form::Nothing => must(false, "nobody should be there to be answered"),
        Form::Upstream => must(header("payment-required").is_none(), "no terms"),
        Form::Terms | Form::Refusal(_) => {
            must(is_json && is_kept_by_nobody, "content-type and cache-control")?;
            let (body, head) = (answer.json(), answer.decoded("payment-required"));
            must(head["accepts"].is_array() && body["accepts"].is_array(), "terms in header and body")?;
            // Buyers of version 1 read only the body, and version 1 cannot express some ways to
            // pay.
            let is_of_v1 = |option: &Value| {
                let extra = &option["extra"];
                extra["assetTransferMethod"] == "eip3009" && extra["paymentFlow"].is_null()
            };
            let version = if head["accepts"].as_array().unwrap().iter().any(is_of_v1) { 1 } else { 2 };
            must(
                head["x402Version"] == 2 && body["x402Version"] == version,
                "the versions of header and body",
            )?;
            let reasons = [&head, &body].map(|of| of["extensions"]["paymentFailure"]["reason"].as_str());
            let expected = match form {
                Form::Refusal(reason) => Some(reason),
                _ => None,
            };
            must(reasons == [expected; 2], "the reason, in header and body")
        }
        Form::Error(reason) => {
            must(is_json && is_kept_by_nobody, "content-type and cache-control")?;
            must(header("payment-required").is_none(), "no terms")?;
            let body = answer.json();
            must(body["reason"] == reason, "the reason")?;
            must(body["error"].is_string() && body["retriable"].is_boolean(), "error and retriable")
        }
        Form::Page => {
            must(header("content-type").as_deref() == Some("text/html; charset=utf-8"), "content-type")?;
            must(is_kept_by_nobody && header("payment-required").is_some(), "the headers of terms")
        }
        Form::Bare => must(
            answer.body.is_empty() && is_kept_by_nobody && header("payment-required").is_none(),
            "no body, no terms",
        ),
        Form::Head => {
            must(answer.body.is_empty(), "no body")?;
            must(is_kept_by_nobody && header("payment-required").is_some(), "the headers of terms")
        }
    }
}
