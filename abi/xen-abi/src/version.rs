//! What Xen says about itself. public/version.h, public/features.h.

/// `XENVER_version`: no argument; returns major << 16 | minor.
pub const VERSION: u32 = 0;
/// `XENVER_extraversion`: [`EXTRAVERSION_LEN`] bytes out.
pub const EXTRAVERSION: u32 = 1;
/// `XENVER_capabilities`: 1024 bytes out.
pub const CAPABILITIES: u32 = 3;
/// `XENVER_get_features`: 8 bytes, submap index in, submap out.
pub const GET_FEATURES: u32 = 6;
/// `XENVER_pagesize`: returns it.
pub const PAGESIZE: u32 = 7;

/// Size of `xen_extraversion_t` in bytes, NUL included.
pub const EXTRAVERSION_LEN: usize = 16;

/// `XENFEAT_hvm_callback_vector`, a bit number of submap 0.
pub const FEATURE_HVM_CALLBACK_VECTOR: u32 = 8;
