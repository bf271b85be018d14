//! The SCSI commands a Windows disk needs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
