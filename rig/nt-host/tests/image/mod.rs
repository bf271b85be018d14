//! Makes small PE images, so that a test says in a few lines what is in the driver that it loads.
//!
//! ```text
//!   0x1000 .text   code            0x3000 .data   one page, writable
//!   0x2000 .rdata  slots, tables   0x4000 .reloc  one table
//! ```
#![allow(dead_code, reason = "each test uses a part")]

/// Where code starts in the image.
pub const TEXT: u32 = 0x1000;
/// Where import slots start in the image.
pub const SLOTS: u32 = 0x2000;
/// Where writable data starts in the image.
pub const DATA: u32 = 0x3000;
const RELOC: u32 = 0x4000;
/// Where the page of code is in the image.
pub const PAGE: u32 = 0x5000;
const BASE: u64 = 0x1_4000_0000;
const HEADERS: usize = 0x400;

const CODE_FLAGS: u32 = 0x6000_0020;
const READ_FLAGS: u32 = 0x4000_0040;
const WRITE_FLAGS: u32 = 0xC000_0040;

/// A driver to be.
pub struct Image {
    /// COFF machine.
    pub machine: u16,
    /// Subsystem of the optional header.
    pub subsystem: u16,
    /// Flags of the code section.
    pub code_flags: u32,
    /// What it imports: module and function, slot by slot.
    pub imports: Vec<(&'static str, &'static str)>,
    /// What it exports: names and offsets in the code.
    pub exports: Vec<(&'static str, u32)>,
    /// What it exports of other modules: its name here, and `MODULE.Name` or `MODULE.#12`.
    pub forwards: Vec<(&'static str, &'static str)>,
    /// A page of code, all zero, behind everything else.
    pub page: bool,
    /// Offsets in the data at which the address of the code's start is stored, by relocation.
    pub pointers: Vec<u32>,
    /// The code; execution starts at its first byte.
    pub code: Vec<u8>,
}

impl Image {
    /// A driver with this code.
    pub fn new(code: &[u8]) -> Self {
        Self {
            machine: 0x8664,
            subsystem: 1,
            code_flags: CODE_FLAGS,
            imports: Vec::new(),
            exports: Vec::new(),
            forwards: Vec::new(),
            page: false,
            pointers: Vec::new(),
            code: code.to_vec(),
        }
    }

    /// Adds an import, by its name or as `#12`; its slot's number.
    pub fn import(&mut self, module: &'static str, name: &'static str) -> u32 {
        self.imports.push((module, name));
        self.imports.len() as u32 - 1
    }

    /// Adds instructions.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend(bytes);
        self
    }

    /// Adds a call of the function in `slot`.
    pub fn call(&mut self, slot: u32) -> &mut Self {
        let next = TEXT + self.code.len() as u32 + 6;
        let distance = (SLOTS + 8 * slot).wrapping_sub(next);
        self.raw(&[0xff, 0x15]).raw(&distance.to_le_bytes())
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let (rdata, imports, exports) = self.tables();
        let mut data = vec![0; 0x200];
        for &at in &self.pointers {
            data[at as usize..at as usize + 8]
                .copy_from_slice(&(BASE + u64::from(TEXT)).to_le_bytes());
        }
        let reloc = self.relocations();
        let parts: [(&[u8; 8], u32, &[u8], u32); 5] = [
            (b".text\0\0\0", TEXT, &self.code, self.code_flags),
            (b".rdata\0\0", SLOTS, &rdata, READ_FLAGS),
            (b".data\0\0\0", DATA, &data, WRITE_FLAGS),
            (b".reloc\0\0", RELOC, &reloc, READ_FLAGS),
            (b".page\0\0\0", PAGE, &[0; 0x1000], CODE_FLAGS),
        ];
        let parts = &parts[..if self.page { 5 } else { 4 }];
        let mut file = self.headers(imports, exports, reloc.len() as u32);
        let mut offset = HEADERS;
        let mut body = Vec::new();
        for &(name, rva, bytes, flags) in parts {
            let raw = bytes.len().next_multiple_of(0x200);
            file.extend(name);
            for value in [
                bytes.len() as u32,
                rva,
                raw as u32,
                offset as u32,
                0,
                0,
                0,
                flags,
            ] {
                file.extend(value.to_le_bytes());
            }
            offset += raw;
            body.extend(bytes);
            body.resize(offset - HEADERS, 0);
        }
        file.resize(HEADERS, 0);
        file.extend(body);
        file
    }

