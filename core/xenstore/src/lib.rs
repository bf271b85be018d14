//! The xenstore client: wire format, requests, watches, transactions.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
