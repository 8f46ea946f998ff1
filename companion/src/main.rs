//! The `farebox` program. Its code is in the library.

/// A payment makes some hundred small allocations on several threads, and the allocator of the C library is slow at
/// that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    abort_on_panic();
    farebox::cli::main()
}

/// The release is compiled to abort. The program of tests cannot be, and must not go on where the release would end.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}
