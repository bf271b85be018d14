//! Loaded images: their list, and the export table of one.

use core::ffi::CStr;
use core::ptr::null_mut;

use crate::suite::{Finding, Outcome, failed};
use crate::support::TAG;
use crate::wdk::*;

/// Learn, AUX_MODULE_EXTENDED_INFO.
#[repr(C)]
struct Image {
    base: usize,
    size: u32,
    name: u16,
    path: [u8; 256],
}

type QueryModules = extern "system" fn(*mut u32, u32, PVOID) -> NTSTATUS;

/// The list of images, until dropped.
struct Images {
    list: *mut Image,
    count: usize,
}

impl Images {
    /// Asks for it as the library of AuxKlibQueryModuleInformation does.
    fn read() -> Result<Self, Finding> {
        let units = wide!("RtlQueryModuleInformation");
        let mut name = UNICODE_STRING {
            Length: 0,
            MaximumLength: 0,
            Buffer: null_mut(),
        };
        RtlInitUnicodeString(&raw mut name, units.as_ptr());
        let address = MmGetSystemRoutineAddress(&raw const name);
        check!(!address.is_null(), "RtlQueryModuleInformation is unknown");
        // SAFETY: that function's type.
        let query: QueryModules = unsafe { core::mem::transmute(address) };
        let (mut size, element) = (0, size_of::<Image>() as u32);
        equal!(
            query(&raw mut size, element, null_mut()),
            STATUS_SUCCESS,
            "asking for the list's size"
        );
        let list = ExAllocatePoolWithTag(NonPagedPoolNx, size as usize, TAG).cast::<Image>();
        check!(!list.is_null(), "no pool for {size} bytes");
        let images = Self {
            list,
            count: (size / element) as usize,
        };
        equal!(
            query(&raw mut size, element, list.cast()),
            STATUS_SUCCESS,
            "asking for the list"
        );
        Ok(images)
    }

    fn all(&self) -> &[Image] {
        // SAFETY: the kernel has filled them in.
        unsafe { core::slice::from_raw_parts(self.list, self.count) }
    }

    /// The image with this file name.
    fn find(&self, name: &str) -> Result<&Image, Finding> {
        let mut images = self.all().iter();
        let found = images.find(|image| image.name().eq_ignore_ascii_case(name.as_bytes()));
        found.ok_or_else(|| failed(format_args!("{name} is not in the list")))
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        ExFreePoolWithTag(self.list.cast(), TAG);
    }
}

impl Image {
    fn name(&self) -> &[u8] {
        let name = self.path.get(usize::from(self.name)..).unwrap_or_default();
        CStr::from_bytes_until_nul(name).map_or(&[], CStr::to_bytes)
    }

    /// A number at an offset.
    fn word(&self, at: usize) -> u32 {
        if at + 4 > self.size as usize {
            return 0;
        }
        // SAFETY: within the image, whose headers and tables can be read.
        unsafe { ((self.base + at) as *const u32).read_unaligned() }
    }

    fn half(&self, at: usize) -> usize {
        (self.word(at) & 0xFFFF) as usize
    }

    fn offset(&self, at: usize) -> usize {
        self.word(at) as usize
    }

    /// The text at an offset.
    fn text(&self, at: usize) -> &CStr {
        // SAFETY: a name of the export table, which ends with a zero.
        unsafe { CStr::from_ptr((self.base + at) as *const _) }
    }

    /// The address of an export, by the tables as "PE Format" (Learn) has them.
    fn export(&self, name: &CStr) -> Result<usize, Finding> {
        let optional = self.offset(0x3C) + 24;
        equal!(self.half(0), 0x5A4D, "the image's first bytes");
        equal!(self.half(optional), 0x20B, "the optional header's magic");
        let exports = self.offset(optional + 112);
        check!(exports != 0, "the image has no exports");
        let names = self.offset(exports + 24);
        let [functions, pointers, ordinals] = [28, 32, 36].map(|at| self.offset(exports + at));
        let mut before = c"";
        for index in 0..names {
            let text = self.text(self.offset(pointers + 4 * index));
            check!(text > before, "the names are not sorted");
            before = text;
            if text == name {
                let place = self.half(ordinals + 2 * index);
                return Ok(self.base + self.offset(functions + 4 * place));
            }
        }
        Err(failed(format_args!("{name:?} is not exported")))
    }
}

/// Learn, AuxKlibQueryModuleInformation: base, size and path of each image.
fn each_loaded_image_is_in_the_list() -> Outcome {
    let images = Images::read()?;
    let own = images.find("rig-selftest.sys")?;
    let code = each_loaded_image_is_in_the_list as *const () as usize;
    check!(
        (own.base..own.base + own.size as usize).contains(&code),
        "this code at {code:#x} is not in the image at {:#x}",
        own.base
    );
    Ok(())
}

/// Learn, "PE Format", and GetIfTable2 for drivers: what is found in netio.sys's export table can be called.
fn exports_are_found_in_an_images_tables() -> Outcome {
    let images = Images::read()?;
    let netio = images.find("netio.sys")?;
    let get = netio.export(c"GetIfTable2")?;
    let free = netio.export(c"FreeMibTable")?;
    // SAFETY: that function's type.
    let get: extern "system" fn(*mut PVOID) -> NTSTATUS = unsafe { core::mem::transmute(get) };
    // SAFETY: as above.
    let free: extern "system" fn(PVOID) = unsafe { core::mem::transmute(free) };
    let mut table = null_mut();
    equal!(get(&raw mut table), STATUS_SUCCESS, "GetIfTable2");
    check!(!table.is_null(), "there is no table");
    free(table);
    Ok(())
}

group!("images":
    each_loaded_image_is_in_the_list,
    exports_are_found_in_an_images_tables,
);
