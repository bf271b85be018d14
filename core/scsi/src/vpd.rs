//! Vital product data that the toolstack provides instead of ours, as base64 in the backend's `sm-data/scsi/0x12/0x80`
//! and `0x83`. Foreign bytes: a page that is not one is ignored.

/// Room for a page; the ones storage managers write have some 30 to 200 bytes.
const CAPACITY: usize = 512;
const HEADER: usize = 4;

/// A whole VPD page, its header included, checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpdPage {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl VpdPage {
    /// Decodes the page with the code `page`. `None` if the text is not strict base64, or the bytes are not such a page
    /// of a disk with at least one byte of content.
    pub fn from_base64(text: &[u8], page: u8) -> Option<Self> {
        let mut decoded = VpdPage {
            bytes: [0; CAPACITY],
            length: 0,
        };
        let available = decode(text, &mut decoded.bytes)?;
        let [peripheral, code, high, low, ..] = decoded.bytes;
        let content = usize::from(u16::from_be_bytes([high, low]));
        if peripheral != 0 || code != page || content == 0 || HEADER + content > available {
            return None;
        }
        // What follows the page's own length is not part of it and must not reach the initiator.
        decoded.length = HEADER + content;
        Some(decoded)
    }

    /// The page's bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Base64 with the standard alphabet in whole groups of four, padding only at the end (RFC 4648 section 4). The number
/// of bytes written; `None` if the text is anything else or `out` too small.
fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let groups = text.len() / 4;
    let mut length = 0;
    for (index, group) in text.chunks_exact(4).enumerate() {
        let padding = match group {
            [.., b'=', b'='] => 2,
            [.., b'='] => 1,
            _ => 0,
        };
        if padding > 0 && index + 1 != groups {
            return None;
        }
        let mut bits = 0u32;
        for symbol in group.iter().take(4 - padding) {
            bits = bits << 6 | sextet(*symbol)?;
        }
        bits <<= 6 * padding;
        let bytes = bits.to_be_bytes();
        for byte in bytes.iter().skip(1).take(3 - padding) {
            *out.get_mut(length)? = *byte;
            length += 1;
        }
    }
    Some(length)
}

fn sextet(symbol: u8) -> Option<u32> {
    Some(u32::from(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_comes_out_as_it_went_in() {
        // 00 80 00 04 "abcd", then two bytes which are not part of the page.
        let page = VpdPage::from_base64(b"AIAABGFiY2R4eQ==", 0x80).unwrap();
        assert_eq!(page.as_slice(), b"\x00\x80\x00\x04abcd");
    }

    #[test]
    fn a_page_that_is_none_is_ignored() {
        assert_eq!(
            VpdPage::from_base64(b"AIAABGFiY2Q=", 0x83),
            None,
            "another page"
        );
        assert_eq!(
            VpdPage::from_base64(b"AIAACGFiY2Q=", 0x80),
            None,
            "longer than its bytes"
        );
        assert_eq!(VpdPage::from_base64(b"AIAAAA==", 0x80), None, "no content");
        assert_eq!(VpdPage::from_base64(b"AAAA", 0x80), None, "no header");
        assert_eq!(VpdPage::from_base64(b"", 0x80), None);
    }

    #[test]
    fn only_strict_base64_decodes() {
        let mut out = [0; 16];
        assert_eq!(decode(b"TWFu", &mut out), Some(3));
        assert_eq!(&out[..3], b"Man");
        assert_eq!(decode(b"TWE=", &mut out), Some(2));
        assert_eq!(decode(b"TQ==", &mut out), Some(1));
        for bad in [
            &b"TWF"[..],
            b"TQ==TWFu",
            b"T===",
            b"====",
            b"TW\nu",
            b"TQ=x",
            b" TWF",
        ] {
            assert_eq!(decode(bad, &mut out), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..1000), code in any::<u8>()) {
            if let Some(page) = VpdPage::from_base64(&text, code) {
                prop_assert!(page.as_slice().len() > HEADER);
            }
        }

        #[test]
        fn no_base64_is_too_long_to_be_refused(groups in 0usize..400) {
            let text = b"AIAB".repeat(groups);
            let _ = VpdPage::from_base64(&text, 0x80);
        }
    }
}
