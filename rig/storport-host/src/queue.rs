//! The way of a request: from its submitter to a virtual CPU, through its unit's queue into a slot, to the
//! miniport, and back through a DPC to whoever waits for it.
//!
//! ```text
//!   submit ─> INCOMING[cpu] ─inject─> admit ─(depth)─> issue: HwBuildIo, HwStartIo
//!                                       │                    RequestComplete ─> COMPLETED[cpu] ─DPC─> settle
//!                                       └─ waiting <──────────────────────────────────────────────────┘
//! ```
//!
//! CPUs share nothing here but the short lock of a unit's queue.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use nt_host::ke::dpc::{KeInitializeDpc, KeInsertQueueDpc};
use nt_host::ke::spinlock::{KeAcquireSpinLockAtDpcLevel, KeReleaseSpinLockFromDpcLevel};
use nt_host::ke::{border, bugcheck, irql, processor};
use nt_host::sync::Mutex;
use nt_host::verifier::{Rule, locks};
use nt_host::{host, ke};
use nt_sys::storport::{
    SCSI_REQUEST_BLOCK, SRB_FLAGS_DATA_IN, SRB_FLAGS_DATA_OUT, SRB_FLAGS_NO_QUEUE_FREEZE,
    SRB_FLAGS_QUEUE_ACTION_ENABLE, SRB_FUNCTION_EXECUTE_SCSI, SRB_SIMPLE_TAG_REQUEST,
    SRB_STATUS_NO_DEVICE, SRB_STATUS_PENDING, SRB_STATUS_SUCCESS,
};
use nt_sys::{DISPATCH_LEVEL, KDPC, PVOID};
use trace::{Class, Event};

use crate::adapter::Adapter;
use crate::buffer::DmaBuffer;
use crate::cdb::Cdb;
use crate::slot::{SENSE, Slot, SlotPtr, state};
use crate::unit::Unit;

/// Virtual CPUs the machine may have (Platform::cpus).
const CPUS: usize = 64;
/// 100 ns units in a second.
const SECOND: u64 = 10_000_000;

/// Which way data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// From the device.
    In,
    /// To the device.
    Out,
}

/// What the miniport answered.
pub struct Answer {
    /// SrbStatus without its flags.
    pub status: u8,
    /// ScsiStatus.
    pub scsi: u8,
    /// Sense data, if the miniport gave any.
    pub sense: Option<[u8; SENSE]>,
    /// DataTransferLength.
    pub length: u32,
}

impl Answer {
    /// The answer for a request to a device that is gone.
    pub fn gone() -> Self {
        Self {
            status: SRB_STATUS_NO_DEVICE,
            scsi: 0,
            sense: None,
            length: 0,
        }
    }
}

/// Called at DISPATCH_LEVEL with the answer and the request's buffer.
pub type Done = Box<dyn FnOnce(Answer, Request) + Send>;

/// A request on its way.
pub struct Request {
    /// SRB_FUNCTION_*.
    pub function: u8,
    /// Target on bus 0.
    pub target: u8,
    /// The unit whose queue it goes through; none goes around every queue.
    pub unit: Option<Arc<Unit>>,
    /// Command, for SRB_FUNCTION_EXECUTE_SCSI.
    pub cdb: [u8; 16],
    /// Its length.
    pub cdb_length: u8,
    /// Which way data go.
    pub direction: Direction,
    /// Data.
    pub buffer: Option<DmaBuffer>,
    /// Bytes of data.
    pub length: u32,
    /// Seconds until the request is too late.
    pub timeout: u32,
    /// PnPAction, for SRB_FUNCTION_PNP.
    pub pnp_action: u32,
    /// How often it was tried.
    pub tries: u32,
    /// Its number in a trace; 0 for what the port driver asks of its own accord.
    pub number: u64,
    /// What happens at the end; taken when it does.
    pub done: Option<Done>,
}

