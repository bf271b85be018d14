//! The first instructions, and what the loader says.
//!
//! ```text
//!   Xen or its toolstack ── PHYS32 note (PVH), or ELF entry (HVM, in hvmloader's place): 32 bits, no paging, EBX = start info
//!     └─ start_pvh: identity map of 4 GiB, the same again at DIRECT; long mode ──> kernel_main
//! ```
//! public/arch-x86/hvm/start_info.h; both ways in are the same.

use alloc::vec::Vec;
use core::arch::global_asm;

use crate::memory::DIRECT;
use crate::xen;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// `SIF_INITDOMAIN`: this is the control domain.
const INITIAL_DOMAIN: u32 = 2;

global_asm!(
    ".section .note.Xen, \"a\", @note",
    ".balign 4",
    // XEN_ELFNOTE_PHYS32_ENTRY is 18 (public/elfnote.h).
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long start_pvh",
    ".section .bss.boot, \"aw\", @nobits",
    ".balign 4096",
    "boot_pml4: .skip 4096",
    "boot_pdpt: .skip 4096",
    "boot_pd: .skip 4 * 4096",
    "boot_stack: .skip 64 * 1024",
    "boot_stack_end:",
    ".section .rodata.boot, \"a\"",
    ".balign 8",
    "boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "boot_gdtr: .word 23",
    ".long boot_gdt",
    ".section .text.start, \"ax\"",
    ".code32",
    ".globl start_pvh",
    "start_pvh:",
    "cli",
    "cld",
    "mov esp, offset boot_stack_end",
    "mov ebp, ebx",
    // PML4: the first 512 GiB, and the same at DIRECT.
    "mov eax, offset boot_pdpt + 3",
    "mov dword ptr [boot_pml4], eax",
    "mov dword ptr [boot_pml4 + 256 * 8], eax",
    // PDPT: four page directories.
    "mov eax, offset boot_pd + 3",
    "mov edi, offset boot_pdpt",
    "mov ecx, 4",
    "2:",
    "mov dword ptr [edi], eax",
    "add edi, 8",
    "add eax, 4096",
    "loop 2b",
    // Page directories: 2048 pages of 2 MiB, present, writable, large.
    "mov eax, 0x83",
    "mov edi, offset boot_pd",
    "mov ecx, 2048",
    "3:",
    "mov dword ptr [edi], eax",
    "add edi, 8",
    "add eax, 0x200000",
    "loop 3b",
    "mov eax, offset boot_pml4",
    "mov cr3, eax",
    // PAE, OSFXSR, OSXMMEXCPT.
    "mov eax, 0x620",
    "mov cr4, eax",
    // EFER: LME, NXE.
    "mov ecx, 0xC0000080",
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    // PE, MP, ET, NE, WP, PG.
    "mov eax, 0x80010033",
    "mov cr0, eax",
    "lgdt [boot_gdtr]",
    // A far return into the 64-bit segment.
    "push 8",
    "mov eax, offset start_long",
    "push eax",
    "retf",
    ".code64",
    "start_long:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov edi, ebp",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    main = sym crate::kernel_main,
);

/// A range of physical memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Behind the last one.
    pub end: u64,
}

impl Range {
    fn of(start: u64, size: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
        }
    }

    /// Whether they share a byte.
    pub fn meets(&self, other: &Range) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What the loader said.
pub struct StartInfo {
    /// RAM.
    pub ram: Vec<Range>,
    /// The boot modules.
    pub modules: Vec<Range>,
    /// This is the control domain.
    pub initial_domain: bool,
}

/// The word at a physical address below 4 GiB.
fn read<T: Copy>(physical: u64) -> T {
    let at = (DIRECT + physical) as *const T;
    // SAFETY: the loader's structures lie in RAM, which is mapped at DIRECT, and hold plain integers.
    unsafe { at.read_unaligned() }
}

/// The boot modules. Found without allocating, since the heap is not there yet.
pub fn modules(start_info: u64) -> impl Iterator<Item = Range> {
    let valid = read::<u32>(start_info) == MAGIC;
    let count = if valid {
        read::<u32>(start_info + 12)
    } else {
        0
    };
    let list = read::<u64>(start_info + 16);
    (0..u64::from(count)).map(move |index| {
        let entry = list + index * 32;
        Range::of(read(entry), read(entry + 8))
    })
}

/// The RAM, from Xen: the loader's own list is missing in the control domain. Allocates nothing.
pub fn ram() -> impl Iterator<Item = Range> {
    const TYPE_RAM: u32 = 1;
    let (map, count) = xen::memory_map();
    (0..count).filter_map(move |index| {
        let entry = map.get(index)?;
        (entry.kind() == TYPE_RAM).then(|| Range::of(entry.start(), entry.size()))
    })
}

impl StartInfo {
    /// Copies what is of use.
    pub fn read(start_info: u64) -> Self {
        Self {
            ram: ram().collect(),
            modules: modules(start_info).collect(),
            initial_domain: read::<u32>(start_info) == MAGIC
                && read::<u32>(start_info + 8) & INITIAL_DOMAIN != 0,
        }
    }
}
