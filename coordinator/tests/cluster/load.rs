//! Many runs, many workers, many watchers.
