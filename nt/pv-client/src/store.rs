//! xenstore: values, directories, transactions, watches. IRQL ≤ DISPATCH_LEVEL; each call waits for xenstored.
//!
//! A path is given as a directory and a node in it. Values come from other domains: bytes, nothing more.

use crate::{Acquired, CText};
use alloc::sync::Arc;
use core::ffi::{CStr, c_char};
use core::ptr::NonNull;
use nt::{Event, NtStatus, Result};
use pv_interfaces::store::{StoreV2, Transaction as RawTransaction, Watch as RawWatch};

/// The store, acquired.
#[derive(Clone, Debug)]
pub struct Store {
    table: Arc<Acquired<StoreV2>>,
}

/// A value or a list, until dropped.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<c_char>,
    store: Store,
}

// SAFETY: the buffer is owned, and may be freed on any processor.
unsafe impl Send for Buffer {}

impl Buffer {
    /// The value's bytes up to its first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the store ends its buffers with NULs and leaves them alone until they are freed.
        unsafe { CStr::from_ptr(self.start.as_ptr()) }.to_bytes()
    }

    /// The names in a list.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = self.start.as_ptr().cast_const();
        core::iter::from_fn(move || {
            // SAFETY: the list is a row of C strings that ends with an empty one, behind which we never go.
            let name = unsafe { CStr::from_ptr(next) };
            if name.is_empty() {
                return None;
            }
            // SAFETY: as above.
            next = unsafe { next.add(name.count_bytes() + 1) };
            Some(name.to_bytes())
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let table = &self.store.table;
        // SAFETY: the buffer came from this store and is freed once.
        unsafe { (table.free)(table.this(), self.start.as_ptr()) }
    }
}

/// Reads and writes, in a transaction or each by itself.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    store: &'a Store,
    transaction: *mut RawTransaction,
}

impl Store {
    /// A client of an acquired interface.
    pub fn new(table: Arc<Acquired<StoreV2>>) -> Store {
        Store { table }
    }

    /// Access outside of any transaction.
    pub fn plain(&self) -> Access<'_> {
        Access {
            store: self,
            transaction: core::ptr::null_mut(),
        }
    }

    /// Runs `body` in a transaction, and again when another's change got in between, at most ten times.
    pub fn transact<R>(&self, mut body: impl FnMut(Access<'_>) -> Result<R>) -> Result<R> {
        const TRIES: u32 = 10;
        for _ in 0..TRIES {
            let mut transaction = core::ptr::null_mut();
            // SAFETY: the out parameter is live.
            NtStatus::check(unsafe {
                (self.table.transaction_start)(self.table.this(), &mut transaction)
            })?;
            let result = body(Access {
                store: self,
                transaction,
            });
            // SAFETY: started above, ended once.
            let end = NtStatus(unsafe {
                (self.table.transaction_end)(self.table.this(), transaction, result.is_ok().into())
            });
            match result {
                Err(status) => return Err(status),
                Ok(_) if end == NtStatus::RETRY => {}
                Ok(value) => return end.ok().map(|()| value),
            }
        }
        Err(NtStatus::RETRY)
    }

    /// Sets `event` at every change of `node` or below it, and once at first.
    pub fn watch(
        &self,
        directory: Option<&CText>,
        node: &CText,
        event: &Arc<Event>,
    ) -> Result<Watch> {
        let mut watch = core::ptr::null_mut();
        // SAFETY: the strings live as long as the call; the event as long as the watch, which keeps it.
        NtStatus::check(unsafe {
            (self.table.watch_add)(
                self.table.this(),
                directory.map_or(core::ptr::null(), CText::as_ptr),
                node.as_ptr(),
                event.as_ptr().cast(),
                &mut watch,
            )
        })?;
        let watch = NonNull::new(watch).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Watch {
            watch,
            _event: event.clone(),
            store: self.clone(),
        })
    }
}

impl Access<'_> {
    /// The value of `directory/node`.
    pub fn read(&self, directory: &CText, node: &CText) -> Result<Buffer> {
        self.get(self.store.table.read, Some(directory), node)
    }

    /// The value of a node given by its whole path, relative to the domain's own directory or absolute.
    pub fn read_path(&self, path: &CText) -> Result<Buffer> {
        self.get(self.store.table.read, None, path)
    }

    /// The children of `directory/node`. An empty directory is STATUS_OBJECT_PATH_NOT_FOUND.
    pub fn list(&self, directory: Option<&CText>, node: &CText) -> Result<Buffer> {
        self.get(self.store.table.directory, directory, node)
    }

    fn get(
        &self,
        method: pv_interfaces::store::Read,
        directory: Option<&CText>,
        node: &CText,
    ) -> Result<Buffer> {
        whole(directory, node)?;
        let mut start = core::ptr::null_mut();
        // SAFETY: the strings live as long as the call, the out parameter is live, the transaction is open or null.
        NtStatus::check(unsafe {
            method(
                self.store.table.this(),
                self.transaction,
                directory.map_or(core::ptr::null(), CText::as_ptr),
                node.as_ptr(),
                &mut start,
            )
        })?;
        let start = NonNull::new(start).ok_or(NtStatus::UNSUCCESSFUL)?;
        Ok(Buffer {
            start,
            store: self.store.clone(),
        })
    }

    /// Writes `directory/node`.
    pub fn write(&self, directory: Option<&CText>, node: &CText, value: &CText) -> Result<()> {
        whole(directory, node)?;
        whole(None, value)?;
        // SAFETY: as in `get`; the format takes one string.
        NtStatus::check(unsafe {
            (self.store.table.printf)(
                self.store.table.this(),
                self.transaction,
                directory.map_or(core::ptr::null(), CText::as_ptr),
                node.as_ptr(),
                c"%s".as_ptr(),
                value.as_ptr(),
            )
        })
    }

    /// Removes `directory/node` and all below it.
    pub fn remove(&self, directory: Option<&CText>, node: &CText) -> Result<()> {
        whole(directory, node)?;
        // SAFETY: as in `get`.
        NtStatus::check(unsafe {
            (self.store.table.remove)(
                self.store.table.this(),
                self.transaction,
                directory.map_or(core::ptr::null(), CText::as_ptr),
                node.as_ptr(),
            )
        })
    }
}

/// A path that was cut off would be another node's.
fn whole(directory: Option<&CText>, node: &CText) -> Result<()> {
    match node.is_whole() && directory.is_none_or(CText::is_whole) {
        true => Ok(()),
        false => Err(NtStatus::INVALID_BUFFER_SIZE),
    }
}

/// A watch, until dropped. After a suspend it is dead: drop it and make a new one.
#[derive(Debug)]
pub struct Watch {
    watch: NonNull<RawWatch>,
    _event: Arc<Event>,
    store: Store,
}

// SAFETY: the watch is owned, and may be removed on any processor.
unsafe impl Send for Watch {}
// SAFETY: it is only a name.
unsafe impl Sync for Watch {}

impl Drop for Watch {
    fn drop(&mut self) {
        let table = &self.store.table;
        // SAFETY: added to this store and removed once; the handle is gone whatever the status.
        unsafe { (table.watch_remove)(table.this(), self.watch.as_ptr()) };
    }
}
