//! The same numbers as PyTorch: weights, logits, losses and accuracies of real runs, against torchvision's models trained
//! by the scripts in `reference/`.
//!
//! Needs python3 with venv and the Python package index; what it installs (about 5 GB) lies under `target/parity` and is
//! kept. `LOCKSTEP_SKIP_PARITY=1` skips all of it.

mod image_size;
mod job;
mod lockstep;
mod losses;
mod network;
mod once;
mod process;
mod reference;
mod settings;
mod summary;
mod trained;
mod tuning;
mod weights_files;
