//! A request of NDIS, for as long as it is answered.

// The constants have Microsoft's names.
#![allow(non_upper_case_globals)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use nt_sys::PVOID;
use nt_sys::ndis::*;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value.
    Query,
    /// A value to be taken over.
    Set,
    /// A counter.
    Statistics,
    /// Both at once.
    Method,
    /// Something that this version of NDIS does not know.
    Unknown(i32),
}

/// A request. Each must be answered: by writing to its buffer, saying how much, and returning a status.
#[derive(Debug)]
pub struct OidRequest<'a> {
    request: NonNull<NDIS_OID_REQUEST>,
    _request: PhantomData<&'a mut NDIS_OID_REQUEST>,
}

impl<'a> OidRequest<'a> {
    /// # Safety
    /// Null or a request that is the caller's alone for `'a`.
    pub(crate) unsafe fn new(request: *mut NDIS_OID_REQUEST) -> Option<OidRequest<'a>> {
        NonNull::new(request).map(|request| OidRequest {
            request,
            _request: PhantomData,
        })
    }

    fn fields(&self) -> &NDIS_OID_REQUEST {
        // SAFETY: the request is this value's.
        unsafe { self.request.as_ref() }
    }

    fn fields_mut(&mut self) -> &mut NDIS_OID_REQUEST {
        // SAFETY: as above.
        unsafe { self.request.as_mut() }
    }

    /// What is asked for.
    pub fn kind(&self) -> Kind {
        match self.fields().RequestType {
            NdisRequestQueryInformation => Kind::Query,
            NdisRequestSetInformation => Kind::Set,
            NdisRequestQueryStatistics => Kind::Statistics,
            NdisRequestMethod => Kind::Method,
            other => Kind::Unknown(other),
        }
    }

    /// `OID_*`.
    pub fn oid(&self) -> u32 {
        // SAFETY: all members start with the object's number.
        unsafe { self.fields().DATA.QUERY_INFORMATION.Oid }
    }

    /// Address and length of the buffer: of a method, its room for the answer.
    fn place(&self) -> (PVOID, u32) {
        match self.kind() {
            Kind::Method => {
                // SAFETY: this type's member; so below.
                let method = unsafe { self.fields().DATA.METHOD_INFORMATION };
                (
                    method.InformationBuffer,
                    method.InputBufferLength.max(method.OutputBufferLength),
                )
            }
            _ => {
                // SAFETY: the others have address and length at one place.
                let query = unsafe { self.fields().DATA.QUERY_INFORMATION };
                (query.InformationBuffer, query.InformationBufferLength)
            }
        }
    }

    /// The buffer: what is set, or room for the answer. Empty where there is none.
    pub fn buffer(&mut self) -> &mut [u8] {
        let (start, length) = self.place();
        if start.is_null() {
            return &mut [];
        }
        // SAFETY: NDIS gives a buffer of that length for the request, in memory of the system.
        unsafe { core::slice::from_raw_parts_mut(start.cast(), length as usize) }
    }

    /// Bytes of the answer.
    pub fn set_written(&mut self, bytes: u32) {
        let kind = self.kind();
        let data = &mut self.fields_mut().DATA;
        match kind {
            Kind::Method => data.METHOD_INFORMATION.BytesWritten = bytes,
            Kind::Set => {}
            _ => data.QUERY_INFORMATION.BytesWritten = bytes,
        }
    }

    /// Bytes that were taken over.
    pub fn set_read(&mut self, bytes: u32) {
        let kind = self.kind();
        let data = &mut self.fields_mut().DATA;
        match kind {
            Kind::Method => data.METHOD_INFORMATION.BytesRead = bytes,
            Kind::Set => data.SET_INFORMATION.BytesRead = bytes,
            _ => {}
        }
    }

    /// Bytes that the buffer would have to have.
    pub fn set_needed(&mut self, bytes: u32) {
        let kind = self.kind();
        let data = &mut self.fields_mut().DATA;
        match kind {
            Kind::Method => data.METHOD_INFORMATION.BytesNeeded = bytes,
            Kind::Set => data.SET_INFORMATION.BytesNeeded = bytes,
            _ => data.QUERY_INFORMATION.BytesNeeded = bytes,
        }
    }
}
