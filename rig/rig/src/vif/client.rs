//! A client of the VIF interface in xennet.sys' place: sends and receives frames through its callback. For tests of the
//! interface itself, and where a network stack would be in the way.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nt_host::ke::thread;
use nt_host::mm::mdl::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use nt_host::mm::pool::{ExAllocatePoolWithTag, ExFreePoolWithTag};
use nt_host::pnp::node;
use nt_sys::{
    GUID, IO_QUERY_INTERFACE, IRP_MN_QUERY_INTERFACE, MDL, NonPagedPoolNx, PAGE_SIZE, nt_success,
};
use pv_interfaces::vif::*;
use pv_interfaces::{Interface, Table, This};

use crate::wait;

/// Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

const TAG: u32 = u32::from_le_bytes(*b"TstV");

/// A received frame.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// [`ChecksumFlags`].
    pub flags: u32,
    /// Of a large frame, the data in each segment.
    pub mss: u16,
    /// The tag that was taken out.
    pub tci: u16,
    /// The queue that it came through.
    pub index: u32,
    /// Its hash.
    pub hash: PacketHash,
    /// Where it begins in its page.
    pub start: usize,
    /// MDLs that it lies in.
    pub pieces: usize,
}

/// What is said of frames that are sent.
#[derive(Clone, Copy, Default)]
pub struct About {
    /// [`OffloadOptions`].
    pub options: u16,
    /// Of a large frame, the data in each segment.
    pub mss: u16,
    /// The tag to put in.
    pub tci: u16,
    /// Its hash.
    pub hash: PacketHash,
}

/// What the callback has seen.
#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    /// Cookies and status of frames that came back.
    returned: Vec<(usize, u8)>,
    link_changes: usize,
    table: Option<VifV10>,
    /// The memory of frames that are not back.
    out: BTreeMap<usize, Chain>,
}

// SAFETY: the table's context is only handed back.
unsafe impl Send for Seen {}

fn guard<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something is so.
fn until(what: &str, is_so: impl FnMut() -> bool) -> Result<(), String> {
    match wait::until(PATIENCE, is_so) {
        true => Ok(()),
        false => Err(format!("not within {PATIENCE:?}: {what}")),
    }
}

/// Runs `body` as an NT thread and gives what it gives.
pub fn on_thread<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    thread::run(0, move || {
        // The receiver may have given up.
        let _ = sender.send(body());
    });
    wait::receive(&receiver, PATIENCE).expect("the thread ends")
}

/// An acquired interface, whose callback is this file's.
pub struct VifClient {
    table: VifV10,
    sent: usize,
    seen: Arc<Mutex<Seen>>,
}

// SAFETY: the provider takes calls on any thread.
unsafe impl Send for VifClient {}

/// A table that can be sent to an NT thread.
#[derive(Clone, Copy)]
struct Sent(VifV10);
// SAFETY: as above.
unsafe impl Send for Sent {}

impl Sent {
    fn get(&self) -> &VifV10 {
        &self.0
    }
}

impl VifClient {
    /// Asks a device for the interface, and acquires it.
    pub fn open(instance: &str, version: u16) -> Result<Self, String> {
        let instance = instance.to_owned();
        let table = on_thread(move || query(&instance, version))?;
        let Sent(table) = table;
        let sent = Sent(table);
        let status = on_thread(move || {
            let table = sent.get();
            // SAFETY: the provider's method, as documented; so below.
            unsafe { (table.acquire)(&raw const table.header) }
        });
        if !nt_success(status) {
            return Err(format!("Acquire: {status:#x}"));
        }
        let seen = Arc::new(Mutex::new(Seen {
            table: Some(table),
            ..Seen::default()
        }));
        Ok(Self {
            table,
            sent: 0,
            seen,
        })
    }

