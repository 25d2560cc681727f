//! The `lockstep` binary.

fn main() -> std::process::ExitCode {
    lockstep_coordinator::main()
}
