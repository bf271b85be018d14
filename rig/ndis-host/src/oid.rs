//! OID requests: one at a time to a miniport, at the adapter's desk.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use nt_host::exports;
use nt_host::mm::pool as memory;
use nt_host::verifier::Rule;
use nt_sys::ndis::{
    NDIS_HANDLE, NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_OID_REQUEST, NDIS_OID, NDIS_OID_METHOD,
    NDIS_OID_QUERY, NDIS_OID_REQUEST, NDIS_OID_REQUEST_DATA, NDIS_OID_SET,
    NDIS_SIZEOF_OID_REQUEST_REVISION_1, NDIS_SIZEOF_OID_REQUEST_REVISION_2,
    NDIS_SIZEOF_STATISTICS_INFO_REVISION_1, NDIS_STATISTICS_INFO, NDIS_STATUS,
    NDIS_STATUS_ADAPTER_NOT_READY, NDIS_STATUS_NOT_SUPPORTED, NDIS_STATUS_PENDING,
    NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, NdisRequestMethod, NdisRequestQueryInformation,
    NdisRequestQueryStatistics, NdisRequestSetInformation, OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_RECEIVE_HASH, OID_GEN_RECEIVE_SCALE_PARAMETERS, OID_GEN_STATISTICS,
};
use trace::{Class, Event};

use crate::adapter::{Adapter, State};
use crate::scale::Scale;
use crate::{call, life, version};

/// What is asked of an OID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its value.
    Query,
    /// Its value, as WMI asks for it.
    Statistics,
    /// That it has this value.
    Set,
    /// Something that takes a value and gives one.
    Method,
}

/// A request.
#[derive(Clone, Debug)]
pub struct OidRequest {
    /// What is asked.
    pub kind: Kind,
    /// Of which object.
    pub oid: NDIS_OID,
    /// What is given; its length is the room that the answer has.
    pub buffer: Vec<u8>,
    /// Bytes of `buffer` that are given, of a method.
    pub input: usize,
}

impl OidRequest {
    /// Asks for a value of at most `room` bytes.
    pub fn query(oid: NDIS_OID, room: usize) -> Self {
        Self {
            kind: Kind::Query,
            oid,
            buffer: alloc::vec![0; room],
            input: 0,
        }
    }

    /// Gives a value.
    pub fn set(oid: NDIS_OID, bytes: &[u8]) -> Self {
        Self {
            kind: Kind::Set,
            oid,
            buffer: bytes.to_vec(),
            input: bytes.len(),
        }
    }

    /// Gives a value and asks for one of at most `room` bytes.
    pub fn method(oid: NDIS_OID, input: &[u8], room: usize) -> Self {
        let mut buffer = input.to_vec();
        buffer.resize(room.max(input.len()), 0);
        Self {
            kind: Kind::Method,
            oid,
            buffer,
            input: input.len(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct OidAnswer {
    /// What became of it.
    pub status: NDIS_STATUS,
    /// The value, as far as it was written.
    pub buffer: Vec<u8>,
    /// Bytes that were read.
    pub read: u32,
    /// Bytes that would be needed.
    pub needed: u32,
}

impl OidAnswer {
    fn refused(status: NDIS_STATUS) -> Self {
        Self {
            status,
            buffer: Vec::new(),
            read: 0,
            needed: 0,
        }
    }
}

impl Adapter {
    /// Sends a request to the miniport, from any thread, after those that came before. `done` gets the answer on an NT
    /// thread at PASSIVE_LEVEL, or at once if the adapter is gone.
    pub fn request(&'static self, request: OidRequest, done: Box<dyn FnOnce(OidAnswer) + Send>) {
        self.at_desk(Box::new(move |adapter| {
            done(match adapter {
                Some(adapter) => send(adapter, request),
                None => OidAnswer::refused(NDIS_STATUS_ADAPTER_NOT_READY),
            });
        }));
    }
}

/// The memory of a request's value, in pool of its own, so that a write beyond it shows.
struct Buffer {
    memory: NonNull<u8>,
    length: usize,
}

impl Buffer {
    fn new(bytes: &[u8]) -> Option<Self> {
        let memory = memory::allocate(bytes.len().max(1), *b"NdOi")?;
        let length = bytes.len();
        // SAFETY: fresh memory that long.
        unsafe {
            memory
                .as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), length)
        };
        Some(Self { memory, length })
    }

    fn take(self, length: usize, oid: NDIS_OID, routine: usize) -> Vec<u8> {
        let length = length.min(self.length);
        // SAFETY: that much was allocated.
        let bytes = unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), length) }.to_vec();
        if memory::try_free(self.memory, None).is_err() {
            Rule::OidLength.breach_of(
                routine,
                format_args!(
                    "writes beyond the {} bytes of the buffer of OID {oid:#010x}",
                    self.length
                ),
            );
        }
        bytes
    }
}

