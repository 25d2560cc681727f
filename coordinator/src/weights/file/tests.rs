//! Files of every container, strange layouts, and what must not get through.

use std::fs;
use std::os::unix::fs::FileExt;

use super::super::torch_file::{Stored, legacy, pickle, tar, text, zip};
use super::*;

fn open_bytes(bytes: &[u8]) -> Result<WeightsFile, WeightsError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let opened = open(file.path())?;
    Ok(opened)
}

/// A file that stays, for tensors that are read later.
fn open_kept(bytes: &[u8]) -> (tempfile::NamedTempFile, WeightsFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let opened = open(file.path()).unwrap_or_else(|error| panic!("{error}"));
    (file, opened)
}

fn floats(tensor: &FileTensor) -> Vec<f32> {
    tensor.read().unwrap().as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

fn two() -> [Stored; 2] {
    let count = Stored::new("n", "LongStorage", &[], 7i64.to_le_bytes().to_vec(), 1);
    [Stored::floats("a.w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), count]
}

fn containers(tensors: &[Stored]) -> [(&'static str, Vec<u8>); 3] {
    let pickle = pickle(&[], tensors, b"");
    [("zip", zip(&pickle, tensors)), ("legacy", legacy(&pickle, tensors)), ("tar", tar(tensors))]
}

#[test]
fn every_container_gives_the_same_tensors() {
    for (container, bytes) in containers(&two()) {
        let (_file, opened) = open_kept(&bytes);
        assert_eq!(opened.tensors.keys().collect::<Vec<_>>(), ["a.w", "n"], "{container}");
        let (weight, count) = (&opened.tensors["a.w"], &opened.tensors["n"]);
        assert_eq!((&weight.elements, &weight.shape[..]), (&Elements::F32, &[2, 3][..]), "{container}");
        assert_eq!(floats(weight), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "{container}");
        assert_eq!((&count.elements, count.shape.len()), (&Elements::I64, 0), "{container}");
        assert_eq!(count.read().unwrap(), 7i64.to_le_bytes(), "{container}");
        assert!(!opened.is_model && opened.description.is_none(), "{container}");
    }
}

#[test]
fn a_safetensors_file_gives_its_tensors_and_its_description() {
    let data: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).unwrap();
    let metadata = [(DESCRIPTION.to_owned(), "{}".to_owned())].into();
    let bytes = safetensors::serialize([("w", view)], Some(metadata)).unwrap();
    let opened = open_bytes(&bytes).unwrap();
    assert_eq!(floats(&opened.tensors["w"]), [1.0, -2.0]);
    assert_eq!(opened.description.as_deref(), Some("{}"));
}

#[test]
fn tensors_that_are_not_row_major_come_out_row_major() {
    // [2, 3] stored by columns, every second element of a row, and a row in the middle.
    let values: Vec<f32> = (0..12u8).map(f32::from).collect();
    let mut tensors = [0, 1, 2].map(|index| Stored::floats(&index.to_string(), &[2, 3], &values));
    tensors[0].stride = vec![1, 2];
    tensors[1].stride = vec![6, 2];
    tensors[2].offset = 6;
    for (container, bytes) in containers(&tensors) {
        let (_file, opened) = open_kept(&bytes);
        assert_eq!(floats(&opened.tensors["0"]), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0], "{container}");
        assert_eq!(floats(&opened.tensors["1"]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0], "{container}");
        assert_eq!(floats(&opened.tensors["2"]), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0], "{container}");
    }
}

/// A pickle's call of `os.system`, as an object's `__reduce__` makes it.
fn call() -> Vec<u8> {
    [&b"cposix\nsystem\n("[..], &text("touch /tmp/pwned"), b"tR"].concat()
}

#[test]
fn a_pickle_that_wants_to_run_code_is_refused_wherever_it_hides_it() {
    let tensors = two();
    let value = [text("x"), call()].concat();
    // Called and dropped from the stack, so that nothing of it is in the result.
    let dropped = [call(), b"0".to_vec()].concat();
    let protocol_4 =
        [text("x"), b"\x8c\x05posix\x94\x8c\x06system\x94\x93(".to_vec(), text("x"), b"tR".to_vec()];
    for more in [value, dropped, protocol_4.concat()] {
        let pickle = pickle(&[], &tensors, &more);
        for bytes in [zip(&pickle, &tensors), legacy(&pickle, &tensors), pickle.clone()] {
            let error = open_bytes(&bytes).unwrap_err();
            assert!(matches!(&error, WeightsError::Code { name, .. } if name == "posix.system"), "{error}");
            assert!(error.hint().unwrap().contains("nothing in it was run"));
        }
    }
}

#[test]
fn a_whole_model_is_read_as_its_state_dict_and_named_so() {
    // An object of `torchvision.models.resnet.ResNet` with one parameter.
    let tensors = [Stored::floats("w", &[1], &[3.0])];
    let inner = pickle(&[], &tensors, b"");
    let parameters = &inner[2..inner.len() - 1];
    let object = [
        &b"\x80\x02ctorchvision.models.resnet\nResNet\n)\x81}("[..],
        &text("_parameters"),
        parameters,
        &text("_buffers"),
        b"}",
        &text("_modules"),
        b"}ub.",
    ];
    let (_file, opened) = open_kept(&zip(&object.concat(), &tensors));
    assert!(opened.is_model);
    assert_eq!(floats(&opened.tensors["w"]), [3.0]);
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    for bytes in [&b""[..], b"x", b"hello, I am a text", &[0; 600], b"\x89PNG\r\n\x1a\n"] {
        let error = open_bytes(bytes).unwrap_err();
        assert!(matches!(error, WeightsError::NotACheckpoint { .. }), "{error}");
        assert!(error.hint().is_some());
    }
    let missing = open(Path::new("/nowhere/weights.pth")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/weights.pth") && missing.hint().is_some());
}

#[test]
fn a_tensor_that_lies_about_its_size_is_an_error() {
    let mut beyond = two();
    beyond[0].shape = vec![2, 4];
    beyond[0].stride = vec![4, 1];
    let mut short = two();
    short[0].storage.truncate(20);
    for tensors in [&beyond, &short] {
        for (container, bytes) in containers(tensors) {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), bytes).unwrap();
            let read =
                open(file.path()).map(|opened| opened.tensors["a.w"].read().map_err(|e| e.to_string()));
            assert!(matches!(read, Err(_) | Ok(Err(_))), "{container}");
        }
    }
}

