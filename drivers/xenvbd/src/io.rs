//! SRBs: refused, answered at once, or put on a queue.

use crate::adapter::Adapter;
use crate::disk::Disk;
use crate::queue::Ticket;
use blkfront::queue::{Discards, Operation};
use nt::sys::storport::{
    SRB_FUNCTION_ABORT_COMMAND, SRB_FUNCTION_EXECUTE_SCSI, SRB_FUNCTION_FLUSH, SRB_FUNCTION_PNP,
    SRB_FUNCTION_RESET_BUS, SRB_FUNCTION_RESET_DEVICE, SRB_FUNCTION_RESET_LOGICAL_UNIT,
    SRB_FUNCTION_SHUTDOWN, SRB_PNP_FLAGS_ADAPTER_REQUEST, SRB_STATUS_ABORT_FAILED, SRB_STATUS_BUSY,
    SRB_STATUS_INVALID_LUN, SRB_STATUS_INVALID_PATH_ID, SRB_STATUS_INVALID_REQUEST,
    SRB_STATUS_NO_DEVICE, SRB_STATUS_SUCCESS, STOR_CAPABILITY_EJECT_SUPPORTED,
    STOR_CAPABILITY_REMOVABLE, STOR_CAPABILITY_SURPRISE_REMOVAL_OK, STOR_CAPABILITY_UNIQUE_ID,
};
use scsi::{Command, Extent, Outcome, Sense};
use storport::Srb;

/// Requests storport may send a disk at a time; with 255 it loses count.
pub(crate) const DEPTH: u32 = 254;

const _: () = assert!(scsi::MAX_RANGES <= blkfront::queue::MAX_DISCARDS);

/// HwBuildIo: what can be said without the disk's state; and the scatter-gather list, which is to be had only here.
pub(crate) fn prepare(adapter: &Adapter, mut srb: Srb) -> Option<Srb> {
    let function = srb.function();
    let (path, target, lun) = srb.address();
    let disk = adapter.disk(target).filter(|disk| disk.is_visible());
    let status = match function {
        SRB_FUNCTION_EXECUTE_SCSI => match disk {
            _ if path != 0 => SRB_STATUS_INVALID_PATH_ID,
            None => SRB_STATUS_NO_DEVICE,
            Some(_) if lun != 0 => SRB_STATUS_INVALID_LUN,
            Some(disk) => match scsi::parse(srb.cdb()) {
                // Without the list there is nothing to read into; storport tries again.
                Some(Command::Read { blocks, .. } | Command::Write { blocks, .. })
                    if blocks != 0 && !srb.gather(disk.shape().memory_unit()) =>
                {
                    SRB_STATUS_BUSY
                }
                _ => return Some(srb),
            },
        },
        SRB_FUNCTION_RESET_DEVICE
        | SRB_FUNCTION_RESET_LOGICAL_UNIT
        | SRB_FUNCTION_FLUSH
        | SRB_FUNCTION_SHUTDOWN => match disk {
            Some(_) => return Some(srb),
            None => SRB_STATUS_NO_DEVICE,
        },
        SRB_FUNCTION_PNP => {
            if let Some(disk) =
                disk.filter(|_| srb.pnp_flags() & SRB_PNP_FLAGS_ADAPTER_REQUEST == 0)
            {
                srb.answer_capabilities(capabilities(disk));
            }
            SRB_STATUS_SUCCESS
        }
        SRB_FUNCTION_RESET_BUS => {
            adapter.reset_disks();
            SRB_STATUS_SUCCESS
        }
        SRB_FUNCTION_ABORT_COMMAND => SRB_STATUS_ABORT_FAILED,
        _ => SRB_STATUS_INVALID_REQUEST,
    };
    srb.complete(status);
    None
}

/// That a *device* can go is the toolstack's to say; it can always vanish.
fn capabilities(disk: &Disk) -> u32 {
    let removable = match disk.shape().is_removable() {
        true => STOR_CAPABILITY_REMOVABLE | STOR_CAPABILITY_EJECT_SUPPORTED,
        false => 0,
    };
    removable | STOR_CAPABILITY_SURPRISE_REMOVAL_OK | STOR_CAPABILITY_UNIQUE_ID
}

