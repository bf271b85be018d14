//! The executive's own: callback objects, events with names, images, lists, processors, the process, system information.

pub mod callback;
pub mod event;
pub mod image;
pub mod information;
pub mod list;
pub mod process;
pub mod processor;