impl Request {
    /// A request without data for a target.
    pub fn new(function: u8, target: u8, timeout: u32) -> Self {
        Self {
            function,
            target,
            unit: None,
            cdb: [0; 16],
            cdb_length: 0,
            direction: Direction::None,
            buffer: None,
            length: 0,
            timeout,
            pnp_action: 0,
            tries: 0,
            number: 0,
            done: None,
        }
    }

    /// Makes the request carry out a SCSI command.
    pub fn set_command(&mut self, cdb: Cdb) {
        self.cdb = cdb.bytes;
        self.cdb_length = cdb.length;
    }

    /// Ends the request with an answer.
    pub fn finish(mut self, answer: Answer) {
        if let Some(done) = self.done.take() {
            done(answer, self);
        }
    }
}

/// What is under way on one CPU.
struct PerCpu {
    incoming: Mutex<VecDeque<(Arc<Adapter>, Request)>>,
    completed: Mutex<Vec<SlotPtr>>,
    dpc: Mutex<Dpc>,
}

struct Dpc {
    object: MaybeUninit<KDPC>,
    ready: bool,
}

// SAFETY: the DPC object is initialised once under its lock, then only handed to the kernel by address.
unsafe impl Send for Dpc {}

static PER_CPU: [PerCpu; CPUS] = [const {
    PerCpu {
        incoming: Mutex::new(VecDeque::new()),
        completed: Mutex::new(Vec::new()),
        dpc: Mutex::new(Dpc {
            object: MaybeUninit::uninit(),
            ready: false,
        }),
    }
}; CPUS];

static NEXT_CPU: AtomicU32 = AtomicU32::new(0);

fn per_cpu(cpu: u32) -> &'static PerCpu {
    &PER_CPU[cpu as usize % CPUS]
}

/// Takes a request at once where the caller runs on a virtual CPU; from a host thread, to the virtual CPUs in turn.
pub fn submit(adapter: &Arc<Adapter>, request: Request) {
    let platform = host().platform();
    if platform.current_cpu().is_some() {
        return irql::at_dispatch(|| admit(adapter, request));
    }
    let adapter = adapter.clone();
    let cpu = NEXT_CPU.fetch_add(1, Ordering::Relaxed) % platform.cpus().max(1);
    let mut incoming = per_cpu(cpu).incoming.lock();
    let first = incoming.is_empty();
    incoming.push_back((adapter, request));
    drop(incoming);
    if first {
        ke::inject(cpu, Box::new(move || take_in(cpu)));
    }
}

fn take_in(cpu: u32) {
    let batch = core::mem::take(&mut *per_cpu(cpu).incoming.lock());
    for (adapter, request) in batch {
        admit(&adapter, request);
    }
}

/// Issues a request, or leaves it to wait for its turn. At DISPATCH_LEVEL.
pub fn admit(adapter: &Arc<Adapter>, request: Request) {
    let request = match request.unit.clone() {
        Some(unit) => unit.enter(request),
        None => Some(request),
    };
    if let Some(request) = request {
        issue(adapter, request);
    }
}

