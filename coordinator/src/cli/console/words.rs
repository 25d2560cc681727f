//! Durations and counts as people say them.

use std::time::Duration;

/// `41s`, `3m 07s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        // Up to two days people say hours.
        (hours @ ..48, minutes, _) => format!("{hours}h {minutes:02}m"),
        (hours, ..) => format!("{}d {:02}h", hours / 24, hours % 24),
    }
}

/// `1 shard`, `2 shards`.
pub(crate) fn counted(count: impl Into<u64>, word: &str) -> String {
    let count = count.into();
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_is_said_in_the_singular() {
        assert_eq!([0_u32, 1, 2].map(|count| counted(count, "epoch")), ["0 epochs", "1 epoch", "2 epochs"]);
    }

    #[test]
    fn durations_read_as_people_say_them() {
        for (seconds, words) in
            [(0.4, "0s"), (59.6, "1m 00s"), (187.0, "3m 07s"), (7_510.0, "2h 05m"), (273_700.0, "3d 04h")]
        {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), words);
        }
    }
}
