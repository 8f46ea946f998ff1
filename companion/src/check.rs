//! `farebox check FILE`: every error of a pricing file at once.
//!
//! Exit codes, for scripts and admission checks:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | the file loads as it is; there may be warnings |
//! | 1 | the file is rejected, or cannot be read |
//! | 2 | the command line is wrong |
//! | 3 | the file loads, but routes or payments are skipped and their paths refused |

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use farebox_core::rules::Gate;
use farebox_core::terms::PaymentOption;
use farebox_pricing::{LoadOptions, Loaded, Severity, Snapshot, load_with};

use crate::settings::{Flags, Settings, SettingsError, Settlement};

/// Most lines about what is sold.
const MOST_SOLD: usize = 50;
/// Exit code of a file that loads with something left out.
const SKIPPED: u8 = 3;

/// Arguments of `farebox check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 loads, 1 rejected or unreadable, 2 wrong usage, 3 loads with skipped routes."
)]
pub struct Args {
    /// Pricing file.
    pub file: PathBuf,
    /// Also list what this proxy does not enforce, and what does instead.
    #[arg(long = "for", value_name = "PROXY")]
    pub proxy: Option<Proxy>,
    /// How the proxies will settle, if not as the settings say: with `direct`, also list what that cannot do.
    #[arg(long, value_name = "MODE")]
    pub settlement: Option<Settlement>,
    /// The companion's settings.
    #[command(flatten)]
    pub around: Around,
}

/// The companion's settings that affect how a pricing file loads.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Around {
    /// The companion's settings file; `farebox.yaml` in the working directory is used if it exists.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Facilitator the companion uses in place of the pricing file's.
    #[arg(long, value_name = "URL")]
    pub facilitator: Option<String>,
}

// === impl Around ===

impl Around {
    /// The settings of `farebox run`.
    fn settings(&self) -> Result<Settings, SettingsError> {
        let Self { settings, facilitator } = self.clone();
        Settings::load(Flags { settings, facilitator, route_source: "file".into(), ..Flags::default() })
    }

    /// The options with which `farebox run` would load the pricing file.
    pub(crate) fn options(&self) -> Result<LoadOptions, SettingsError> {
        Ok(self.settings()?.loading())
    }

    /// The flag or file that names a facilitator in place of the pricing file's.
    fn source(&self) -> String {
        match (&self.facilitator, &self.settings) {
            (Some(_), _) => "--facilitator".into(),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => "farebox.yaml".into(),
        }
    }
}

/// Limits of proxies that keep their payments themselves.
const NOT_DIRECT: [&str; 5] = [
    "it is for one Envoy process: two of them each serve the same payment once",
    "payments of a process are forgotten when it ends: what was charged and not answered then stays unanswered",
    "an open settlement is asked about only when its buyer sends the payment again, and for 25 hours",
    "an open payment whose price has changed since is not asked about again, though no new price is named for it",
    "a buyer that names its purchase (payment-identifier) and signs anew is charged anew",
];

/// A proxy Farebox runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Proxy {
    /// Envoy, with the proxy-wasm filter.
    Envoy,
}

/// Prints each finding as a line `file:line: severity: key: message`, and a summary.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let settings = args.around.settings()?;
    let loaded = load_with(&read(&args.file)?, &settings.loading());
    let mut report = report(&args.file, &loaded, args.proxy, &args.around);
    if args.settlement.unwrap_or(settings.facilitator.settlement) == Settlement::Direct {
        not_direct(&mut report);
    }
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(ExitCode::from(exit_code(&loaded)))
}

/// The text of a pricing file.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", file.display()))
}

/// See the table of this module.
fn exit_code(loaded: &Loaded) -> u8 {
    match &loaded.snapshot {
        None => 1,
        Some(_) if loaded.count(Severity::Skip) > 0 => SKIPPED,
        Some(_) => 0,
    }
}

