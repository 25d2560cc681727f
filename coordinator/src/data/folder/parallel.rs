//! The same work on many pictures, on all processors, with a bound on what waits to be received.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Results that may wait, per thread: enough that none idles while a row is written.
const WAITING_PER_THREAD: usize = 2;

/// Calls `work` with 0 to `count` on as many threads as there are processors, and `receive` on this one with each
/// number and its result, in any order. The first error ends it.
pub(super) fn for_each<T: Send, E>(
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    mut receive: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(count);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (send, results) = sync_channel(threads * WAITING_PER_THREAD);
        for _ in 0..threads {
            let send = send.clone();
            scope.spawn({
                let (next, work) = (&next, &work);
                move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        // A receiver that is gone has seen an error: no more work.
                        if number >= count || send.send((number, work(number))).is_err() {
                            break;
                        }
                    }
                }
            });
        }
        drop(send);
        results.into_iter().try_for_each(|(number, result)| receive(number, result))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_worked_on_once() {
        let mut seen = vec![0; 1000];
        let outcome: Result<(), ()> = for_each(
            seen.len(),
            |number| number * 2,
            |number, result| {
                assert_eq!(result, number * 2);
                seen[number] += 1;
                Ok(())
            },
        );
        assert_eq!(outcome, Ok(()));
        assert!(seen.iter().all(|times| *times == 1));
        assert_eq!(for_each(0, |_| (), |_, ()| Err("called")), Ok(()));
    }

    #[test]
    fn an_error_ends_the_work() {
        let worked = AtomicUsize::new(0);
        let outcome = for_each(
            1_000_000,
            |_| worked.fetch_add(1, Ordering::Relaxed),
            |number, _| if number < 5 { Ok(()) } else { Err(number) },
        );
        assert!(outcome.is_err_and(|number| number >= 5));
        assert!(worked.into_inner() < 10_000);
    }
}
