//! Names are found whatever protocol spells them, and roundabout ways are refused.

use super::*;

fn code(pickle: &[u8]) -> String {
    match scan(&mut &pickle[..]) {
        Err(Refusal::Code(name)) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_found_in_every_protocols_spelling() {
    // pickle.dumps(os.system, protocol=0), 2 and 4; INST; and texts that are remembered and recalled.
    assert_eq!(code(b"cposix\nsystem\np0\n."), "posix.system");
    assert_eq!(code(b"\x80\x02cposix\nsystem\nq\x00."), "posix.system");
    let protocol_4 =
        b"\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.";
    assert_eq!(code(protocol_4), "posix.system");
    assert_eq!(code(b"(X\x01\x00\x00\x00xios\nsystem\n."), "os.system");
    assert_eq!(code(b"\x8c\x05posix\x94K\x00\x8c\x06system\x94K\x01h\x00h\x01\x93."), "posix.system");
    assert_eq!(
        code(b"\x8c\x05posixq\x07\x8c\x06systemr\x09\x00\x00\x00Nh\x07j\x09\x00\x00\x00\x93."),
        "posix.system"
    );
}

#[test]
fn a_name_that_is_hidden_is_refused_without_knowing_it() {
    // A text doubled on the stack, one from a number's place, and copyreg's registry.
    for pickle in [
        &b"\x8c\x02os2\x93."[..],
        b"\x8c\x02osK\x01\x93.",
        b"\x8c\x02os\x93.",
        b"h\x05h\x06\x93.",
        b"\x82\x01.",
    ] {
        assert!(!code(pickle).contains("os."), "{pickle:?}");
    }
}

#[test]
fn what_rebuilds_tensors_passes_and_layers_are_told() {
    let tensor = b"\x80\x02ccollections\nOrderedDict\n)Rctorch._utils\n_rebuild_tensor_v2\n.";
    assert!(!scan(&mut &tensor[..]).unwrap());
    assert!(scan(&mut &b"\x80\x02ctorchvision.models.resnet\nResNet\n."[..]).unwrap());
}

#[test]
fn a_pickle_ends_at_its_stop_and_the_reader_stands_behind_it() {
    let mut reader = &b"\x80\x02K\x07.rest"[..];
    scan(&mut reader).unwrap();
    assert_eq!(reader, b"rest");
}

#[test]
fn what_is_no_pickle_or_ends_early_is_an_error() {
    let whole = b"\x80\x02}(X\x01\x00\x00\x00aG\x00\x00\x00\x00\x00\x00\x00\x00U\x02hiB\x02\x00\x00\x00ab\x8a\x01\x07I12\nu.";
    scan(&mut &whole[..]).unwrap();
    for length in 0..whole.len() {
        assert!(matches!(scan(&mut &whole[..length]), Err(Refusal::Io(_))), "{length}");
    }
    assert!(matches!(scan(&mut &b"\xff\xfe."[..]), Err(Refusal::Io(_))));
    assert!(matches!(scan(&mut &b"X\xff\xff\xff\xffa."[..]), Err(Refusal::Io(_))));
}
