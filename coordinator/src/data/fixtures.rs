//! Small data sets as the tests need them: batches of both editions, folders, archives.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::BlobCache;
use super::cifar::IMAGE_BYTES;

pub(super) fn cache() -> (tempfile::TempDir, BlobCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(dir.path().join("cache")).unwrap();
    (dir, cache)
}

/// A picture that no other label or position has.
fn image(label: u8) -> impl Iterator<Item = u8> {
    (0..IMAGE_BYTES).map(move |i| (i % 241) as u8 ^ label)
}

pub(super) fn binary_batch(labels: &[u8]) -> Vec<u8> {
    labels.iter().flat_map(|&label| std::iter::once(label).chain(image(label))).collect()
}

/// What Python 2's cPickle wrote, protocol 2: `{"batch_label": …, "labels": […], "data": …, "filenames": […]}`.
pub(super) fn python_batch(labels: &[u8]) -> Vec<u8> {
    let data: Vec<u8> = labels.iter().flat_map(|&label| image(label)).collect();
    let mut p = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x0ctraining1of5q\x03U\x06labelsq\x04]q\x05(".to_vec();
    for &label in labels {
        p.extend([b'K', label]);
    }
    p.extend(b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08");
    p.extend(b"K\x00\x85U\x01b\x87Rq\x09(K\x01M");
    p.extend((labels.len() as u16).to_le_bytes());
    p.extend(b"M\x00\x0c\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN");
    p.extend(b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    p.extend((data.len() as u32).to_le_bytes());
    p.extend(data);
    p.extend(b"tbU\tfilenamesq\x0c]q\x0d(U\x05a.pngU\x05b.pngeu.");
    p
}

const LABELS: [&[u8]; 6] = [&[0, 1, 2], &[3, 4], &[5, 6, 7], &[8], &[9, 0], &[1, 9, 5]];

/// The files of a tiny binary edition: eleven training samples, three for the test.
pub(super) fn binary_edition() -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ];
    names.into_iter().zip(LABELS.map(binary_batch)).collect()
}

/// The same samples as `binary_edition`, in the order in which the official archive has its files.
pub(super) fn python_edition() -> Vec<(&'static str, Vec<u8>)> {
    let order = [
        ("data_batch_4", 3),
        ("test_batch", 5),
        ("data_batch_3", 2),
        ("data_batch_2", 1),
        ("data_batch_5", 4),
    ];
    let rest = order.into_iter().chain([("data_batch_1", 0)]);
    rest.map(|(name, batch)| (name, python_batch(LABELS[batch]))).collect()
}

/// Records of CIFAR-100's binary edition: a coarse label that must not matter, the fine one, the picture.
pub(super) fn cifar100_records(labels: &[u8]) -> Vec<u8> {
    labels.iter().flat_map(|&label| [19, label].into_iter().chain(image(label))).collect()
}

/// The files of a tiny CIFAR-100 without its list of names: three training samples, two for the test.
pub(super) fn cifar100_edition() -> Vec<(&'static str, Vec<u8>)> {
    vec![("test.bin", cifar100_records(&[7, 8])), ("train.bin", cifar100_records(&[0, 99, 50]))]
}

/// A folder with these files in it, gone with the value.
pub(super) fn folder(files: &[(&'static str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_folder(dir.path(), files);
    dir
}

pub(super) fn write_folder(folder: &Path, files: &[(&'static str, Vec<u8>)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

pub(super) fn tar_gz(folder: &str, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut folder_header = tar::Header::new_gnu();
    folder_header.set_entry_type(tar::EntryType::Directory);
    folder_header.set_mode(0o755);
    folder_header.set_size(0);
    tar.append_data(&mut folder_header, folder, &[][..]).unwrap();
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("{folder}/{name}"), &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

pub(super) fn write_tar_gz(path: &Path, folder: &str, files: &[(&str, Vec<u8>)]) {
    fs::write(path, tar_gz(folder, files)).unwrap();
}
