//! The `farebox` program. Its code is in the library.

/// A payment makes some hundred small allocations on several threads, and the allocator of the C library is slow at
/// that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    farebox::cli::main()
}
