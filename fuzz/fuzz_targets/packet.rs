//! Any bytes as a frame in fragments: parsed, checked, hashed, tagged, cut into segments, joined again.
#![no_main]

#[path = "../../core/packet/src/tests/exercise.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(([mss @ .., kind, first, second, third], frame)) = bytes.split_first_chunk::<6>()
    else {
        return;
    };
    // Two bytes that are right at once take long to be found.
    let mut frame = frame.to_vec();
    let kinds = [None, Some(0x0800u16), Some(0x86dd), Some(0x8100)];
    if let (Some(kind), Some(place)) = (kinds[usize::from(kind % 4)], frame.get_mut(12..14)) {
        place.copy_from_slice(&kind.to_be_bytes());
    }
    let mut places = [first, second, third].map(|place| usize::from(*place).min(frame.len()));
    places.sort();
    let [first, second, third] = places;
    let fragments = [
        &frame[..first],
        &frame[first..second],
        &frame[second..third],
        &frame[third..],
    ];
    let mss = u16::from_be_bytes(*mss);
    exercise::exercise(&fragments, mss, !mss);
});
