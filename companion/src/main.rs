//! The `farebox` program. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    farebox::cli::main()
}
