//! The `farebox` program. Everything it does is in the library.

/// A payment is some hundred small allocations on several threads, which the allocator of the C library is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    farebox::cli::main()
}
