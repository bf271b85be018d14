//! Names of addresses that are the same in every run, for traces: code by its image, data by its physical address.

use crate::mm::frames;
use crate::pe::modules;
use crate::platform::PAGE_SIZE;

/// Whose code is at `address`: the number of its image, and the offset in it. (0, 0) for the executive's own.
pub fn of_code(address: u64) -> (u64, u64) {
    modules::by_address(address).map_or((0, 0), |module| {
        (u64::from(module.id), address - module.base() as u64)
    })
}

/// The guest-physical address of data in the physical view; 0 for what is elsewhere.
pub fn of_data<T: ?Sized>(data: *const T) -> u64 {
    let address = data.cast::<u8>() as usize;
    frames::frame_of(address).map_or(0, |frame| {
        frame * PAGE_SIZE as u64 + (address % PAGE_SIZE) as u64
    })
}
