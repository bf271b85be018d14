//! A block of memory that holds the `vcpu_info` of every vCPU, for domains with more than the shared info page has
//! room for.
//!
//! Xen takes a registration once per start of the domain, and keeps writing there. So the block outlives this driver:
//! its frames are noted in the volatile key `Memory`, where a driver loaded again finds them.

use crate::keys;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU8, Ordering};
use nt::io_space::Caching;
use nt::registry::Access;
use nt::{IoMapping, Key, NtStatus, Pages, Result};
use nt_sys::{PAGE_SHIFT, PAGE_SIZE, PFN_NUMBER, REG_BINARY};
use xen_abi::shared_info::VcpuInfo;

/// The shared info page has this many (public/xen.h: XEN_LEGACY_MAX_VCPUS).
const IN_SHARED_INFO: u32 = 32;
/// The block has room for at least so many: one `VcpuInfo` each, then one byte each that says "registered".
const LEAST: u32 = 128;

enum Memory {
    Made(Option<Pages>),
    Found(IoMapping),
}

pub struct VcpuInfoBlock {
    memory: Memory,
    frame: PFN_NUMBER,
    count: u32,
}

fn value_name(page: usize) -> Result<String> {
    let mut name = String::new();
    name.try_reserve(32)?;
    // The longest number fits into what was reserved.
    let _ = write!(name, "VCPU_INFO_{page}");
    Ok(name)
}

/// The frame number of `page`, if an earlier load left one.
fn noted_frame(key: &Key, page: usize) -> Option<PFN_NUMBER> {
    let value = key.value(&value_name(page).ok()?).ok()?;
    value
        .data
        .first_chunk()
        .map(|bytes| PFN_NUMBER::from_le_bytes(*bytes))
}

/// Whether the setting, or the number of processors, asks for a block.
fn wanted(processors: u32) -> bool {
    let setting =
        keys::own("Parameters", Access::Read).and_then(|key| key.dword("RegisterVcpuInfo"));
    setting.map_or(processors > IN_SHARED_INFO, |value| value != 0)
}

impl VcpuInfoBlock {
    /// The block for up to `processors` processors, or `None` if there is no need. PASSIVE_LEVEL.
    pub fn find_or_make(processors: u32) -> Result<Option<VcpuInfoBlock>> {
        if !wanted(processors) {
            return Ok(None);
        }
        let count = processors.max(LEAST);
        let pages = (count as usize * (size_of::<VcpuInfo>() + 1)).div_ceil(PAGE_SIZE);
        let key = keys::own("Memory", Access::All)?;
        if let Some(frame) = noted_frame(&key, 0) {
            let whole = (1..pages).all(|page| noted_frame(&key, page) == Some(frame + page as u64));
            if !whole {
                return Err(NtStatus::DATA_ERROR);
            }
            // SAFETY: the frames are those that an earlier load of this driver allocated and left to Xen.
            let mapping =
                unsafe { IoMapping::map(frame << PAGE_SHIFT, pages * PAGE_SIZE, Caching::Cached) }?;
            return Ok(Some(VcpuInfoBlock {
                memory: Memory::Found(mapping),
                frame,
                count,
            }));
        }
        let memory = Pages::allocate_contiguous(pages)?;
        for (page, frame) in memory.pfns().iter().enumerate() {
            key.set(&value_name(page)?, REG_BINARY, &frame.to_le_bytes())?;
        }
        let frame = memory.pfn(0).ok_or(NtStatus::NO_MEMORY)?;
        Ok(Some(VcpuInfoBlock {
            memory: Memory::Made(Some(memory)),
            frame,
            count,
        }))
    }

    fn bytes(&self) -> &[AtomicU8] {
        match &self.memory {
            Memory::Made(pages) => pages.as_ref().map_or(&[], |pages| pages.byte_cells()),
            Memory::Found(mapping) => mapping.bytes(),
        }
    }

    fn flag(&self, cpu: u32) -> Result<&AtomicU8> {
        let flags = self
            .bytes()
            .get(self.count as usize * size_of::<VcpuInfo>()..);
        let flag = flags.and_then(|flags| flags.get(cpu as usize));
        flag.filter(|_| cpu < self.count)
            .ok_or(NtStatus::INVALID_PARAMETER)
    }

    /// The `vcpu_info` of `cpu`, once it is registered.
    pub fn registered(&self, cpu: u32) -> Result<*const VcpuInfo> {
        if self.flag(cpu)?.load(Ordering::Acquire) == 0 {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let at = self.bytes().get(cpu as usize * size_of::<VcpuInfo>()..);
        at.map(|bytes| bytes.as_ptr().cast())
            .ok_or(NtStatus::INVALID_PARAMETER)
    }

    /// Registers the place of `cpu` by `call`, which gets frame and offset, unless that was done.
    pub fn register(
        &self,
        cpu: u32,
        force: bool,
        call: impl FnOnce(PFN_NUMBER, u32) -> Result<()>,
    ) -> Result<()> {
        let flag = self.flag(cpu)?;
        if flag.load(Ordering::Acquire) != 0 && !force {
            return Ok(());
        }
        let at = cpu as usize * size_of::<VcpuInfo>();
        call(
            self.frame + (at / PAGE_SIZE) as u64,
            (at % PAGE_SIZE) as u32,
        )?;
        flag.store(1, Ordering::Release);
        Ok(())
    }
}

impl Drop for VcpuInfoBlock {
    fn drop(&mut self) {
        // Xen keeps writing there.
        if let Memory::Made(pages) = &mut self.memory
            && let Some(pages) = pages.take()
        {
            pages.leak();
        }
    }
}
