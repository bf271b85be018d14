//! Xen as a library.
