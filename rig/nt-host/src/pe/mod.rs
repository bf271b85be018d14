//! Driver images: checking, mapping, relocating, binding, and what can be asked about them later.
//!
//! ```text
//!   bytes ── image: parse, map, relocate ── imports: bind ── insn: patch ── protect ──> Module
//!                                                                           modules: by name, by address
//! ```

mod bind;
pub mod detour;
mod dynamic;
pub mod error;
pub mod facade;
pub mod image;
pub mod insn;
pub mod modules;
pub mod thunk;
pub mod unwind;

pub use error::LoadError;
pub use modules::Module;
