//! Declarations of the NT kernel interface.
#![no_std]
