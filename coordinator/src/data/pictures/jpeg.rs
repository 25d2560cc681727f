//! Whether a JPEG file is whole. The decoder fills what is missing with grey and says nothing, so a download that
//! was cut short would be learned as if it were a picture. PIL, and with it torchvision, refuses such files too.

const MARKER: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Whether the marker that ends a picture comes, after every segment is passed over and every scan read to its end.
/// Bytes behind it (cameras put previews and second pictures there) do not matter.
pub(super) fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the marker that begins the picture
    loop {
        // Any number of bytes 0xff may stand before a marker's code.
        let Some(code_at) = next(bytes, at, |byte| byte == MARKER)
            .and_then(|marker| next(bytes, marker, |byte| byte != MARKER))
        else {
            return false;
        };
        at = code_at + 1;
        match bytes[code_at] {
            END_OF_IMAGE => return true,
            // Within a scan: a byte 0xff of its data, or a restart. Elsewhere neither has a length to pass over.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            START_OF_SCAN | 0x02..=0xcf | 0xdb..=0xfe => {
                let Some(&[high, low]) = bytes.get(at..at + 2) else { return false };
                at += usize::from(u16::from_be_bytes([high, low]));
            }
            MARKER => {}
        }
    }
}

fn next(bytes: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.get(from..)?.iter().position(|byte| is_wanted(*byte)).map(|offset| from + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"\xff\xd8\xff\xe0\x00\x04\xff\xd9\xff\xff\xda\x00\x02abc\xff\x00\xff\xd0de\xff\xd9tail";

    #[test]
    fn the_end_is_found_behind_segments_scans_and_fill_bytes() {
        assert!(reaches_its_end(WHOLE));
        let without_tail = &WHOLE[..WHOLE.len() - 4];
        assert!(reaches_its_end(without_tail));
        for length in 0..without_tail.len() {
            assert!(!reaches_its_end(&WHOLE[..length]), "{length} bytes");
        }
    }
}
