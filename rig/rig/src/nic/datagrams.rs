//! UDP in large pieces: one call of the sender's gives Linux the data of many datagrams, which it leaves to the device
//! to cut, if that can. udp(7), UDP_SEGMENT.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use super::{ends::End, probe};

/// How long a datagram may take before it counts as lost: for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams may be lost, though not every time.
const TRIES: u32 = 5;

/// Sends `bytes` bytes so many times, each time by one call, to be cut into datagrams with `size` bytes of data; every
/// byte is compared. Returns how many datagrams that were.
pub fn send(
    from: &End,
    to: &End,
    address: IpAddr,
    (bytes, size): (usize, u16),
    times: u32,
) -> io::Result<u64> {
    let mut datagrams = 0;
    for round in 0..times {
        let mut tries = TRIES;
        datagrams += loop {
            tries -= 1;
            match once(from, to, address, (bytes, size), round) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {}
                result => break result?,
            }
        };
    }
    Ok(datagrams)
}

fn once(
    from: &End,
    to: &End,
    address: IpAddr,
    (bytes, size): (usize, u16),
    round: u32,
) -> io::Result<u64> {
    let mut data = vec![0; bytes];
    probe::pattern(u64::from(round) * bytes as u64, &mut data);
    let receiver = to.namespace().run(move |_| {
        let receiver = UdpSocket::bind((address, 0))?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(receiver)
    })?;
    let port = receiver.local_addr()?.port();
    thread::scope(|scope| {
        let arriving = scope.spawn(|| take(&receiver, &data, size.into()));
        let target = SocketAddr::new(address, port);
        let sent = from.namespace().run(|_| submit(target, &data, size));
        let arrived = arriving.join();
        sent?;
        arrived.unwrap_or_else(|_| Err(io::Error::other("the receiver panicked")))
    })
}

fn submit(to: SocketAddr, data: &[u8], size: u16) -> io::Result<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0u16; 8].into(),
    };
    let sender = UdpSocket::bind((any, 0))?;
    let size = libc::c_int::from(size);
    // SAFETY: the option takes a number, which is there.
    let result = unsafe {
        libc::setsockopt(
            sender.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    sender.send_to(data, to).map(drop)
}

/// Takes what `data` becomes; how many datagrams.
fn take(receiver: &UdpSocket, data: &[u8], size: usize) -> io::Result<u64> {
    let mut room = vec![0; 1 << 16];
    let mut count = 0;
    for expected in data.chunks(size) {
        let length = receiver.recv(&mut room)?;
        if room[..length] != *expected {
            let is_later = |later: &[u8]| *later == room[..length];
            if data.chunks(size).skip(count as usize).any(is_later) {
                // Those before it are lost.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let what = format!(
                "datagram {count} has {length} bytes, {} expected, or others",
                expected.len()
            );
            return Err(io::Error::other(what));
        }
        count += 1;
    }
    Ok(count)
}
