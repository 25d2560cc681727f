//! A bound on the memory of all pictures that are being decoded at once. Threads alone are no bound: a picture may
//! have a thousand times the pixels of another.

use std::sync::{Condvar, Mutex, PoisonError};

/// Decoded pictures of a usual camera take about a tenth.
const BYTES_MAX: u64 = 1 << 30;

/// Bytes that may still be taken.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    free: Mutex<u64>,
    given_back: Condvar,
}

/// Bytes that were taken; dropped, they are given back.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    pub(super) fn new() -> Self {
        Self { free: Mutex::new(BYTES_MAX), given_back: Condvar::new() }
    }

    /// Waits until so many bytes are free. What is larger than the whole budget has it to itself.
    pub(super) fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(BYTES_MAX);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_while(free, |free| *free < bytes);
        *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Taken { budget: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_is_taken_at_once_than_there_is_and_everyone_gets_a_turn() {
        let budget = MemoryBudget::new();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, taken) = (&budget, &taken);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let bytes = if thread == 0 { u64::MAX } else { BYTES_MAX / 3 };
                        let held = budget.take(bytes);
                        let now = taken.fetch_add(held.bytes, Ordering::SeqCst) + held.bytes;
                        assert!(now <= BYTES_MAX);
                        taken.fetch_sub(held.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(*budget.free.lock().unwrap(), BYTES_MAX);
    }
}