/// Sends a request; at the desk.
pub fn send(adapter: &'static Adapter, request: OidRequest) -> OidAnswer {
    if matches!(adapter.state(), State::Halted | State::Initializing) {
        return OidAnswer::refused(NDIS_STATUS_ADAPTER_NOT_READY);
    }
    let Some(routine) = adapter.driver.characteristics.OidRequestHandler else {
        return OidAnswer::refused(NDIS_STATUS_NOT_SUPPORTED);
    };
    let Some(buffer) = Buffer::new(&request.buffer) else {
        return OidAnswer::refused(NDIS_STATUS_RESOURCES);
    };
    let mut made = fill(&request, &buffer);
    let given = &raw mut made;
    trace::emit(Class::Net, || Event::OidRequest {
        adapter: adapter.index.into(),
        oid: request.oid.into(),
        kind: request.kind as u64,
    });
    // Frames may follow it before the request is seen to have ended.
    if let (Kind::Set, Some(set)) = (&request.kind, scaling(request.oid)) {
        set(&mut adapter.scale.lock(), &request.buffer);
    }
    adapter.request.store(given as usize, Ordering::Release);
    adapter.requesting.begin();
    // SAFETY: the miniport's own routine, called as documented.
    let status = call::handler(routine as usize, "MiniportOidRequest", || unsafe {
        routine(adapter.context(), given)
    });
    if status != NDIS_STATUS_PENDING && !adapter.requesting.end(status) {
        Rule::OidCompletedTwice.breach_of(
            routine as usize,
            format_args!(
                "returns {status:#010x} for OID {:#010x}, which it has completed with NdisMOidRequestComplete",
                request.oid
            ),
        );
    }
    let Some(status) = adapter.requesting.wait(life::limit()) else {
        Rule::OidLost.breach_of(
            routine as usize,
            format_args!("never completes a request for OID {:#010x}", request.oid),
        );
    };
    adapter.request.store(0, Ordering::Release);
    trace::emit(Class::Net, || Event::OidAnswer {
        adapter: adapter.index.into(),
        oid: request.oid.into(),
        status: status as u64,
    });
    answer(adapter, &request, buffer, &made, status, routine as usize)
}

fn fill(request: &OidRequest, buffer: &Buffer) -> NDIS_OID_REQUEST {
    // SAFETY: all zero is valid for numbers and null pointers.
    let mut made: NDIS_OID_REQUEST = unsafe { core::mem::zeroed() };
    let (revision, size) = match version::minor() {
        ..50 => (1, NDIS_SIZEOF_OID_REQUEST_REVISION_1),
        _ => (2, NDIS_SIZEOF_OID_REQUEST_REVISION_2),
    };
    made.Header = NDIS_OBJECT_HEADER::new(NDIS_OBJECT_TYPE_OID_REQUEST, revision, size);
    let (address, length) = (buffer.memory.as_ptr().cast(), buffer.length as u32);
    let query = NDIS_OID_QUERY {
        Oid: request.oid,
        InformationBuffer: address,
        InformationBufferLength: length,
        BytesWritten: 0,
        BytesNeeded: 0,
    };
    (made.RequestType, made.DATA) = match request.kind {
        Kind::Query => (
            NdisRequestQueryInformation,
            NDIS_OID_REQUEST_DATA {
                QUERY_INFORMATION: query,
            },
        ),
        Kind::Statistics => (
            NdisRequestQueryStatistics,
            NDIS_OID_REQUEST_DATA {
                QUERY_INFORMATION: query,
            },
        ),
        Kind::Set => (
            NdisRequestSetInformation,
            NDIS_OID_REQUEST_DATA {
                SET_INFORMATION: NDIS_OID_SET {
                    Oid: request.oid,
                    InformationBuffer: address,
                    InformationBufferLength: length,
                    BytesRead: 0,
                    BytesNeeded: 0,
                },
            },
        ),
        Kind::Method => (
            NdisRequestMethod,
            NDIS_OID_REQUEST_DATA {
                METHOD_INFORMATION: NDIS_OID_METHOD {
                    Oid: request.oid,
                    InformationBuffer: address,
                    InputBufferLength: request.input as u32,
                    OutputBufferLength: length,
                    MethodId: 0,
                    BytesWritten: 0,
                    BytesRead: 0,
                    BytesNeeded: 0,
                },
            },
        ),
    };
    made
}

