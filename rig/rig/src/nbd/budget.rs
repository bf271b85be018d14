//! How much memory all clients together may have in flight.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A number of bytes to share. Cloning shares it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Inner>);

struct Inner {
    left: Mutex<usize>,
    returned: Condvar,
}

/// A part of the budget, given back when dropped.
pub(super) struct Share {
    inner: Arc<Inner>,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner {
            left: Mutex::new(bytes),
            returned: Condvar::new(),
        }))
    }

    /// Waits until `bytes` are left and takes them. The caller holds no other share that waits for this one, so that
    /// everybody gets on; `bytes` must not be more than the whole.
    pub fn take(&self, bytes: usize) -> Share {
        let left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self
            .0
            .returned
            .wait_while(left, |left| *left < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= bytes;
        Share {
            inner: Arc::clone(&self.0),
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self
            .inner
            .left
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.inner.returned.notify_all();
    }
}