/// Gives a request to the miniport. At DISPATCH_LEVEL.
fn issue(adapter: &Arc<Adapter>, request: Request) {
    let cpu = processor::current().number;
    let Some(mut slot) = adapter.take_slot(cpu) else {
        // Without memory the request is as good as refused for now.
        crate::watch::delay(adapter, request);
        return;
    };
    slot.demand_untouched();
    let number = request.number;
    trace::emit(Class::Disk, || Event::SrbBuild {
        request: number,
        srb: slot.number,
        page: request.buffer.as_ref().map_or(0, DmaBuffer::first_page),
    });
    let srb_number = slot.number;
    fill(&mut slot, request);
    let slot = Box::into_raw(slot);
    // SAFETY: the slot is the issuer's until the miniport has it.
    let fields = unsafe { &mut *slot };
    let (srb, uses) = (&raw mut fields.srb, fields.uses.load(Ordering::Relaxed));
    let extension = adapter.extension();
    fields.state.store(state::ISSUED, Ordering::Release);
    if let Some(build) = adapter.hw.HwBuildIo {
        // SAFETY: the miniport's own routine, called as documented.
        if border::call(|| unsafe { build(extension, srb) }) == 0 {
            // SAFETY: slots are never freed while their adapter exists.
            let (now, later) = unsafe { (*slot).look() };
            if now == state::ISSUED && later == uses {
                Rule::BuildIoFalse.breach(format_args!(
                    "HwBuildIo returned FALSE for SRB {srb:p} without having completed it"
                ));
            }
            return;
        }
    }
    let Some(start) = adapter.hw.HwStartIo else {
        bugcheck::give_up(format_args!("the miniport has no HwStartIo"));
    };
    trace::emit(Class::Disk, || Event::SrbStart {
        request: number,
        srb: srb_number,
    });
    let lock = adapter.start_lock(cpu);
    // SAFETY: the lock lives as long as the adapter.
    unsafe { KeAcquireSpinLockAtDpcLevel(lock) };
    locks::is_for(processor::current(), adapter.module);
    // SAFETY: the miniport's own routine, called as documented.
    border::call(|| unsafe { start(extension, srb) });
    // SAFETY: acquired above.
    unsafe { KeReleaseSpinLockFromDpcLevel(lock) };
    bugcheck::irql_at_most("HwStartIo after its return", DISPATCH_LEVEL);
}

impl Slot {
    fn look(&self) -> (u32, u32) {
        (
            self.state.load(Ordering::Acquire),
            self.uses.load(Ordering::Relaxed),
        )
    }
}

fn fill(slot: &mut Slot, request: Request) {
    let direction = match request.direction {
        Direction::None => 0,
        Direction::In => SRB_FLAGS_DATA_IN,
        Direction::Out => SRB_FLAGS_DATA_OUT,
    };
    slot.sense = [0; SENSE];
    let data = request
        .buffer
        .as_ref()
        .map_or(core::ptr::null_mut(), DmaBuffer::address);
    let tag = slot.uses.fetch_add(1, Ordering::Relaxed) as u8;
    let srb = &mut slot.srb;
    srb.Length = size_of::<SCSI_REQUEST_BLOCK>() as u16;
    srb.Function = request.function;
    srb.SrbStatus = SRB_STATUS_PENDING;
    srb.ScsiStatus = 0;
    srb.PathId = 0;
    srb.TargetId = request.target;
    srb.Lun = 0;
    srb.SrbFlags = direction | SRB_FLAGS_NO_QUEUE_FREEZE;
    srb.QueueTag = 0;
    srb.QueueAction = 0;
    if request.function == SRB_FUNCTION_EXECUTE_SCSI {
        srb.SrbFlags |= SRB_FLAGS_QUEUE_ACTION_ENABLE;
        srb.QueueTag = tag;
        srb.QueueAction = SRB_SIMPLE_TAG_REQUEST;
    }
    srb.CdbLength = request.cdb_length;
    srb.Cdb = request.cdb;
    srb.DataTransferLength = request.length;
    srb.TimeOutValue = request.timeout;
    srb.DataBuffer = data.cast();
    srb.NextSrb = core::ptr::null_mut();
    srb.OriginalRequest = core::ptr::null_mut();
    srb.InternalStatus = 0;
    srb.SenseInfoBufferLength = SENSE as u8;
    srb.SenseInfoBuffer = slot.sense.as_mut_ptr().cast();
    slot.srb.SrbExtension = slot.extension();
    if request.function == nt_sys::storport::SRB_FUNCTION_PNP {
        set_pnp_action(&mut slot.srb, request.pnp_action);
    }
    let due = match request.timeout {
        0 => 0,
        seconds => {
            ke::time::interrupt_time().saturating_add(u64::from(seconds).saturating_mul(SECOND))
        }
    };
    slot.deadline.store(due, Ordering::Relaxed);
    slot.request = Some(request);
}

