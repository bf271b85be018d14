//! Memory: who has which part of RAM, page tables, the kernel's heap.
//!
//! ```text
//!   virtual                        physical
//!   0x0020_0000  kernel image      same                      code and constants read-only
//!   DIRECT       physical view     all RAM but the kernel    4 KiB pages, each with its own protection
//!   WINDOW       mappings          any frames                made and ended by the executive
//! ```
//! Of RAM, the kernel keeps its image, its heap and the boot modules; the executive hands out the rest.

pub mod heap;
pub mod paging;

use alloc::vec::Vec;

use crate::boot::{self, Range};

/// Where physical address 0 shows.
pub const DIRECT: u64 = 0xFFFF_8000_0000_0000;
/// Size of a page.
pub const PAGE: u64 = 4096;
/// Where the toolstack puts the pages of xenstore and the console, and the end of the executive's view: the region of
/// special pages ends at frame 0xFF000 (xen/tools/libs/guest: `X86_HVM_END_SPECIAL_REGION`).
pub const SPECIAL: (u64, u64) = (0xFEF0_0000, 0xFF00_0000);
/// What the heap gets, in bytes.
const HEAP: u64 = 24 << 20;
/// The loader's structures are small and lie together: this much from the start of one.
const LOADER: u64 = 64 << 10;

unsafe extern "C" {
    static kernel_start: u8;
    static kernel_rodata: u8;
    static kernel_data: u8;
    static kernel_end: u8;
}

/// The kernel's image: start, start of constants, start of data, end.
pub fn kernel() -> [u64; 4] {
    [
        (&raw const kernel_start) as u64,
        (&raw const kernel_rodata) as u64,
        (&raw const kernel_data) as u64,
        (&raw const kernel_end) as u64,
    ]
}

/// What of RAM is not the executive's.
pub struct Layout {
    /// Behind the last byte of RAM that follows 1 MiB without a gap.
    pub ram_end: u64,
    /// The kernel's image.
    pub kernel: Range,
    /// Its heap.
    pub heap: Range,
}

impl Layout {
    /// Chooses a place for the heap. Allocates nothing. `None` when there is no RAM for it.
    pub fn choose(start_info: u64) -> Option<Self> {
        let [start, _, _, end] = kernel();
        let kernel = Range { start, end };
        let ram_end = boot::ram()
            .find(|range| range.start <= start && end <= range.end)?
            .end;
        let ends = boot::modules(start_info).map(|module| module.end);
        let taken = |candidate: &Range| {
            let loader = Range {
                start: start_info,
                end: start_info + LOADER,
            };
            candidate.meets(&loader)
                || candidate.meets(&kernel)
                || boot::modules(start_info).any(|module| candidate.meets(&module))
        };
        let heap = ends
            .chain([end, start_info + LOADER])
            .map(|after| {
                let start = after.next_multiple_of(PAGE);
                Range {
                    start,
                    end: start + HEAP,
                }
            })
            .find(|candidate| candidate.end <= ram_end && !taken(candidate))?;
        Some(Self {
            ram_end,
            kernel,
            heap,
        })
    }

    /// What the executive must not hand out.
    pub fn reserved(&self, modules: &[Range]) -> Vec<Range> {
        let mut reserved = Vec::from([self.kernel, self.heap]);
        reserved.extend_from_slice(modules);
        reserved
    }
}