fn report(file: &Path, loaded: &Loaded, proxy: Option<Proxy>, around: &Around) -> String {
    let mut out = String::new();
    for finding in &loaded.findings {
        line(&mut out, format_args!("{}:{finding}", file.display()));
    }
    if let (Some(snapshot), Some(Proxy::Envoy)) = (&loaded.snapshot, proxy) {
        not_enforced(&mut out, file, snapshot);
    }
    let counts = [(Severity::Reject, "error"), (Severity::Skip, "skip"), (Severity::Warning, "warning")]
        .map(|(severity, word)| (loaded.count(severity), word));
    let [errors, skips, warnings] = counts.map(|(count, word)| plural(count, word));
    match &loaded.snapshot {
        Some(snapshot) => {
            sold(&mut out, file, snapshot);
            let [paid, free, auth, blocked] =
                [Gate::Paid, Gate::Free, Gate::Auth, Gate::Blocked].map(|gate| snapshot.routes_with(gate));
            line(
                &mut out,
                format_args!(
                    "{}: loads: {} ({paid} paid, {free} free, {auth} auth, {blocked} blocked), {}, {skips}, {warnings}",
                    file.display(),
                    plural(snapshot.routes.len(), "route"),
                    plural(snapshot.offers_loaded(), "offer"),
                ),
            );
            line(&mut out, format_args!("{}", facilitator(snapshot, around)));
        }
        None => line(
            &mut out,
            format_args!(
                "{}: rejected: {errors}, {skips}, {warnings}; a running companion keeps its last good rules",
                file.display()
            ),
        ),
    }
    out
}

/// The facilitator, and its source if settings and file differ.
pub(crate) fn facilitator(snapshot: &Snapshot, around: &Around) -> String {
    let used = snapshot.facilitator_url.as_deref().unwrap_or("none");
    match &snapshot.replaced_facilitator {
        Some(replaced) => {
            format!("facilitator: {used} ({}; the pricing file says {replaced})", around.source())
        }
        None => format!("facilitator: {used}"),
    }
}

/// Lists price, chain and recipient of each option, for a check before real money moves.
fn sold(out: &mut String, file: &Path, snapshot: &Snapshot) {
    let routes = snapshot.routes.iter().zip(&snapshot.route_lines);
    let options =
        || routes.clone().flat_map(|(route, line)| route.options.iter().map(move |of| (route, line, of)));
    for (route, place, option) in options().take(MOST_SOLD) {
        line(
            out,
            format_args!(
                "{}:{place}: {}: {} to {}",
                file.display(),
                route.pattern,
                payment(snapshot, option),
                option.pay_to
            ),
        );
    }
    let more = options().count().saturating_sub(MOST_SOLD);
    if more > 0 {
        line(out, format_args!("and {more} more; `farebox explain` shows each"));
    }
}

fn not_direct(out: &mut String) {
    for limit in NOT_DIRECT {
        line(out, format_args!("settlement: direct: {limit}"));
    }
}

/// Lists keys of the file that an Envoy filter does not enforce.
fn not_enforced(out: &mut String, file: &Path, snapshot: &Snapshot) {
    let mut settings: Vec<_> = snapshot.not_pushed.iter().collect();
    settings.sort_by_key(|setting| setting.line);
    for entry in settings {
        line(
            out,
            format_args!(
                "{}:{}: not enforced by the Envoy filter: {}: {}",
                file.display(),
                entry.line,
                entry.key,
                entry.setting.on_envoy()
            ),
        );
    }
}

/// Appends a line. Writing to a string cannot fail.
pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

