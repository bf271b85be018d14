//! The functions that drivers import, by module. Only what is used ends in an image's import table.
//!
//! `raw-dylib` writes the import entries itself, so neither an import library nor the WDK is needed. What each
//! function does, and at which IRQL, is Microsoft Learn's to say; `nt` wraps them.

mod hal;
mod ndis;
mod netio;
mod ntoskrnl;
mod storport;

pub use hal::*;
pub use ndis::*;
pub use netio::*;
pub use ntoskrnl::*;
pub use storport::*;