fn answer(
    adapter: &'static Adapter,
    request: &OidRequest,
    buffer: Buffer,
    made: &NDIS_OID_REQUEST,
    status: NDIS_STATUS,
    routine: usize,
) -> OidAnswer {
    let (written, read, needed) = match request.kind {
        Kind::Query | Kind::Statistics => {
            // SAFETY: the request's type says which member was filled in.
            let query = unsafe { made.DATA.QUERY_INFORMATION };
            (query.BytesWritten, 0, query.BytesNeeded)
        }
        Kind::Set => {
            // SAFETY: as above.
            let set = unsafe { made.DATA.SET_INFORMATION };
            (0, set.BytesRead, set.BytesNeeded)
        }
        Kind::Method => {
            // SAFETY: as above.
            let method = unsafe { made.DATA.METHOD_INFORMATION };
            (method.BytesWritten, method.BytesRead, method.BytesNeeded)
        }
    };
    let room = buffer.length;
    if written as usize > room || read as usize > room {
        Rule::OidLength.breach_of(
            routine,
            format_args!(
                "has written {written} and read {read} of the {room} bytes of OID {:#010x}",
                request.oid
            ),
        );
    }
    let bytes = buffer.take(written as usize, request.oid, routine);
    if let Kind::Set = request.kind
        && status != NDIS_STATUS_SUCCESS
        && scaling(request.oid).is_some()
    {
        adapter.scale.lock().take_back();
    }
    if status == NDIS_STATUS_SUCCESS {
        match request.kind {
            Kind::Set => note(adapter, request),
            _ => check(request.oid, &bytes, routine),
        }
    }
    OidAnswer {
        status,
        buffer: bytes,
        read,
        needed,
    }
}

/// How an object's value changes what is hashed, if it does.
fn scaling(oid: NDIS_OID) -> Option<fn(&mut Scale, &[u8])> {
    match oid {
        OID_GEN_RECEIVE_SCALE_PARAMETERS => Some(Scale::set_scale),
        OID_GEN_RECEIVE_HASH => Some(Scale::set_hash),
        _ => None,
    }
}

/// Remembers what the miniport was told and agreed to.
fn note(adapter: &Adapter, request: &OidRequest) {
    if request.oid == OID_GEN_CURRENT_PACKET_FILTER
        && let Some(bytes) = request.buffer.first_chunk()
    {
        let filter = u32::from_le_bytes(*bytes);
        adapter.filter.store(filter, Ordering::Relaxed);
    }
}

/// What is known of a value's form.
fn check(oid: NDIS_OID, bytes: &[u8], routine: usize) {
    if oid != OID_GEN_STATISTICS {
        return;
    }
    const SIZE: u16 = NDIS_SIZEOF_STATISTICS_INFO_REVISION_1;
    let (kind, revision) = (nt_sys::ndis::NDIS_OBJECT_TYPE_DEFAULT, 1);
    let header = [kind, revision, SIZE.to_le_bytes()[0], SIZE.to_le_bytes()[1]];
    if bytes.len() < usize::from(SIZE) || bytes[..4] != header {
        Rule::StatisticsMalformed.breach_of(
            routine,
            format_args!(
                "answers OID_GEN_STATISTICS with {} bytes that start with {:02x?}; they are {} of type {kind:#x}, \
                 revision {revision}",
                bytes.len(),
                &bytes[..bytes.len().min(4)],
                size_of::<NDIS_STATISTICS_INFO>()
            ),
        );
    }
}

/// Microsoft Learn: NdisMOidRequestComplete.
pub extern "win64" fn NdisMOidRequestComplete(
    handle: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
) {
    const NAME: &str = "NdisMOidRequestComplete";
    let adapter = Adapter::of(handle, NAME);
    if status == NDIS_STATUS_PENDING {
        Rule::OidPending.breach(format_args!("{NAME}: {request:p} with NDIS_STATUS_PENDING"));
    }
    let is_there = adapter.request.load(Ordering::Acquire) == request as usize;
    if !is_there || !adapter.requesting.end(status) {
        Rule::OidCompletedTwice.breach(format_args!(
            "{NAME}: {request:p} is no request that it has, or was completed before"
        ));
    }
}

exports!("ndis.sys": NdisMOidRequestComplete);
