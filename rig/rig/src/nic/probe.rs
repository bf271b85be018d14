//! What the rig itself does between the two stacks: echo requests, TCP with every byte compared, throughput. Programs of
//! others do more (`./x test net`), and do not have to be installed for this.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt,
};

use super::ends::End;

/// How long an answer may take before it counts as lost: for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a connection that hangs.
const STUCK: Duration = Duration::from_secs(120);
/// Bytes that are written and read at a time.
const CHUNK: usize = 256 << 10;

/// What became of echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Requests.
    pub sent: u32,
    /// Answers with the same data.
    pub answered: u32,
    /// Of all answers.
    pub mean: Duration,
    /// The longest.
    pub max: Duration,
}

/// Sends echo requests with so many bytes of data, one after the other.
pub fn ping(from: &End, to: IpAddr, bytes: usize, count: u32) -> io::Result<Ping> {
    from.namespace().run(|_| {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket(family, SocketType::RAW, Some(protocol))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let mut times = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        for number in 0..count {
            let request = echo(to, number as u16, bytes);
            let started = Instant::now();
            sendto(
                &socket,
                &request,
                SendFlags::empty(),
                &SocketAddr::new(to, 0),
            )?;
            while started.elapsed() < PATIENCE {
                let length = match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => length,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                };
                // Raw sockets show IPv4's header, and not IPv6's.
                let start = match to {
                    IpAddr::V4(_) => usize::from(buffer[0] & 0xF) * 4,
                    IpAddr::V6(_) => 0,
                };
                if buffer[..length]
                    .get(start..)
                    .is_some_and(|answer| is_answer(&request, answer))
                {
                    times.push(started.elapsed());
                    break;
                }
            }
        }
        let answered = times.len() as u32;
        let sum: Duration = times.iter().sum();
        Ok(Ping {
            sent: count,
            answered,
            mean: sum.checked_div(answered).unwrap_or_default(),
            max: times.into_iter().max().unwrap_or_default(),
        })
    })
}

/// An echo request. RFC 792, RFC 4443; the kernel completes IPv6's checksum.
fn echo(to: IpAddr, number: u16, bytes: usize) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let [high, low] = number.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, 0x57, 0x50, high, low];
    message.extend((0..bytes).map(|at| at as u8 ^ low));
    if to.is_ipv4() {
        let checksum = !tap::frame::sum(&message, 0) as u16;
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

fn is_answer(request: &[u8], answer: &[u8]) -> bool {
    let kind = if request[0] == 8 { 0 } else { 129 };
    answer.first() == Some(&kind) && answer.get(4..) == Some(&request[4..])
}

/// A TCP connection's data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first to the last.
    pub elapsed: Duration,
}

impl Moved {
    /// Bits in a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64()
    }
}

/// When a connection has sent enough.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many bytes.
    Bytes(u64),
    /// After so long.
    Time(Duration),
}

/// Sends data over TCP; the receiver looks at every byte if `compare`.
pub fn transfer(
    from: &End,
    to: &End,
    address: IpAddr,
    until: Until,
    compare: bool,
) -> io::Result<Moved> {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let receive = scope.spawn(|| {
            to.namespace().run(move |_| {
                let listener = TcpListener::bind((address, 0))?;
                // Also of accept.
                sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(STUCK))?;
                // The other side waits for it.
                let _ = sender.send(listener.local_addr()?);
                let (stream, _) = listener.accept()?;
                drain(stream, compare)
            })
        });
        let sent = from.namespace().run(move |_| {
            let address = receiver
                .recv_timeout(STUCK)
                .map_err(|_| io::Error::other("nobody listens"))?;
            let stream = TcpStream::connect_timeout(&address, STUCK)?;
            fill(stream, until, compare)
        })?;
        let moved = receive
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the receiver panicked")))?;
        if moved.bytes != sent {
            let what = format!("{sent} bytes were sent, {} arrived", moved.bytes);
            return Err(io::Error::other(what));
        }
        Ok(moved)
    })
}

/// The byte at a place of a stream: no two parts of it are alike for long.
pub(super) fn pattern(at: u64, bytes: &mut [u8]) {
    for (index, byte) in bytes.iter_mut().enumerate() {
        // Fibonacci hashing: the top bits of multiples of 2^64 divided by the golden ratio.
        let hash = (at + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        *byte = (hash >> 56) as u8;
    }
}

fn fill(mut stream: TcpStream, until: Until, vary: bool) -> io::Result<u64> {
    stream.set_write_timeout(Some(STUCK))?;
    stream.set_read_timeout(Some(STUCK))?;
    let started = Instant::now();
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let left = match until {
            Until::Bytes(bytes) => bytes - sent,
            Until::Time(time) if started.elapsed() < time => u64::MAX,
            Until::Time(_) => 0,
        };
        if left == 0 {
            break;
        }
        let length = left.min(CHUNK as u64) as usize;
        if vary {
            pattern(sent, &mut chunk[..length]);
        }
        stream.write_all(&chunk[..length])?;
        sent += length as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    // The receiver closes when it has everything.
    stream.read_exact(&mut [0])?;
    Ok(sent)
}

fn drain(mut stream: TcpStream, compare: bool) -> io::Result<Moved> {
    stream.set_read_timeout(Some(STUCK))?;
    let started = Instant::now();
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut bytes = 0;
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        if compare {
            pattern(bytes, &mut expected[..length]);
            if chunk[..length] != expected[..length] {
                let what = format!("a TCP stream differs within {length} bytes from {bytes} on");
                return Err(io::Error::other(what));
            }
        }
        bytes += length as u64;
    }
    let elapsed = started.elapsed();
    stream.write_all(&[1])?;
    Ok(Moved { bytes, elapsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_by_its_own_data() {
        for to in ["10.0.0.1", "fd00::1"] {
            let to: IpAddr = to.parse().unwrap();
            let request = echo(to, 7, 100);
            let mut answer = request.clone();
            answer[0] = if to.is_ipv4() { 0 } else { 129 };
            assert!(is_answer(&request, &answer));
            assert!(!is_answer(&request, &request));
            answer[50] ^= 1;
            assert!(!is_answer(&request, &answer));
            assert!(!is_answer(&request, &[]));
        }
    }

    #[test]
    fn a_stream_does_not_repeat_itself_soon() {
        let mut bytes = vec![0; 1 << 18];
        pattern(0, &mut bytes);
        let mut later = vec![0; 1000];
        pattern(70_000, &mut later);
        assert_eq!(bytes[70_000..71_000], later);
        for distance in [1, 256, 1448, 4096, 65_536] {
            assert!(
                bytes[..1000] != bytes[distance..distance + 1000],
                "{distance}"
            );
        }
    }
}
