//! A disk as its user sees it: reads, writes, flushes and unmaps from any thread, with the retries of
//! Windows' disk class driver.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nt_sys::storport::{
    SCSISTAT_BUSY, SCSISTAT_CHECK_CONDITION, SCSISTAT_QUEUE_FULL, SRB_FUNCTION_EXECUTE_SCSI,
    SRB_STATUS_BUSY, SRB_STATUS_ERROR, SRB_STATUS_INVALID_LUN, SRB_STATUS_INVALID_PATH_ID,
    SRB_STATUS_INVALID_REQUEST, SRB_STATUS_INVALID_TARGET_ID, SRB_STATUS_NO_DEVICE,
    SRB_STATUS_NO_HBA, SRB_STATUS_SELECTION_TIMEOUT, SRB_STATUS_SUCCESS,
};
use trace::{Class, Event};

use crate::buffer::DmaBuffer;
use crate::cdb::{self, Cdb};
use crate::info::Info;
use crate::queue::{self, Answer, Direction, Request};
use crate::unit::Unit;
use crate::watch;

/// How often a request that failed is tried again (classpnp: MAXIMUM_RETRIES).
const RETRIES: u32 = 8;
/// How often a request is put off because the miniport is busy: 5 ms each, some minutes in all.
const MOST_BUSY: u32 = 24_000;

/// The next request's number in a trace.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Bytes of an UNMAP parameter list with one range (SBC-3, 5.28.2).
const UNMAP_LIST: u16 = 24;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the buffer from the disk.
    Read,
    /// Put the buffer on the disk.
    Write,
    /// Everything written so far is to survive a loss of power.
    Flush,
    /// The blocks' content is no longer needed.
    Unmap,
}

/// Why a disk did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// The blocks are not on the disk, or the request is larger than the disk takes at once.
    OutOfRange,
    /// The disk cannot be written.
    ReadOnly,
    /// The disk is gone, or going.
    Gone,
    /// There is no memory for the request.
    NoMemory,
    /// The disk reported an error.
    Failed,
}

/// A request's end: what became of it, and its buffer. Called at DISPATCH_LEVEL on a virtual CPU, or at once on
/// the submitter's thread if the request cannot be sent at all. It must not wait.
pub type Done = Box<dyn FnOnce(Result<(), IoError>, Option<DmaBuffer>) + Send>;

/// A request.
pub struct Io {
    /// What to do.
    pub op: Op,
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u32,
    /// As many bytes as the blocks have, for reads and writes.
    pub buffer: Option<DmaBuffer>,
    /// What happens afterwards.
    pub done: Done,
}

/// A disk. It stays valid after its device has gone; requests then fail.
pub struct Disk {
    unit: Arc<Unit>,
    info: Info,
    /// Its size now.
    sectors: AtomicU64,
    max_transfer: u32,
    timeout: u32,
    gone: AtomicBool,
    under_way: AtomicUsize,
}

impl Disk {
    /// A disk that was identified.
    pub(crate) fn new(unit: Arc<Unit>, info: Info, max_transfer: u32, timeout: u32) -> Self {
        Self {
            unit,
            sectors: AtomicU64::new(info.sectors),
            info,
            max_transfer,
            timeout,
            gone: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Its size in blocks: as it was identified, or as it said later that it has become.
    pub fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Acquire)
    }

