//! The word that somebody may have meant by one that there is not: for hints.

/// The candidate that is nearest to `wrong`, when it is near enough to be meant; of equally near ones the first.
pub(crate) fn nearest<W: AsRef<str>>(wrong: &str, candidates: impl IntoIterator<Item = W>) -> Option<W> {
    // A third of the letters: `optmizer.learningrate` is not a slip of the finger any more.
    let furthest = (wrong.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= furthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_another_word_finds_none() {
        let words = ["resnet18", "resnet50", "resnet101"];
        assert_eq!(nearest("resnet5", words), Some("resnet50"));
        assert_eq!(
            nearest("rsenet18", words),
            Some("resnet18"),
            "two letters that changed places are one slip"
        );
        assert_eq!(nearest("vgg16", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest("a", ["b".to_owned()]), Some("b".to_owned()), "one slip is always allowed");
    }
}
