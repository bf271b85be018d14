//! Images of modules that the executive itself plays, for drivers that look for a loaded image and walk its export table.
//!
//! ```text
//!   .text    a jump for each function, through its import slot
//!   .rdata   imports of the module from itself, which the loader binds to the executive's functions by way of thunks;
//!            exports of the jumps
//! ```
//!
//! So such a call is checked like any other, as a call of the image.

use alloc::vec;
use alloc::vec::Vec;

use object::pe;

/// Where headers end in the file, and how sections are aligned there.
const HEADERS: usize = 0x400;
const PAGE: usize = 0x1000;
const TEXT: usize = PAGE;
const RDATA: usize = 2 * PAGE;
/// jmp [rip + distance]
const JUMP: [u8; 2] = [0xFF, 0x25];
const JUMP_SIZE: usize = 6;
const IMAGE_BASE: u64 = 0x1_8000_0000;

/// The file of an image with these exports, which are sorted; they are few enough for a page.
pub fn file_of(module: &str, names: &[&str]) -> Vec<u8> {
    let count = names.len();
    let (lookup, slots) = (2 * 20, 2 * 20 + 8 * (count + 1));
    let directory = slots + 8 * (count + 1);
    let functions = directory + 40;
    let pointers = functions + 4 * count;
    let ordinals = pointers + 4 * count;
    let mut texts = Texts {
        bytes: Vec::new(),
        start: (ordinals + 2 * count).next_multiple_of(2),
    };
    let own = texts.add(&[], module);
    // An import's name has a hint of two bytes before it.
    let hints: Vec<usize> = names.iter().map(|name| texts.add(&[0, 0], name)).collect();

    let mut text = vec![0xCC; PAGE];
    let mut rdata = vec![0; PAGE];
    put(
        &mut rdata,
        0,
        &words(&[RDATA + lookup, 0, 0, RDATA + own, RDATA + slots]),
    );
    let numbers = [0, 0, 0, RDATA + own, 1, count, count, RDATA + functions];
    put(&mut rdata, directory, &words(&numbers));
    put(
        &mut rdata,
        directory + 32,
        &words(&[RDATA + pointers, RDATA + ordinals]),
    );
    for (index, &hint) in hints.iter().enumerate() {
        let jump = TEXT + JUMP_SIZE * index;
        let distance = RDATA + slots + 8 * index - (jump + JUMP_SIZE);
        put(&mut text, JUMP_SIZE * index, &JUMP);
        put(&mut text, JUMP_SIZE * index + 2, &words(&[distance]));
        for table in [lookup, slots] {
            put(&mut rdata, table + 8 * index, &words(&[RDATA + hint, 0]));
        }
        put(&mut rdata, functions + 4 * index, &words(&[jump]));
        put(
            &mut rdata,
            pointers + 4 * index,
            &words(&[RDATA + hint + 2]),
        );
        put(
            &mut rdata,
            ordinals + 2 * index,
            &(index as u16).to_le_bytes(),
        );
    }
    put(&mut rdata, texts.start, &texts.bytes);
    let mut file = headers(RDATA + directory);
    file.extend(text);
    file.extend(rdata);
    file
}

struct Texts {
    bytes: Vec<u8>,
    start: usize,
}

impl Texts {
    /// Adds a text with its zero; where it lies in its section.
    fn add(&mut self, before: &[u8], text: &str) -> usize {
        let at = self.start + self.bytes.len();
        self.bytes.extend(before);
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(2), 0);
        at
    }
}

fn words(words: &[usize]) -> Vec<u8> {
    let words = words.iter().map(|&word| word as u32);
    words.flat_map(u32::to_le_bytes).collect()
}

fn put(section: &mut [u8], at: usize, bytes: &[u8]) {
    section[at..at + bytes.len()].copy_from_slice(bytes);
}

/// PE32+ headers of an image of two sections of a page each (Microsoft Learn, "PE Format").
fn headers(exports: usize) -> Vec<u8> {
    let mut file = vec![0; HEADERS];
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3C, &words(&[0x40]));
    put(&mut file, 0x40, b"PE\0\0");
    let header = 0x44;
    put(
        &mut file,
        header,
        &pe::IMAGE_FILE_MACHINE_AMD64.0.to_le_bytes(),
    );
    put(&mut file, header + 2, &2u16.to_le_bytes());
    // The size of the optional header; that it is an image, and may lie anywhere.
    put(&mut file, header + 16, &240u16.to_le_bytes());
    put(&mut file, header + 18, &0x22u16.to_le_bytes());
    let optional = header + 20;
    put(&mut file, optional, &0x20Bu16.to_le_bytes());
    // Code and data; no entry point; where code begins.
    put(&mut file, optional + 4, &words(&[PAGE, PAGE, 0, 0, TEXT]));
    put(&mut file, optional + 24, &IMAGE_BASE.to_le_bytes());
    // Alignment in memory and in the file.
    put(&mut file, optional + 32, &words(&[PAGE, 0x200]));
    // Versions of the system and of the subsystem: 10.0.
    put(&mut file, optional + 40, &words(&[10, 0, 10]));
    put(&mut file, optional + 56, &words(&[3 * PAGE, HEADERS]));
    put(
        &mut file,
        optional + 68,
        &pe::IMAGE_SUBSYSTEM_NATIVE.0.to_le_bytes(),
    );
    // 16 directories, of which exports and imports are first; what exports refer to is up to the section's end.
    let room = RDATA + PAGE - exports;
    put(
        &mut file,
        optional + 108,
        &words(&[16, exports, room, RDATA, 40]),
    );
    let (code, data) = (0x6000_0020, 0x4000_0040);
    for (index, (name, flags)) in [(b".text\0\0\0", code), (b".rdata\0\0", data)]
        .into_iter()
        .enumerate()
    {
        let section = optional + 240 + 40 * index;
        put(&mut file, section, name);
        let start = HEADERS + PAGE * index;
        put(
            &mut file,
            section + 8,
            &words(&[PAGE, TEXT + PAGE * index, PAGE, start]),
        );
        put(&mut file, section + 36, &words(&[flags]));
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::image::Layout;

    #[test]
    fn the_loader_finds_what_the_image_imports_and_exports() {
        let names = ["Ape", "Bear", "Cat"];
        let layout = Layout::read("zoo.sys", &file_of("zoo.sys", &names)).unwrap();
        assert!(layout.exports.keys().eq(&names));
        let first = layout.exports["Ape"];
        assert_eq!(
            (layout.exports["Cat"], layout.is_code(first)),
            (first + 12, true)
        );
        let imports: Vec<_> = layout
            .imports
            .iter()
            .map(|it| (it.module.as_str(), it.name.as_str()))
            .collect();
        assert_eq!(
            imports,
            [("zoo.sys", "Ape"), ("zoo.sys", "Bear"), ("zoo.sys", "Cat")]
        );
        assert_eq!(layout.entry, 0);
    }

    #[test]
    fn each_jump_goes_through_its_own_slot() {
        let file = file_of("zoo.sys", &["Ape", "Bear"]);
        let layout = Layout::read("zoo.sys", &file).unwrap();
        for (name, import) in ["Ape", "Bear"].into_iter().zip(&layout.imports) {
            let rva = layout.exports[name] as usize;
            let code = &file[HEADERS + rva - TEXT..][..JUMP_SIZE];
            let distance = u32::from_le_bytes(code[2..].try_into().unwrap());
            assert_eq!(
                (&code[..2], rva as u32 + 6 + distance),
                (&JUMP[..], import.slot)
            );
        }
    }
}
