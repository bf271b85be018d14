//! Handles: what a miniport holds of NDIS' objects. They are numbers where no memory is, so whoever follows one faults,
//! and one that was closed is never given out again.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use nt_host::verifier::Rule;
use nt_sys::ndis::NDIS_HANDLE;

/// Objects of one kind at a time.
const PLACES: usize = 512;
/// Where handles begin: addresses that neither Windows nor the rig maps.
const BASE: usize = 0xffff_f0d1_0000_0000;
/// From one kind's handles to the next.
const KIND: usize = 0x1000_0000;
/// From one handle to the next.
const STEP: usize = 16;

struct Entry<T> {
    handle: usize,
    value: T,
}

/// The objects of one kind. An object's memory stays when it is closed, for those who are just using it.
pub struct Handles<T: 'static> {
    what: &'static str,
    base: usize,
    places: [AtomicPtr<Entry<T>>; PLACES],
    next: AtomicUsize,
}

impl<T: Send + Sync + 'static> Handles<T> {
    /// No objects yet; each kind has a number of its own.
    pub const fn new(kind: usize, what: &'static str) -> Self {
        Self {
            what,
            base: BASE + kind * KIND,
            places: [const { AtomicPtr::new(core::ptr::null_mut()) }; PLACES],
            next: AtomicUsize::new(0),
        }
    }

    /// A new object, which is told its handle; `None` when there are too many.
    pub fn open(&self, make: impl FnOnce(NDIS_HANDLE) -> T) -> Option<&'static T> {
        let mut make = Some(make);
        for _ in 0..PLACES {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = &self.places[number % PLACES];
            if !place.load(Ordering::Relaxed).is_null() {
                continue;
            }
            let handle = self.base.wrapping_add(number.wrapping_mul(STEP) % KIND);
            let value = make.take()?(handle as NDIS_HANDLE);
            let entry: &'static Entry<T> = Box::leak(Box::new(Entry { handle, value }));
            place.store(core::ptr::from_ref(entry).cast_mut(), Ordering::Release);
            return Some(&entry.value);
        }
        None
    }

    fn entry(&self, handle: usize) -> Option<(&AtomicPtr<Entry<T>>, &'static Entry<T>)> {
        let offset = handle.checked_sub(self.base)?;
        let place = &self.places[offset / STEP % PLACES];
        // SAFETY: null, or an entry that was leaked.
        let entry = unsafe { place.load(Ordering::Acquire).as_ref() }?;
        (entry.handle == handle).then_some((place, entry))
    }

    /// The object of a handle.
    #[inline]
    pub fn find(&self, handle: NDIS_HANDLE) -> Option<&'static T> {
        self.entry(handle as usize).map(|(_, entry)| &entry.value)
    }

    /// The object of a handle that a miniport passes; anything else is a bug of the miniport.
    #[inline]
    pub fn demand(&self, handle: NDIS_HANDLE, function: &str) -> &'static T {
        match self.find(handle) {
            Some(object) => object,
            None => self.refuse(handle, function),
        }
    }

    #[cold]
    fn refuse(&self, handle: NDIS_HANDLE, function: &str) -> ! {
        Rule::NdisHandle.breach(format_args!(
            "{function}: {handle:p} is no handle of {}, or was closed",
            self.what
        ))
    }

    /// Closes a handle; it must have been open.
    pub fn close(&self, handle: NDIS_HANDLE, function: &str) -> &'static T {
        let object = self.demand(handle, function);
        if let Some((place, _)) = self.entry(handle as usize) {
            place.store(core::ptr::null_mut(), Ordering::Release);
        }
        object
    }

    /// The objects that are open.
    pub fn all(&self) -> impl Iterator<Item = &'static T> {
        self.places.iter().filter_map(|place| {
            // SAFETY: null, or an entry that was leaked.
            unsafe { place.load(Ordering::Acquire).as_ref() }.map(|entry| &entry.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static THINGS: Handles<u32> = Handles::new(15, "a thing");

    #[test]
    fn a_handle_finds_its_object_until_it_is_closed() {
        let mut handle = core::ptr::null_mut();
        let thing = THINGS.open(|own| {
            handle = own;
            7
        });
        assert_eq!(thing, Some(&7));
        assert_eq!(THINGS.find(handle), Some(&7));
        assert_eq!(THINGS.find(core::ptr::null_mut()), None);
        assert_eq!(THINGS.find(handle.wrapping_byte_add(8)), None);
        assert_eq!(THINGS.close(handle, "test"), &7);
        assert_eq!(THINGS.find(handle), None);
        let before = handle;
        THINGS.open(|own| {
            handle = own;
            8
        });
        assert_ne!(handle, before);
        assert_eq!(THINGS.all().count(), 1);
    }
}