    /// It has another size.
    pub(crate) fn set_sectors(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Release);
    }

    /// Seconds that a request may take.
    pub(crate) fn timeout(&self) -> u32 {
        self.timeout
    }

    /// What it was when it was identified.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its target on the adapter's bus.
    pub fn target(&self) -> u8 {
        self.unit.target
    }

    /// Most bytes of one request: what the adapter's limits allow for scattered pages.
    pub fn max_transfer(&self) -> u32 {
        self.max_transfer
    }

    /// Its PDO's instance path in the device tree.
    pub fn instance(&self) -> Option<alloc::string::String> {
        let node = nt_host::pnp::node::by_pdo(self.unit.pdo).and_then(nt_host::pnp::node::get)?;
        Some(node.instance)
    }

    /// Whether it has been removed.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Requests that have not ended.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// The unit behind it.
    pub(crate) fn unit(&self) -> &Arc<Unit> {
        &self.unit
    }

    /// Lets no further request in.
    pub(crate) fn close(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Sends a request, from any thread.
    pub fn submit(self: &Arc<Self>, io: Io) {
        let Io {
            op,
            lba,
            blocks,
            buffer,
            done,
        } = io;
        let mut request = match self.request(op, lba, blocks, buffer) {
            Ok(request) => request,
            Err((why, buffer)) => return done(Err(why), buffer),
        };
        self.under_way.fetch_add(1, Ordering::AcqRel);
        request.number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        trace::emit(Class::Disk, || Event::Request {
            request: request.number,
            target: u64::from(request.target),
            op: u64::from(request.cdb[0]),
            lba,
            blocks: u64::from(blocks),
            block_size: u64::from(self.info.sector_size),
        });
        self.send(request, op, done);
    }

    fn send(self: &Arc<Self>, mut request: Request, op: Op, done: Done) {
        let disk = self.clone();
        request.done = Some(Box::new(move |answer, request| {
            disk.answered(answer, request, op, done)
        }));
        queue::submit(&self.unit.adapter, request);
    }

    fn request(
        &self,
        op: Op,
        lba: u64,
        blocks: u32,
        buffer: Option<DmaBuffer>,
    ) -> Result<Request, (IoError, Option<DmaBuffer>)> {
        if self.is_gone() {
            return Err((IoError::Gone, buffer));
        }
        let inside = lba
            .checked_add(blocks.into())
            .is_some_and(|end| end <= self.sectors());
        let bytes = u64::from(blocks).saturating_mul(self.info.sector_size.into());
        let transfers = matches!(op, Op::Read | Op::Write);
        let fits = !transfers
            || buffer
                .as_ref()
                .is_some_and(|buffer| buffer.len() as u64 == bytes);
        if !inside || !fits || (transfers && (blocks == 0 || bytes > self.max_transfer.into())) {
            return Err((IoError::OutOfRange, buffer));
        }
        if self.info.read_only && matches!(op, Op::Write | Op::Unmap) {
            return Err((IoError::ReadOnly, buffer));
        }
        let mut request = Request::new(SRB_FUNCTION_EXECUTE_SCSI, self.unit.target, self.timeout);
        request.unit = Some(self.unit.clone());
        let cdb: Cdb = match op {
            Op::Read => Cdb::read(lba, blocks),
            Op::Write => Cdb::write(lba, blocks, false),
            Op::Flush => Cdb::synchronize_cache(),
            Op::Unmap => Cdb::unmap(UNMAP_LIST),
        };
        request.set_command(cdb);
        match op {
            Op::Read | Op::Write => {
                request.direction = if op == Op::Read {
                    Direction::In
                } else {
                    Direction::Out
                };
                request.length = bytes as u32;
                request.buffer = buffer;
            }
            Op::Flush => {}
            Op::Unmap => {
                let list = cdb::unmap_list(&[(lba, blocks)]);
                let Some(mut own) = DmaBuffer::new(list.len()) else {
                    return Err((IoError::NoMemory, buffer));
                };
                own.fill(&list);
                request.direction = Direction::Out;
                request.length = list.len() as u32;
                request.buffer = Some(own);
            }
        }
        Ok(request)
    }

    fn answered(self: &Arc<Self>, answer: Answer, mut request: Request, op: Op, done: Done) {
        let verdict = judge(&answer);
        if says_another_size(&answer) {
            crate::class::ask_size(self);
        }
        let again = match verdict {
            Verdict::Busy => request.tries < MOST_BUSY,
            Verdict::Again => request.tries < RETRIES,
            _ => false,
        };
        if again && !self.is_gone() {
            request.tries = request.tries.saturating_add(1);
            let disk = self.clone();
            request.done = Some(Box::new(move |answer, request| {
                disk.answered(answer, request, op, done)
            }));
            watch::delay(&self.unit.adapter, request);
            return;
        }
        let result = match verdict {
            Verdict::Done => Ok(()),
            Verdict::Never(why) => Err(why),
            Verdict::Busy | Verdict::Again => Err(if self.is_gone() {
                IoError::Gone
            } else {
                IoError::Failed
            }),
        };
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        trace::emit(Class::Disk, || Event::RequestDone {
            request: request.number,
            status: result.err().map_or(0, |why| why as u64 + 1),
        });
        done(
            result,
            request
                .buffer
                .take()
                .filter(|_| matches!(op, Op::Read | Op::Write)),
        );
    }
}

