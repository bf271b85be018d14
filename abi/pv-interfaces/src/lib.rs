//! The binary interfaces between the drivers: GUIDs, versions, call tables. No logic.
#![no_std]
#![forbid(unsafe_code)]
