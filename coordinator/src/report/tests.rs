//! Metrics against numbers worked out by hand.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A report in which sample i is of class `pairs[i].0` and surely taken for `pairs[i].1`.
fn report(pairs: &[(usize, usize)], classes: &[&str]) -> Report {
    let rows: Vec<usize> = (0..pairs.len()).collect();
    let labels: Vec<usize> = pairs.iter().map(|(label, _)| *label).collect();
    let logit = |predicted: usize, class: usize| if predicted == class { 3.0 } else { 0.0 };
    let logits: Vec<f32> =
        pairs.iter().flat_map(|(_, predicted)| (0..classes.len()).map(|it| logit(*predicted, it))).collect();
    Report::new(&rows, &labels, &logits, 4.0, &names(classes))
}

#[test]
fn precision_recall_and_averages_are_those_worked_out_by_hand() {
    // cat: 2 of 3 found, once taken for a dog. dog: 1 of 2 found, once taken for a cat. fish: 1 of 1.
    let report = report(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 2)], &["cat", "dog", "fish"]);
    assert_eq!((report.samples, report.correct, report.loss), (6, 4, 4.0 / 6.0));
    assert_eq!(report.acc_top1(), 4.0 / 6.0);
    let rows: Vec<&[u64]> = report.confusion.rows().collect();
    assert_eq!(rows, [[2, 1, 0], [1, 1, 0], [0, 0, 1]]);
    let scores: Vec<_> =
        report.classes.iter().map(|it| (it.precision, it.recall, it.f1, it.support, it.predicted)).collect();
    let third = 2.0 / 3.0;
    assert_eq!(scores, [(third, third, third, 3, 3), (0.5, 0.5, 0.5, 2, 2), (1.0, 1.0, 1.0, 1, 1)]);
    let Average { precision, recall, f1 } = report.macro_average;
    for mean in [precision, recall, f1] {
        assert!((mean - (third + 0.5 + 1.0) / 3.0).abs() < 1e-15);
    }
    let mean = report.weighted_average.recall;
    assert!((mean - report.acc_top1()).abs() < 1e-15, "weighted recall is accuracy");
}

#[test]
fn classes_without_samples_or_predictions_give_zeros_and_never_nan() {
    // No sample of b, though one is taken for it; nobody takes anything for c; d does not occur at all.
    let report = report(&[(0, 0), (2, 1), (0, 0)], &["a", "b", "c", "d"]);
    let numbers = |it: &ClassScore| [it.precision, it.recall, it.f1];
    assert_eq!(numbers(&report.classes[0]), [1.0; 3]);
    for class in 1..4 {
        assert_eq!(numbers(&report.classes[class]), [0.0; 3], "{class}");
    }
    // a, b and c occur; d would make the mean worse without any sample that says so.
    assert_eq!(report.macro_average.f1, 1.0 / 3.0);
    assert_eq!(report.weighted_average, Average { precision: 2.0 / 3.0, recall: 2.0 / 3.0, f1: 2.0 / 3.0 });
    assert_eq!(report.correct_top5, None, "among four classes everything is in the first five");
}

#[test]
fn a_class_among_the_first_five_guesses_counts_for_top_5() {
    let logits = [0.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0];
    for (label, rank) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (0, 6)] {
        assert_eq!(rank_of(&logits, label), rank);
        let classes = names(&["a", "b", "c", "d", "e", "f", "g"]);
        let report = Report::new(&[9], &[label], &logits, 1.0, &classes);
        assert_eq!(report.correct_top5, Some(u64::from(rank < 5)), "{label}");
        assert_eq!(report.predictions[0].predicted, 1);
    }
    assert_eq!(ranked(&logits), [1, 2, 3, 4, 5, 6, 0]);
}

#[test]
fn guesses_are_ordered_as_pytorch_orders_them() {
    for (logits, order) in [
        (&[1.0, 1.0, 1.0][..], &[0, 1, 2][..]),
        (&[0.0, -0.0, 2.0], &[2, 0, 1]),
        (&[1.0, f32::NAN, f32::INFINITY, f32::NAN], &[1, 3, 2, 0]),
        (&[f32::NEG_INFINITY, -1.0], &[1, 0]),
    ] {
        assert_eq!(ranked(logits), order, "{logits:?}");
        assert_eq!(ranking::best(logits), order[0]);
        for (rank, class) in order.iter().enumerate() {
            assert_eq!(rank_of(logits, *class), rank, "{logits:?}");
        }
    }
}

#[test]
fn probabilities_sum_to_one_whatever_the_size_of_the_logits() {
    for logits in [&[1.0, 2.0, 3.0][..], &[1e30, -1e30], &[-500.0, -501.0], &[f32::NEG_INFINITY, 0.0], &[7.0]]
    {
        let sum: f64 = probabilities(logits).iter().sum();
        assert!((sum - 1.0).abs() < 1e-12, "{logits:?}");
    }
    assert!((probabilities(&[0.0, 3.0_f32.ln()])[1] - 0.75).abs() < 1e-7);
    for broken in [&[f32::NAN, 1.0][..], &[1.0, f32::NAN], &[f32::INFINITY, 1.0]] {
        assert!(probabilities(broken).iter().any(|it| it.is_nan()), "{broken:?}");
    }
}

#[test]
fn a_loss_is_minus_the_logarithm_of_the_classs_probability() {
    assert!((cross_entropy(&[0.0, 0.0], 1) - 2_f64.ln()).abs() < 1e-12);
    assert!((cross_entropy(&[1000.0, 998.0], 1) - (2.0 + (1.0 + (-2_f64).exp()).ln())).abs() < 1e-9);
    assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
}

#[test]
fn logits_that_are_no_numbers_are_counted_and_come_last_among_the_wrong() {
    let logits = [f32::NAN, f32::NAN, 0.0, 1.0, 0.0, 9.0, 4.0, 0.0, 0.0, 1.0];
    let report = Report::new(&[7, 3, 2, 8, 1], &[1, 0, 0, 0, 0], &logits, f64::NAN, &names(&["a", "b"]));
    assert_eq!(report.not_finite(), 1);
    let wrong: Vec<usize> = report.most_confidently_wrong().iter().map(|it| it.row).collect();
    assert_eq!(wrong, [2, 1, 3, 7]);
}

#[test]
fn csv_keeps_every_name_in_its_cell() {
    for (cells, line) in [
        (&["a", "1", ""][..], "a,1,\n"),
        (
            &["a,b", "say \"hi\"", "two\nlines", " blank"],
            "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\" blank\"\n",
        ),
        (&["猫"], "猫\n"),
    ] {
        assert_eq!(csv_row(cells), line);
    }
}
