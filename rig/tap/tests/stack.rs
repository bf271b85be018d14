//! A namespace's Linux, spoken to through its device. Without the right to make namespaces there is nothing to test.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};
use tap::{Address, Namespace, NetError, Offloads, Tap, Waker, vnet};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LINUX: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// For a machine that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn address(ip: &str, prefix: u8) -> Address {
    let ip = ip.parse().unwrap();
    Address { ip, prefix }
}

/// A namespace whose device is up; `None` where there can be none.
fn stack(role: &str) -> Option<(Namespace, Arc<Tap>)> {
    let namespace = match Namespace::new(role) {
        Err(error @ NetError::Forbidden { .. }) => {
            println!("skipped: {error}");
            return None;
        }
        made => made.unwrap(),
    };
    let tap = match Tap::new(&namespace, "test0", LINUX, 1500) {
        Err(error @ NetError::NoTun) => {
            println!("skipped: {error}");
            return None;
        }
        made => made.unwrap(),
    };
    let addresses = [address("10.117.9.2", 24), address("fd00:117:9::2", 64)];
    tap.up(&namespace, &addresses).unwrap();
    Some((namespace, Arc::new(tap)))
}

#[test]
fn linux_answers_through_its_device_and_leaves_nothing() {
    let Some((namespace, tap)) = stack("answers") else {
        return;
    };
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::new(Arc::clone(&tap), move || sender.send(()).unwrap()).unwrap();
    let builder = PacketBuilder::ethernet2(OURS, LINUX).ipv4([10, 117, 9, 1], [10, 117, 9, 2], 64);
    let mut ping = Vec::new();
    let data = [7; 400];
    builder
        .icmpv4_echo_request(3, 4)
        .write(&mut ping, &data)
        .unwrap();
    // Linux asks for our address before it answers.
    let arp = PacketBuilder::ethernet2(OURS, LINUX).arp(
        etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            etherparse::EtherType::IPV4,
            etherparse::ArpOperation::REPLY,
            &OURS,
            &[10, 117, 9, 1],
            &LINUX,
            &[10, 117, 9, 2],
        )
        .unwrap(),
    );
    let mut reply = Vec::new();
    arp.write(&mut reply).unwrap();
    let plain = vnet::Header::default();
    tap.write(&plain, &[&ping[..14], &ping[14..]]).unwrap();
    let mut buffer = [0; 65536];
    let end = Instant::now() + PATIENCE;
    loop {
        receiver
            .recv_timeout(end - Instant::now())
            .expect("an answer");
        let mut answered = false;
        while let Some((_, length)) = tap.read(&mut buffer).unwrap() {
            let frame = SlicedPacket::from_ethernet(&buffer[..length]).unwrap();
            match frame.transport {
                Some(TransportSlice::Icmpv4(icmp)) => {
                    let echo = Icmpv4Type::EchoReply(IcmpEchoHeader { id: 3, seq: 4 });
                    assert_eq!((icmp.icmp_type(), icmp.payload()), (echo, &data[..]));
                    answered = true;
                }
                _ => tap.write(&plain, &[&reply]).unwrap(),
            }
        }
        if answered {
            break;
        }
        waker.found_none().unwrap();
    }
    let file = format!("/run/netns/{}", namespace.name());
    assert!(std::fs::exists(&file).unwrap());
    drop((waker, tap, namespace));
    assert!(!std::fs::exists(&file).unwrap());
}

/// A checksum is left partial if it may be, and complete if it may not.
#[test]
fn linux_leaves_undone_what_the_reader_completes() {
    let Some((namespace, tap)) = stack("offloads") else {
        return;
    };
    tap.set_largest(&namespace, 30_000).unwrap();
    for (offloads, partial) in [
        (Offloads::default(), false),
        (
            Offloads {
                checksums: true,
                tso4: true,
                tso6: true,
                uso: true,
            },
            true,
        ),
    ] {
        tap.set_offloads(offloads).unwrap();
        // A datagram to the group of all nodes: nobody is asked for an address.
        namespace
            .run(|_| {
                let socket = std::net::UdpSocket::bind("10.117.9.2:0")?;
                socket.send_to(&[1; 99], "224.0.0.1:9")
            })
            .unwrap();
        let mut buffer = [0; 65536];
        let end = Instant::now() + PATIENCE;
        let (header, length) = loop {
            assert!(Instant::now() < end);
            match tap.read(&mut buffer).unwrap() {
                Some((header, length)) if buffer[..length].ends_with(&[1; 99]) => {
                    break (header, length);
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert_eq!(header.partial.is_some(), partial);
        let frame = &mut buffer[..length];
        if let Some(vnet::Partial { start, offset }) = header.partial {
            assert_eq!((start, offset), (34, 6));
            assert!(tap::frame::complete(frame, start.into(), offset.into()));
        }
        let layout = tap::frame::Layout::of(frame).unwrap();
        assert_eq!(layout.is_right(frame), Some(true));
    }
}
