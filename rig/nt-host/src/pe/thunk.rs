//! Import thunks: each kernel function that a driver imports is called through a few instructions of its own.
//!
//! They note which module called and where its return address is, which costs two stores, and jump on. So an exported
//! function knows its caller (pool owners, reports), and a stack walk knows where to start, without any guessing.

use crate::ke::processor::{CALLER, CALLER_RSP};

/// Size of a thunk in bytes.
pub const SIZE: usize = 48;

/// The code of a thunk for module `module` that jumps to `target`.
pub fn code(module: u32, target: u64) -> [u8; SIZE] {
    let mut code = [0xCC; SIZE];
    let mut at = 0;
    let mut emit = |bytes: &[u8]| {
        code[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // mov dword ptr gs:[CALLER], module
    emit(&[0x65, 0xC7, 0x04, 0x25]);
    emit(&CALLER.to_le_bytes());
    emit(&module.to_le_bytes());
    // mov gs:[CALLER_RSP], rsp
    emit(&[0x65, 0x48, 0x89, 0x24, 0x25]);
    emit(&CALLER_RSP.to_le_bytes());
    // jmp [rip]; the target follows
    emit(&[0xFF, 0x25, 0, 0, 0, 0]);
    emit(&target.to_le_bytes());
    code
}