    /// `.rdata`, the place of the import directory in it, and place and size of the export directory.
    fn tables(&self) -> (Vec<u8>, u32, (u32, u32)) {
        // One descriptor for each import keeps this simple; a slot is followed by nothing, so lists of names are apart.
        let count = self.imports.len();
        let directory = 8 * (count as u32 + 1);
        let lists = directory + 20 * (count as u32 + 1);
        let names = lists + 16 * count as u32;
        let mut rdata = vec![0; names as usize];
        let put = |rdata: &mut Vec<u8>, at: u32, value: u32| {
            rdata[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
        };
        for (index, (module, name)) in self.imports.iter().enumerate() {
            let index = index as u32;
            let mut hint = SLOTS + rdata.len() as u32;
            if let Some(number) = name.strip_prefix('#') {
                // IMAGE_ORDINAL_FLAG64 in the upper half.
                hint = number.parse().unwrap();
                put(&mut rdata, 8 * index + 4, 1 << 31);
                put(&mut rdata, lists + 16 * index + 4, 1 << 31);
            }
            rdata.extend([0, 0]);
            rdata.extend(name.bytes().chain([0]));
            let module_at = SLOTS + rdata.len() as u32;
            rdata.extend(module.bytes().chain([0]));
            put(&mut rdata, 8 * index, hint);
            put(&mut rdata, lists + 16 * index, hint);
            let descriptor = directory + 20 * index;
            put(&mut rdata, descriptor, SLOTS + lists + 16 * index);
            put(&mut rdata, descriptor + 12, module_at);
            put(&mut rdata, descriptor + 16, SLOTS + 8 * index);
        }
        let imports = if count == 0 { 0 } else { SLOTS + directory };
        rdata.resize(rdata.len().next_multiple_of(4), 0);
        let exports = self.export_table(&mut rdata);
        (rdata, imports, exports)
    }

    fn export_table(&self, rdata: &mut Vec<u8>) -> (u32, u32) {
        let own = self
            .exports
            .iter()
            .map(|&(name, offset)| (name, Ok(offset)));
        let forwards = self
            .forwards
            .iter()
            .map(|&(name, there)| (name, Err(there)));
        let mut sorted: Vec<(_, Result<u32, &str>)> = own.chain(forwards).collect();
        if sorted.is_empty() {
            return (0, 0);
        }
        sorted.sort_unstable();
        let start = SLOTS + rdata.len() as u32;
        let count = sorted.len() as u32;
        let (functions, pointers) = (start + 40, start + 40 + 4 * count);
        let (ordinals, names) = (pointers + 4 * count, pointers + 6 * count);
        for value in [0, 0, 0, 0, 1, count, count, functions, pointers, ordinals] {
            rdata.extend(value.to_le_bytes());
        }
        // A forwarded export's address is that of a text in the table, which stands behind the names.
        let mut text = names
            + sorted
                .iter()
                .map(|(name, _)| name.len() as u32 + 1)
                .sum::<u32>();
        for (_, target) in &sorted {
            let address = match target {
                Ok(offset) => TEXT + offset,
                Err(there) => {
                    text += there.len() as u32 + 1;
                    text - there.len() as u32 - 1
                }
            };
            rdata.extend(address.to_le_bytes());
        }
        let mut name_at = names;
        for (name, _) in &sorted {
            rdata.extend(name_at.to_le_bytes());
            name_at += name.len() as u32 + 1;
        }
        for index in 0..count as u16 {
            rdata.extend(index.to_le_bytes());
        }
        for (name, _) in &sorted {
            rdata.extend(name.bytes().chain([0]));
        }
        for there in sorted.iter().filter_map(|(_, target)| target.err()) {
            rdata.extend(there.bytes().chain([0]));
        }
        (start, SLOTS + rdata.len() as u32 - start)
    }

    fn relocations(&self) -> Vec<u8> {
        let mut entries: Vec<u16> = self.pointers.iter().map(|&at| 0xa000 | at as u16).collect();
        if entries.is_empty() {
            return Vec::new();
        }
        entries.resize(entries.len().next_multiple_of(2), 0);
        let mut table = Vec::new();
        table.extend(DATA.to_le_bytes());
        table.extend((8 + 2 * entries.len() as u32).to_le_bytes());
        table.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
        table
    }

    fn headers(&self, imports: u32, exports: (u32, u32), relocations: u32) -> Vec<u8> {
        let mut file = vec![0; 0x40];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0");
        file.extend(self.machine.to_le_bytes());
        file.extend((4 + u16::from(self.page)).to_le_bytes());
        file.extend([0; 12]);
        file.extend(240_u16.to_le_bytes());
        file.extend(0x22_u16.to_le_bytes());
        // The optional header.
        file.extend(0x20b_u16.to_le_bytes());
        file.extend([0; 14]);
        file.extend(TEXT.to_le_bytes());
        file.extend(TEXT.to_le_bytes());
        file.extend(BASE.to_le_bytes());
        file.extend(0x1000_u32.to_le_bytes());
        file.extend(0x200_u32.to_le_bytes());
        file.extend([0; 16]);
        file.extend((PAGE + 0x1000 * u32::from(self.page)).to_le_bytes());
        file.extend((HEADERS as u32).to_le_bytes());
        file.extend([0; 4]);
        file.extend(self.subsystem.to_le_bytes());
        file.extend(0x160_u16.to_le_bytes());
        file.extend([0; 36]);
        file.extend(16_u32.to_le_bytes());
        let size = if imports == 0 {
            0
        } else {
            20 * (self.imports.len() as u32 + 1)
        };
        let reloc = if relocations == 0 { 0 } else { RELOC };
        let directories = [
            exports,
            (imports, size),
            (0, 0),
            (0, 0),
            (0, 0),
            (reloc, relocations),
        ];
        for (rva, size) in directories {
            file.extend(rva.to_le_bytes());
            file.extend(size.to_le_bytes());
        }
        file.extend([0; 80]);
        file
    }
}
