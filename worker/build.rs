//! Tells the binary where libtorch lies, so that it runs without LD_LIBRARY_PATH.
//!
//! The bindings' own build script cannot: link arguments do not pass from one package to another.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(libtorch) = std::env::var_os("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}/lib", libtorch.to_string_lossy());
    }
}
