//! An NT executive as a library.
#![no_std]