    /// Calls a method on an NT thread.
    pub fn call<R: Send + 'static>(
        &self,
        body: impl FnOnce(&VifV10, This) -> R + Send + 'static,
    ) -> R {
        let sent = Sent(self.table);
        on_thread(move || {
            let table = sent.get();
            body(table, &raw const table.header)
        })
    }

    /// Has every frame pass, and enables the interface.
    pub fn enable(&self, options: u16) -> Result<(), String> {
        // Whoever calls back late finds it there still.
        let context = Arc::into_raw(Arc::clone(&self.seen)) as usize;
        let status = self.call(move |table, this| {
            // SAFETY: the provider's methods, as documented.
            unsafe { (table.receiver_set_offload_options)(this, OffloadOptions(options)) };
            for class in [ADDRESS_UNICAST, ADDRESS_MULTICAST, ADDRESS_BROADCAST] {
                // SAFETY: as above.
                unsafe { (table.mac_set_filter_level)(this, class, FILTER_ALL) };
            }
            let callback = match table.header.version {
                // SAFETY: the table is of that version, whose method takes this callback; they differ in nothing else.
                8 => unsafe { std::mem::transmute::<Variadic, CallbackV10>(callback_v8) },
                // SAFETY: as above.
                9 => unsafe { std::mem::transmute::<CallbackV9, CallbackV10>(callback_v9) },
                _ => callback,
            };
            // SAFETY: as above; the argument is the callback's.
            unsafe { (table.enable)(this, callback, context as *mut c_void) }
        });
        match nt_success(status) {
            true => Ok(()),
            false => Err(format!("Enable: {status:#x}")),
        }
    }

    /// Disables it.
    pub fn disable(&self) {
        self.call(|table, this| {
            // SAFETY: the provider's method.
            unsafe { (table.disable)(this) };
        });
    }

    /// Releases it.
    pub fn release(self) {
        self.call(|table, this| {
            // SAFETY: acquired in `open`.
            unsafe { (table.release)(this) };
        });
    }

    /// One of its counters.
    pub fn statistic(&self, statistic: Statistic) -> u64 {
        self.call(move |table, this| {
            let mut value = 0;
            // SAFETY: the provider's method, and a place for the value.
            unsafe { (table.query_statistic)(this, statistic as u32, &mut value) };
            value
        })
    }

    /// Sends frames, each cut into MDLs of `piece` bytes, and waits until they are back. Gives their status.
    pub fn send(
        &mut self,
        frames: Vec<Vec<u8>>,
        piece: usize,
        options: u16,
        mss: u16,
    ) -> Result<Vec<u8>, String> {
        let about = About {
            options,
            mss,
            ..About::default()
        };
        self.send_as(frames, piece, about)
    }

    /// The same, and says more of the frames.
    pub fn send_as(
        &mut self,
        frames: Vec<Vec<u8>>,
        piece: usize,
        about: About,
    ) -> Result<Vec<u8>, String> {
        let first = self.queue(frames, piece, about)?;
        until("every frame comes back", || {
            self.outcomes(first).len() == self.sent - first
        })?;
        let outcomes = self.outcomes(first);
        let seen = guard(&self.seen);
        let returned = seen.returned.iter();
        let count = returned.filter(|(cookie, _)| *cookie >= first).count();
        match count == outcomes.len() {
            true => Ok(outcomes.into_values().collect()),
            false => Err("a frame came back twice".to_owned()),
        }
    }

    /// Sends frames, and does not wait for them. Gives the number of the first.
    pub fn queue(
        &mut self,
        frames: Vec<Vec<u8>>,
        piece: usize,
        about: About,
    ) -> Result<usize, String> {
        let first = self.sent;
        self.sent += frames.len();
        let seen = Arc::clone(&self.seen);
        self.call(move |table, this| {
            let last = frames.len().saturating_sub(1);
            for (index, frame) in frames.iter().enumerate() {
                let chain = Chain::new(frame, piece);
                let mdl = chain.first;
                let cookie = first + index;
                guard(&seen).out.insert(cookie, chain);
                // SAFETY: the chain lives until the frame is back.
                let status = unsafe {
                    (table.transmitter_queue_packet)(
                        this,
                        mdl.cast(),
                        0,
                        frame.len() as u32,
                        OffloadOptions(about.options),
                        about.mss,
                        about.tci,
                        &about.hash,
                        (index < last).into(),
                        cookie as *mut c_void,
                    )
                };
                if !nt_success(status) {
                    guard(&seen).out.remove(&cookie);
                    return Err(format!("frame {index} was refused: {status:#x}"));
                }
            }
            Ok(())
        })?;
        Ok(first)
    }

    /// The status of each frame from number `first` on that is back.
    pub fn outcomes(&self, first: usize) -> BTreeMap<usize, u8> {
        let seen = guard(&self.seen);
        let returned = seen.returned.iter();
        let mine = returned.filter(|(cookie, _)| *cookie >= first);
        mine.copied().collect()
    }

    /// Frames that are not back.
    pub fn out(&self) -> usize {
        guard(&self.seen).out.len()
    }

    /// What was received since this was last asked.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut guard(&self.seen).received)
    }

    /// Frames received that were not taken.
    pub fn count(&self) -> usize {
        guard(&self.seen).received.len()
    }

    /// How often the link was said to have changed.
    pub fn link_changes(&self) -> usize {
        guard(&self.seen).link_changes
    }
}

