//! The safe kernel API.
#![no_std]