/// Opens a file and reads every tensor that claims a size worth reading, as `fit` reads those of the right shape.
fn reads_through(path: &Path) -> bool {
    let Ok(opened) = open(path) else { return false };
    let small = |tensor: &&FileTensor| {
        tensor.shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size)) < Some(1000)
    };
    opened.tensors.values().filter(small).all(|tensor| tensor.read().is_ok())
}

/// Small files of all containers, on disk.
fn files() -> Vec<(&'static str, Vec<u8>, tempfile::NamedTempFile)> {
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &[1; 8]).unwrap();
    let safetensors = safetensors::serialize([("w", view)], None).unwrap();
    let all = containers(&two()).into_iter().chain([("safetensors", safetensors)]);
    let on_disk = all.map(|(container, bytes)| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        assert!(reads_through(file.path()), "{container} is whole");
        (container, bytes, file)
    });
    on_disk.collect()
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error_and_no_panic() {
    for (container, bytes, file) in files() {
        // A tar's last blocks are padding, and its reader does not miss them.
        let needed = if container == "tar" { bytes.len() - 1024 - 512 } else { bytes.len() };
        for length in (0..needed).rev() {
            file.as_file().set_len(length as u64).unwrap();
            assert!(!reads_through(file.path()), "{container} of {length} bytes");
        }
    }
}

#[test]
fn a_file_with_damaged_bytes_makes_no_panic() {
    for (_, bytes, file) in files() {
        for (at, byte) in bytes.iter().enumerate() {
            for flip in [0x01, 0x80, 0xff] {
                file.as_file().write_all_at(&[byte ^ flip], at as u64).unwrap();
                reads_through(file.path());
            }
            file.as_file().write_all_at(&[*byte], at as u64).unwrap();
        }
        assert!(reads_through(file.path()), "mended");
    }
}
