//! The negotiation: which disk the client wants, and what it is told of it.

use std::io::{Read, Write};

use super::{Ended, wire::*};
use crate::disk::Info;

/// Longest data of an option that is read; names are at most 4096 bytes, the rest of INFO and GO is short.
const MAX_OPTION: u32 = 16 * 1024;
/// Most options of one negotiation; a client needs about five.
const MAX_OPTIONS: usize = 256;

/// Largest read or write, as the protocol lets clients assume when nothing else is said.
pub(super) const MAX_PAYLOAD: u32 = 32 * 1024 * 1024;

/// What the client chose: the index of a disk, or to leave.
pub(super) type Choice = Option<usize>;

/// Runs the negotiation. `disks` is not empty; the first is the default one.
pub(super) fn negotiate(
    stream: &mut (impl Read + Write),
    disks: &[&Info],
) -> Result<Choice, Ended> {
    let mut hello = Vec::new();
    hello.extend_from_slice(&SERVER_MAGIC.to_be_bytes());
    hello.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    hello.extend_from_slice(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&hello)?;

    let flags = u32::from_be_bytes(read(stream)?);
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 || flags & u32::from(FIXED_NEWSTYLE) == 0
    {
        return Err(Ended::Protocol(format!(
            "client flags {flags:#x} are not those of fixed newstyle"
        )));
    }
    let no_zeroes = flags & u32::from(NO_ZEROES) != 0;

    for _ in 0..MAX_OPTIONS {
        let (option, data) = read_option(stream)?;
        match option {
            OPT_EXPORT_NAME => {
                // The one option that has no error reply: the connection ends.
                let index = find(disks, &data).ok_or_else(|| {
                    Ended::Protocol(format!("no disk {:?}", String::from_utf8_lossy(&data)))
                })?;
                let mut answer = export(disks[index]);
                if !no_zeroes {
                    answer.extend_from_slice(&[0; 124]);
                }
                stream.write_all(&answer)?;
                return Ok(Some(index));
            }
            OPT_ABORT => {
                // The client may be gone already, which is what it asked for.
                let _ = stream.write_all(&option_reply(option, REP_ACK, &[]));
                return Ok(None);
            }
            OPT_LIST if data.is_empty() => {
                let mut answer = Vec::new();
                for disk in disks {
                    let mut entry = (disk.name.len() as u32).to_be_bytes().to_vec();
                    entry.extend_from_slice(disk.name.as_bytes());
                    answer.extend(option_reply(option, REP_SERVER, &entry));
                }
                answer.extend(option_reply(option, REP_ACK, &[]));
                stream.write_all(&answer)?;
            }
            OPT_INFO | OPT_GO => match parse_info(&data) {
                None => stream.write_all(&option_reply(
                    option,
                    REP_ERR_INVALID,
                    b"the option's lengths do not add up",
                ))?,
                Some((name, wanted)) => match find(disks, name) {
                    None => {
                        stream.write_all(&option_reply(option, REP_ERR_UNKNOWN, b"no such disk"))?
                    }
                    Some(index) => {
                        stream.write_all(&describe(option, disks[index], &wanted))?;
                        if option == OPT_GO {
                            return Ok(Some(index));
                        }
                    }
                },
            },
            OPT_LIST => {
                stream.write_all(&option_reply(option, REP_ERR_INVALID, b"LIST has no data"))?
            }
            _ => stream.write_all(&option_reply(option, REP_ERR_UNSUP, &[]))?,
        }
    }
    Err(Ended::Protocol(format!("more than {MAX_OPTIONS} options")))
}

fn read_option(stream: &mut impl Read) -> Result<(u32, Vec<u8>), Ended> {
    let magic = u64::from_be_bytes(read(stream)?);
    if magic != OPTION_MAGIC {
        return Err(Ended::Protocol(format!(
            "{magic:#018x} where an option must start"
        )));
    }
    let option = u32::from_be_bytes(read(stream)?);
    let length = u32::from_be_bytes(read(stream)?);
    if length > MAX_OPTION {
        return Err(Ended::Protocol(format!(
            "option {option} with {length} bytes of data"
        )));
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data)?;
    Ok((option, data))
}

/// The index of the disk with this name; no name means the first.
fn find(disks: &[&Info], name: &[u8]) -> Option<usize> {
    if name.is_empty() {
        return Some(0);
    }
    disks.iter().position(|disk| disk.name.as_bytes() == name)
}

/// The name and the kinds of information that INFO or GO asks for.
fn parse_info(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let mut rest = data;
    let length = be_u32(&mut rest)? as usize;
    let (name, mut rest) = rest.split_at_checked(length)?;
    let count = be_u16(&mut rest)?;
    let wanted = (0..count)
        .map(|_| be_u16(&mut rest))
        .collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some((name, wanted))
}

fn describe(option: u32, disk: &Info, wanted: &[u16]) -> Vec<u8> {
    let mut information = INFO_EXPORT.to_be_bytes().to_vec();
    information.extend(export(disk));
    let mut answer = option_reply(option, REP_INFO, &information);
    if wanted.contains(&INFO_NAME) {
        let mut name = INFO_NAME.to_be_bytes().to_vec();
        name.extend_from_slice(disk.name.as_bytes());
        answer.extend(option_reply(option, REP_INFO, &name));
    }
    // Sizes are always told. Any byte may be asked for; whole blocks are cheaper.
    let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    for size in [1, disk.block_size.max(4096), MAX_PAYLOAD] {
        sizes.extend_from_slice(&size.to_be_bytes());
    }
    answer.extend(option_reply(option, REP_INFO, &sizes));
    answer.extend(option_reply(option, REP_ACK, &[]));
    answer
}

/// Size and transmission flags.
fn export(disk: &Info) -> Vec<u8> {
    let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN;
    if disk.read_only {
        flags |= READ_ONLY;
    } else {
        flags |= SEND_WRITE_ZEROES;
        if disk.unmap {
            flags |= SEND_TRIM;
        }
    }
    let mut bytes = disk.bytes().to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes
}
