//! The safe kernel API.
#![no_std]
#[cfg(windows)]
mod load_config;
