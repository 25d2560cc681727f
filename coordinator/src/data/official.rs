//! Where the data sets' publishers offer them, and the checksums that they publish.

use crate::download::{Checksum, Source};

/// CIFAR-10's archive, or what `LOCKSTEP_CIFAR10_URL` and `LOCKSTEP_CIFAR10_MD5` say instead: for mirrors and tests.
pub(super) fn cifar10() -> Source {
    source(
        ("LOCKSTEP_CIFAR10_URL", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
        ("LOCKSTEP_CIFAR10_MD5", "c32a1d4ab5d03f1284b67883e8d87530"),
    )
}

/// CIFAR-100's archive, or what `LOCKSTEP_CIFAR100_URL` and `LOCKSTEP_CIFAR100_MD5` say instead.
pub(super) fn cifar100() -> Source {
    source(
        ("LOCKSTEP_CIFAR100_URL", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),
        ("LOCKSTEP_CIFAR100_MD5", "03b5dce01913d631647c71ecec9e9cb8"),
    )
}

/// Each of the two by its environment variable, or the publisher's.
fn source(url: (&str, &str), md5: (&str, &str)) -> Source {
    let chosen = |(variable, official): (&str, &str)| {
        let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
        value.unwrap_or_else(|| official.to_owned())
    };
    Source { url: chosen(url), checksum: Checksum::Md5(chosen(md5).to_ascii_lowercase()) }
}
