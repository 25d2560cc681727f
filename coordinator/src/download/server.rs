//! A web server for one file, for the tests: ranges, broken connections, refusals.

/// How the test server treats a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serve {
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
pub(crate) fn serve(
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
