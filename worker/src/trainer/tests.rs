//! The trainer driven by plain channels.