/// HwStartIo.
pub(crate) fn start(adapter: &Adapter, srb: Srb) {
    let (_, target, _) = srb.address();
    let Some(disk) = adapter.disk(target) else {
        return srb.complete(SRB_STATUS_NO_DEVICE);
    };
    match srb.function() {
        SRB_FUNCTION_EXECUTE_SCSI => execute(adapter, disk, srb),
        SRB_FUNCTION_FLUSH | SRB_FUNCTION_SHUTDOWN => {
            submit(disk, srb, Operation::Flush, Sense::WRITE_ERROR, 0)
        }
        SRB_FUNCTION_RESET_DEVICE | SRB_FUNCTION_RESET_LOGICAL_UNIT => {
            disk.reset();
            // Anything else would make storport reset the bus, and then give up the disk.
            srb.complete(SRB_STATUS_SUCCESS);
        }
        _ => srb.complete(SRB_STATUS_INVALID_REQUEST),
    }
}

fn execute(adapter: &Adapter, disk: &Disk, mut srb: Srb) {
    let command = scsi::parse(srb.cdb());
    let inquiry = matches!(command, Some(Command::Inquiry { .. }));
    if inquiry {
        adapter.set_queue_depth(disk, DEPTH);
    }
    let quiet = inquiry
        || matches!(
            command,
            Some(Command::ReportLuns { .. } | Command::RequestSense { .. })
        );
    if !quiet && disk.take_attention() {
        return srb.complete_check(&Sense::CAPACITY_CHANGED.fixed());
    }
    let transfer = srb.transfer_length();
    let data = match command {
        Some(Command::Read { .. } | Command::Write { .. }) => &mut [],
        _ => srb.data(),
    };
    let outcome = disk.shape().with_disk(disk.target, inquiry, |shape| {
        scsi::execute(command, shape, data, transfer)
    });
    match outcome {
        Outcome::Good(valid) => srb.complete_good(valid as u32),
        Outcome::Check(sense) => srb.complete_check(&sense.fixed()),
        Outcome::Read(extent) => submit_transfer(disk, srb, false, extent),
        Outcome::Write(extent) => submit_transfer(disk, srb, true, extent),
        Outcome::Flush => submit(disk, srb, Operation::Flush, Sense::WRITE_ERROR, 0),
        Outcome::Discard(ranges) => {
            let per_block = disk.shape().sectors_per_block();
            let mut discards = Discards::default();
            for Extent { lba, blocks } in ranges.as_slice() {
                discards.push(
                    lba.saturating_mul(per_block),
                    u64::from(*blocks) * per_block,
                );
            }
            submit(
                disk,
                srb,
                Operation::Discard(discards),
                Sense::WRITE_ERROR,
                transfer,
            );
        }
    }
}

fn submit_transfer(disk: &Disk, srb: Srb, write: bool, Extent { lba, blocks }: Extent) {
    let shape = disk.shape();
    let failure = if write {
        Sense::WRITE_ERROR
    } else {
        Sense::READ_ERROR
    };
    let (Some(sector), Some(bytes)) = (
        lba.checked_mul(shape.sectors_per_block()),
        blocks.checked_mul(shape.block_size()),
    ) else {
        return srb.complete_check(&Sense::OUT_OF_RANGE.fixed());
    };
    submit(
        disk,
        srb,
        Operation::Transfer {
            write,
            sector,
            bytes,
        },
        failure,
        bytes,
    );
}

fn submit(disk: &Disk, srb: Srb, operation: Operation, failure: Sense, length: u32) {
    match disk.queue() {
        Some(queue) => queue.submit(
            Ticket {
                srb,
                failure,
                length,
            },
            operation,
        ),
        None => srb.complete(SRB_STATUS_NO_DEVICE),
    }
}
