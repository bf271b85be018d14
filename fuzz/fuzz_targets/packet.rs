//! Any bytes as a frame in fragments: parsed, checked, hashed, tagged, cut into segments, joined again.
#![no_main]

#[path = "../../core/packet/src/tests/exercise.rs"]
mod exercise;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(([mss @ .., first, second, third], frame)) = bytes.split_first_chunk::<5>() else {
        return;
    };
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
