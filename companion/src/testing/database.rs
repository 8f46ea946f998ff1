//! Empty databases for tests of what is kept in one.

use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

use crate::ledger::Ledger;

/// The server in which databases are created, by URL. `cargo xtask test` starts one.
const SERVER: &str = "FAREBOX_TEST_POSTGRES";

/// An empty database of one test, which goes with it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    /// Where a file is.
    _folder: Option<TempDir>,
    /// What drops it on the server it is on.
    drop: Option<(String, String)>,
}

// === impl Database ===

impl Database {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: Ledger::file_url(&folder.path().join("ledger.db")), _folder: Some(folder), drop: None }
    }

    pub(crate) async fn postgres() -> Self {
        let Ok(server) = std::env::var(SERVER) else {
            panic!(
                "{SERVER} is not set: run `cargo xtask test`, which starts a PostgreSQL, or set it to the URL of \
                 a server in which databases may be created (postgres://user:password@host:port/postgres)"
            );
        };
        let (base, _) = server.rsplit_once('/').unwrap();
        let mut random = [0; 8];
        rustls::crypto::ring::default_provider().secure_random.fill(&mut random).unwrap();
        let name = format!("farebox_test_{:016x}", u64::from_be_bytes(random));
        order(&server, format!("CREATE DATABASE {name}")).await;
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        Self { url: format!("{base}/{name}"), _folder: None, drop: Some((server, drop)) }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((server, statement)) = self.drop.take() else { return };
        // Not on the test's own runtime, which may have only this thread.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(order(&server, statement));
        });
        if dropping.join().is_err() {
            eprintln!("{} is left behind", self.url);
        }
    }
}

async fn order(server: &str, statement: String) {
    install_default_drivers();
    let mut connection = AnyConnection::connect(server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Makes a test of each function named, on SQLite and on PostgreSQL. Each gets an empty [`Database`].
macro_rules! on_every_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($crate::testing::Database::sqlite().await).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($crate::testing::Database::postgres().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_database;
