//! The schema of the ledger, as steps that each database takes once. A released step never changes, because each database
//! remembers the checksum of what it took.

use std::sync::LazyLock;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Names a step by its file in `companion/migrations`, without the ending.
macro_rules! step {
    ($name:literal) => {
        ($name, include_str!(concat!("../../migrations/", $name, ".sql")))
    };
}

/// Name and SQL, oldest first. Not by the macro of sqlx, for which its drivers, and SQLite itself, would be compiled a
/// second time.
const STEPS: &[(&str, &str)] = &[
    step!("0001_ledger"),
    step!("0002_totals"),
    step!("0003_published_rules"),
    step!("0004_spools"),
    step!("0005_payments_of_the_machine"),
    step!("0006_payments_at_work"),
    step!("0007_reports"),
    step!("0008_totals_are_counters"),
    step!("0009_spools_by_first_line"),
    step!("0010_protected_places"),
    step!("0011_settlement"),
];

/// The steps, numbered from 1, with the words of their names as their descriptions.
pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = (1..).zip(STEPS).map(|(version, &(name, sql))| {
        let description = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').replace('_', " ");
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
});

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_step_numbered_as_its_name_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut files: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
        files.sort();
        let steps = MIGRATIONS.iter().map(|step| {
            let words = step.description.replace(' ', "_");
            format!("{:04}_{words}.sql", step.version)
        });
        assert_eq!(files, steps.collect::<Vec<_>>());
    }

    #[test]
    fn a_database_of_an_earlier_release_knows_the_steps_it_took() {
        let step = MIGRATIONS.iter().nth(2).unwrap();
        assert_eq!((step.version, step.description.as_ref()), (3, "published rules"));
        // The digest SHA-384 of the file, by `sha384sum`.
        let checksum: String = step.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            checksum,
            "a4ecb01b3a00eaa3e1164545cd98891b2d34bec34f9f150a00147b3c500bcf4cd453363353feeff62af14ecd34b21eb0"
        );
    }
}
