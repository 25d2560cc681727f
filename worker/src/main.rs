//! `lockstep-worker`: see the library.

fn main() -> std::process::ExitCode {
    lockstep_worker::main()
}
