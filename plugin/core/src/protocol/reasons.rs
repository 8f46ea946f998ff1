//! The codes that facilitators give for a settlement, and what each code says about the settle call.
//!
//! A code is [`Refused`] if every implementation gives it only before it broadcasts. That is the case when the
//! implementation checks the payment again inside `/settle`, or when a dry run or the node names the reason why the
//! contract reverts, because that execution moved nothing. A code that one implementation can also give after its
//! transaction may have reached the chain is [`Unclear`]. So is a code that is not listed. `nonce already used` is
//! unclear because the facilitator's own transfer may have used the nonce: the facilitator, or a load balancer
//! before it, may have sent the call twice.
//!
//! Read in:
//!
//! * `TS`, the reference in TypeScript: npm `@x402/evm` and `@x402/core` 2.27.0, `exact/facilitator`
//!   (`verifyEIP3009`, `settleEIP3009`, `parseEip3009TransferError`, `verifyPermit2`, `mapSettleError`). Checks
//!   come first; every error of the broadcast without a reason is `…_transaction_failed`.
//! * `PY`, the reference in Python: PyPI `x402` 2.25.0, `mechanisms/evm/exact/facilitator.py`, `eip3009_utils.py`,
//!   `permit2_utils.py`, `settle_receipt.py`. As `TS`, with some names of its own.
//! * `RS`, x402-rs: crates `x402-types`, `x402-facilitator-local` and `x402-chain-eip155` 2.0.2. A check is 400
//!   (412 for the allowance) with one of its codes; all that happens on chain is 500 `unexpected_error`.
//! * `CDP`, Coinbase's hosted facilitator: the list of reasons it publishes (crate `cdp-sdk` 0.7.0) and its page on
//!   pending settlements. Its source is not public. Most codes are those of the Go reference, with the same meaning
//!   (`go/mechanisms/evm/exact/facilitator`). The meaning of the others follows from their names.
//! * `SPEC`, the specification, version 2, section 9.

use Meaning::{Pending, Refused, Unclear};

/// What a code says about the settle call it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The call moved nothing.
    Refused,
    /// Its transaction is on the way.
    Pending,
    /// It may have moved money.
    Unclear,
}

/// The implementations that give a code, one bit each.
type Givers = u8;
const TS: Givers = 1;
const PY: Givers = 2;
const RS: Givers = 4;
const CDP: Givers = 8;
const SPEC: Givers = 16;

