//! Small data sets as the tests need them: batches of both editions, folders, archives.

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{BlobCache, IMAGE_BYTES};

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

/// How the test server treats a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serve {
    /// Sends the asked range, or all.
    Ranges,
    /// Sends all, whatever was asked.
    IgnoreRanges,
    /// Announces the whole, closes after so many bytes.
    BreakAfter(usize),
    /// Answers 503.
    Refuse,
}

/// A web server for one file on a free port: answers the n-th request as the n-th entry says, and tells the
/// `Range` header of each one.
pub(super) fn serve(
    body: Vec<u8>,
    plan: &'static [Serve],
) -> (String, std::sync::mpsc::Receiver<Option<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mirror/cifar.tar.gz?x=1", listener.local_addr().unwrap());
    let (seen, ranges) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for serve in plan {
            let (stream, _) = listener.accept().unwrap();
            let range = answer(stream, &body, *serve);
            let _ = seen.send(range);
        }
    });
    (url, ranges)
}

fn answer(mut stream: std::net::TcpStream, body: &[u8], serve: Serve) -> Option<String> {
    use std::io::{BufRead, BufReader, Write};

    let mut range = None;
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(line) = lines.next().transpose().unwrap().filter(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
            range = Some(value.to_owned());
        }
    }
    let asked = range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let start = asked.filter(|_| serve != Serve::IgnoreRanges).unwrap_or(0);
    let status = match serve {
        Serve::Refuse => "503 Service Unavailable\r\nContent-Length: 0".to_owned(),
        _ if start >= body.len() => "416 Range Not Satisfiable\r\nContent-Length: 0".to_owned(),
        _ if start > 0 => {
            let (last, total) = (body.len() - 1, body.len());
            format!(
                "206 Partial Content\r\nContent-Range: bytes {start}-{last}/{total}\r\nContent-Length: {}",
                total - start
            )
        }
        _ => format!("200 OK\r\nContent-Length: {}", body.len()),
    };
    let end = match serve {
        Serve::BreakAfter(bytes) => (start + bytes).min(body.len()),
        Serve::Refuse => start,
        _ => body.len(),
    };
    let sent = body.get(start..end).unwrap_or_default();
    // A client that has seen enough may have hung up; what it got is its test's concern.
    let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(sent);
    range
}
