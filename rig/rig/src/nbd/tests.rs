//! The server against a client that is written here from the protocol's document, byte by byte.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::memory_disk::MemoryDisk;

fn start(disks: Vec<Arc<MemoryDisk>>) -> Server {
    Bound::new(&"127.0.0.1:0".parse().unwrap())
        .unwrap()
        .serve(disks)
        .unwrap()
}

struct Client(TcpStream);

impl Client {
    fn connect(server: &Server) -> Self {
        let Address::Tcp(address) = server.address() else {
            panic!("a TCP address")
        };
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self(stream)
    }

    /// Greets, and answers with the flags of fixed newstyle.
    fn greeted(server: &Server) -> Self {
        let mut client = Self::connect(server);
        assert_eq!(&client.bytes(16), b"NBDMAGICIHAVEOPT");
        assert_eq!(client.bytes(2), [0, 3]);
        client.send(&[&[0, 0, 0, 3]]);
        client
    }

    /// Ready for requests to the disk of that name.
    fn of_disk(server: &Server, name: &str) -> (Self, u64, u16) {
        let mut client = Self::greeted(server);
        client.option(1, name.as_bytes());
        let size = u64::from_be_bytes(client.bytes(8).try_into().unwrap());
        let flags = u16::from_be_bytes(client.bytes(2).try_into().unwrap());
        (client, size, flags)
    }