/// Sorted by code.
const TABLE: &[(&str, Meaning, Givers)] = &[
    ("accepted_requirements_mismatch", Refused, RS),
    ("amount_too_low", Refused, CDP),
    ("asset_mismatch", Refused, RS),
    ("asset_not_deployed_contract", Refused, TS | PY),
    ("balance_check_failed", Refused, PY),
    ("chain_id_mismatch", Refused, RS),
    ("duplicate_settlement", Unclear, CDP),
    ("eip2612_asset_mismatch", Refused, TS | PY),
    ("eip2612_deadline_expired", Refused, TS | PY),
    ("eip2612_from_mismatch", Refused, TS | PY),
    ("eip2612_spender_not_permit2", Refused, TS | PY),
    ("eip6492_factory_not_allowed", Refused, TS | PY),
    ("erc20_approval_asset_mismatch", Refused, TS | PY | CDP),
    ("erc20_approval_broadcast_failed", Unclear, TS | PY | CDP),
    ("erc20_approval_from_mismatch", Refused, TS | PY | CDP),
    ("erc20_approval_spender_not_permit2", Refused, TS | PY | CDP),
    ("erc20_approval_tx_failed", Unclear, CDP),
    ("erc20_approval_tx_invalid_calldata", Refused, TS | PY),
    ("erc20_approval_tx_invalid_signature", Refused, TS | PY | CDP),
    ("erc20_approval_tx_parse_failed", Refused, TS | PY | CDP),
    ("erc20_approval_tx_signer_mismatch", Refused, TS | PY | CDP),
    ("erc20_approval_tx_validation_unavailable", Refused, PY),
    ("erc20_approval_tx_wrong_selector", Refused, TS | PY | CDP),
    ("erc20_approval_tx_wrong_spender", Refused, TS | PY | CDP),
    ("erc20_approval_tx_wrong_target", Refused, TS | PY | CDP),
    ("insufficient_funds", Refused, RS | CDP | SPEC),
    ("invalid_amount", Refused, CDP),
    ("invalid_bazaar_extension", Refused, CDP),
    ("invalid_eip2612_extension_format", Refused, TS | PY),
    ("invalid_erc20_approval_extension_format", Refused, TS | PY | CDP),
    ("invalid_exact_evm_authorization_value", Refused, TS | CDP),
    ("invalid_exact_evm_eip3009_not_supported", Refused, TS | PY | CDP),
    ("invalid_exact_evm_extra_field", Refused, CDP),
    ("invalid_exact_evm_failed_to_check_deployment", Refused, CDP),
    ("invalid_exact_evm_failed_to_check_nonce", Refused, CDP),
    ("invalid_exact_evm_failed_to_execute_transfer", Unclear, CDP),
    ("invalid_exact_evm_failed_to_get_balance", Refused, CDP),
    ("invalid_exact_evm_failed_to_get_network_config", Refused, PY | CDP),
    ("invalid_exact_evm_failed_to_get_receipt", Unclear, CDP),
    ("invalid_exact_evm_failed_to_parse_signature", Refused, TS | CDP),
    ("invalid_exact_evm_failed_to_verify_signature", Refused, PY | CDP),
    ("invalid_exact_evm_insufficient_balance", Refused, TS | PY | CDP),
    ("invalid_exact_evm_insufficient_funds", Refused, CDP),
    ("invalid_exact_evm_missing_eip712_domain", Refused, TS | CDP),
    ("invalid_exact_evm_network_mismatch", Refused, TS | CDP),
    ("invalid_exact_evm_nonce_already_used", Unclear, TS | PY | CDP),
    ("invalid_exact_evm_payload", Refused, CDP),
    ("invalid_exact_evm_payload_authorization_from_address_kyt", Refused, CDP),
    ("invalid_exact_evm_payload_authorization_to_address_kyt", Refused, CDP),
    ("invalid_exact_evm_payload_authorization_typed_data_message", Refused, CDP),
    ("invalid_exact_evm_payload_authorization_valid_after", Refused, TS | PY | CDP | SPEC),
    ("invalid_exact_evm_payload_authorization_valid_before", Refused, TS | PY | CDP | SPEC),
    ("invalid_exact_evm_payload_authorization_value", Refused, CDP),
    ("invalid_exact_evm_payload_authorization_value_mismatch", Refused, TS | PY | CDP | SPEC),
    ("invalid_exact_evm_payload_authorization_value_too_low", Refused, CDP),
    ("invalid_exact_evm_payload_missing_signature", Refused, CDP),
    ("invalid_exact_evm_payload_recipient_mismatch", Refused, PY | CDP | SPEC),
    ("invalid_exact_evm_payload_signature", Refused, PY | CDP | SPEC),
    ("invalid_exact_evm_payload_signature_address", Refused, CDP),
    ("invalid_exact_evm_payload_undeployed_smart_wallet", Refused, PY | CDP),
    ("invalid_exact_evm_permit2_payload_allowance_required", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_amount", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_deadline", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_recipient", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_signature", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_spender", Refused, CDP),
    ("invalid_exact_evm_permit2_payload_valid_after", Refused, CDP),
    ("invalid_exact_evm_recipient_mismatch", Refused, TS | CDP),
    ("invalid_exact_evm_required_amount", Refused, CDP),
    ("invalid_exact_evm_scheme", Refused, TS | CDP),
    ("invalid_exact_evm_signature", Refused, TS | CDP),
    ("invalid_exact_evm_signature_format", Refused, CDP),
    ("invalid_exact_evm_token_name_mismatch", Refused, TS | PY | CDP),
    ("invalid_exact_evm_token_version_mismatch", Refused, TS | PY | CDP),
    ("invalid_exact_evm_transaction_failed", Unclear, TS | CDP),
    ("invalid_exact_evm_transaction_simulation_failed", Refused, TS | PY | CDP),
    ("invalid_exact_evm_transaction_state", Unclear, CDP),
    ("invalid_exact_evm_transfer_event_mismatch", Unclear, TS | PY),
    ("invalid_exact_evm_unsupported_scheme", Refused, CDP),
    ("invalid_exact_evm_verification_failed", Refused, CDP),
    ("invalid_format", Refused, RS),
    ("invalid_network", Refused, CDP | SPEC),
    ("invalid_payload", Refused, CDP | SPEC),
    ("invalid_payment_amount", Refused, RS),
    ("invalid_payment_early", Refused, RS),
    ("invalid_payment_expired", Refused, RS),
    ("invalid_payment_requirements", Refused, CDP | SPEC),
    ("invalid_permit2_amount", Refused, PY),
    ("invalid_permit2_destination", Refused, PY),
    ("invalid_permit2_owner", Refused, PY),
    ("invalid_permit2_payload_format", Refused, PY),
    ("invalid_permit2_recipient_mismatch", Refused, TS | PY | CDP),
    ("invalid_permit2_signature", Refused, TS | PY | CDP),
    ("invalid_permit2_spender", Refused, TS | PY | CDP),
    ("invalid_scheme", Refused, CDP | SPEC),
    ("invalid_signature", Refused, RS),
    ("invalid_transaction_state", Unclear, SPEC),
    ("invalid_x402_version", Refused, CDP | SPEC),
    ("kyt_risk_detected", Refused, CDP),
    ("missing_eip712_domain", Refused, PY),
    ("network_mismatch", Refused, PY),
    ("permit2_2612_amount_mismatch", Refused, TS | PY | CDP),
    ("permit2_allowance_required", Refused, TS | PY | RS | CDP),
    ("permit2_amount_mismatch", Refused, TS | PY | CDP),
    ("permit2_deadline_expired", Refused, TS | PY | CDP),
    ("permit2_disabled", Refused, CDP),
    ("permit2_insufficient_balance", Refused, TS | CDP),
    ("permit2_invalid_amount", Refused, TS | CDP),
    ("permit2_invalid_destination", Refused, TS | CDP),
    ("permit2_invalid_nonce", Unclear, TS | PY | CDP),
    ("permit2_invalid_owner", Refused, TS | CDP),
    ("permit2_not_yet_valid", Refused, TS | PY | CDP),
    ("permit2_payment_too_early", Refused, TS | PY | CDP),
    ("permit2_proxy_not_deployed", Refused, TS | CDP),
    ("permit2_simulation_failed", Refused, TS | CDP),
    ("permit2_token_mismatch", Refused, TS | PY | CDP),
    ("preflight_validation_failed", Refused, CDP),
    ("recipient_mismatch", Refused, RS),
    ("request_blocked_by_location", Refused, CDP),
    ("self_send_not_allowed", Refused, CDP),
    ("settle_exact_evm_transaction_confirmation_timed_out", Pending, CDP),
    ("settle_exact_failed_onchain", Unclear, CDP),
    ("settle_exact_node_failure", Unclear, CDP),
    ("settlement_pending", Pending, TS | PY | CDP | SPEC),
    ("smart_wallet_deployment_failed", Unclear, TS | PY | CDP),
    ("transaction_failed", Unclear, PY),
    ("transaction_simulation", Refused, RS),
    ("unexpected_error", Unclear, RS),
    ("unexpected_settle_error", Unclear, SPEC),
    ("unknown_error", Unclear, CDP),
    ("unsupported_chain", Refused, RS),
    ("unsupported_payload_type", Refused, TS | CDP),
    ("unsupported_scheme", Refused, PY | RS | SPEC),
];

/// The meaning of a code. A code that is not listed is unclear.
pub(super) fn meaning(code: &str) -> Meaning {
    let row = TABLE.binary_search_by(|(listed, ..)| (*listed).cmp(code)).ok().and_then(|at| TABLE.get(at));
    row.map_or(Unclear, |(_, meaning, _)| *meaning)
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;
