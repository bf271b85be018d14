//! Words for the numbers in a trace: operations, statuses, devices.
//!
//! Numbers are those of the interfaces themselves: Xen's public headers through `xen-abi`, the kernel's through `nt-sys`,
//! SCSI operation codes from SPC-4 and SBC-3.

use std::{borrow::Cow, fmt};

use nt_host::io::function::minor_name;
use xen_abi::{blkif, hypercall, xs_wire};

/// A word where one is known, the number otherwise.
fn or_number(word: Option<&'static str>, kind: &str, number: u64) -> Cow<'static, str> {
    word.map_or_else(|| Cow::Owned(format!("{kind} {number:#x}")), Cow::Borrowed)
}

/// The first byte of a SCSI command.
pub fn scsi(op: u64) -> Cow<'static, str> {
    let word = match op {
        0x00 => "TEST UNIT READY",
        0x12 => "INQUIRY",
        0x1a => "MODE SENSE(6)",
        0x1b => "START STOP UNIT",
        0x25 => "READ CAPACITY(10)",
        0x28 => "READ(10)",
        0x2a => "WRITE(10)",
        0x35 => "SYNCHRONIZE CACHE",
        0x42 => "UNMAP",
        0x5a => "MODE SENSE(10)",
        0x88 => "READ(16)",
        0x8a => "WRITE(16)",
        0x91 => "SYNCHRONIZE CACHE(16)",
        0x9e => "READ CAPACITY(16)",
        0xa0 => "REPORT LUNS",
        _ => return or_number(None, "SCSI", op),
    };
    Cow::Borrowed(word)
}

/// An operation of a block ring.
pub fn block(operation: u64) -> Cow<'static, str> {
    let word = match u8::try_from(operation) {
        Ok(blkif::OP_READ) => Some("read"),
        Ok(blkif::OP_WRITE) => Some("write"),
        Ok(blkif::OP_WRITE_BARRIER) => Some("barrier"),
        Ok(blkif::OP_FLUSH_DISKCACHE) => Some("flush"),
        Ok(blkif::OP_DISCARD) => Some("discard"),
        Ok(blkif::OP_INDIRECT) => Some("indirect"),
        _ => None,
    };
    or_number(word, "operation", operation)
}

/// A hypercall.
pub fn hypercall(number: u64) -> Cow<'static, str> {
    let word = match u32::try_from(number) {
        Ok(hypercall::MEMORY_OP) => Some("memory_op"),
        Ok(hypercall::XEN_VERSION) => Some("xen_version"),
        Ok(hypercall::CONSOLE_IO) => Some("console_io"),
        Ok(hypercall::GRANT_TABLE_OP) => Some("grant_table_op"),
        Ok(hypercall::VCPU_OP) => Some("vcpu_op"),
        Ok(hypercall::SCHED_OP) => Some("sched_op"),
        Ok(hypercall::EVENT_CHANNEL_OP) => Some("event_channel_op"),
        Ok(hypercall::PHYSDEV_OP) => Some("physdev_op"),
        Ok(hypercall::HVM_OP) => Some("hvm_op"),
        _ => None,
    };
    or_number(word, "hypercall", number)
}

/// An operation of xenstored's wire protocol.
pub fn store(operation: u64) -> Cow<'static, str> {
    let word = match u32::try_from(operation) {
        Ok(xs_wire::XS_DIRECTORY) => Some("directory"),
        Ok(xs_wire::XS_READ) => Some("read"),
        Ok(xs_wire::XS_GET_PERMS) => Some("get permissions"),
        Ok(xs_wire::XS_WATCH) => Some("watch"),
        Ok(xs_wire::XS_UNWATCH) => Some("unwatch"),
        Ok(xs_wire::XS_TRANSACTION_START) => Some("transaction start"),
        Ok(xs_wire::XS_TRANSACTION_END) => Some("transaction end"),
        Ok(xs_wire::XS_WRITE) => Some("write"),
        Ok(xs_wire::XS_MKDIR) => Some("mkdir"),
        Ok(xs_wire::XS_RM) => Some("remove"),
        Ok(xs_wire::XS_SET_PERMS) => Some("set permissions"),
        _ => None,
    };
    or_number(word, "operation", operation)
}