/// Whether the disk says that its size has changed: UNIT ATTENTION, CAPACITY DATA HAS CHANGED (SPC-4).
fn says_another_size(answer: &Answer) -> bool {
    answer
        .sense
        .is_some_and(|sense| (sense[2] & 0xf, sense[12], sense[13]) == (0x6, 0x2a, 0x09))
}

/// What an answer means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// The miniport has no room now.
    Busy,
    /// It may work another time.
    Again,
    Never(IoError),
}

/// Reads an answer as Windows' class driver does (SPC-4, sense keys and additional sense codes).
fn judge(answer: &Answer) -> Verdict {
    const UNIT_ATTENTION: u8 = 0x6;
    const NOT_READY: u8 = 0x2;
    const ILLEGAL_REQUEST: u8 = 0x5;
    const DATA_PROTECT: u8 = 0x7;
    const ABORTED_COMMAND: u8 = 0xb;
    const LBA_OUT_OF_RANGE: u8 = 0x21;
    match answer.status {
        SRB_STATUS_SUCCESS => Verdict::Done,
        SRB_STATUS_BUSY => Verdict::Busy,
        SRB_STATUS_NO_DEVICE
        | SRB_STATUS_NO_HBA
        | SRB_STATUS_SELECTION_TIMEOUT
        | SRB_STATUS_INVALID_TARGET_ID
        | SRB_STATUS_INVALID_LUN
        | SRB_STATUS_INVALID_PATH_ID => Verdict::Never(IoError::Gone),
        SRB_STATUS_INVALID_REQUEST => Verdict::Never(IoError::Failed),
        SRB_STATUS_ERROR if matches!(answer.scsi, SCSISTAT_BUSY | SCSISTAT_QUEUE_FULL) => {
            Verdict::Busy
        }
        SRB_STATUS_ERROR if answer.scsi == SCSISTAT_CHECK_CONDITION => match answer.sense {
            Some(sense) => match (sense[2] & 0xf, sense[12]) {
                (UNIT_ATTENTION | NOT_READY | ABORTED_COMMAND, _) => Verdict::Again,
                (DATA_PROTECT, _) => Verdict::Never(IoError::ReadOnly),
                (ILLEGAL_REQUEST, LBA_OUT_OF_RANGE) => Verdict::Never(IoError::OutOfRange),
                _ => Verdict::Never(IoError::Failed),
            },
            None => Verdict::Again,
        },
        _ => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SENSE;
    use nt_sys::storport::SRB_STATUS_BUS_RESET;

    fn answer(status: u8, scsi: u8, sense: Option<(u8, u8)>) -> Answer {
        let sense = sense.map(|(key, code)| {
            let mut sense = [0; SENSE];
            (sense[0], sense[2], sense[12]) = (0x70, key, code);
            sense
        });
        Answer {
            status,
            scsi,
            sense,
            length: 0,
        }
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let check = |key, code| {
            judge(&answer(
                SRB_STATUS_ERROR,
                SCSISTAT_CHECK_CONDITION,
                Some((key, code)),
            ))
        };
        assert_eq!(judge(&answer(SRB_STATUS_SUCCESS, 0, None)), Verdict::Done);
        assert_eq!(judge(&answer(SRB_STATUS_BUSY, 0, None)), Verdict::Busy);
        assert_eq!(
            judge(&answer(SRB_STATUS_ERROR, SCSISTAT_QUEUE_FULL, None)),
            Verdict::Busy
        );
        assert_eq!(
            judge(&answer(SRB_STATUS_BUS_RESET, 0, None)),
            Verdict::Again
        );
        assert_eq!(
            judge(&answer(SRB_STATUS_NO_DEVICE, 0, None)),
            Verdict::Never(IoError::Gone)
        );
        let mut grown = answer(SRB_STATUS_ERROR, SCSISTAT_CHECK_CONDITION, Some((6, 0x2a)));
        assert!(!says_another_size(&grown), "parameters have changed");
        if let Some(sense) = &mut grown.sense {
            sense[13] = 9;
        }
        assert!(says_another_size(&grown));
        assert_eq!(judge(&grown), Verdict::Again);
        assert_eq!(check(6, 0x29), Verdict::Again);
        assert_eq!(check(7, 0x27), Verdict::Never(IoError::ReadOnly));
        assert_eq!(check(5, 0x21), Verdict::Never(IoError::OutOfRange));
        assert_eq!(check(3, 0x11), Verdict::Never(IoError::Failed));
    }
}