/// The tables of all versions are alike but for the callback.
fn query(instance: &str, version: u16) -> Result<Sent, String> {
    let node = node::by_instance(instance).and_then(node::get);
    let node = node.ok_or("no such device")?;
    let mut guid = GUID {
        Data1: VifV10::GUID.data1,
        Data2: VifV10::GUID.data2,
        Data3: VifV10::GUID.data3,
        Data4: VifV10::GUID.data4,
    };
    let mut table = std::mem::MaybeUninit::<VifV10>::zeroed();
    let answer = node.pdo.pnp(IRP_MN_QUERY_INTERFACE, |location| {
        location.Parameters.QueryInterface = IO_QUERY_INTERFACE {
            InterfaceType: &raw mut guid,
            Size: size_of::<VifV10>() as u16,
            Version: version,
            Interface: table.as_mut_ptr().cast(),
            InterfaceSpecificData: null_mut(),
        };
    });
    if !nt_success(answer.status) {
        return Err(format!("no VIF interface: {:#x}", answer.status));
    }
    // SAFETY: the provider filled it in.
    let table = unsafe { table.assume_init() };
    let Interface {
        size,
        version: given,
        ..
    } = table.header;
    match (size, given == version) {
        (240, true) => Ok(Sent(table)),
        _ => Err(format!("a table of {size} bytes and version {given}")),
    }
}

/// A frame in pool memory, described by MDLs.
struct Chain {
    first: *mut MDL,
    memory: Vec<*mut c_void>,
}

// SAFETY: the memory belongs to this.
unsafe impl Send for Chain {}

impl Chain {
    fn new(frame: &[u8], piece: usize) -> Self {
        let mut chain = Self {
            first: null_mut(),
            memory: Vec::new(),
        };
        for piece in frame.chunks(piece).rev() {
            let memory = ExAllocatePoolWithTag(NonPagedPoolNx, piece.len(), TAG);
            assert!(!memory.is_null());
            // SAFETY: the block is that long.
            unsafe {
                memory
                    .cast::<u8>()
                    .copy_from_nonoverlapping(piece.as_ptr(), piece.len())
            };
            // SAFETY: a block of non-paged pool, without an IRP.
            let mdl = unsafe { IoAllocateMdl(memory, piece.len() as u32, 0, 0, null_mut()) };
            assert!(!mdl.is_null());
            // SAFETY: a new MDL of non-paged pool.
            unsafe { MmBuildMdlForNonPagedPool(mdl) };
            // SAFETY: a live MDL.
            unsafe { (*mdl).Next = chain.first };
            chain.first = mdl;
            chain.memory.push(memory);
        }
        chain
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        while !self.first.is_null() {
            let mdl = self.first;
            // SAFETY: a live MDL of the chain.
            self.first = unsafe { (*mdl).Next };
            // SAFETY: nobody uses it any more.
            unsafe { IoFreeMdl(mdl) };
        }
        for memory in self.memory.drain(..) {
            // SAFETY: allocated in `new`.
            unsafe { ExFreePoolWithTag(memory, TAG) };
        }
    }
}

unsafe extern "win64" fn callback(context: *mut c_void, kind: u32, parameters: *mut ParametersV10) {
    // SAFETY: null, or the provider's parameters during the call, of which the older ones are the beginning.
    unsafe { called(context, kind, parameters.cast()) };
}

unsafe extern "win64" fn callback_v9(
    context: *mut c_void,
    kind: u32,
    parameters: *mut ParametersV9,
) {
    // SAFETY: as above.
    unsafe { called(context, kind, parameters) };
}

