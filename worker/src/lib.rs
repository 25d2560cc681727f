pub mod collective;
pub mod data;
pub mod model;
pub mod plan;
pub mod trainer;

/// Entry.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
