//! Whatever a recipe holds, its text reads back as the same; whatever a text holds, reading it ends with an answer.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{SHORT, loaded};
use crate::recipe::{Group, ModelName, Recipe, Unfreeze, Validation, Weights, choice};

prop_compose! {
    fn some_recipe()(
        seed in 0..=i64::MAX.unsigned_abs(),
        shards in 1_u32..=8,
        spare in 0_u32..500,
        lr in f64::MIN_POSITIVE..1e3,
        momentum in 0.01_f64..1.0,
        decay in 0.0_f64..1.0,
        fraction in 0.001_f64..0.9,
        count in proptest::option::of(1_u32..9_000),
        path in proptest::option::of("/[a-z \"'\\\\\n\t#é]{1,12}"),
        every_steps in 0..=i64::MAX.unsigned_abs(),
        epochs in 1_u32..,
        pick in 0_usize..5,
    ) -> Recipe {
        let mut recipe = Recipe::from_toml_str(SHORT, "short").unwrap();
        recipe.seed = seed;
        recipe.shards = shards;
        recipe.batch = 2 * shards + spare;
        recipe.epochs = epochs;
        recipe.data.path = path.clone().map(PathBuf::from);
        recipe.data.train = count.map(|count| count + 1_000);
        recipe.data.validation = count.map_or(Validation::Fraction(fraction), |count| Validation::Count(count.min(900)));
        recipe.model.name = <ModelName as choice::Choice>::ALL[pick];
        if let Some(path) = path {
            recipe.model.weights = Weights::File(format!("{path}.safetensors").into());
        }
        let patterns: Vec<String> =
            ["fc", "*.bias", "layer?.0.*"][..1 + pick % 3].iter().map(|it| (*it).to_owned()).collect();
        if pick == 4 {
            (recipe.train.trainable, recipe.train.frozen) = (None, Some(patterns));
        } else {
            recipe.train.trainable = Some(patterns);
        }
        if pick > 2 {
            recipe.train.unfreeze_at = Some(Unfreeze { epoch: 3, patterns: vec!["from:layer3".to_owned()] });
            let weight_decay = (pick == 3).then_some(decay);
            recipe.train.group =
                vec![Group { pattern: "layer4.*".to_owned(), lr, weight_decay }, Group { pattern: "head".to_owned(), lr: 1.0, weight_decay: None }];
        }
        recipe.optimizer.lr = lr;
        recipe.optimizer.momentum = momentum.min(0.999);
        recipe.optimizer.weight_decay = decay;
        recipe.checkpoint.every_steps = every_steps;
        recipe
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_written_recipe_reads_back_equal(recipe in some_recipe()) {
        let text = recipe.to_toml();
        let again = Recipe::from_toml_str(&text, "written").unwrap();
        prop_assert_eq!(&again, &recipe, "{}", text);
        prop_assert_eq!(again.to_toml(), text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}a-z0-9=\"'. \n,#_-]{0,80}") {
        let _ = Recipe::from_toml_str(&text, "noise");
        let _ = loaded(SHORT, &[&text, &format!("seed={text}")], &[("LOCKSTEP_TRAIN__TRAINABLE", &text)]);
    }
}
