//! Reasons of a facilitator that prove where a settlement ended.

/// Codes a facilitator gives before it broadcasts anything: no money can have moved. A code that is not
/// listed is no proof of that, even with an empty transaction.
const PRE_BROADCAST: &[&str] = &[
    "insufficient_funds",
    "invalid_network",
    "invalid_payload",
    "invalid_payment_requirements",
    "invalid_scheme",
    "invalid_x402_version",
    "unsupported_scheme",
    "unsupported_payload_type",
    "asset_not_deployed_contract",
    "eip6492_factory_not_allowed",
    // exact, EIP-3009: signature, recipient, value, times, balance, domain, simulation
    "invalid_exact_evm_payload_signature",
    "invalid_exact_evm_signature",
    "invalid_exact_evm_failed_to_parse_signature",
    "invalid_exact_evm_payload_undeployed_smart_wallet",
    "invalid_exact_evm_payload_recipient_mismatch",
    "invalid_exact_evm_recipient_mismatch",
    "invalid_exact_evm_payload_authorization_value_mismatch",
    "invalid_exact_evm_payload_authorization_value",
    "invalid_exact_evm_authorization_value",
    "invalid_exact_evm_payload_authorization_valid_before",
    "invalid_exact_evm_payload_authorization_valid_after",
    "invalid_exact_evm_insufficient_balance",
    "invalid_exact_evm_missing_eip712_domain",
    "invalid_exact_evm_token_name_mismatch",
    "invalid_exact_evm_token_version_mismatch",
    "invalid_exact_evm_eip3009_not_supported",
    "invalid_exact_evm_transaction_simulation_failed",
    "invalid_exact_evm_scheme",
    "invalid_exact_evm_network_mismatch",
    // exact, Permit2
    "invalid_permit2_spender",
    "invalid_permit2_recipient_mismatch",
    "invalid_permit2_signature",
    "permit2_deadline_expired",
    "permit2_not_yet_valid",
    "permit2_payment_too_early",
    "permit2_amount_mismatch",
    "permit2_2612_amount_mismatch",
    "permit2_token_mismatch",
    "permit2_allowance_required",
    "permit2_insufficient_balance",
    "permit2_simulation_failed",
    "permit2_proxy_not_deployed",
    "permit2_invalid_amount",
    "permit2_invalid_destination",
    "permit2_invalid_owner",
    // gas sponsoring; the two codes of a broadcast approval are left out on purpose
    "invalid_eip2612_extension_format",
    "eip2612_asset_mismatch",
    "eip2612_deadline_expired",
    "eip2612_from_mismatch",
    "eip2612_spender_not_permit2",
    "invalid_erc20_approval_extension_format",
    "erc20_approval_asset_mismatch",
    "erc20_approval_from_mismatch",
    "erc20_approval_spender_not_permit2",
    "erc20_approval_tx_invalid_calldata",
    "erc20_approval_tx_invalid_signature",
    "erc20_approval_tx_parse_failed",
    "erc20_approval_tx_signer_mismatch",
    "erc20_approval_tx_wrong_selector",
    "erc20_approval_tx_wrong_spender",
    "erc20_approval_tx_wrong_target",
];

/// Refused before anything was broadcast.
pub(super) fn is_pre_broadcast(reason: &str) -> bool {
    PRE_BROADCAST.contains(&reason)
}

/// Broadcast and reverted: final, and a reverted transfer does not use up the nonce.
pub(super) fn is_reverted(reason: &str) -> bool {
    reason == "invalid_transaction_state" || reason.ends_with("_transaction_failed")
}

/// The nonce was used by some earlier settlement.
pub(super) fn is_nonce_used(reason: &str) -> bool {
    matches!(reason, "invalid_exact_evm_nonce_already_used" | "permit2_invalid_nonce")
}

/// What a facilitator may say because an earlier attempt with the same payment went through, or because
/// time has passed since: the nonce is used, the money is gone, the transfer no longer works. After an
/// attempt whose outcome is unknown such a code proves nothing; one that would have been given to that
/// attempt too (a bad signature, another recipient) still does.
pub(super) fn may_follow_a_settlement(reason: &str) -> bool {
    is_nonce_used(reason)
        || is_reverted(reason)
        || reason.ends_with("_simulation_failed")
        || reason.ends_with("insufficient_balance")
        || matches!(
            reason,
            "insufficient_funds"
                | "invalid_exact_evm_payload_authorization_valid_before"
                | "permit2_deadline_expired"
                | "permit2_allowance_required"
                | "eip2612_deadline_expired"
        )
}