    fn send(&mut self, parts: &[&[u8]]) {
        self.0.write_all(&parts.concat()).unwrap();
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn option(&mut self, option: u32, data: &[u8]) {
        self.send(&[
            b"IHAVEOPT",
            &option.to_be_bytes(),
            &(data.len() as u32).to_be_bytes(),
            data,
        ]);
    }

    fn option_reply(&mut self) -> (u32, Vec<u8>) {
        assert_eq!(self.bytes(8), 0x0003_e889_0455_65a9u64.to_be_bytes());
        let head = self.bytes(12);
        let length = u32::from_be_bytes(head[8..].try_into().unwrap());
        (
            u32::from_be_bytes(head[4..8].try_into().unwrap()),
            self.bytes(length as usize),
        )
    }

    fn request(&mut self, command: u32, cookie: u64, offset: u64, length: u32, data: &[u8]) {
        self.send(&[
            &0x2560_9513u32.to_be_bytes(),
            &command.to_be_bytes(),
            &cookie.to_be_bytes(),
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
            data,
        ]);
    }

    /// Error and cookie of the next reply.
    fn reply(&mut self) -> (u32, u64) {
        let head = self.bytes(16);
        assert_eq!(head[..4], 0x6744_6698u32.to_be_bytes());
        (
            u32::from_be_bytes(head[4..8].try_into().unwrap()),
            u64::from_be_bytes(head[8..].try_into().unwrap()),
        )
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

const READ: u32 = 0;
const WRITE: u32 = 1;
const DISCONNECT: u32 = 2;
const FLUSH: u32 = 3;
const TRIM: u32 = 4;
const WRITE_ZEROES: u32 = 6;
/// NBD_CMD_FLAG_FUA in the upper half of the word that holds flags and command.
const FUA: u32 = 1 << 16;

#[test]
fn the_list_names_every_disk_in_order() {
    let server = start(vec![
        MemoryDisk::new("disk0", 8),
        MemoryDisk::new("disk1", 8),
    ]);
    let mut client = Client::greeted(&server);
    client.option(3, &[]);
    assert_eq!(client.option_reply(), (2, b"\0\0\0\x05disk0".to_vec()));
    assert_eq!(client.option_reply(), (2, b"\0\0\0\x05disk1".to_vec()));
    assert_eq!(client.option_reply(), (1, vec![]));
}

#[test]
fn go_tells_size_flags_and_block_sizes_and_an_unknown_name_is_an_error_reply() {
    let server = start(vec![MemoryDisk::new("disk0", 8)]);
    let mut client = Client::greeted(&server);
    client.option(7, b"\0\0\0\x03foo\0\0");
    assert_eq!(client.option_reply().0, 0x8000_0006);
    client.option(7, b"\0\0\0\x00\0\0");
    let (kind, export) = client.option_reply();
    assert_eq!(
        (kind, &export[..10]),
        (3, &[0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0][..])
    );
    let (kind, sizes) = client.option_reply();
    assert_eq!((kind, &sizes[..6]), (3, &[0, 3, 0, 0, 0, 1][..]));
    assert_eq!(client.option_reply().0, 1);
    client.request(READ, 1, 0, 512, &[]);
    assert_eq!(client.reply(), (0, 1));
}

#[test]
fn what_is_written_is_read_back_and_reaches_the_disk() {
    let disk = MemoryDisk::new("disk0", 4096);
    let server = start(vec![Arc::clone(&disk)]);
    let (mut client, size, _) = Client::of_disk(&server, "");
    assert_eq!(size, 4096 * 512);
    // Larger than a transfer: three transfers, which end in reverse.
    let data: Vec<u8> = (0..150 * 1024).map(|n: u32| (n >> 7) as u8).collect();
    client.request(WRITE, 7, 1024, data.len() as u32, &data);
    assert_eq!(client.reply(), (0, 7));
    client.request(READ, 8, 1024, data.len() as u32, &[]);
    assert_eq!(client.reply(), (0, 8));
    assert_eq!(client.bytes(data.len()), data);
    client.request(DISCONNECT, 9, 0, 0, &[]);
    assert!(client.is_closed());
    let summary = server.stop();
    assert_eq!(
        (summary.connections, summary.requests, summary.failed),
        (1, 2, 0)
    );
    assert_eq!((summary.read, summary.written), (150 * 1024, 150 * 1024));
    assert_eq!(disk.content.lock().unwrap()[1024..1024 + data.len()], data);
}

#[test]
fn requests_are_answered_by_cookie_whatever_their_order() {
    let server = start(vec![MemoryDisk::new("disk0", 4096)]);
    let (mut client, ..) = Client::of_disk(&server, "disk0");
    for cookie in 0..200u64 {
        client.request(WRITE, cookie, cookie * 512, 512, &[cookie as u8; 512]);
    }
    let mut cookies: Vec<_> = (0..200).map(|_| client.reply()).collect();
    cookies.sort_unstable();
    assert!(
        cookies
            .iter()
            .copied()
            .eq((0..200).map(|cookie| (0, cookie)))
    );
}

#[test]
fn flush_and_fua_reach_the_disk_before_their_answer() {
    let disk = MemoryDisk::new("disk0", 64);
    let server = start(vec![Arc::clone(&disk)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    client.request(FLUSH, 1, 0, 0, &[]);
    assert_eq!(client.reply(), (0, 1));
    assert_eq!(*disk.flushes.lock().unwrap(), 1);
    client.request(WRITE | FUA, 2, 0, 512, &[1; 512]);
    assert_eq!(client.reply(), (0, 2));
    assert_eq!(*disk.flushes.lock().unwrap(), 2);
}

#[test]
fn trim_and_write_zeroes_clear() {
    let disk = MemoryDisk::new("disk0", 1024);
    let server = start(vec![Arc::clone(&disk)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    client.request(TRIM, 1, 0, 1024, &[]);
    client.request(WRITE_ZEROES, 2, 2048, 200 * 1024, &[]);
    let mut replies = [client.reply(), client.reply()];
    replies.sort_unstable();
    assert_eq!(replies, [(0, 1), (0, 2)]);
    let content = disk.content.lock().unwrap();
    assert!(content[..1024].iter().all(|byte| *byte == 0));
    assert!(content[1024..2048].iter().all(|byte| *byte == 0xEE));
    assert!(
        content[2048..2048 + 200 * 1024]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_request_outside_the_disk_is_refused_and_the_connection_goes_on() {
    let server = start(vec![MemoryDisk::new("disk0", 8)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    for (command, offset, length, data, error) in [
        (READ, 4096, 512, &[][..], 22),
        (READ, u64::MAX - 511, 512, &[][..], 22),
        (READ, 0, 0, &[][..], 22),
        (READ, 0, 0xFFFF_FE00, &[][..], 22),
        (WRITE, 3584, 1024, &[0; 1024][..], 28),
        (TRIM, 4096, 512, &[][..], 28),
        (FLUSH, 512, 0, &[][..], 22),
        (99, 0, 0, &[][..], 22),
        (READ | 0x8000 << 16, 0, 512, &[][..], 22),
    ] {
        client.request(command, 5, offset, length, data);
        assert_eq!(
            client.reply(),
            (error, 5),
            "command {command} at {offset} for {length}"
        );
    }
    client.request(READ, 6, 3584, 512, &[]);
    assert_eq!(client.reply(), (0, 6));
}

#[test]
fn any_bytes_can_be_written_zeroed_trimmed_and_read_and_those_beside_them_stay() {
    let disk = MemoryDisk::new("disk0", 512);
    let server = start(vec![Arc::clone(&disk)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    let mut expected = vec![0xEE; 512 * 512];
    // Ends inside a block, begins inside one, lies inside one, and needs several transfers.
    for (offset, length) in [(0, 700), (1000, 24), (2049, 5), (4097, 200_000)] {
        let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        client.request(WRITE, 1, offset as u64, length as u32, &data);
        assert_eq!(client.reply(), (0, 1));
        expected[offset..offset + length].copy_from_slice(&data);
    }
    client.request(WRITE_ZEROES, 2, 10, 20, &[]);
    assert_eq!(client.reply(), (0, 2));
    expected[10..30].fill(0);
    client.request(TRIM, 3, 5000, 1000, &[]);
    assert_eq!(client.reply(), (0, 3));
    expected[5120..5632].fill(0);
    assert_eq!(*disk.content.lock().unwrap(), expected);
    for (offset, length) in [(1, 1), (511, 2), (3, 100_001)] {
        client.request(READ, 4, offset as u64, length as u32, &[]);
        assert_eq!(client.reply(), (0, 4));
        assert_eq!(client.bytes(length), expected[offset..offset + length]);
    }
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let server = start(vec![MemoryDisk::new("ro", 8)]);
    let (mut client, _, flags) = Client::of_disk(&server, "ro");
    assert_eq!(flags & 2, 2);
    client.request(WRITE, 1, 0, 512, &[0; 512]);
    assert_eq!(client.reply(), (1, 1));
}

#[test]
fn garbage_ends_the_connection_and_only_that() {
    let disk = MemoryDisk::new("disk0", 8);
    let server = start(vec![Arc::clone(&disk)]);
    let mut bystander = Client::of_disk(&server, "").0;

    let mut client = Client::greeted(&server);
    client.send(&[b"GET / HTTP/1.1\r\n\r\n"]);
    assert!(client.is_closed(), "not an option");
    let mut client = Client::greeted(&server);
    client.send(&[b"IHAVEOPT", &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()]);
    assert!(client.is_closed(), "an option of 4 GiB");
    let mut client = Client::of_disk(&server, "").0;
    client.send(&[&[0x55; 28]]);
    assert!(client.is_closed(), "not a request");
    let mut client = Client::of_disk(&server, "").0;
    client.request(WRITE, 1, 0, 0x4000_0000, &[]);
    assert!(client.is_closed(), "a write of 1 GiB");
    let mut client = Client::greeted(&server);
    client.option(1, b"nothing of this name");
    assert!(client.is_closed(), "an unknown name has no error reply");

    bystander.request(READ, 1, 0, 512, &[]);
    assert_eq!(bystander.reply(), (0, 1));
    assert_eq!(bystander.bytes(512), [0xEE; 512]);
}

#[test]
fn a_client_that_disappears_in_a_write_loses_nothing_and_changes_nothing() {
    let disk = MemoryDisk::new("disk0", 64);
    let server = start(vec![Arc::clone(&disk)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    client.request(WRITE, 1, 0, 512, &[1; 512]);
    assert_eq!(client.reply(), (0, 1));
    client.request(WRITE, 2, 0, 8192, &[2; 5000]);
    drop(client);
    let (mut client, ..) = Client::of_disk(&server, "");
    client.request(READ, 3, 0, 1024, &[]);
    assert_eq!(client.reply(), (0, 3));
    assert_eq!(client.bytes(512), [1; 512]);
    assert_eq!(client.bytes(512), [0xEE; 512]);
}

#[test]
fn a_client_that_asks_and_never_listens_does_not_keep_the_server_from_stopping() {
    let server = start(vec![MemoryDisk::new("disk0", 65536)]);
    let (mut client, ..) = Client::of_disk(&server, "");
    client.request(READ, 1, 0, 16 << 20, &[]);
    drop(client);
    server.stop();
}

#[test]
fn options_with_lengths_that_lie_are_refused() {
    let server = start(vec![MemoryDisk::new("disk0", 8)]);
    let mut client = Client::greeted(&server);
    for data in [
        &b"\xFF\xFF\xFF\xFF"[..],
        b"\0\0\0\0",
        b"\0\0\0\0\0\x09\0\0",
        b"\0\0\0\x05ab\0\0",
    ] {
        client.option(6, data);
        assert_eq!(client.option_reply().0, 0x8000_0003, "{data:?}");
    }
    client.option(5, &[]);
    assert_eq!(client.option_reply().0, 0x8000_0001, "no TLS");
    client.option(2, &[]);
    assert_eq!(client.option_reply().0, 1);
    assert!(client.is_closed());
}

#[test]
fn addresses_are_host_and_port_or_a_path() {
    assert_eq!(
        "127.0.0.1:10809".parse(),
        Ok(Address::Tcp("127.0.0.1:10809".to_owned()))
    );
    assert_eq!("unix:/tmp/s".parse(), Ok(Address::Unix("/tmp/s".into())));
    for wrong in [
        "",
        "localhost",
        ":10809",
        "host:port",
        "host:70000",
        "unix:",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}

#[test]
fn a_busy_address_is_an_error() {
    let server = start(vec![MemoryDisk::new("disk0", 8)]);
    let error = Bound::new(server.address()).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