/// SCSI_PNP_REQUEST_BLOCK.PnPAction shares its four bytes with QueueTag and what follows it.
fn set_pnp_action(srb: &mut SCSI_REQUEST_BLOCK, action: u32) {
    [
        srb.QueueTag,
        srb.QueueAction,
        srb.CdbLength,
        srb.SenseInfoBufferLength,
    ] = action.to_le_bytes();
}

/// Takes an SRB back from the miniport, at any IRQL, and leaves the rest to a DPC on this CPU: the miniport may
/// hold locks of its own.
pub fn complete(srb: *mut SCSI_REQUEST_BLOCK, function: &str) {
    let slot = Slot::of(srb, function);
    // SAFETY: `of` found it to be a slot.
    let fields = unsafe { slot.as_ref() };
    fields.complete(function);
    if fields.srb.SrbStatus == SRB_STATUS_PENDING {
        Rule::SrbPendingStatus.breach(format_args!(
            "{function} completes SRB {srb:p} with SRB_STATUS_PENDING"
        ));
    }
    trace::emit(Class::Disk, || Event::SrbComplete {
        request: fields.request.as_ref().map_or(0, |request| request.number),
        srb: fields.number,
        status: u64::from(fields.srb.SrbStatus),
    });
    let asked = fields.request.as_ref().map_or(0, |request| request.length);
    if fields.srb.DataTransferLength > asked {
        Rule::SrbLength.breach(format_args!(
            "{function} completes SRB {srb:p} with {} bytes of data, of {asked} asked for",
            fields.srb.DataTransferLength
        ));
    }
    let status = nt_sys::storport::srb_status(fields.srb.SrbStatus);
    let moves_blocks = fields.srb.Function == SRB_FUNCTION_EXECUTE_SCSI
        && crate::cdb::moves_blocks(fields.srb.Cdb[0]);
    if status == SRB_STATUS_SUCCESS && moves_blocks && fields.srb.DataTransferLength < asked {
        Rule::SrbShort.breach(format_args!(
            "{function} completes SRB {srb:p} with success and {} bytes of data, of {asked} asked for",
            fields.srb.DataTransferLength
        ));
    }
    settle_later(slot);
}

/// Leaves the rest of a completion to a DPC on this CPU.
fn settle_later(slot: NonNull<Slot>) {
    let cpu = per_cpu(processor::current().number);
    let mut completed = cpu.completed.lock();
    let first = completed.is_empty();
    completed.push(SlotPtr(slot));
    drop(completed);
    if first {
        cpu.queue_dpc();
    }
}

