//! `layouts!`: says the size and field offsets of structures, checked when the crate compiles.
//!
//! ```text
//! layouts! {
//!     UNICODE_STRING = 16 { Length: 0, MaximumLength: 2, Buffer: 8 }
//! }
//! ```
//!
//! For the tests it also leaves the same statements as a table, `LAYOUTS`, which `oracle.rs` hands to a C compiler.

/// One structure's stated layout: name, size in bytes, fields with their offsets in bytes.
#[cfg(test)]
pub(crate) struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [(&'static str, usize)],
}

macro_rules! layouts {
    ($($name:ident = $size:literal { $($($field:ident).+ : $offset:literal),* $(,)? })*) => {
        $(
            const _: () = {
                assert!(core::mem::size_of::<$name>() == $size);
                $(assert!(core::mem::offset_of!($name, $($field).+) == $offset);)*
            };
        )*

        #[cfg(test)]
        pub(crate) const LAYOUTS: &[$crate::layout::Layout] = &[
            $($crate::layout::Layout {
                name: stringify!($name),
                size: $size,
                fields: &[$((stringify!($($field).+), $offset)),*],
            }),*
        ];
    };
}
