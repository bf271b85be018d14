//! Frames for the tests: built, with their checksums, by the etherparse crate, and cut into fragments.

mod announce;
mod coalesce;
mod exercise;
mod hostile;
mod parse;
mod queues;
mod receive;
mod segment;
mod transmit;
mod transport;
mod vlan;

use etherparse::{
    IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, TcpHeader, VlanId, ip_number,
};
use proptest::prelude::*;

use crate::{Extent, Layout, MAX_HEADERS, Parsed};

const SOURCE_V4: [u8; 4] = [192, 0, 2, 1];
const DESTINATION_V4: [u8; 4] = [198, 51, 100, 7];
const SOURCE_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DESTINATION_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd];

/// A frame to be built.
#[derive(Clone, Debug)]
struct Sample {
    tag: Option<u16>,
    v6: bool,
    /// Of IPv4, or the content of a hop-by-hop header of IPv6; in units that fit.
    ip_options: Option<Vec<u8>>,
    identification: u16,
    ports: (u16, u16),
    /// A UDP datagram if there is none.
    tcp: Option<Tcp>,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Tcp {
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Sample {
            tag: None,
            v6: false,
            ip_options: None,
            identification: 0x1234,
            ports: (2049, 50001),
            tcp: None,
            payload: b"payload".to_vec(),
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp {
            sequence: 1_000_000,
            acknowledgement: 77,
            flags: crate::tcp::ACK,
            window: 512,
            options: vec![],
        }
    }
}

impl Sample {
    fn tcp() -> Sample {
        Sample {
            tcp: Some(Tcp::default()),
            ..Sample::default()
        }
    }

    fn ip(&self) -> IpHeaders {
        if self.v6 {
            let header = Ipv6Header {
                hop_limit: 60,
                source: SOURCE_V6,
                destination: DESTINATION_V6,
                ..Ipv6Header::default()
            };
            let extensions = Ipv6Extensions {
                hop_by_hop_options: self
                    .ip_options
                    .as_ref()
                    .map(|bytes| Ipv6RawExtHeader::new_raw(ip_number::TCP, bytes).unwrap()),
                ..Ipv6Extensions::default()
            };
            IpHeaders::Ipv6(header, extensions)
        } else {
            let mut header =
                Ipv4Header::new(0, 60, ip_number::TCP, SOURCE_V4, DESTINATION_V4).unwrap();
            header.identification = self.identification;
            if let Some(bytes) = &self.ip_options {
                header.options = bytes.as_slice().try_into().unwrap();
            }
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
    }

    fn build(&self) -> Vec<u8> {
        let mut frame = vec![];
        let ethernet =
            PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0, 0x16, 0x3e, 0xaa, 0xbb, 0xcc]);
        let ip = match self.tag {
            Some(tag) => ethernet
                .single_vlan(VlanId::try_new(tag).unwrap())
                .ip(self.ip()),
            None => ethernet.ip(self.ip()),
        };
        match &self.tcp {
            Some(tcp) => {
                let mut header =
                    TcpHeader::new(self.ports.0, self.ports.1, tcp.sequence, tcp.window);
                header.acknowledgment_number = tcp.acknowledgement;
                let flag = |mask: u8| tcp.flags & mask != 0;
                (header.fin, header.syn, header.rst, header.psh) =
                    (flag(1), flag(2), flag(4), flag(8));
                (header.ack, header.urg, header.ece, header.cwr) =
                    (flag(0x10), flag(0x20), flag(0x40), flag(0x80));
                header.set_options_raw(&tcp.options).unwrap();
                ip.tcp_header(header)
                    .write(&mut frame, &self.payload)
                    .unwrap();
            }
            None => ip
                .udp(self.ports.0, self.ports.1)
                .write(&mut frame, &self.payload)
                .unwrap(),
        }
        frame
    }
}

/// Frames of all kinds that can be built.
fn samples() -> impl Strategy<Value = Sample> {
    let tcp = (
        any::<u32>(),
        any::<u32>(),
        any::<u8>(),
        any::<u16>(),
        0usize..=10,
    )
        .prop_map(|(sequence, acknowledgement, flags, window, words)| Tcp {
            sequence,
            acknowledgement,
            flags,
            window,
            options: vec![1; words * 4],
        });
    let ip_options = (
        any::<bool>(),
        proptest::option::of(0usize..=10),
        any::<u8>(),
    )
        .prop_map(|(v6, units, fill)| {
            let bytes = |units| match v6 {
                true => vec![fill; 6 + 8 * units],
                false => vec![fill; 4 * units],
            };
            (v6, units.map(bytes))
        });
    (
        proptest::option::of(0u16..4096),
        ip_options,
        any::<u16>(),
        any::<(u16, u16)>(),
        proptest::option::of(tcp),
        proptest::collection::vec(any::<u8>(), 0..600),
    )
        .prop_map(
            |(tag, (v6, ip_options), identification, ports, tcp, payload)| Sample {
                tag,
                v6,
                ip_options,
                identification,
                ports,
                tcp,
                payload,
            },
        )
}

/// Where to cut: positions are taken modulo the length, so some fragments are empty.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(any::<usize>(), 0..6)
}

fn scatter<'a>(frame: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (frame.len() + 1)).collect();
    places.extend([0, frame.len()]);
    places.sort();
    places
        .windows(2)
        .map(|pair| &frame[pair[0]..pair[1]])
        .collect()
}

/// The headers of a frame, and what they are.
fn parse(frame: &[u8], extent: Extent) -> (Vec<u8>, Parsed) {
    let mut headers = vec![0; MAX_HEADERS];
    let parsed = crate::parse([frame].into_iter(), extent, &mut headers);
    headers.truncate(parsed.layout.headers);
    (headers, parsed)
}

/// The same of a frame that has no fault.
fn well(frame: &[u8]) -> (Vec<u8>, Layout) {
    let (headers, parsed) = parse(frame, Extent::Header);
    (headers, parsed.whole().unwrap())
}