/// What an IRP asks for: its major function, and for PnP and power the minor one.
pub fn irp(major: u64, minor: u64) -> Cow<'static, str> {
    let function = u8::try_from(major).ok().zip(u8::try_from(minor).ok());
    let word = match major {
        0x00 => Some("CREATE"),
        0x02 => Some("CLOSE"),
        0x0e => Some("DEVICE_CONTROL"),
        0x0f => Some("INTERNAL_DEVICE_CONTROL"),
        0x10 => Some("SHUTDOWN"),
        0x12 => Some("CLEANUP"),
        0x17 => Some("SYSTEM_CONTROL"),
        _ => function.and_then(|(major, minor)| minor_name(major, minor)),
    };
    or_number(word, &format!("IRP {major:#x}"), minor)
}

/// An `NTSTATUS`, by name where it is a frequent one (ntstatus.h).
pub fn status(status: u64) -> Cow<'static, str> {
    let word = match status as u32 {
        0 => "success",
        0x0000_0103 => "STATUS_PENDING",
        0x8000_0005 => "STATUS_BUFFER_OVERFLOW",
        0xc000_0001 => "STATUS_UNSUCCESSFUL",
        0xc000_000d => "STATUS_INVALID_PARAMETER",
        0xc000_000e => "STATUS_NO_SUCH_DEVICE",
        0xc000_0010 => "STATUS_INVALID_DEVICE_REQUEST",
        0xc000_0023 => "STATUS_BUFFER_TOO_SMALL",
        0xc000_009a => "STATUS_INSUFFICIENT_RESOURCES",
        0xc000_00bb => "STATUS_NOT_SUPPORTED",
        0xc000_0120 => "STATUS_CANCELLED",
        0xc000_0185 => "STATUS_IO_DEVICE_ERROR",
        other => return Cow::Owned(format!("status {other:#010x}")),
    };
    Cow::Borrowed(word)
}

/// An SRB's status (srb.h), without its flags.
pub fn srb(status: u64) -> Cow<'static, str> {
    let word = match status & 0x3f {
        0x00 => Some("pending"),
        0x01 => Some("success"),
        0x02 => Some("aborted"),
        0x04 => Some("error"),
        0x05 => Some("busy"),
        0x06 => Some("invalid request"),
        0x08 => Some("no device"),
        0x09 => Some("timeout"),
        0x0e => Some("bus reset"),
        0x12 => Some("data overrun"),
        0x20 => Some("invalid LUN"),
        _ => None,
    };
    or_number(word, "SRB status", status)
}

/// A block backend's answer (`public/io/blkif.h`).
pub fn answer(status: u64) -> Cow<'static, str> {
    let word = match status as i16 {
        0 => Some("okay"),
        -1 => Some("error"),
        -2 => Some("not supported"),
        _ => None,
    };
    or_number(word, "status", status)
}

/// The result of a hypercall: an error number below zero.
pub fn result(result: u64) -> impl fmt::Display {
    result.cast_signed()
}

/// `xvda` for SCSI target 0, and so on.
pub fn target(target: u64) -> String {
    match u8::try_from(target) {
        Ok(number @ 0..26) => format!("xvd{}", char::from(b'a' + number)),
        _ => format!("target {target}"),
    }
}

/// The SCSI target of a virtual device, for xvda and its kin (`docs/misc/vbd-interface.txt`).
pub fn vdev(vdev: u64) -> String {
    trace::follow::target(vdev).map_or_else(|| format!("vdev {vdev}"), target)
}

/// A vector of an upcall, or a line behind 256.
pub fn vector(vector: u64) -> String {
    match vector.checked_sub(256) {
        Some(line) => format!("line {line}"),
        None => format!("vector {vector:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_words_and_unknown_ones_stay_numbers() {
        assert_eq!(scsi(0x28), "READ(10)");
        assert_eq!(scsi(0xff), "SCSI 0xff");
        assert_eq!(irp(0x1b, 0), "START_DEVICE");
        assert_eq!(irp(0x1b, 0x19), "DEVICE_ENUMERATED");
        assert_eq!(irp(0x1b, 0x40), "IRP 0x1b 0x40");
        assert_eq!(
            status((-0x3fff_ff45_i64).cast_unsigned()),
            "STATUS_NOT_SUPPORTED"
        );
        assert_eq!(answer(u64::MAX), "error");
        assert_eq!(
            (target(0), vdev(51728)),
            ("xvda".to_owned(), "xvdb".to_owned())
        );
        assert_eq!(
            (vector(0x51), vector(280)),
            ("vector 0x51".to_owned(), "line 24".to_owned())
        );
    }
}
