//! Large counts as people read them.

/// `23528522` as `23,528,522`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_come_between_thousands_alone() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (23_528_522, "23,528,522"), (100_000, "100,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
