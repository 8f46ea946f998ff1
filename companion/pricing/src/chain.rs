//! Reading a chain of the pricing file.

use farebox_core::evm::{Network, chain_by_name, chain_name, named_chains};

use super::pricing_file::nearest;

/// Reads the chain that an operator wrote: a name of the table, an alias or `eip155:` and a number, in any letter case.
/// The error completes a sentence whose subject is the key, and says what to write.
pub fn read_chain(text: &str) -> Result<Network, String> {
    if let Some(network) = chain_by_name(text) {
        return Ok(network);
    }
    let typed = text.trim().to_lowercase();
    if matches!(typed.as_str(), "mainnet" | "testnet") {
        return Err(format!(
            "{text:?} is not the name of one chain; write the chain, such as {}",
            if typed == "mainnet" { MAINNETS } else { TESTNETS }
        ));
    }
    let networks: Vec<_> = named_chains().collect();
    let names: Vec<_> = networks.iter().filter_map(chain_name).collect();
    let hint = did_you_mean(&typed, &names)
        .map_or_else(|| ".".to_owned(), |name| format!("; did you mean `{name}`?"));
    Err(format!(
        "unsupported chain {}{hint} Known are {}, and `eip155:` with the number of any EVM chain",
        shown(text),
        names.join(", ")
    ))
}

const MAINNETS: &str = "base, ethereum, polygon, avalanche or arbitrum-one";
const TESTNETS: &str = "base-sepolia, polygon-amoy, avalanche-fuji or arbitrum-sepolia";

/// The most similar name, or the first name that contains the typed text.
fn did_you_mean<'n>(typed: &str, names: &[&'n str]) -> Option<&'n str> {
    let plain: String =
        typed.chars().map(|char| if matches!(char, ' ' | '_') { '-' } else { char }).collect();
    nearest(&plain, &[names]).or_else(|| {
        names.iter().copied().find(|name| plain.len() > 2 && name.split('-').any(|part| part == plain))
    })
}

/// A name for messages, cut if it is longer than any real name.
fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_no_chain_in_particular_is_refused_with_the_names_to_choose_from() {
        for text in ["mainnet", "Mainnet", " MAINNET "] {
            let error = read_chain(text).unwrap_err();
            assert!(error.ends_with("such as base, ethereum, polygon, avalanche or arbitrum-one"), "{error}");
        }
        assert!(read_chain("testnet").unwrap_err().contains("such as base-sepolia"));
    }

    #[test]
    fn an_unknown_chain_lists_the_known_and_names_the_nearest() {
        for (typed, meant) in [
            ("bse-sepolia", Some("base-sepolia")),
            ("Base Sepolia", Some("base-sepolia")),
            ("base_sepolia", Some("base-sepolia")),
            ("sepolia", Some("base-sepolia")),
            ("etherum", Some("ethereum")),
            ("solana", None),
            ("8453", None),
            ("", None),
        ] {
            let error = read_chain(typed).unwrap_err();
            assert!(error.starts_with(&format!("unsupported chain {typed:?}")), "{error}");
            assert!(error.contains("Known are base, base-sepolia, ethereum,"), "{error}");
            let hint = meant.map(|name| format!("did you mean `{name}`?"));
            assert_eq!(hint.as_ref().is_some_and(|hint| error.contains(hint)), meant.is_some(), "{error}");
            assert_eq!(error.contains("did you mean"), meant.is_some(), "{error}");
        }
        assert!(read_chain(&"x".repeat(1_000_000)).unwrap_err().len() < 1_000);
    }

    #[test]
    fn known_names_and_ids_are_read() {
        for text in ["base", "Base-Mainnet", "eip155:8453"] {
            assert_eq!(read_chain(text).unwrap().as_str(), "eip155:8453");
        }
        assert_eq!(read_chain("eip155:999999").unwrap().as_str(), "eip155:999999");
    }
}
