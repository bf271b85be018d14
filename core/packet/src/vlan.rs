//! Puts an 802.1Q tag into the headers of a frame, or takes it out.

use crate::ethernet::{ADDRESSES, TAG, TAGGED, Tci};
use crate::layout::{Layout, Mismatch};

/// Puts a tag behind the addresses; everything behind them moves up by four bytes. `headers` needs room for that. Gives the
/// new layout. A tag that was there is the inner one then.
///
/// # Errors
/// No room, or no Ethernet header.
pub fn insert(headers: &mut [u8], layout: &Layout, tag: Tci) -> Result<Layout, Mismatch> {
    if layout.ethernet.length == 0 {
        return Err(Mismatch);
    }
    let behind = layout.headers.checked_sub(ADDRESSES).ok_or(Mismatch)?;
    let end = layout.headers.checked_add(TAG).ok_or(Mismatch)?;
    let moved = headers.get_mut(ADDRESSES..end).ok_or(Mismatch)?;
    moved.copy_within(..behind, TAG);
    for (to, from) in moved
        .iter_mut()
        .zip([TAGGED.to_be_bytes(), tag.0.to_be_bytes()].as_flattened())
    {
        *to = *from;
    }
    let mut layout = layout.moved(TAG as i16);
    layout.ethernet.length += TAG as u16;
    layout.tag = Some(tag);
    Ok(layout)
}

/// Takes the outermost tag out: the addresses move up by four bytes, so the frame now begins at `headers[4]`, where the new
/// layout counts from. `None` if there is no tag; the headers are as they were.
///
/// # Errors
/// These are not the frame's headers.
pub fn remove(headers: &mut [u8], layout: &Layout) -> Result<Option<(Tci, Layout)>, Mismatch> {
    let Some(tag) = layout.tag else {
        return Ok(None);
    };
    let moved = headers.get_mut(..ADDRESSES + TAG).ok_or(Mismatch)?;
    moved.copy_within(..ADDRESSES, TAG);
    let mut layout = layout.moved(-(TAG as i16));
    layout.ethernet.length -= TAG as u16;
    layout.tag = None;
    Ok(Some((tag, layout)))
}