pub(crate) fn payment(snapshot: &Snapshot, option: &PaymentOption) -> String {
    let symbol = snapshot.tuples.get(option.tuple).map_or("", |tuple| &tuple.asset_symbol);
    let v1 = option.v1_network.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    format!(
        "{} {symbol} ({} atomic, {} decimals) on {}{v1}",
        option.amount.to_price(option.decimals),
        option.amount,
        option.decimals,
        option.network
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "wallet: \"0x2222222222222222222222222222222222222222\"\nchain: base-sepolia\nfacilitatorURL: https://f.example\nroutes:\n- pattern: /a\n  price: 1\n";

    fn checked(text: &str, proxy: Option<Proxy>) -> (u8, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pricing.yaml");
        std::fs::write(&file, text).unwrap();
        let loaded = load_with(&read(&file).unwrap(), &Around::default().options().unwrap());
        let prefix = format!("{}/", folder.path().display());
        let report = report(&file, &loaded, proxy, &Around::default()).replace(&prefix, "");
        (exit_code(&loaded), report.lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_good_file_is_summed_up_and_exits_0() {
        assert_eq!(
            checked(GOOD, None),
            (
                0,
                vec![
                    "pricing.yaml:5: /a: 1 USDC (1000000 atomic, 6 decimals) on eip155:84532 (base-sepolia) to \
                     0x2222222222222222222222222222222222222222"
                        .to_owned(),
                    "pricing.yaml: loads: 1 route (1 paid, 0 free, 0 auth, 0 blocked), 1 offer, 0 skips, 0 warnings"
                        .to_owned(),
                    "facilitator: https://f.example".to_owned(),
                ]
            )
        );
    }

    #[test]
    fn a_rejected_file_shows_every_finding_with_its_place_and_exits_1() {
        let text = format!("{GOOD}  prise: 2\n- pattern: /b\n  price: 1e3\n- price: 1\n");
        assert_eq!(
            checked(&text, None),
            (
                1,
                vec![
                    "pricing.yaml:7: rejected: routes[0].prise: is not a known key; did you mean `price`?".to_owned(),
                    "pricing.yaml:9: skipped: routes[1].price: \"1e3\" is not a plain decimal number such as 0.001 \
                     [bad_price: the route is skipped and its paths are refused]"
                        .to_owned(),
                    "pricing.yaml:10: rejected: routes[2].pattern: is missing, so the paths to protect are unknown"
                        .to_owned(),
                    "pricing.yaml: rejected: 2 errors, 1 skip, 0 warnings; a running companion keeps its last good rules"
                        .to_owned(),
                ]
            )
        );
    }

    #[test]
    fn a_file_with_skipped_routes_has_an_exit_code_of_its_own() {
        let (code, lines) = checked(&format!("{GOOD}- pattern: /b\n"), None);
        assert_eq!(code, 3);
        assert!(
            lines[2].contains("2 routes (1 paid, 0 free, 0 auth, 1 blocked), 1 offer, 1 skip"),
            "{lines:?}"
        );
    }

    #[test]
    fn for_envoy_lists_what_the_filter_leaves_to_the_proxy_and_never_the_secret() {
        let text = format!("{GOOD}  upstreamAuth: Bearer hush\n  stripPrefix: /a\n");
        let (code, lines) = checked(&text, Some(Proxy::Envoy));
        assert_eq!(code, 0);
        assert!(
            lines[0]
                .starts_with("pricing.yaml:7: not enforced by the Envoy filter: routes[0].upstreamAuth: ")
        );
        assert!(
            lines[1].starts_with("pricing.yaml:8: not enforced by the Envoy filter: routes[0].stripPrefix: ")
        );
        assert!(!lines.concat().contains("hush"));
        assert_eq!(checked(&text, None).1.len(), 3);
    }

    #[test]
    fn for_settlement_without_a_ledger_its_limits_are_told() {
        let mut report = String::new();
        not_direct(&mut report);
        assert!(report.starts_with("settlement: direct: it is for one Envoy process"), "{report}");
        assert_eq!(report.lines().count(), NOT_DIRECT.len());
    }

    #[test]
    fn the_settings_of_the_companion_say_who_settles() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("farebox.yaml");
        std::fs::write(&settings, "facilitator: {url: 'http://pay.cluster:8080', allowPlainHttp: true}\n")
            .unwrap();
        let text = GOOD.replace("facilitatorURL: https://f.example\n", "");
        let snapshot = |around: Around| load_with(&text, &around.options().unwrap()).snapshot;
        assert_eq!(snapshot(Around::default()), None);
        let flag = snapshot(Around { facilitator: Some("https://g.example".into()), ..Around::default() });
        assert_eq!(flag.unwrap().facilitator_url.as_deref(), Some("https://g.example"));
        let told = |around: Around| {
            let loaded = load_with(GOOD, &around.options().unwrap());
            report(Path::new("p"), &loaded, None, &around).lines().last().unwrap().to_owned()
        };
        assert_eq!(
            told(Around { facilitator: Some("https://g.example".into()), ..Around::default() }),
            "facilitator: https://g.example (--facilitator; the pricing file says https://f.example)"
        );
        assert_eq!(
            told(Around { settings: Some(settings.clone()), facilitator: None }),
            format!(
                "facilitator: http://pay.cluster:8080 ({}; the pricing file says https://f.example)",
                settings.display()
            )
        );
        let file = snapshot(Around { settings: Some(settings), facilitator: None });
        assert_eq!(file.unwrap().facilitator_url.as_deref(), Some("http://pay.cluster:8080"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
        let error = run(Args {
            file: "/nonexistent/pricing.yaml".into(),
            proxy: None,
            settlement: None,
            around: Around::default(),
        })
        .unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pricing.yaml"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, b"wallet: \xff\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().ends_with("p.yaml is not UTF-8 text"));
    }
}
