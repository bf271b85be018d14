//! Which frames of guest RAM are free.
//!
//! First fit over a bitmap, from a moving hint: simple, and fragmentation shows as it does on a real machine.
//! Frames below [`FIRST`] are never given out, as firmware keeps them.

use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::host::platform;
use crate::platform::PAGE_SIZE;
use crate::sync::Mutex;

/// The first frame that is given out (1 MiB).
pub const FIRST: u64 = 0x100;

/// A page frame number.
pub type Frame = u64;

struct Bitmap {
    /// One bit a frame, set when in use.
    words: Vec<u64>,
    frames: u64,
    hint: u64,
}

static BITMAP: Mutex<Option<Bitmap>> = Mutex::new(None);

fn with<R>(body: impl FnOnce(&mut Bitmap) -> R) -> R {
    let mut guard = BITMAP.lock();
    body(guard.get_or_insert_with(|| Bitmap::new(platform().physical().ram_frames)))
}

impl Bitmap {
    fn new(frames: u64) -> Self {
        let words = vec![0; frames.div_ceil(64) as usize];
        let mut bitmap = Self {
            words,
            frames,
            hint: FIRST,
        };
        for frame in 0..FIRST.min(frames) {
            bitmap.set(frame, true);
        }
        bitmap
    }

    fn get(&self, frame: Frame) -> bool {
        self.words[(frame / 64) as usize] & (1 << (frame % 64)) != 0
    }

    fn set(&mut self, frame: Frame, used: bool) {
        let word = &mut self.words[(frame / 64) as usize];
        let bit = 1 << (frame % 64);
        assert_eq!(
            *word & bit != 0,
            !used,
            "frame {frame:#x} given or freed twice"
        );
        if used {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The start of a run of `count` free frames within `[from, to)`.
    fn run(&self, count: u64, from: u64, to: u64) -> Option<Frame> {
        let mut start = from;
        let mut length = 0;
        let mut frame = from;
        while frame < to {
            if frame.is_multiple_of(64) && self.words[(frame / 64) as usize] == u64::MAX {
                frame += 64;
                start = frame;
                length = 0;
                continue;
            }
            if self.get(frame) {
                start = frame + 1;
                length = 0;
            } else {
                length += 1;
                if length == count {
                    return Some(start);
                }
            }
            frame += 1;
        }
        None
    }

    fn allocate(&mut self, count: u64, limit: u64) -> Option<Frame> {
        let limit = limit.min(self.frames);
        let hint = if self.hint < limit { self.hint } else { FIRST };
        let start = self
            .run(count, hint, limit)
            .or_else(|| self.run(count, FIRST.min(limit), limit))?;
        for frame in start..start + count {
            self.set(frame, true);
        }
        self.hint = start + count;
        Some(start)
    }
}

/// `count` consecutive free frames, now in use; contents undefined.
pub fn allocate(count: u64) -> Option<Frame> {
    allocate_below(count, u64::MAX)
}

/// As [`allocate`], all of them below frame `limit`.
pub fn allocate_below(count: u64, limit: u64) -> Option<Frame> {
    if count == 0 {
        return None;
    }
    with(|bitmap| bitmap.allocate(count, limit))
}

/// Takes `count` free frames from `start` out of use for ever: what a platform keeps for itself. Frames beyond the RAM do
/// not count.
pub fn reserve(start: Frame, count: u64) {
    with(|bitmap| {
        for frame in start..start.saturating_add(count).min(bitmap.frames) {
            if !bitmap.get(frame) {
                bitmap.set(frame, true);
            }
        }
    });
}

/// Gives `count` frames from `start` back. Frees that go wrong are the executive's own fault and panic.
pub fn free(start: Frame, count: u64) {
    with(|bitmap| {
        for frame in start..start + count {
            bitmap.set(frame, false);
        }
        bitmap.hint = bitmap.hint.min(start);
    });
}

/// Where the physical view shows `frame`.
pub fn address(frame: Frame) -> NonNull<u8> {
    let physical = platform().physical();
    assert!(frame < physical.frames);
    // SAFETY: the view spans `frames` pages from `base`.
    unsafe { physical.base.add(frame as usize * PAGE_SIZE) }
}

/// The frame that the physical view shows at `address`, if the address is in the view.
pub fn frame_of(address: usize) -> Option<Frame> {
    let physical = platform().physical();
    let offset = address.checked_sub(physical.base.as_ptr() as usize)? / PAGE_SIZE;
    ((offset as u64) < physical.frames).then_some(offset as u64)
}