/// The callback of version 8 as the convention for x64 passes its arguments: each has a place of eight bytes, of which
/// the unused halves are anything.
type Variadic = unsafe extern "win64" fn(
    *mut c_void,
    u32,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
);

#[rustfmt::skip]
unsafe extern "win64" fn callback_v8(
    context: *mut c_void, kind: u32, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64, k: u64,
) {
    let mut parameters = match kind {
        TYPE_RETURN_PACKET => ParametersV9 {
            return_packet: ReturnPacket {
                cookie: a as *mut c_void,
                completion: b as *const CompletionInfo,
            },
        },
        TYPE_QUEUE_PACKET => ParametersV9 {
            queue_packet: QueuePacketV9 {
                index: a as u32,
                mdl: b as *mut Mdl,
                offset: c as u32,
                length: d as u32,
                flags: ChecksumFlags(e as u32),
                maximum_segment_size: f as u16,
                tag_control_information: g as u16,
                info: h as *const PacketInfo,
                hash: i as *const PacketHash,
                more: j as u8,
                cookie: k as *mut c_void,
            },
        },
        // SAFETY: a change of the link has no parameters.
        _ => return unsafe { called(context, kind, std::ptr::null()) },
    };
    // SAFETY: the parameters of this kind.
    unsafe { called(context, kind, &raw mut parameters) };
}

/// # Safety
/// The context is a client's; the provider's parameters, or null.
unsafe fn called(context: *mut c_void, kind: u32, parameters: *const ParametersV9) {
    // SAFETY: the caller's duty.
    let parameters = unsafe { parameters.as_ref() };
    // SAFETY: `enable` gave it, and it stays.
    let seen = unsafe { &*context.cast::<Mutex<Seen>>() };
    let (table, cookie) = {
        let mut seen = guard(seen);
        match (kind, parameters) {
            (TYPE_RETURN_PACKET, Some(parameters)) => {
                // SAFETY: the parameters of this type.
                let back = unsafe { parameters.return_packet };
                // SAFETY: lives during the call.
                let completion = unsafe { back.completion.read() };
                let cookie = back.cookie as usize;
                seen.returned.push((cookie, completion.status));
                let chain = seen.out.remove(&cookie);
                drop(seen);
                drop(chain);
                return;
            }
            (TYPE_QUEUE_PACKET, Some(parameters)) => {
                // SAFETY: the parameters of this type.
                let packet = unsafe { parameters.queue_packet };
                let (bytes, start, pieces) = bytes(packet.mdl.cast(), packet.offset, packet.length);
                seen.received.push(Received {
                    bytes,
                    start,
                    pieces,
                    flags: packet.flags.0,
                    mss: packet.maximum_segment_size,
                    tci: packet.tag_control_information,
                    index: packet.index,
                    // SAFETY: the packet is not given back yet.
                    hash: unsafe { *packet.hash },
                });
                (seen.table, packet.cookie)
            }
            _ => {
                seen.link_changes += 1;
                return;
            }
        }
    };
    let Some(table) = table else { return };
    // SAFETY: given back once.
    unsafe { (table.receiver_return_packet)(&raw const table.header, cookie) };
}

/// The bytes of a chain of mapped MDLs, where they begin in their page, and the MDLs of the chain.
fn bytes(mut mdl: *mut MDL, offset: u32, length: u32) -> (Vec<u8>, usize, usize) {
    let (mut all, mut start, mut pieces) = (Vec::new(), 0, 0);
    // SAFETY: the provider's chain lives until the packet is given back.
    while let Some(fields) = unsafe { mdl.as_ref() } {
        // SAFETY: a mapped MDL's memory.
        let piece = unsafe {
            std::slice::from_raw_parts(
                fields.MappedSystemVa.cast::<u8>(),
                fields.ByteCount as usize,
            )
        };
        if pieces == 0 {
            start = (piece.as_ptr() as usize + offset as usize) % PAGE_SIZE;
        }
        pieces += 1;
        all.extend_from_slice(piece);
        mdl = fields.Next;
    }
    let bytes = all[offset as usize..][..length as usize].to_vec();
    (bytes, start, pieces)
}
