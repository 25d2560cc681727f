//! The names that files with weights contain: what rebuilds tensors, and plain values kept beside them.
//!
//! About what `torch.load(weights_only=True)` lets pass, and the classes of whole models, which are read as their
//! state_dict. A name that is not here is taken for code.

/// Element types and layouts, as `torch.float16` and the like are pickled.
const TORCH: [&str; 25] = [
    "Size",
    "device",
    "Tensor",
    "Generator",
    "strided",
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "double",
    "float",
    "half",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "long",
    "int",
    "short",
    "bool",
    "complex64",
    "complex128",
    "per_tensor_affine",
    "per_channel_affine",
];

const BUILTINS: [&str; 11] =
    ["set", "frozenset", "dict", "list", "tuple", "int", "float", "bool", "complex", "bytes", "bytearray"];

/// Packages of modules, optimizers and settings whose objects lie in checkpoints; nothing of them is run.
const OBJECTS: [&str; 8] = [
    "torch.nn.",
    "torch.optim.",
    "torchvision.models.",
    "omegaconf.",
    "timm.",
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
];

pub(super) fn is_harmless(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "defaultdict" | "Counter"),
        "torch" => name.ends_with("Storage") || TORCH.contains(&name),
        "torch.storage" => name.ends_with("Storage"),
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.serialization" => name == "_get_layout",
        "builtins" | "__builtin__" => BUILTINS.contains(&name),
        "_codecs" => name == "encode",
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "numpy" => {
            matches!(name, "dtype" | "ndarray") || name.starts_with(['f', 'i', 'u']) && ends_in_digit(name)
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        "numpy.dtypes" => name.ends_with("DType"),
        "argparse" => name == "Namespace",
        "datetime" => matches!(name, "datetime" | "date" | "timedelta"),
        "pathlib" | "pathlib._local" => name.ends_with("Path"),
        "typing" => name == "Any",
        _ => is_module(module),
    }
}

/// Whether it is a part of a model or of what trains one: its file is a whole object pickled, not a state_dict.
fn is_module(module: &str) -> bool {
    OBJECTS.iter().any(|package| module.starts_with(package) || format!("{module}.") == **package)
}

/// Whether the file is a whole model, as `torch.save(model)` writes it.
pub(super) fn is_layer(module: &str) -> bool {
    ["torch.nn.modules.", "torchvision.models."].iter().any(|package| module.starts_with(package))
}

/// `float32`, `int64`, `uint8`.
fn ends_in_digit(name: &str) -> bool {
    name.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_plain_values_pass_and_code_does_not() {
        for (module, name) in [
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "HalfStorage"),
            ("torch", "float32"),
            ("collections", "OrderedDict"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy", "float64"),
            ("__builtin__", "set"),
            ("torchvision.models.resnet", "ResNet"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("argparse", "Namespace"),
        ] {
            assert!(is_harmless(module, name), "{module}.{name}");
        }
        for (module, name) in [
            ("posix", "system"),
            ("os", "system"),
            ("nt", "system"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("__builtin__", "getattr"),
            ("subprocess", "Popen"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch._utils", "import_module"),
            ("numpy", "fromfile"),
            ("__main__", "Net"),
            ("torch.nnx", "f"),
            ("timmy.x", "f"),
        ] {
            assert!(!is_harmless(module, name), "{module}.{name}");
        }
    }
}
