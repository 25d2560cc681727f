//! Every way in which a value can be wrong, and the exact words for it.

use super::refused;

/// A recipe's first line, and the message without its place.
const WRONG: &[(&str, &str)] = &[
    ("seed = -1", "`seed` must be a whole number, at least 0, but is -1"),
    (
        "seed = 9223372036854775808",
        "`seed` must be a number of at most 9223372036854775807, but is 9223372036854775808",
    ),
    ("batch = 3", "`batch` must be at least 2 times shards, 4, but is 3"),
    ("batch = 2.5", "`batch` must be a whole number, at least 2, but is 2.5"),
    ("batch = \"many\"", "`batch` must be a whole number, at least 2, but is \"many\""),
    ("batch = 4294967296", "`batch` must be a whole number, at least 2, but is 4294967296"),
    ("shards = 0", "`shards` must be a whole number from 1 to 1024, but is 0"),
    ("shards = 1025", "`shards` must be a whole number from 1 to 1024, but is 1025"),
    ("shards = 101", "`batch` must be at least 2 times shards, 202, but is 200"),
    ("epochs = 0", "`epochs` must be a whole number, at least 1, but is 0"),
    ("precision = \"fp16\"", "`precision` must be \"fp32\" or \"bf16\", but is \"fp16\""),
    ("threads = 257", "`threads` must be a whole number from 1 to 256, but is 257"),
    ("exact = 1", "`exact` must be true or false, but is 1"),
    ("data.image_size = 7", "`data.image_size` must be a whole number from 8 to 512, but is 7"),
    ("data.test_fraction = 1", "`data.test_fraction` must be a fraction between 0 and 1, but is 1"),
    ("augment.flip = 1.5", "`augment.flip` must be a number from 0 to 1, but is 1.5"),
    ("augment.hue = 0.6", "`augment.hue` must be a number from 0 to 0.5, but is 0.6"),
    (
        "augment.resized_crop = 0",
        "`augment.resized_crop` must be a number above 0, at most 1 (off), but is 0",
    ),
    ("augment.mixup = -1", "`augment.mixup` must be 0 (off) or a number from 0.001 to 100, but is -1"),
    ("augment.crop_padding = 32", "`augment.crop_padding` must be below data.image_size, 32, but is 32"),
    (
        "augment = { resized_crop = 0.5, crop_padding = 4 }",
        "`augment.resized_crop` must be 1 (off) with augment.crop_padding, but is 0.5",
    ),
    ("data.train = 0", "`data.train` must be a whole number, at least 1, but is 0"),
    ("data.train = 50001", "`data.train` must be at most 50000, all that cifar10 has, but is 50001"),
    ("data.test = 10001", "`data.test` must be at most 10000, all that cifar10 has, but is 10001"),
    (
        "data.validation = 1.0",
        "`data.validation` must be a fraction between 0 and 1, or a whole number of samples, but is 1.0",
    ),
    (
        "data.validation = 50000",
        "`data.train` must be enough for one step: 4 samples beside 50000 for validation, but is 50000",
    ),
    ("data.validation = 0", "`data.validation` must be above 0 with select.split = \"val\", but is 0"),
    ("data.path = 3", "`data.path` must be a path, but is 3"),
    (
        "model.name = \"resnet5\"",
        "`model.name` must be \"resnet18\" or \"resnet34\" or \"resnet50\" or \"resnet101\" or \"resnet152\", but is \"resnet5\"",
    ),
    (
        "model.weights = \"w.zip\"",
        "`model.weights` must be \"none\", \"imagenet1k-v1\", \"imagenet1k-v2\" or the path of a .pth, .pt or .safetensors file, but is \"w.zip\"",
    ),
    (
        "train.trainable = \"fc.*\"",
        "`train.trainable` must be a list of at least one string, such as [\"fc.*\"], but is \"fc.*\"",
    ),
    (
        "train.trainable = []",
        "`train.trainable` must be a list of at least one string, such as [\"fc.*\"], but is []",
    ),
    (
        "train.trainable = [1]",
        "`train.trainable` must be a list of at least one string, such as [\"fc.*\"], but is [1]",
    ),
    (
        "train.trainable = [\"[\"]",
        "`[` of `train.trainable` is not a glob: unclosed character class; missing ']' in my.toml, line 1",
    ),
    ("train.trainable = [\"layr4.*\"]", "`layr4.*` of `train.trainable` matches no parameter of resnet50"),
    ("optimizer.lr = 0", "`optimizer.lr` must be a number above 0, but is 0"),
    ("optimizer.lr = nan", "`optimizer.lr` must be a number above 0, but is nan"),
    ("optimizer.lr = inf", "`optimizer.lr` must be a number above 0, but is inf"),
    ("optimizer.lr = { start = 1 }", "`optimizer.lr` must be a number above 0, but is a section"),
    ("optimizer.momentum = 1", "`optimizer.momentum` must be a number from 0 to below 1, but is 1"),
    ("optimizer.weight_decay = -0.1", "`optimizer.weight_decay` must be a number, at least 0, but is -0.1"),
    (
        "optimizer = { nesterov = true, momentum = 0 }",
        "`optimizer.momentum` must be above 0 with optimizer.nesterov = true, but is 0",
    ),
    (
        "model = { name = \"resnet34\", weights = \"imagenet1k-v2\" }",
        "`model.weights` must be \"imagenet1k-v1\" with resnet34, but is \"imagenet1k-v2\"",
    ),
    (
        "train = { trainable = [\"fc\"], frozen = [\"conv1\"] }",
        "`train.frozen` must be absent beside train.trainable, but is [\"conv1\"]",
    ),
    ("train.group = [{ match = \"fc\" }]", "`train.group.lr` must be a number above 0, but is missing"),
    (
        "train.group = [{ lr = 1 }]",
        "`train.group.match` must be a pattern, such as \"layer4.*\", but is missing",
    ),
    (
        "train.group = 3",
        "`train.group` must be a list of sections, [[train.group]] with match and lr below, but is 3",
    ),
    (
        "train.unfreeze_at = 3",
        "`train.unfreeze_at` must be a table, such as { epoch = 3, patterns = [\"*\"] }, but is 3",
    ),
    (
        "train.unfreeze_at = { epoch = 0, patterns = [\"*\"] }",
        "`train.unfreeze_at.epoch` must be a whole number, at least 1 (epochs count from 0), but is 0",
    ),
    (
        "train.label_smoothing = 1",
        "`train.label_smoothing` must be a number from 0 (off) to below 1, but is 1",
    ),
    (
        "train.accumulate = 101",
        "`batch` must be at least 2 times shards times train.accumulate, 404, but is 200",
    ),
    ("optimizer.beta2 = 1", "`optimizer.beta2` must be a number from 0 to below 1, but is 1"),
    ("schedule.warmup_epochs = 100", "`schedule.warmup_epochs` must be below epochs, 100, but is 100"),
    ("schedule.div_factor = 0", "`schedule.div_factor` must be a number, at least 1, but is 0"),
    ("schedule.t_max = 0", "`schedule.t_max` must be a whole number, at least 1, but is 0"),
    ("select.split = 1979-05-27", "`select.split` must be \"val\" or \"test\", but is 1979-05-27"),
    ("checkpoint.keep = 0", "`checkpoint.keep` must be a whole number, at least 1, but is 0"),
    ("model = \"resnet18\"", "`model` must be a section, [model] with its keys below, but is \"resnet18\""),
];

#[test]
fn a_wrong_value_is_told_with_its_line_and_what_was_expected() {
    for (line, message) in WRONG {
        // Dotted keys of [data] and the header exclude each other.
        let text = if line.starts_with("data.") {
            format!("{line}\ndata.name = \"cifar10\"\n")
        } else {
            format!("{line}\n[data]\nname = \"cifar10\"\n")
        };
        let (found, _) = refused(&text, &[], &[]);
        let place = if message.contains("line 1") { "" } else { " in my.toml, line 1" };
        assert_eq!(found, format!("{message}{place}"), "{line}");
    }
}
