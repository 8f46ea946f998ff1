use super::*;
use crate::aggregate::{Aggregate, Kind, RowKey, Rows};

async fn open(folder: &tempfile::TempDir, companion: &str) -> Ledger {
    let url = Ledger::file_url(&folder.path().join("l.db"));
    Ledger::open(&url, companion, Default::default()).await.unwrap()
}

fn row(number: u64, value: Option<&str>) -> (RowKey, Option<String>) {
    let name = format!("series ; of '{number}' \"\u{e4}\"");
    (RowKey { kind: Kind::Counter, source: "e1".into(), life: number % 7, name }, value.map(str::to_owned))
}

async fn save(totals: &TotalsOf, changes: &[(RowKey, Option<String>)]) {
    totals.save(changes.iter().map(|(key, value)| (key, value))).await.unwrap();
}

#[tokio::test]
async fn rows_are_written_changed_and_deleted_in_any_number_and_read_by_their_companion_only() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(&folder, "c1").await, open(&folder, "c2").await);
    let (totals, rows) = first.take_over_totals().await.unwrap();
    assert_eq!(rows, Rows::new());
    let (others, _) = second.take_over_totals().await.unwrap();
    save(&others, &[row(1, Some("other"))]).await;

    let all: Vec<_> = (0..1_001).map(|number| row(number, Some("18446744073709551615 0"))).collect();
    save(&totals, &all).await;
    let mut changes: Vec<_> = (0..500).map(|number| row(number, None)).collect();
    changes.push(row(700, Some("1")));
    // Deleted before it was ever there.
    changes.push(row(5_000, None));
    save(&totals, &changes).await;
    let (_, rows) = open(&folder, "c1").await.take_over_totals().await.unwrap();
    assert_eq!(rows.len(), 501);
    assert_eq!(rows[&row(700, None).0], "1");
    assert_eq!(rows[&row(1_000, None).0], "18446744073709551615 0");
    assert_eq!(second.take_over_totals().await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn totals_that_cannot_be_taken_up_are_left_alone_and_the_error_names_database_and_fix() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder, "c1").await;
    let refused = async |sql: &'static str| {
        sqlx::query(sql).execute(&mut *ledger.connection().await.unwrap()).await.unwrap();
        let taken = ledger.take_over_totals().await;
        let error = match taken {
            Ok((_, rows)) => ledger.unusable_totals(&Aggregate::restored(&rows).unwrap_err()),
            Err(error) => error,
        };
        error.to_string()
    };
    let error = refused("INSERT INTO totals VALUES ('c1', 'version', '', 0, '', '2')").await;
    assert!(error.contains("l.db holds totals of the companion `c1` that cannot be taken up"), "{error}");
    assert!(error.contains("version 2 of the saved totals is not known here, only 1"), "{error}");
    assert!(error.ends_with("DELETE FROM totals WHERE companion = 'c1'"), "{error}");
    let error = refused("INSERT INTO totals VALUES ('c1', 'novelty', '', 0, '', '2')").await;
    assert!(error.contains("hold `novelty`, which cannot be read"), "{error}");
    let error =
        refused("UPDATE totals SET kind = 'counter', life = -1 WHERE companion = 'c1' AND kind = 'novelty'")
            .await;
    assert!(error.contains("hold `-1`"), "{error}");
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM totals WHERE companion = 'c1' AND kind <> 'writer'")
            .fetch_one(&mut *ledger.connection().await.unwrap())
            .await
            .unwrap();
    assert_eq!(count, 2);
}
