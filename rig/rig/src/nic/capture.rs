//! Packet captures that Wireshark opens: the classic format, by the pcap-file crate.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use pcap_file::{
    DataLink, Endianness, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

/// Longer than any frame.
const LONGEST: u32 = 1 << 18;

/// What a file may hold, in bytes of frames: the beginning of a run that sends for minutes, not the disk's last byte.
const ROOM: u64 = 256 << 20;

/// A file that is shown frames as they pass. What is shown at once is kept in order.
#[derive(Clone)]
pub struct Capture(Arc<Mutex<State>>);

struct State {
    /// `None` after an error, when it is full, or when it is at rest.
    writer: Option<PcapWriter<BufWriter<File>>>,
    frames: u64,
    /// Bytes of frames that it may take yet.
    room: u64,
}

impl Capture {
    /// Begins a new file.
    pub fn new(path: &Path) -> io::Result<Self> {
        Self::with_room(path, ROOM)
    }

    fn with_room(path: &Path, room: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let header = PcapHeader {
            version_major: 2,
            version_minor: 4,
            ts_correction: 0,
            ts_accuracy: 0,
            snaplen: LONGEST,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
        };
        let file = BufWriter::new(File::create(path)?);
        let writer = PcapWriter::with_header(file, header).map_err(io::Error::other)?;
        Ok(Self(Arc::new(Mutex::new(State {
            writer: Some(writer),
            frames: 0,
            room,
        }))))
    }

    /// A frame, in pieces.
    pub fn show(&self, frame: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(room) = state.room.checked_sub(frame.len() as u64) else {
            state.writer = None;
            return;
        };
        state.room = room;
        let Some(writer) = &mut state.writer else {
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let packet = PcapPacket::new(now, frame.len() as u32, frame);
        match writer.write_packet(&packet) {
            Ok(_) => state.frames += 1,
            // A full disk ends the capture, not the run.
            Err(_) => state.writer = None,
        }
    }

    /// Ends the file. Returns how many frames are in it.
    pub fn finish(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Written out when it is dropped.
        state.writer = None;
        state.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::PcapReader;

    #[test]
    fn what_was_shown_is_in_the_file_until_it_ended() {
        let path = std::env::temp_dir().join(format!("winpv-capture-{}.pcap", std::process::id()));
        let frames = [vec![1; 60], vec![2; 65_549]];
        let capture = Capture::with_room(&path, 65_610).unwrap();
        for frame in &frames {
            capture.show(frame);
        }
        // Full: the second byte of this one has no room.
        capture.show(&[3; 2]);
        assert_eq!(capture.finish(), 2);
        capture.show(&[3; 1]);
        let mut reader = PcapReader::new(File::open(&path).unwrap()).unwrap();
        let mut found = Vec::new();
        while let Some(packet) = reader.next_packet() {
            found.push(packet.unwrap().data.into_owned());
        }
        assert_eq!(found, frames);
        fs::remove_file(path).unwrap();
    }
}
