//! storport: what a miniport and the port driver hand each other.
//!
//! `srb` is the request block, `miniport` the registration and configuration, `port` the calls back into storport.
//! mingw-w64's headers know only the oldest form of these; the newer tails follow Microsoft Learn ("storport.h").

mod miniport;
mod port;
mod srb;

pub use miniport::*;
pub use port::*;
pub use srb::*;

#[cfg(test)]
pub(crate) mod layouts {
    pub(crate) use super::miniport::LAYOUTS as MINIPORT;
    pub(crate) use super::port::LAYOUTS as PORT;
    pub(crate) use super::srb::LAYOUTS as SRB;
}
