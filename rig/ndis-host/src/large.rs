//! What a miniport is to say of a large send when it is done (Microsoft Learn,
//! NDIS_TCP_LARGE_SEND_OFFLOAD_NET_BUFFER_LIST_INFO: LsoV1TransmitComplete, LsoV2TransmitComplete).

use nt_sys::ndis::{
    LargeSend, NDIS_STATUS_SUCCESS, NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE, NET_BUFFER,
    NET_BUFFER_LIST, TcpLargeSendNetBufferListInfo,
};

use crate::data;

/// Bytes of a frame that hold all headers in front of TCP's payload.
const HEADERS: usize = 256;
/// NET_BUFFERs of a list that are looked at.
const MOST: usize = 8192;

/// What a list will have to say when it comes back; nothing for one that was no large send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Large(Option<LargeSend>);

fn word(list: &NET_BUFFER_LIST) -> LargeSend {
    LargeSend(list.NetBufferListInfo[TcpLargeSendNetBufferListInfo] as usize as u32)
}

impl Large {
    /// Of a list that is about to be sent.
    ///
    /// # Safety
    /// The list's NET_BUFFERs and MDLs are valid.
    #[inline]
    pub unsafe fn of(list: &NET_BUFFER_LIST) -> Self {
        let asked = word(list);
        if asked.0 == 0 {
            return Self(None);
        }
        if asked.version() != NDIS_TCP_LARGE_SEND_OFFLOAD_V1_TYPE {
            return Self(Some(LargeSend::v2_complete()));
        }
        let (mut payload, mut next) = (0, list.FirstNetBuffer);
        for _ in 0..MOST {
            // SAFETY: the caller's promise.
            let Some(buffer) = (unsafe { next.as_ref() }) else {
                break;
            };
            // SAFETY: as above.
            payload += unsafe { payload_of(buffer, asked.tcp_header_offset()) };
            next = buffer.Next;
        }
        Self(Some(LargeSend::v1_complete(payload)))
    }

    /// What a list that came back says, and what it should say, if that is something else. One that was not sent says
    /// nothing.
    pub fn is_wrong(&self, list: &NET_BUFFER_LIST) -> Option<(u32, u32)> {
        let expected = self.0.filter(|_| list.Status == NDIS_STATUS_SUCCESS)?;
        let said = word(list);
        // The highest bit is NDIS'.
        let differs = (said.0 ^ expected.0) << 1 != 0;
        differs.then_some((said.0, expected.0))
    }
}

/// Bytes behind TCP's header, which begins at an offset.
///
/// # Safety
/// The NET_BUFFER's MDLs are valid.
unsafe fn payload_of(buffer: &NET_BUFFER, tcp: u32) -> u32 {
    let mut bytes = [0; HEADERS];
    // SAFETY: the caller's promise.
    let count = unsafe { data::copy_out(buffer, &mut bytes) };
    // The header's length in words, in the upper half of its 13th byte.
    let length = bytes[..count]
        .get(tcp as usize + 12)
        .map_or(0, |byte| u32::from(byte >> 4) * 4);
    buffer.DataLength.saturating_sub(tcp + length)
}
