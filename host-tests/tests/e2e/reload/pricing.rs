//! Pricing files of these tests.

const WALLET: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

/// A file on base-sepolia.
pub(crate) fn file(routes: &[String]) -> String {
    file_on("base-sepolia", routes)
}

/// A file with this global chain.
pub(crate) fn file_on(chain: &str, routes: &[String]) -> String {
    let routes =
        if routes.is_empty() { "routes: []\n".into() } else { format!("routes:\n{}", routes.concat()) };
    format!("wallet: \"{WALLET}\"\nchain: {chain}\n{routes}")
}

/// `/OFFER/*` for a price.
pub(crate) fn paid(offer: &str, price: &str) -> String {
    format!("- pattern: /{offer}/*\n  price: \"{price}\"\n  offerNamespace: shop\n  offerName: {offer}\n")
}

/// `/OFFER/*` for nothing.
pub(crate) fn free(offer: &str) -> String {
    format!("- pattern: /{offer}/*\n  gate: free\n  offerNamespace: shop\n  offerName: {offer}\n")
}
