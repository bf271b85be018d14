//! The kernel as Microsoft's documentation and headers (wdm.h, ntddk.h) describe it, read once more.
//!
//! Nothing here comes from this project's other declarations of the same: what both got wrong in the same way, no case
//! could find. Objects whose insides are the kernel's own are only as large as the headers say.
//!
//! Every function is declared safe although none is: what a case passes lives on its own stack or in a static for as
//! long as the kernel may use it, and a wrong argument ends in the rig's verifier, which names the case that was running.
#![allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::upper_case_acronyms,
    clippy::too_many_arguments,
    reason = "Microsoft's names and signatures, declared as a table"
)]

pub mod exceptions;
pub mod functions;
pub mod io;
pub mod objects;
pub mod resources;
pub mod status;

pub use exceptions::*;
pub use functions::*;
pub use io::*;
pub use objects::*;
pub use resources::*;
pub use status::*;
