//! What two runs of one recipe must have in common, byte for byte, and where they differ first.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::Serialize;

use super::ChaosError;

/// All that a recipe decides and a cluster must not show in.
const FILES: [&str; 5] = [
    "best.safetensors",
    "checkpoints/last/model.safetensors",
    "checkpoints/last/optimizer.safetensors",
    "results.csv",
    "ledger.csv",
];

/// One file of both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Within the run's folder.
    pub file: String,
    pub bytes: u64,
    /// The first difference, in words; none when there is none.
    pub difference: Option<String>,
}

/// Compares the runs in two folders.
pub(super) fn compare(calm: &Path, chaos: &Path) -> Result<Vec<Comparison>, ChaosError> {
    FILES.into_iter().map(|file| one(file, &calm.join(file), &chaos.join(file))).collect()
}

fn one(file: &str, calm: &Path, chaos: &Path) -> Result<Comparison, ChaosError> {
    let read = |path: &Path| fs::read(path).map_err(ChaosError::io("read", path));
    let calm = read(calm)?;
    // The disturbed run's may be missing, which is a difference and no error.
    let difference = match fs::read(chaos) {
        Ok(chaos) if chaos == calm => None,
        Ok(chaos) => {
            Some(if file.ends_with(".csv") { in_lines(&calm, &chaos) } else { in_tensors(&calm, &chaos) })
        }
        Err(error) => Some(format!("it cannot be read: {error}")),
    };
    Ok(Comparison { file: file.to_owned(), bytes: calm.len() as u64, difference })
}

fn in_lines(calm: &[u8], chaos: &[u8]) -> String {
    let (calm, chaos) = (String::from_utf8_lossy(calm), String::from_utf8_lossy(chaos));
    let (mut calm, mut chaos) = (calm.split('\n'), chaos.split('\n'));
    for number in 1_u64.. {
        match (calm.next(), chaos.next()) {
            (None, None) => break,
            (left, right) if left == right => {}
            (left, right) => {
                let shown = |line: Option<&str>| line.unwrap_or("no such line").to_owned();
                return format!("line {number}: `{}` undisturbed, `{}` disturbed", shown(left), shown(right));
            }
        }
    }
    "bytes that are no text differ".to_owned()
}

/// The first tensor that differs, and where in it.
fn in_tensors(calm: &[u8], chaos: &[u8]) -> String {
    let (Ok(left), Ok(right)) = (SafeTensors::deserialize(calm), SafeTensors::deserialize(chaos)) else {
        return in_bytes(calm, chaos);
    };
    let mut names = left.names();
    names.sort_unstable();
    for name in names {
        let (Ok(left), Ok(right)) = (left.tensor(name), right.tensor(name)) else {
            return format!("{name} is missing");
        };
        if left.shape() != right.shape() || left.dtype() != right.dtype() {
            return format!("{name} has another shape or type");
        }
        let pairs = left.data().chunks(4).zip(right.data().chunks(4)).enumerate();
        let different = pairs.filter(|(_, (left, right))| left != right);
        let mut different = different.peekable();
        let Some((index, (one, other))) = different.peek().copied() else { continue };
        let value = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
            Ok(bytes) if left.dtype() == safetensors::Dtype::F32 => f32::from_le_bytes(bytes).to_string(),
            _ => format!("{bytes:02x?}"),
        };
        let (one, other, count) = (value(one), value(other), different.count());
        return format!(
            "{name}[{index}]: {one} undisturbed, {other} disturbed; {count} numbers of it differ"
        );
    }
    in_bytes(calm, chaos)
}

fn in_bytes(calm: &[u8], chaos: &[u8]) -> String {
    let common = calm.iter().zip(chaos).position(|(left, right)| left != right);
    match common {
        Some(at) => format!("byte {at}: {:02x} undisturbed, {:02x} disturbed", calm[at], chaos[at]),
        None => format!("{} bytes undisturbed, {} disturbed", calm.len(), chaos.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    fn tensors(numbers: &[(&str, &[f32])]) -> Vec<u8> {
        let bytes: BTreeMap<&str, Vec<u8>> = numbers
            .iter()
            .map(|(name, numbers)| (*name, numbers.iter().flat_map(|number| number.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, bytes)| (*name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn the_first_number_that_differs_is_named() {
        let one = tensors(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0, 5.0])]);
        let other = tensors(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.5, 6.0])]);
        assert_eq!(in_tensors(&one, &other), "b[1]: 4 undisturbed, 4.5 disturbed; 2 numbers of it differ");
        assert_eq!(in_tensors(&one, &tensors(&[("a", &[1.0, 2.0])])), "b is missing");
        assert_eq!(in_tensors(b"abc", b"abd"), "byte 2: 63 undisturbed, 64 disturbed");
        assert_eq!(in_tensors(b"abc", b"ab"), "3 bytes undisturbed, 2 disturbed");
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(in_lines(b"a\nb\nc\n", b"a\nx\n"), "line 2: `b` undisturbed, `x` disturbed");
        assert_eq!(in_lines(b"a\nb\n", b"a\nb\nc\n"), "line 3: `` undisturbed, `c` disturbed");
    }

    #[test]
    fn equal_runs_are_equal_and_a_missing_file_is_a_difference() {
        let (calm, chaos) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&calm, &chaos] {
            fs::create_dir_all(folder.path().join("checkpoints/last")).unwrap();
            for file in FILES {
                fs::write(folder.path().join(file), file).unwrap();
            }
        }
        let files = compare(calm.path(), chaos.path()).unwrap();
        assert!(files.iter().all(|file| file.difference.is_none() && file.bytes > 0), "{files:?}");
        fs::remove_file(chaos.path().join("ledger.csv")).unwrap();
        let files = compare(calm.path(), chaos.path()).unwrap();
        let different: Vec<&str> =
            files.iter().filter(|file| file.difference.is_some()).map(|file| &*file.file).collect();
        assert_eq!(different, ["ledger.csv"]);
    }
}
