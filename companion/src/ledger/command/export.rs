//! Payments for other programs, a page at a time.

use std::io::{self, Write};
use std::process::ExitCode;

use super::super::{Books, Entry, Filter};
use crate::clock::unix_seconds;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// With a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Writes every payment. With `delete`, what is over, which is taken out as soon as it is written.
pub(super) async fn run(
    mut books: Books,
    mut filter: Filter,
    format: Format,
    delete: bool,
    mut out: impl Write,
) -> anyhow::Result<ExitCode> {
    filter.over = delete.then(unix_seconds);
    let (mut page, mut gone) = (Vec::new(), 0);
    let mut is_first = true;
    loop {
        page = books.next_page(&filter, &page).await?;
        if page.is_empty() && !is_first {
            break;
        }
        match write(&mut out, &page, format, is_first).and_then(|()| out.flush()) {
            // What nobody reads any more stays.
            Err(error) if delete => {
                return Err(anyhow::anyhow!("cannot write, {gone} are taken out: {error}"));
            }
            Err(error) => return super::finished(Err(error)),
            Ok(()) => {}
        }
        if delete {
            gone += books.delete(&page).await?;
        }
        if page.is_empty() {
            break;
        }
        is_first = false;
    }
    books.close().await;
    if delete {
        eprintln!("{gone} payments were written and taken out of the ledger");
    }
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut impl Write, page: &[Entry], format: Format, with_header: bool) -> io::Result<()> {
    match format {
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().has_headers(with_header).from_writer(out);
            page.iter().try_for_each(|entry| writer.serialize(entry)).map_err(io::Error::from)?;
            writer.flush()
        }
        Format::Jsonl => page.iter().try_for_each(|entry| {
            serde_json::to_writer(&mut *out, entry)?;
            writeln!(out)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::{entry, text};
    use super::*;

    #[test]
    fn csv_has_one_header_and_quotes_what_needs_it() {
        let csv = text(|out| {
            write(out, &[entry()], Format::Csv, true)?;
            write(out, &[entry()], Format::Csv, false)
        });
        let lines: Vec<_> = csv.lines().collect();
        assert!(lines[0].starts_with("state,network,asset,asset_symbol,amount,"));
        assert!(lines[1].contains("\"a, \"\"b\"\"\""));
        assert_eq!((lines.len(), lines[1]), (3, lines[2]));
    }

    #[test]
    fn json_lines_read_back() {
        let json = text(|out| write(out, &[entry(), entry()], Format::Jsonl, true));
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["amount"]), (2, &serde_json::json!("1000")));
    }
}
