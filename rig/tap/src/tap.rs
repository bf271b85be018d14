//! A TAP device: an Ethernet card of a namespace whose other side is a file. linux/Documentation/networking/tuntap.rst;
//! numbers from linux/if_tun.h by the libc crate.

use std::{
    fs::{self, File},
    io::{self, IoSlice, IoSliceMut},
    mem,
    net::{IpAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    os::raw::{c_char, c_int, c_uint, c_ulong},
};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use crate::{Inside, Namespace, NetError, vnet};

/// Frames that wait in the device for the rig, before Linux drops some.
const QUEUE: c_int = 8192;

/// What the reader of a device's frames completes, so that Linux leaves it undone. Without `checksums` Linux ignores
/// the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// `TUN_F_CSUM`: checksums that hold the sum of the pseudo header alone.
    pub checksums: bool,
    /// `TUN_F_TSO4`: TCP over IPv4 that is to be cut.
    pub tso4: bool,
    /// `TUN_F_TSO6`: over IPv6.
    pub tso6: bool,
    /// `TUN_F_USO4`, `TUN_F_USO6`: UDP that is to be cut, which the kernel has only both together.
    pub uso: bool,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
}

/// A device in a namespace. It goes with its last file.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Makes the device, with frames that have [`vnet::Header`]s, and gives it its address on the link. It is down.
    pub fn new(
        namespace: &Namespace,
        name: &str,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<Self, NetError> {
        let file = namespace
            .run(|_| {
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // Opened inside: the device will be where its file was opened.
                let file = File::from(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?);
                let mut request = request(name)?;
                let kind = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
                request.ifr_ifru.ifru_flags = kind as _;
                control(&file, libc::TUNSETIFF as c_ulong, &raw mut request)?;
                let mut size = vnet::SIZE as c_int;
                control(&file, libc::TUNSETVNETHDRSZ as c_ulong, &raw mut size)?;
                Ok(file)
            })
            .map_err(|reason| match reason.kind() {
                io::ErrorKind::NotFound => NetError::NoTun,
                _ => NetError::new("a TAP device", reason),
            })?;
        let tap = Self {
            file,
            name: name.to_owned(),
        };
        let configure = |_: &Inside| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            let mut request = request(name)?;
            let mut hardware = libc::sockaddr {
                sa_family: libc::ARPHRD_ETHER,
                sa_data: [0; 14],
            };
            for (to, from) in hardware.sa_data.iter_mut().zip(mac) {
                *to = from as c_char;
            }
            request.ifr_ifru.ifru_hwaddr = hardware;
            control(&socket, libc::SIOCSIFHWADDR, &raw mut request)?;
            request.ifr_ifru.ifru_mtu = mtu as c_int;
            control(&socket, libc::SIOCSIFMTU, &raw mut request)?;
            // `ifr_qlen` lies where the MTU does.
            request.ifr_ifru.ifru_mtu = QUEUE;
            control(&socket, libc::SIOCSIFTXQLEN, &raw mut request)?;
            let settings = format!("/proc/sys/net/ipv6/conf/{name}");
            // A namespace without IPv6 has none. Addresses are to be good at once, and nobody routes here.
            let _ = fs::write(format!("{settings}/accept_dad"), "0");
            let _ = fs::write(format!("{settings}/accept_ra"), "0");
            Ok(())
        };
        let configured = namespace.run(configure);
        configured.map_err(|reason| NetError::new("an interface's settings", reason))?;
        Ok(tap)
    }

    /// Gives it addresses and takes it up.
    pub fn up(&self, namespace: &Namespace, addresses: &[Address]) -> Result<(), NetError> {
        let configure = |_: &Inside| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            raise(&socket, "lo")?;
            let index = raise(&socket, &self.name)?;
            for address in addresses {
                match address.ip {
                    IpAddr::V4(ip) => {
                        let mut request = request(&self.name)?;
                        request.ifr_ifru.ifru_addr = internet(ip.into());
                        control(&socket, libc::SIOCSIFADDR, &raw mut request)?;
                        let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix));
                        request.ifr_ifru.ifru_netmask = internet(mask.unwrap_or(0));
                        control(&socket, libc::SIOCSIFNETMASK, &raw mut request)?;
                    }
                    IpAddr::V6(ip) => {
                        let socket = UdpSocket::bind("[::]:0")?;
                        let mut request = libc::in6_ifreq {
                            ifr6_addr: libc::in6_addr {
                                s6_addr: ip.octets(),
                            },
                            ifr6_prefixlen: address.prefix.into(),
                            ifr6_ifindex: index,
                        };
                        control(&socket, libc::SIOCSIFADDR, &raw mut request)?;
                    }
                }
            }
            Ok(())
        };
        let configured = namespace.run(configure);
        configured.map_err(|reason| NetError::new("an interface's addresses", reason))
    }

    /// What the reader completes from now on.
    pub fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let mut flags = 0;
        for (wanted, flag) in [
            (offloads.checksums, libc::TUN_F_CSUM),
            (offloads.tso4, libc::TUN_F_TSO4),
            (offloads.tso6, libc::TUN_F_TSO6),
            (offloads.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
        ] {
            if wanted && offloads.checksums {
                flags |= flag;
            }
        }
        let request = libc::TUNSETOFFLOAD as c_ulong;
        if self.offload(request, flags).is_err() && offloads.uso {
            // Kernels before 6.2 do not know UDP that is to be cut.
            let rest = flags & !(libc::TUN_F_USO4 | libc::TUN_F_USO6);
            return self.offload(request, rest);
        }
        self.offload(request, flags)
    }

    fn offload(&self, request: c_ulong, flags: c_uint) -> io::Result<()> {
        // SAFETY: this request takes a number.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, c_ulong::from(flags)) };
        check(result)
    }

    /// No frame that is to be cut shall have more data than this (`ip link set gso_max_size`). rtnetlink(7), linux/if_link.h.
    pub fn set_largest(&self, namespace: &Namespace, bytes: u32) -> io::Result<()> {
        const IFLA_GSO_MAX_SIZE: u16 = 41;
        namespace.run(|_| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            let mut request = request(&self.name)?;
            control(&socket, libc::SIOCGIFINDEX, &raw mut request)?;
            // SAFETY: the request above answers with the index.
            let index = unsafe { request.ifr_ifru.ifru_ifindex };
            let mut message = Vec::with_capacity(40);
            // struct nlmsghdr: length, type, flags, sequence number, sender.
            message.extend(40u32.to_ne_bytes());
            message.extend(libc::RTM_NEWLINK.to_ne_bytes());
            message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
            message.extend([0; 8]);
            // struct ifinfomsg: family and type, index, flags, which flags change.
            message.extend([0; 4]);
            message.extend(index.to_ne_bytes());
            message.extend([0; 8]);
            // struct rtattr: length, type.
            message.extend(8u16.to_ne_bytes());
            message.extend(IFLA_GSO_MAX_SIZE.to_ne_bytes());
            message.extend(bytes.to_ne_bytes());
            // Protocol 0: NETLINK_ROUTE.
            let link = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
            rustix::net::send(&link, &message, SendFlags::empty())?;
            let mut answer = [0; 64];
            let (length, _) = rustix::net::recv(&link, &mut answer[..], RecvFlags::empty())?;
            // struct nlmsgerr behind the header: 0, or an error number below it.
            let error = answer[..length]
                .get(16..20)
                .and_then(|word| word.try_into().ok());
            match error.map(i32::from_ne_bytes) {
                Some(0) => Ok(()),
                Some(error) => Err(io::Error::from_raw_os_error(-error)),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    /// The next frame that Linux sends, to `buffer`: its header and its length. `None` when there is none now.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(vnet::Header, usize)>> {
        let mut header = [0; vnet::SIZE];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
        loop {
            match rustix::io::readv(&self.file, &mut parts) {
                Ok(length) => {
                    let header = vnet::Header::from_bytes(&header);
                    return Ok(Some((header, length.saturating_sub(vnet::SIZE))));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Has Linux receive a frame that lies in `parts`. Linux refuses what cannot be: a header that points outside.
    pub fn write(&self, header: &vnet::Header, parts: &[&[u8]]) -> io::Result<()> {
        let header = header.to_bytes();
        let mut slices = Vec::with_capacity(1 + parts.len());
        slices.push(IoSlice::new(&header));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        loop {
            match rustix::io::writev(&self.file, &slices) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The device's name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A request about a device.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(request)
}

/// An IPv4 address in the place of a socket's.
fn internet(address: u32) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..].iter_mut().zip(address.to_be_bytes()) {
        *to = from as c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

/// Takes a device up. Returns its index.
fn raise(socket: &UdpSocket, name: &str) -> io::Result<c_int> {
    let mut request = request(name)?;
    control(socket, libc::SIOCGIFFLAGS, &raw mut request)?;
    // SAFETY: the request above answers with the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    control(socket, libc::SIOCSIFFLAGS, &raw mut request)?;
    control(socket, libc::SIOCGIFINDEX, &raw mut request)?;
    // SAFETY: the request above answers with the index.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

/// A request whose argument is a structure, which the kernel reads and may write.
fn control<T>(file: &impl AsFd, request: c_ulong, argument: *mut T) -> io::Result<()> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: every caller passes the structure that its request takes.
    let result = unsafe { libc::ioctl(file, request as _, argument) };
    check(result)
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
