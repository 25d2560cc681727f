//! The rules that the source tree keeps, as tests: they read the repository as it lies on disk, and name the file, the
//! line and the rule of each breach.
//!
//! `layout` is what any file must look like, `words` is what code must not say, and `layers` is who may know whom.

// This file is a root of its own beside main.rs, so its modules need their folder named.
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/layout.rs"]
mod layout;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;