/// Microsoft Learn: StorPortCompleteRequest: every SRB of a target that the miniport has is completed with `status`, as
/// after a reset. [`SP_UNTAGGED`] stands for all targets, or units.
///
/// # Safety
/// `extension` is the miniport's device extension.
pub unsafe extern "win64" fn StorPortCompleteRequest(
    extension: PVOID,
    _path: u8,
    target: u8,
    lun: u8,
    status: u8,
) {
    let adapter = Adapter::of(extension, "StorPortCompleteRequest");
    if lun != 0 && lun != SP_UNTAGGED {
        return;
    }
    let target = (target != SP_UNTAGGED).then_some(target);
    for SlotPtr(slot) in adapter.issued(target) {
        // SAFETY: slots are never freed while their adapter exists.
        let state = unsafe { &(*slot.as_ptr()).state };
        let taken = state.compare_exchange(
            state::ISSUED,
            state::RESET,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if taken.is_ok() {
            // SAFETY: the SRB is the port driver's again.
            unsafe { (*slot.as_ptr()).srb.SrbStatus = status };
            // SAFETY: as above.
            unsafe { (*slot.as_ptr()).srb.DataTransferLength = 0 };
            settle_later(slot);
        }
    }
}

/// The target or unit number that means all of them (storport.h).
const SP_UNTAGGED: u8 = 0xff;

nt_host::exports!("storport.sys": StorPortCompleteRequest);

impl PerCpu {
    fn queue_dpc(&self) {
        let mut dpc = self.dpc.lock();
        let object = dpc.object.as_mut_ptr();
        if !dpc.ready {
            // SAFETY: static memory for a DPC that nobody uses yet.
            unsafe { KeInitializeDpc(object, Some(completion_dpc), core::ptr::null_mut()) };
            dpc.ready = true;
        }
        drop(dpc);
        // SAFETY: an initialised DPC in static memory.
        unsafe { KeInsertQueueDpc(object, core::ptr::null_mut(), core::ptr::null_mut()) };
    }
}

unsafe extern "win64" fn completion_dpc(
    _dpc: *mut KDPC,
    _context: PVOID,
    _one: PVOID,
    _two: PVOID,
) {
    let cpu = processor::current().number;
    loop {
        let batch = core::mem::take(&mut *per_cpu(cpu).completed.lock());
        if batch.is_empty() {
            return;
        }
        for SlotPtr(slot) in batch {
            // SAFETY: the miniport gave it up, and the completion list with it.
            settle(cpu, unsafe { Box::from_raw(slot.as_ptr()) });
        }
    }
}

/// Deals with a completed request: frees its slot, lets the next one in, tells whoever asked.
fn settle(cpu: u32, mut slot: Box<Slot>) {
    let srb = &slot.srb;
    let valid = srb.SrbStatus & nt_sys::storport::SRB_STATUS_AUTOSENSE_VALID != 0;
    let answer = Answer {
        status: nt_sys::storport::srb_status(srb.SrbStatus),
        scsi: srb.ScsiStatus,
        sense: valid.then_some(slot.sense),
        length: srb.DataTransferLength,
    };
    let request = slot.request.take();
    let adapter = slot.adapter.clone();
    slot.deadline.store(0, Ordering::Relaxed);
    slot.retire();
    let by_reset = slot.state.load(Ordering::Acquire) == state::RESET
        || adapter.resetting.load(Ordering::Acquire);
    match by_reset {
        true => {
            slot.state.store(state::RESET, Ordering::Release);
            adapter.put_aside(slot);
        }
        false => {
            slot.state.store(state::FREE, Ordering::Release);
            adapter.give_slot(cpu, slot);
        }
    }
    let Some(request) = request else { return };
    if let Some(next) = request.unit.as_ref().and_then(|unit| unit.leave()) {
        issue(&adapter, next);
    }
    request.finish(answer);
}

/// Sends a request around all queues and waits for its answer. At PASSIVE_LEVEL, on an NT thread.
pub fn execute(adapter: &Arc<Adapter>, mut request: Request) -> (Answer, Request) {
    struct Shared {
        event: ke::event::Event,
        result: Mutex<Option<(Answer, Request)>>,
    }
    let shared = Arc::new(Shared {
        event: ke::event::Event::new(true),
        result: Mutex::new(None),
    });
    let teller = shared.clone();
    request.done = Some(Box::new(move |answer, request| {
        *teller.result.lock() = Some((answer, request));
        teller.event.set();
    }));
    irql::at_dispatch(|| issue(adapter, request));
    loop {
        shared.event.wait(ke::wait::Timeout::Never);
        if let Some(result) = shared.result.lock().take() {
            return result;
        }
    }
}

/// The slot behind a pointer from the adapter's list of all slots.
pub fn deadline_of(slot: NonNull<Slot>) -> Option<(u64, u8)> {
    // SAFETY: slots are never freed while their adapter exists.
    let slot = unsafe { slot.as_ref() };
    let due = slot.deadline.load(Ordering::Relaxed);
    let issued = slot.state.load(Ordering::Acquire) == state::ISSUED;
    (issued && due != 0).then_some((due, slot.srb.TargetId))
}

/// Whether the miniport has a slot.
pub fn is_issued(slot: NonNull<Slot>) -> bool {
    // SAFETY: slots are never freed while their adapter exists.
    unsafe { slot.as_ref() }.state.load(Ordering::Acquire) == state::ISSUED
}
