//! The safe storport miniport API.
#![no_std]
