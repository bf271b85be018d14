//! Frames made to do harm: any bytes, and good frames with bytes changed.

use proptest::prelude::*;

use super::exercise::exercise;
use super::*;

#[test]
fn single_bytes_changed_in_any_way() {
    let frames = [
        Sample::tcp(),
        Sample::default(),
        Sample {
            v6: true,
            ip_options: Some(vec![0; 6]),
            ..Sample::tcp()
        },
        Sample {
            tag: Some(1),
            ip_options: Some(vec![1; 4]),
            ..Sample::default()
        },
    ];
    for frame in frames.map(|sample| sample.build()) {
        for at in 0..frame.len() {
            for value in [
                0, 1, 5, 6, 0x0f, 0x11, 0x2b, 0x2c, 0x45, 0x7f, 0x80, 0xf0, 0xff,
            ] {
                let mut frame = frame.clone();
                frame[at] = value;
                exercise(&[&frame], 8, 1);
            }
        }
        for length in 0..frame.len() {
            exercise(&[&frame[..length]], 8, 1);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in proptest::sample::select(vec![0u16, 8, 0x0800, 0x86dd, 0x8100]),
        cuts in cuts(),
        mss in any::<u16>(),
    ) {
        let mut bytes = bytes;
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        exercise(&scatter(&bytes, &cuts), mss, mss);
    }

    #[test]
    fn good_frames_with_changes(
        sample in samples(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cuts in cuts(),
        mss in 1u16..300,
    ) {
        let mut frame = sample.build();
        let headers = frame.len().min(100);
        for (at, value) in changes {
            frame[at % headers] = value;
        }
        exercise(&scatter(&frame, &cuts), mss, mss);
    }
}
