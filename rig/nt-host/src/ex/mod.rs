//! Notifications: callback objects, loaded images, processors, processes.

pub mod callback;
pub mod image;
pub mod processor;
