//! Compiles the contract with protox, so that neither protoc nor generated code in git is needed.

use std::path::Path;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["lockstep/v1/worker.proto", "lockstep/v1/run.proto"];
    println!("cargo:rerun-if-changed=lockstep");
    let descriptors = protox::compile(files, ["."])?;
    // For reflection.
    let encoded = Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(encoded, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".lockstep.v1.Chunk").compile_fds(descriptors)?;
    Ok(())
}
