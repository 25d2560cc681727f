//! Compiles the contract with protox, so that neither protoc nor generated code in git is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["lockstep/v1/worker.proto", "lockstep/v1/run.proto"];
    println!("cargo:rerun-if-changed=lockstep");
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().bytes(".lockstep.v1.Chunk").compile_fds(descriptors)?;
    Ok(())
}
