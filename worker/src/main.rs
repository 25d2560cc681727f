fn main() -> std::process::ExitCode {
    lockstep_worker::main()
}
