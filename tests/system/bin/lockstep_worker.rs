//! The `lockstep-worker` binary, under a name that Cargo hands to this package's tests.

fn main() -> std::process::ExitCode {
    lockstep_worker::main()
}
